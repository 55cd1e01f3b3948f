"""Streaming models, trained here on synthetic sound, to judge what quantization does in the loop.

    python bench/train_streams.py OUT [--only enhancer,keyword] [--steps 400]

Needs torch (CPU) and onnx. Every folder in OUT gets ``model.onnx`` (one step: a frame and the states in, an answer and
the next states out) and ``calibration.npy``, ``evaluation.npy`` of shape (sequences, steps, 1, ...). Sound is made of
gliding harmonics under moving formants with noise and clicks. The same seed gives the same data; training takes a
minute or two each.

* ``enhancer``: a mask on magnitudes; convolutions with a cache of two frames, two GRUs as operators.
* ``cells``: the same with its GRUs written out as cells.
* ``keyword``: which of four sounds is heard; cached convolutions and an LSTM of two states.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BANDS, HOP, RATE = 65, 64, 8000
UNITS, SEQUENCES, FRAMES = 64, 8, 64
CALIBRATION, EVALUATION = (8, 100), (2, 300)
OPSET = 17
Array = NDArray[np.float32]


# --- sound ---


def voice(random: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Syllables of gliding harmonics; each harmonic is as loud as two formants that move make it."""
    count = (frames + 1) * HOP
    time = np.arange(count) / RATE
    pitch = random.uniform(90, 240) * np.exp(
        0.25 * np.sin(2 * np.pi * random.uniform(0.3, 1.5) * time + random.uniform(0, 6))
    )
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = [random.uniform(300, 900), random.uniform(1000, 2600)]
    moved = [f * (1 + 0.3 * np.sin(2 * np.pi * random.uniform(1, 4) * time + random.uniform(0, 6))) for f in formants]
    sound = np.zeros(count)
    for k in range(1, 16):
        loud = sum(np.exp(-(((k * pitch - f) / 350.0) ** 2)) for f in moved)
        sound += loud * np.sin(k * phase) * (k * pitch < RATE / 2)
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(1.5, 4) * time + random.uniform(0, 6)) * 3 + 1, 0, 1)
    return sound * syllables * random.uniform(0.2, 1.0)


def noise(random: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Coloured noise that swells, and clicks."""
    count = (frames + 1) * HOP
    white = random.normal(size=count)
    slope = random.uniform(0.0, 0.95)
    coloured = np.zeros(count)
    for i in range(1, count):
        coloured[i] = slope * coloured[i - 1] + white[i]
    coloured /= coloured.std()
    swell = 1 + 0.7 * np.sin(2 * np.pi * random.uniform(0.2, 1.0) * np.arange(count) / RATE)
    clicks = (random.random(count) < 2e-4) * random.normal(size=count) * 8
    return (coloured * swell + clicks) * random.uniform(0.05, 0.4)


def magnitudes(sound: NDArray[np.float64]) -> Array:
    """Square roots of the spectrum's magnitude, a row a frame: (frames, BANDS)."""
    window = np.hanning(2 * HOP)
    rows = np.stack([sound[i : i + 2 * HOP] * window for i in range(0, len(sound) - 2 * HOP + 1, HOP)])
    return np.sqrt(np.abs(np.fft.rfft(rows))).astype(np.float32)


def mixtures(random: np.random.Generator, count: int, frames: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Noisy and clean magnitudes, (count, frames, BANDS), and the class of each frame: nothing, low, high, rising."""
    noisy, clean, kinds = [], [], []
    for _ in range(count):
        speech = voice(random, frames)
        noisy.append(magnitudes(speech + noise(random, frames))[:frames])
        clean.append(magnitudes(speech)[:frames])
        energy = (clean[-1] ** 2).sum(1)
        centre = (clean[-1] ** 2 * np.arange(BANDS)).sum(1) / (energy + 1e-6)
        rising = np.diff(centre, prepend=centre[:1]) > 0.4
        kinds.append(np.where(energy < 4, 0, np.where(rising, 3, np.where(centre < 14, 1, 2))))
    return np.stack(noisy), np.stack(clean), np.stack(kinds)


# --- models ---


class Cell(nn.Module):
    """A GRU written out, as toolchains without the operator want it (torch's ``GRUCell``)."""

    def __init__(self, inp: int, units: int) -> None:
        super().__init__()
        self.read, self.kept = nn.Linear(inp, 3 * units), nn.Linear(units, 3 * units)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        r1, z1, n1 = self.read(x).chunk(3, -1)
        r2, z2, n2 = self.kept(h).chunk(3, -1)
        reset, update = torch.sigmoid(r1 + r2), torch.sigmoid(z1 + z2)
        new = torch.tanh(n1 + reset * n2)
        return new + update * (h - new)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, inp) and (1, batch, units)."""
        state, found = h[0], []
        for t in range(x.shape[1]):
            state = self.step(x[:, t], state)
            found.append(state)
        return torch.stack(found, 1), state[None]


class Front(nn.Module):
    """Two convolutions over time and bands, each with the two frames before as its state."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 16, (3, 5), (1, 2), (0, 2)), nn.Conv2d(16, 24, (3, 3), (1, 2), (0, 1))

    def forward(self, x: Tensor, x_cache: Tensor, y_cache: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        seen = torch.cat([x_cache, x[:, None]], 2)
        a = torch.relu(self.one(seen))
        more = torch.cat([y_cache, a], 2)
        return torch.relu(self.two(more)), a, seen[:, :, -2:], more[:, :, -2:]


class Enhancer(nn.Module):
    def __init__(self, written_out: bool) -> None:
        super().__init__()
        unit = (lambda i, o: Cell(i, o)) if written_out else (lambda i, o: nn.GRU(i, o, batch_first=True))
        self.front, self.narrow = Front(), nn.Linear(24 * 17, UNITS)
        self.first, self.second = unit(UNITS, UNITS), unit(UNITS, UNITS)
        self.widen = nn.Linear(UNITS, 24 * 17)
        self.up, self.last = (
            nn.ConvTranspose2d(24, 16, (1, 3), (1, 2), (0, 1)),
            nn.ConvTranspose2d(16, 1, (1, 5), (1, 2), (0, 2)),
        )

    def forward(self, x: Tensor, x_cache: Tensor, y_cache: Tensor, h1: Tensor, h2: Tensor) -> tuple[Tensor, ...]:
        b, a, x_next, y_next = self.front(x, x_cache, y_cache)
        flat = torch.relu(self.narrow(b.transpose(1, 2).flatten(2)))
        one, h1 = self.first(flat, h1)
        two, h2 = self.second(one, h2)
        wide = torch.relu(self.widen(two + flat)).reshape(b.shape[0], -1, 24, 17).transpose(1, 2)
        mask = torch.sigmoid(self.last(torch.relu(self.up(wide + b)) + a))[:, 0]
        return x * mask, x_next, y_next, h1, h2

    @staticmethod
    def states(batch: int) -> dict[str, Tensor]:
        return {
            "x_cache": torch.zeros(batch, 1, 2, BANDS), "y_cache": torch.zeros(batch, 16, 2, 33),
            "h1": torch.zeros(1, batch, UNITS), "h2": torch.zeros(1, batch, UNITS),
        }  # fmt: skip


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.memory = Front(), nn.LSTM(24 * 17, UNITS, batch_first=True)
        self.head = nn.Sequential(nn.Linear(UNITS, 48), nn.ReLU(), nn.Linear(48, 4))

    def forward(self, x: Tensor, x_cache: Tensor, y_cache: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, ...]:
        b, _, x_next, y_next = self.front(x, x_cache, y_cache)
        found, (h, c) = self.memory(b.transpose(1, 2).flatten(2), (h0, c0))
        return torch.softmax(self.head(found), -1), x_next, y_next, h, c

    @staticmethod
    def states(batch: int) -> dict[str, Tensor]:
        held = Enhancer.states(batch)
        return {"x_cache": held["x_cache"], "y_cache": held["y_cache"], "h0": held["h1"], "c0": held["h2"]}


KINDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "enhancer": (lambda: Enhancer(False), ("enhanced", "x_cache_out", "y_cache_out", "h1_out", "h2_out")),
    "cells": (lambda: Enhancer(True), ("enhanced", "x_cache_out", "y_cache_out", "h1_out", "h2_out")),
    "keyword": (Keyword, ("kinds", "x_cache_out", "y_cache_out", "hn", "cn")),
}


def train(net: Any, kind: str, steps: int) -> float:
    """Whole sequences from zero states; gives the last loss."""
    random = np.random.default_rng(1)
    noisy, clean, kinds = mixtures(random, 96, FRAMES)
    rate = torch.optim.Adam(net.parameters(), 3e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(rate, 6e-3, total_steps=steps)
    loss = torch.zeros(())
    for _ in range(steps):
        at = random.choice(len(noisy), SEQUENCES, replace=False)
        found = net(torch.from_numpy(noisy[at]), *net.states(SEQUENCES).values())[0]
        if kind == "keyword":
            loss = functional.nll_loss(torch.log(found + 1e-6).flatten(0, 1), torch.from_numpy(kinds[at]).flatten())
        else:
            loss = functional.mse_loss(found, torch.from_numpy(clean[at]))
        rate.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        rate.step()
        plan.step()
    return float(loss.detach())


def export(net: Any, outputs: tuple[str, ...], path: Path) -> None:
    states = net.eval().states(1)
    torch.onnx.export(
        net, (torch.zeros(1, 1, BANDS), *states.values()), str(path), input_names=["frame", *states],
        output_names=list(outputs), opset_version=OPSET, dynamo=False,
    )  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("--only", default=",".join(KINDS))
    asked.add_argument("--steps", type=int, default=400)
    given = asked.parse_args()
    for kind in given.only.split(","):
        torch.manual_seed(0)
        make, outputs = KINDS[kind]
        folder, net = given.out / kind, make()
        folder.mkdir(parents=True, exist_ok=True)
        loss = train(net, kind, given.steps)
        export(net, outputs, folder / "model.onnx")
        for name, seed, (count, steps) in (("calibration", 2, CALIBRATION), ("evaluation", 3, EVALUATION)):
            np.save(folder / f"{name}.npy", mixtures(np.random.default_rng(seed), count, steps)[0][:, :, None, None])
        size = (folder / "model.onnx").stat().st_size
        print(f"{kind}: loss {loss:.4f}, {size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()

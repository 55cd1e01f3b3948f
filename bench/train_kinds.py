"""Small models of kinds that the zoo lacks, trained here on synthetic data, to judge defaults by what they do unseen.

    python bench/train_kinds.py OUT [--only sequence,detector] [--seeds 0,1,2]

Needs torch (CPU) and onnx. Every KIND-SEED folder in OUT gets ``model.onnx``, ``calibration.npz`` and
``evaluation.npz`` (one array an input, samples first). The same seed gives the same data; training is a matter of
a minute or less each. LayerNorm and HardSwish are written out, as exporters for older opsets write them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds_data import DATA, Batch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

OPSET = 13  # LayerNorm is written out below opset 17
CALIBRATION, EVALUATION = 24, 60


class HardSwish(nn.Module):
    """``x * clip(x + 3, 0, 6) / 6`` in four nodes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.clamp(x + 3.0, 0.0, 6.0) / 6.0


def conv(
    inp: int, out: int, act: type[nn.Module] | None, kernel: int = 3, stride: int = 1, group: int = 1
) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=group, bias=False)]
    parts.append(nn.BatchNorm2d(out))
    return nn.Sequential(*parts, *([act()] if act else []))


class Affine(nn.Module):
    """A learned scale and shift of a whole tensor, as PaddleOCR's LCNetV3 has them."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Block(nn.Module):
    """Depthwise, then pointwise convolution with HardSwish; ``affine`` blocks between them."""

    def __init__(self, inp: int, out: int, stride: int = 1, affine: bool = False) -> None:
        super().__init__()
        spaced = [Affine()] if affine else []
        self.body = nn.Sequential(conv(inp, inp, HardSwish, 3, stride, inp), *spaced, conv(inp, out, HardSwish, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), heads

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, d))


class Norm(nn.Module):
    """A LayerNorm written out as Keras does, which no runtime fuses: ``x * inv + (shift - mean * inv)``.

    As in large transformers, a few channels are far larger than the others; what reads them has learned small weights.
    """

    def __init__(self, dim: int, outliers: int = 3, factor: float = 12.0) -> None:
        super().__init__()
        scale = torch.ones(dim)
        scale[:outliers] = factor
        self.scale, self.shift = nn.Parameter(scale), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) * (x - mean)).mean(-1, keepdim=True)
        inverse = self.scale / torch.sqrt(variance + 1e-3)
        return x * inverse + (self.shift - mean * inverse)


class Sequence(nn.Module):
    """A transformer over tokens: pre-norm, Gelu by tanh."""

    def __init__(self, dim: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(48, dim), nn.Parameter(torch.randn(32, dim) * 0.3)
        self.attention = nn.ModuleList(Attention(dim) for _ in range(layers))
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU("tanh"), nn.Linear(3 * dim, dim)) for _ in range(layers)
        )
        self.norms = nn.ModuleList(Norm(dim) for _ in range(2 * layers + 1))
        self.head = nn.Linear(dim, 12)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places
        for i, (attend, hidden) in enumerate(zip(self.attention, self.hidden, strict=True)):
            x = x + attend(self.norms[2 * i](x))
            x = x + hidden(self.norms[2 * i + 1](x))
        x = self.norms[-1](x)
        return self.head(x.mean(1))


class C2f(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = conv(width, width, nn.SiLU, 1), conv(width * 3 // 2, width, nn.SiLU, 1)
        self.inner = nn.Sequential(conv(width // 2, width // 2, nn.SiLU), conv(width // 2, width // 2, nn.SiLU))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x).chunk(2, 1)
        return self.last(torch.cat([a, b, b + self.inner(b)], 1))


class Detector(nn.Module):
    """SiLU, two scales, distances from each cell decoded to pixels in the graph, beside the scores."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, nn.SiLU, 3, 2), conv(16, 24, nn.SiLU, 3, 2), C2f(24))
        self.down = nn.Sequential(conv(24, 32, nn.SiLU, 3, 2), C2f(32))
        self.deep = nn.Sequential(conv(32, 48, nn.SiLU, 3, 2), C2f(48))
        self.join = conv(80, 32, nn.SiLU, 1)
        self.heads = nn.ModuleList(nn.Sequential(conv(w, 24, nn.SiLU), nn.Conv2d(24, 4 + classes, 1)) for w in (32, 48))
        for head in self.heads:
            nn.init.constant_(head[1].bias[4:], -4.0)

    def raw(self, x: Tensor) -> list[Tensor]:
        p3 = self.down(self.stem(x))
        p4 = self.deep(p3)
        up = functional.interpolate(p4, scale_factor=2.0, mode="nearest")
        return [self.heads[0](self.join(torch.cat([p3, up], 1))), self.heads[1](p4)]

    def forward(self, x: Tensor) -> Tensor:
        """(1, 4 + classes, cells): centre, size in pixels, scores."""
        found = []
        for level, stride in zip(self.raw(x), (8, 16), strict=True):
            b, _, h, w = level.shape
            gx = (torch.arange(w).float() + 0.5).reshape(1, 1, 1, -1).expand(b, 1, h, w)
            gy = (torch.arange(h).float() + 0.5).reshape(1, 1, -1, 1).expand(b, 1, h, w)
            sides = functional.softplus(level[:, :4])
            left, top, right, bottom = sides.chunk(4, 1)
            box = torch.cat([gx + (right - left) / 2, gy + (bottom - top) / 2, left + right, top + bottom], 1) * stride
            found.append(torch.cat([box, torch.sigmoid(level[:, 4:])], 1).flatten(2))
        return torch.cat(found, 2)


class Recognizer(nn.Module):
    """Height becomes one, width becomes time; affine blocks, HardSwish, a transformer block, CTC."""

    def __init__(self, symbols: int = 13) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(1, 16, HardSwish, 3, 2), Block(16, 32, affine=True), Block(32, 48, (2, 1), True),
            Block(48, 64, affine=True), Block(64, 64, (2, 1), True), Block(64, 64, affine=True),
        )  # fmt: skip
        self.norms, self.attend = nn.ModuleList(Norm(64) for _ in range(3)), Attention(64)
        self.hidden = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64))
        self.head = nn.Linear(64, symbols)

    def raw(self, x: Tensor) -> Tensor:
        x = self.body(x).mean(2).transpose(1, 2)
        x = x + self.attend(self.norms[0](x))
        x = x + self.hidden(self.norms[1](x))
        return self.head(self.norms[2](x))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.raw(x), -1)


class Gate(nn.Module):
    """Squeeze and excitation with the HardSigmoid written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True))))
        return x * torch.clamp(gate * 0.2 + 0.5, 0.0, 1.0)


class TextDetector(nn.Module):
    """A map of probabilities as DB gives it: HardSwish, gates, features joined at a quarter, two ConvTransposes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 12, HardSwish, 3, 2), Block(12, 24, 2))
        self.mid = nn.Sequential(Block(24, 32, 2), Gate(32))
        self.deep = nn.Sequential(Block(32, 48, 2), Gate(48), Block(48, 48))
        self.sides = nn.ModuleList(nn.Conv2d(w, 24, 1, bias=False) for w in (24, 32, 48))
        self.join = conv(24, 16, nn.ReLU)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(16, 12, 2, 2), nn.BatchNorm2d(12), nn.ReLU(), nn.ConvTranspose2d(12, 1, 2, 2)
        )

    def raw(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.mid(a)
        up = self.sides[1](b) + functional.interpolate(self.sides[2](self.deep(b)), scale_factor=2.0, mode="nearest")
        return self.up(self.join(self.sides[0](a) + functional.interpolate(up, scale_factor=2.0, mode="nearest")))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.raw(x))


class Audio(nn.Module):
    """A waveform's power spectrum by a fixed convolution, bands, a logarithm; then convolutions over time."""

    def __init__(self, window: int = 256, hop: int = 128, bands: int = 40) -> None:
        super().__init__()
        time_axis, bins = np.arange(window), np.arange(window // 2)
        angle = 2 * np.pi * bins[:, None] * time_axis / window
        basis = np.concatenate([np.cos(angle), np.sin(angle)]) * np.hanning(window)
        self.register_buffer("basis", torch.tensor(basis[:, None], dtype=torch.float32))
        centres = (np.linspace(1, np.sqrt(window // 2 - 2), bands + 2)) ** 2
        rise = (bins - centres[:-2, None]) / np.diff(centres)[:-1, None]
        fall = (centres[2:, None] - bins) / np.diff(centres)[1:, None]
        self.register_buffer("mel", torch.tensor(np.clip(np.minimum(rise, fall), 0, None).T, dtype=torch.float32))
        self.hop, self.bins = hop, window // 2
        self.body = nn.Sequential(
            nn.Conv1d(bands, 48, 3, padding=1), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, 48, 3, 2, 1), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, 64, 3, 2, 1), nn.BatchNorm1d(64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 6)

    def raw(self, wave: Tensor) -> Tensor:
        both = functional.conv1d(wave[:, None], self.basis, stride=self.hop)
        real, imaginary = both.split(self.bins, 1)
        power = (real**2 + imaginary**2).transpose(1, 2) @ self.mel
        bands = (torch.log(power + 1e-5) + 4.0) / 4.0
        return self.head(self.body(bands.transpose(1, 2)).mean(2))

    def forward(self, wave: Tensor) -> Tensor:
        return torch.sigmoid(self.raw(wave))


class Angle(nn.Module):
    """Which quarter turn (softmax) and the fine angle (degrees): Relu6, residual blocks, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, nn.ReLU6, 3, 2), conv(16, 32, nn.ReLU6, 3, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                conv(w, 2 * w, nn.ReLU6, 1), conv(2 * w, 2 * w, nn.ReLU6, 3, 1, 2 * w), conv(2 * w, w, None, 1)
            )
            for w in (32, 48)
        )
        self.wider = conv(32, 48, nn.ReLU6, 3, 2)
        self.turn, self.fine = nn.Linear(48, 4), nn.Linear(48, 1)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = self.wider(x + self.blocks[0](x))
        x = (x + self.blocks[1](x)).mean((2, 3))
        return self.turn(x), self.fine(x) * 20.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        turn, fine = self.raw(x)
        return torch.softmax(turn, -1), fine


def sequence_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    return functional.cross_entropy(net(x), torch.from_numpy(batch.truth["label"]))


def detector_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    total = torch.zeros(())
    for level, stride in zip(net.raw(x), (8, 16), strict=True):
        scores, boxes = (torch.from_numpy(batch.truth[f"{n}_{stride}"]) for n in ("scores", "boxes"))
        with_box = scores.amax(1, keepdim=True) > 0
        p = torch.sigmoid(level[:, 4:])
        entropy = functional.binary_cross_entropy_with_logits(level[:, 4:], scores, reduction="none")
        total = total + (entropy * ((scores - p).abs() ** 1.5)).sum() / (with_box.sum() + 1)
        sides = functional.softplus(level[:, :4])
        error = functional.smooth_l1_loss(sides, boxes, reduction="none") * with_box
        total = total + error.sum() / (with_box.sum() + 1)
    return total


def recognizer_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    """Cross entropy of every frame: where symbols stand is known, which CTC would have to find out."""
    return functional.cross_entropy(net.raw(x).flatten(0, 1), torch.from_numpy(batch.truth["frames"]).flatten())


def map_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    return functional.binary_cross_entropy_with_logits(net.raw(x), torch.from_numpy(batch.truth["map"]))


def audio_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    return functional.binary_cross_entropy_with_logits(net.raw(x), torch.from_numpy(batch.truth["present"]))


def angle_loss(net: nn.Module, x: Tensor, batch: Batch) -> Tensor:
    turn, fine = net.raw(x)
    exact = functional.smooth_l1_loss(fine[:, 0], torch.from_numpy(batch.truth["fine"]))
    return functional.cross_entropy(turn, torch.from_numpy(batch.truth["turn"])) + 0.1 * exact


@dataclass(frozen=True)
class Kind:
    """How one kind is trained. ``axes``: which axes of the input are dynamic."""

    net: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Tensor, Batch], Tensor]
    input: str
    outputs: tuple[str, ...]
    steps: int
    rate: float = 3e-3
    axes: dict[int, str] | None = None


KINDS = {
    "sequence": Kind(Sequence, sequence_loss, "ids", ("logits",), 300, 2e-3),
    "detector": Kind(
        Detector, detector_loss, "images", ("output",), 350, axes={0: "batch", 2: "height", 3: "width"}
    ),
    "recognizer": Kind(Recognizer, recognizer_loss, "x", ("probabilities",), 900, 3e-3, axes={3: "width"}),
    "textdetector": Kind(TextDetector, map_loss, "x", ("map",), 200),
    "audio": Kind(Audio, audio_loss, "wave", ("present",), 300),
    "angle": Kind(Angle, angle_loss, "image", ("turn", "fine"), 300),
}  # fmt: skip


def train(name: str, seed: int, out: Path) -> None:
    kind, data = KINDS[name], DATA[name]
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 7])
    net = kind.net()
    optimizer = torch.optim.AdamW(net.parameters(), kind.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, kind.rate, kind.steps)
    started, loss = time.process_time(), 0.0
    for _ in range(kind.steps):
        batch = data(rng, 16)
        value = kind.loss(net, torch.from_numpy(batch.x), batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        loss = 0.95 * loss + 0.05 * float(value.detach()) if loss else float(value.detach())
    folder = out / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    export(net.eval(), kind, torch.from_numpy(data(rng, 1).x), folder / "model.onnx")
    for part, count, offset in (("calibration", CALIBRATION, 1), ("evaluation", EVALUATION, 2)):
        samples: NDArray[Any] = data(np.random.default_rng([seed, offset]), count).x
        np.savez_compressed(folder / f"{part}.npz", **{kind.input: samples})
    size = (folder / "model.onnx").stat().st_size
    print(f"{folder.name}: loss {loss:.4f}, {size:,} bytes, {time.process_time() - started:.0f} s of CPU", flush=True)


def export(net: nn.Module, kind: Kind, x: Tensor, path: Path) -> None:
    axes = {kind.input: kind.axes} if kind.axes else None
    options = {"opset_version": OPSET, "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(net, (x,), path, input_names=[kind.input], output_names=list(kind.outputs), **options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--seeds", default="0,1,2")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for seed in map(int, chosen.seeds.split(",")):
        for name in chosen.only.split(","):
            train(name, seed, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train the model of ``sound.ipynb``: which key is pressed, heard frame by frame. Minutes on one CPU thread.

    pip install -e '.[train]' && python demos/train_keypad.py

A gated recurrent unit (Cho et al. 2014) written out as a cell, so that a toolchain sees products, additions, sigmoids
and a tanh: the state goes in and comes out, and the caller keeps it between frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from keypad import BINS, FRAMES, SILENCE, STATE, call
from torch import Tensor, nn

HEARD = BINS.stop - BINS.start


class Cell(nn.Module):
    """One frame: what is heard and the state before give the keys' scores and the state after."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = nn.Linear(HEARD, STATE)
        self.gates = nn.Linear(2 * STATE, 2 * STATE)
        self.candidate = nn.Linear(2 * STATE, STATE)
        self.keys = nn.Linear(STATE, SILENCE + 1)

    def forward(self, frame: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """``frame`` (N, HEARD) and ``state`` (N, STATE) to ``keys`` (N, 17) and ``next_state`` (N, STATE)."""
        x = torch.relu(self.heard(frame))
        update, reset = torch.sigmoid(self.gates(torch.cat([x, state], 1))).split(STATE, 1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * state], 1)))
        state = state + update * (candidate - state)
        return self.keys(state), state


def train(steps: int, batch: int, seed: int) -> Cell:
    """Train on calls that are made on the fly."""
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), Cell()
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, steps)
    for step in range(1, steps + 1):
        pairs = [call(rng) for _ in range(batch)]
        heard, keys = (torch.from_numpy(np.stack([p[i] for p in pairs])) for i in (0, 1))
        state, scores = torch.zeros(batch, STATE), []
        for at in range(FRAMES):
            found, state = model(heard[:, at], state)
            scores.append(found)
        value = nn.functional.cross_entropy(torch.stack(scores, 1).flatten(0, 1), keys.flatten())
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:4} loss {value.item():.3f}", flush=True)
    return model.eval()


def main() -> None:
    """Train and write ``models/keypad.onnx``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models" / "keypad.onnx")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = train(options.steps, 32, 0)
    example = (torch.zeros(1, HEARD), torch.zeros(1, STATE))
    names = {"input_names": ["frame", "state"], "output_names": ["keys", "next_state"]}
    torch.onnx.export(model, example, options.out, opset_version=17, dynamo=False, **names)


if __name__ == "__main__":
    main()

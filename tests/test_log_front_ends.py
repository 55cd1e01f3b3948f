"""Front ends of audio: what a logarithm makes of small values decides, so the default keeps it from 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given

import hybridq
from hybridq.graph.runtime import run, session

Array = np.ndarray[Any, Any]
Feeds = list[dict[str, Array]]
BINS, BANDS, FRAMES = 33, 16, 48


def spectrograms(count: int, seed: int) -> Feeds:
    """A few loud bins over noise a hundred times fainter."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        centres = random.uniform(2, 30, 3)
        loud = random.uniform(0.1, 1, 3) @ np.exp(-(((np.arange(BINS) - centres[:, None]) / 1.5) ** 2))
        power = loud[:, None] + 1e-2 * random.exponential(size=(BINS, FRAMES))
        found.append({"x": power.astype(np.float32)[None]})
    return found


def network(form: str) -> onnx.ModelProto:
    """Bands, a logarithm, perhaps less its mean, two convolutions over time."""
    random = np.random.default_rng(0)
    peaks = np.linspace(1, BINS - 2, BANDS)[:, None]
    tensors = {
        "m": np.maximum(0, 1 - np.abs(np.arange(BINS) - peaks) / 2)[:, :, None].astype(np.float32),
        "eps": np.float32(1e-6),
        "ax": np.array([1, 2]),
        "w": (random.normal(size=(24, BANDS, 3)) / 7).astype(np.float32),
        "v": (random.normal(size=(8, 24, 3)) / 8).astype(np.float32),
    }
    front: dict[str, list[tuple[Any, ...]]] = {
        "log of a sum": [("Add", "b eps", "e"), ("Log", "e", "l")],
        "log of the larger": [("Max", "b eps", "e"), ("Log", "e", "l")],
        "log less its mean": [
            ("Max", "b eps", "e"),
            ("Log", "e", "k"),
            ("ReduceMean", "k ax", "u"),
            ("Sub", "k u", "l"),
        ],
        "root": [("Add", "b eps", "e"), ("Sqrt", "e", "k"), ("Sqrt", "k", "l")],
    }
    body: list[tuple[Any, ...]] = [("Conv", "l w", "h", {"pads": [1, 1]}), ("Relu", "h", "r"), ("Conv", "r v", "y")]
    rows = [("Conv", "x m", "b"), *front[form], *body]
    used = {name for row in rows for name in row[1].split()}
    return given(rows, {k: v for k, v in tensors.items() if k in used}, ["y"], (1, BINS, FRAMES))


@pytest.mark.parametrize("form", ["log of a sum", "log of the larger", "log less its mean", "root"])
def test_the_default_keeps_a_front_end(form: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(network(form), path)
    unseen = spectrograms(8, 2)

    def decibels(**options: Any) -> float:
        hybridq.step1(path, spectrograms(12, 1), tmp_path / "out", threads=1, force=True, **options)
        hybridq.step2(tmp_path / "out", threads=1)
        pair = [session(p, threads=1) for p in (path, tmp_path / "out" / "hybrid.onnx")]
        a, b = (np.concatenate([run(one, feed)[0] for feed in unseen]).astype(np.float64) for one in pair)
        return float(10 * np.log10(((a - a.mean(axis=(0, 2), keepdims=True)) ** 2).sum() / ((a - b) ** 2).sum()))

    assert decibels() > 30
    assert decibels() > decibels(dtype="uint8", weights_repair="better") + 3

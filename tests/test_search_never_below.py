"""A search never ends below what step1 does by itself, measured alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given
from helpers_search import Array, Feeds, damages

import hybridq
from hybridq.search.budget import USUAL_HIGH
from hybridq.search.measuring.answers import Passed

SHAPE = (1, 8, 8, 8)


def weights(seed: int, *shape: int) -> Array:
    """Channels of very different size, so that equalizing and rounding matter."""
    random = np.random.default_rng(seed)
    loud = np.exp(random.normal(size=(shape[0], *[1] * (len(shape) - 1))))
    return (random.normal(size=shape) * loud / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def network(kind: str, seed: int) -> onnx.ModelProto:
    tensors = {
        "w": weights(seed, 16, 8, 3, 3),
        "v": weights(seed + 1, 16, 16, 3, 3),
        "u": weights(seed + 2, 12, 16, 1, 1),
        "b": np.random.default_rng(seed).normal(size=16).astype(np.float32),
    }
    body: list[tuple[Any, ...]] = [
        ("Conv", "x w b", "c", {"pads": [1] * 4}),
        ("Relu", "c", "r"),
        ("Conv", "r v b", "d", {"pads": [1] * 4}),
        ("Relu", "d", "s"),
        ("Conv", "s u", "h"),
    ]
    heads: dict[str, list[tuple[Any, ...]]] = {
        "scores": [("Sigmoid", "h", "y")],
        "classes": [("GlobalAveragePool", "h", "p"), ("Flatten", "p", "f"), ("Softmax", "f", "y", {"axis": 1})],
        "values": [("Mul", "h two", "y")],
    }
    return given([*body, *heads[kind]], tensors | {"two": np.float32(2)}, ["y"], SHAPE)


def samples(count: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["scores", "classes", "values"])
def test_auto_is_never_worse_than_the_default(kind: str, seed: int, tmp_path: Path) -> None:
    path, feeds = tmp_path / "m.onnx", samples(12, seed)
    onnx.save(network(kind, seed), path)
    first = hybridq.step1(path, feeds, tmp_path / "default", threads=1)
    hybridq.step2(tmp_path / "default", threads=1)
    found = hybridq.auto(path, feeds, tmp_path / "auto", threads=1, seconds=0).found
    built = [tmp_path / name / "hybrid.onnx" for name in ("default", "auto")]
    default, auto = damages(path, first.state.model, built, feeds)
    assert auto <= default * (1 + 1e-6)
    assert found.figures.high <= USUAL_HIGH + 1e-9


def test_what_step1_leaves_in_float_does_not_use_up_the_budget(tmp_path: Path) -> None:
    """Depthwise convolutions between what has no integer kernel: float by themselves, no cost of a search."""
    tensors = {"w": weights(0, 16, 8, 3, 3), "d": weights(1, 16, 1, 5, 5), "v": weights(2, 2, 16, 1, 1)}
    rows: list[tuple[Any, ...]] = [
        ("Conv", "x w", "c", {"pads": [1] * 4}),
        ("Selu", "c", "r"),
        ("Conv", "r d", "e", {"pads": [2] * 4, "group": 16}),
        ("Selu", "e", "s"),
        ("Conv", "s v", "t"),
        ("Selu", "t", "y"),
    ]
    path, feeds = tmp_path / "m.onnx", samples(12, 0)
    onnx.save(given(rows, tensors, ["y"], SHAPE), path)
    hybridq.step1(path, feeds, tmp_path / "default", threads=1)
    left = hybridq.step2(tmp_path / "default", threads=1).report.high_fraction
    found = hybridq.auto(path, feeds, tmp_path / "auto", threads=1, seconds=0).found
    assert left > USUAL_HIGH
    assert found.layers
    assert left < found.figures.high <= left + USUAL_HIGH / 2 + 1e-9


def test_decisions_by_a_threshold_are_counted_as_thresholds_everywhere_would() -> None:
    """Equality with what it stands for: decisions that differ over those made, at thresholds spread evenly."""
    random = np.random.default_rng(0)
    reference = random.random((1, 50))
    found = np.clip(reference + random.normal(size=reference.shape) * 0.05, 0, 1)
    thresholds = (np.arange(100_000) + 0.5)[:, None] / 100_000
    differ = (reference > thresholds) != (found > thresholds)
    told = Passed()
    told.add(reference[:, :20], found[:, :20])
    told.add(reference[:, 20:], found[:, 20:])
    assert told.changed == pytest.approx(differ.sum() / (reference > thresholds).sum(), rel=1e-3)

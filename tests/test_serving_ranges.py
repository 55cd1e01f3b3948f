"""Ranges of least squared error where step1 measures that they serve the whole model better, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given

from hybridq.graph.runtime import run, session
from hybridq.steps.calibrating import Step1Result
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

Array = np.ndarray[Any, Any]
FAR = 1.0
BODY = [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r v", "y")]


def model() -> onnx.ModelProto:
    """Every number is written on, most of all by one channel: errors add up as they are."""
    random = np.random.default_rng(0)
    tensors = {n: (np.eye(8) + 0.1 * random.normal(size=(8, 8)))[..., None, None] for n in "wv"}
    return given(BODY, {n: v.astype(np.float32) for n, v in tensors.items()}, ["y"], (1, 8, 32, 32))


def feeds(tail: float, seed: int = 1) -> list[dict[str, Array]]:
    """Samples whose numbers lie the farther out the larger ``tail`` is; 1: as far as normal ones."""
    x = np.random.default_rng(seed).normal(size=(12, 1, 8, 32, 32))
    return [{"x": one} for one in (np.sign(x) * np.abs(x) ** tail).astype(np.float32)]


def made(folder: Path, samples: list[dict[str, Array]], **options: Any) -> Step1Result:
    onnx.save(model(), folder / "model.onnx")
    return step1(folder / "model.onnx", samples, folder / "build", threads=1, force=True, **options)


def noise(folder: Path, samples: list[dict[str, Array]]) -> float:
    step2(folder / "build", threads=1)
    paths = folder / "model.onnx", folder / "build" / "hybrid.onnx"
    exact, hybrid = ([run(session(p, threads=1), feed)[0] for feed in samples] for p in paths)
    return float(np.square(np.subtract(hybrid, exact)).mean() / np.var(exact))


def test_ranges_of_least_error_where_they_serve_better(tmp_path: Path) -> None:
    found = made(tmp_path, feeds(FAR))
    state = found.state
    assert any("Ranges by mmse" in line for line in found.remarks)
    assert state.calibrated.algorithm == "mmse"
    assert {state.calibrated.entries[n].algorithm for n in ("x", "r")} == {"mmse"}
    assert "algorithm: mmse" in (tmp_path / "build" / "model.quantization.cfg").read_text()
    served = noise(tmp_path, feeds(FAR, seed=2))
    made(tmp_path, feeds(FAR), algorithm="trimmed", weights_repair="better")
    assert served < noise(tmp_path, feeds(FAR, seed=2))


@pytest.mark.parametrize(
    ("tail", "options"),
    [
        (0.1, {}),
        (FAR, {"algorithm": "trimmed", "weights_repair": "better"}),
        (FAR, {"dtype": "uint8", "weights_repair": "better"}),
        (FAR, {"weights_repair": "bias"}),
    ],
    ids=["nothing far out", "an algorithm by name", "a precision by name", "a repair by name"],
)
def test_elsewhere_nothing_is_clipped(tmp_path: Path, tail: float, options: dict[str, str]) -> None:
    found = made(tmp_path, feeds(tail), **options)
    assert found.state.calibrated.algorithm == ("normal" if "dtype" in options else "trimmed")
    assert not any("Ranges by" in line for line in found.remarks)

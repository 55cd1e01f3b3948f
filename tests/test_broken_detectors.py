"""Detectors that find nothing in 8 bits: the lint names the layer, its remedy mends it, and so does a search."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from broken_models import DETECTORS, OUT, Broken, pictures

from hybridq.linting import Finding
from hybridq.steps.editing import set_precision
from hybridq.steps.propose import propose
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

LOST, MENDED = 10.0, 20.0  # dB of the scores
SEARCHED = ("onnxruntime", "rknn1", "rknn2")
CASES = [(name, target) for name, broken in DETECTORS.items() for target in broken.targets]


def scores_sqnr(broken: Broken, folder: Path) -> float:
    """Of the scores of a built model against the float one, in dB; the mean is no signal."""
    runs = []
    for path in (folder / "float.onnx", folder / "out" / "hybrid.onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        runs.append(np.stack([broken.scores(session.run([OUT], x)[0]) for x in pictures(6)]).astype(np.float64))
    signal = np.square(runs[0] - runs[0].mean(axis=(0, 2), keepdims=True)).sum()
    return float(10 * np.log10(signal / np.square(runs[1] - runs[0]).sum()))


def all_8bit(broken: Broken, target: str, folder: Path, **options: bool) -> list[Finding]:
    """Step 1 with every layer in 8 bits; gives the warnings about shared tensors."""
    dtype = "uint8" if target == "onnxruntime" else None
    model = broken.make(folder / "float.onnx")
    made = step1(
        model, pictures(), folder / "out", target=target, dtype=dtype, threads=1, weights_repair="none", **options
    )
    return [f for f in made.findings if f.severity == "warning" and f.code in ("concat", "mixed output")]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_found_and_mended_by_hand(name: str, target: str, tmp_path: Path) -> None:
    broken = DETECTORS[name]
    found = all_8bit(broken, target, tmp_path)
    step2(tmp_path / "out", threads=1)
    assert scores_sqnr(broken, tmp_path) < LOST
    assert found
    assert name == "logits" or all("a score of 0.98 becomes" in f.message for f in found)
    for layer, precision in re.findall(r'"([^"]+)": (\w+)', " ".join(f.remedy for f in found)):
        set_precision(tmp_path / "out", layer, precision)
    step2(tmp_path / "out", threads=1)
    assert scores_sqnr(broken, tmp_path) > MENDED


@pytest.mark.parametrize(("name", "target"), [c for c in CASES if c[1] in SEARCHED])
def test_mended_by_a_search(name: str, target: str, tmp_path: Path) -> None:
    broken = DETECTORS[name]
    all_8bit(broken, target, tmp_path, every_algorithm=True)
    chosen = propose(tmp_path / "out", pictures(), threads=1)
    assert chosen.feasible
    assert chosen.figures.high <= 0.15
    step2(tmp_path / "out", threads=1)
    assert scores_sqnr(broken, tmp_path) > MENDED


def test_remedies_fit_together(tmp_path: Path) -> None:
    """Where a target takes few precisions in a model, all remedies name the same one."""
    for broken in DETECTORS.values():
        found = all_8bit(broken, "rknn1", tmp_path, force=True)
        assert len({f.precision for f in found}) == 1


def test_readers_rise_with_a_shared_tensor(tmp_path: Path) -> None:
    """A Concat raised alone would be rounded again by the matrix product that reads it."""
    (finding,) = all_8bit(DETECTORS["corners_by_matmul"], "onnxruntime", tmp_path)
    assert (finding.code, finding.severity) == ("concat", "warning")
    assert f'"{OUT}": float32' in finding.remedy
    assert OUT in finding.layers


def test_kept_apart_where_nothing_ties_them(tmp_path: Path) -> None:
    """On ONNX Runtime a Concat that ends in an output keeps every input's own scale: no warning, and no harm."""
    broken = DETECTORS["channels_first"]
    assert not all_8bit(broken, "onnxruntime", tmp_path)
    step2(tmp_path / "out", threads=1)
    assert scores_sqnr(broken, tmp_path) > MENDED

"""Samples unlike those of calibration are told by the ranges that they leave or do not fill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import qdq_models
from helpers_compare import FLOAT, HYBRID, RANGES, compared
from helpers_graphs import CHAIN, normal

import hybridq
from hybridq.compare import DriftWatch, Inside, compare
from hybridq.compare.drift import drift_warning, scale_warnings


def test_drift_is_silent_on_the_calibration_set_and_speaks_on_another_domain() -> None:
    calm = compared(HYBRID, inside=Inside(qdq_models.pairs(), RANGES))
    assert (calm.drift, calm.warnings) == ((), ())
    loud = compare(
        FLOAT,
        HYBRID,
        qdq_models.samples(scale=3.0),
        inside=Inside(qdq_models.pairs(), RANGES),
    )
    found = {d.tensor: d for d in loud.drift}
    assert set(found) == set(RANGES)
    assert found["body"].layer == "body"
    assert found["body"].significant
    assert found["x"].share > 0.1
    assert found["x"].excess == pytest.approx(1.0, abs=0.1)
    assert "left the range that calibration saw" in loud.warnings[0]


@pytest.mark.parametrize(("top", "warned"), [(255.0, False), (60.0, False), (1.0, True)])
def test_samples_that_fill_nothing_of_the_range_are_of_another_scale(top: float, warned: bool) -> None:
    watch = DriftWatch({"x": (0.0, 255.0), "inside": (0.0, 255.0)})
    for name in ("x", "inside"):
        watch.add(name, np.linspace(0, top, 20, dtype=np.float32))
    found = scale_warnings(watch, ["x", "another"])
    assert ["'x'" in text and "[0, 255]" in text for text in found] == [True] * warned


def test_an_input_that_was_not_watched_is_not_warned_of() -> None:
    assert scale_warnings(DriftWatch({"x": (0.0, 1.0)}), ["x"]) == []


def test_what_stays_float_leaves_no_range(tmp_path: Path) -> None:
    feeds = [{"x": normal(4, 8, 8, 8)} for _ in range(4)]
    loud = [{"x": feed["x"] * 4} for feed in feeds]
    onnx.save(CHAIN, tmp_path / "model.onnx")
    hybridq.step1(tmp_path / "model.onnx", feeds, tmp_path / "build", dtype="uint8", threads=1)
    found = []
    for precision in ("uint8", "float32"):
        hybridq.set(tmp_path / "build", "*", precision)
        hybridq.step2(tmp_path / "build", threads=1)
        report = hybridq.step3(tmp_path / "build", loud, threads=1, seconds=0).report
        found.append({one.tensor for one in report.drift})
    assert found[0] > {"x", "r1"}
    assert found[1] == {"x"}


def test_drift_counts_elements() -> None:
    watch = DriftWatch({"t": (-1.0, 1.0), "unseen": (0.0, 1.0)})
    watch.add("t", np.array([0.0, 2.0, -1.5, 1.0]))
    watch.add("t", np.array([0.5, np.nan, 0.0, 0.0]))
    watch.add("other", np.array([9.0]))
    (drift,) = watch.found()
    assert (drift.share, drift.excess, drift.seen_min, drift.seen_max) == (3 / 8, 0.5, -1.5, 2.0)
    assert drift_warning((), 1) == ""


@pytest.mark.parametrize(
    ("values", "significant"),
    [
        ([1.01] * 50 + [0.0] * 50, False),  # many, but hardly outside
        ([1.5] + [0.0] * 99, True),  # some, and well outside
        ([1.5] + [0.0] * 9999, False),  # one in ten thousand, not far
        ([9.0] + [0.0] * 9999, True),  # one in ten thousand, far
    ],
)
def test_drift_matters_by_share_and_distance(values: list[float], significant: bool) -> None:
    watch = DriftWatch({"t": (-1.0, 1.0)})
    watch.add("t", np.array(values))
    assert [d.significant for d in watch.found()] == [significant]

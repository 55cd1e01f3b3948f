"""Other runtimes: what they are given, what is told of them, and times for a search from there."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import Run

import hybridq
from hybridq.engines import ncnn
from hybridq.engines.table import ENGINES
from hybridq.exchange.view import View, make_view
from hybridq.plan.plan import make_plan
from hybridq.steps import propose
from hybridq.steps.common import read_config, read_state

INSTALLED = [n for n, e in ENGINES.items() if all(find_spec(m) for m in e.modules)]
MISSING = [n for n in ENGINES if n not in INSTALLED]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_runtime_computes_float_as_float_and_is_told_beside(folder: Path, run: Run, name: str) -> None:
    done = run("step3", "build", "--runtime", name, "--threads", 1, "--seconds", 0.1)
    assert done.code == 0
    assert f"build/{name}" in done.out
    told = json.loads((folder / "build" / "report" / "report.json").read_text())
    found = told["runtime"]
    assert found["name"] == name
    assert found["float_sqnr_db"] is None or found["float_sqnr_db"] > 90
    assert found["timing"]["speedup"] > 0
    if name == "onnxruntime":
        lowest = min(o["sqnr_db"] for o in told["outputs"])
        assert found["sqnr_db"] == pytest.approx(lowest, abs=1e-6)
    assert f"build/{name}" in (folder / "build" / "report" / "index.html").read_text()


@pytest.mark.parametrize("name", MISSING)
def test_a_runtime_that_is_not_installed_ends_with_1_and_the_command(folder: Path, run: Run, name: str) -> None:
    done = run("step3", "build", "--runtime", name)
    assert done.code == 1
    assert "is not installed here" in done.err
    assert f"pip install 'hybridq[{ENGINES[name].extra}]'" in done.err


def test_a_search_takes_times_from_the_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watch(name: str, *_: object) -> object:
        def ratio(*_: object) -> float:
            asked.append(name)
            return 3.0

        return ratio

    monkeypatch.setattr(propose, "stopwatch", watch)
    found = propose.propose(folder / "build", runtime="onnxruntime", min_speedup=2.5, threads=1)
    assert asked
    assert set(asked) == {"onnxruntime"}
    assert found.feasible
    assert (
        "times of onnxruntime" in json.loads((folder / "build" / "search.json").read_text())["question"]["onnxruntime"]
    )


def _view(folder: Path) -> View:
    state = read_state(folder)
    config, _ = read_config(folder, state)
    return make_view(state, make_plan(state.model, state.calibrated, config, state.weights), config)


def test_ncnn_gets_int8_weights_and_scales_where_its_floats_were(folder: Path) -> None:
    """The converter's file has other layers before and behind, and names of its own."""
    view = _view(folder / "build")
    layer = next(x for x in view.layers if x.op == "Conv")
    weight = view.weights_of[layer.name][0]
    values = view.kept(weight)
    count = values.shape[0]
    bias = np.arange(count, dtype="<f4")
    param = ["7767517", "3 3", "Input in0 0 1 in0", f"Convolution conv_7 1 1 in0 1 0={count} 1=3 5=1 6={values.size}"]
    before, behind = b"before__", b"behind__"
    data = before + bytes(4) + values.astype("<f4").tobytes() + bias.tobytes() + behind
    scales = {layer.name: (np.linspace(50, 90, count, dtype=np.float32), np.float32(12.5))}
    notes: list[str] = []
    lines, made = ncnn.quantized(param, data, view, scales, notes)
    assert (lines[:3], notes) == (param[:3], [])
    assert lines[3] == f"{param[3]} 8=2"
    assert made.startswith(before + ncnn.INT8_FLAG)
    start = len(before) + 4
    integers = np.frombuffer(made[start : start + values.size], np.int8).reshape(values.shape)
    expected = np.clip(np.round(values * scales[layer.name][0][:, None, None, None]), -127, 127)
    assert np.abs(integers - expected).max() <= (np.abs(values * 50 % 1 - 0.5).min() < 1e-3)
    padded = start + values.size + -values.size % 4
    tail = np.frombuffer(made[padded : -len(behind)], "<f4")
    assert tail.tolist() == [*bias, *scales[layer.name][0], 12.5]
    assert made.endswith(behind)


def test_ncnn_says_which_weights_it_did_not_find(folder: Path) -> None:
    view = _view(folder / "build")
    layer = next(x for x in view.layers if x.op == "Conv")
    notes: list[str] = []
    lines, made = ncnn.quantized(
        ["a b"], b"nothing", view, {layer.name: (np.ones(8, np.float32), np.float32(1))}, notes
    )
    assert (lines, made) == (["a b"], b"nothing")
    assert notes == ["1 layers stay float: pnnx changed their weights"]


def test_python_takes_the_runtime_too(folder: Path) -> None:
    found = hybridq.step3(folder / "build", runtime="onnxruntime", seconds=0, threads=1, metric="agreement")
    runtime = found.report.runtime
    assert runtime is not None
    assert runtime.metric is not None
    assert found.report.metric is not None
    assert runtime.metric.hybrid_value == found.report.metric.hybrid_value
    assert runtime.timing is None

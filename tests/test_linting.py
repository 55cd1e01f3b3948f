"""Static findings: what 8 bits will harm is found with figures, and healthy models hear no warning."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from helpers_chinese import is_translated
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hybridq import demo, targets
from hybridq.calibration.statistics import Histogram
from hybridq.cli import main
from hybridq.dataset import Preprocessing
from hybridq.graph.runtime import run, session
from hybridq.linting import Finding, lint
from hybridq.linting.mixing import FACTOR, Part, mixture
from hybridq.linting.values import magnitude_of
from hybridq.quant.qparams import Range
from hybridq.steps.editing import set_precision
from hybridq.steps.step1 import Step1Result, step1
from hybridq.steps.step2 import step2


def conv(out: int, read: int, scale: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(out * read).normal(size=(out, read, 1, 1)) * scale / np.sqrt(read)
    return values.astype(np.float32)


def samples() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 8, 6, 6)).astype(np.float32)} for _ in range(24)]


def found(
    tmp_path: Path, rows: list[tuple[Any, ...]], tensors: dict[str, Any], feeds: Any = None, **options: Any
) -> Step1Result:
    """Step 1 of ``(op, inputs, outputs, attributes)`` rows that read ``x`` (1, 8, 6, 6) and give ``y``."""
    nodes = [
        helper.make_node(r[0], r[1].split(), r[2].split(), name=f"{r[0]}.{i}", **(r[3] if r[3:] else {}))
        for i, r in enumerate(rows)
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    told = step1(path, feeds or samples(), tmp_path / "out", threads=1, weights_repair="none", force=True, **options)
    return in_chinese(told)


def in_chinese(result: Step1Result) -> Step1Result:
    """The same; every finding has a translation on the page."""
    for finding in result.findings:
        assert is_translated(finding.message), finding.message
    return result


def by_code(result: Step1Result) -> dict[str, Finding]:
    return {f.code: f for f in result.findings}


def warned(result: Step1Result) -> list[Finding]:
    return [f for f in result.findings if f.severity == "warning"]


def of_demo(tmp_path: Path, **options: Any) -> Step1Result:
    calibration, _ = demo.write_dataset(tmp_path / "data")
    preprocessing = Preprocessing.of(demo.MEAN, demo.STD)
    return in_chinese(
        step1(demo.model_path(), calibration, tmp_path / "out", preprocessing=preprocessing, threads=1, **options)
    )


BODY: list[tuple[Any, ...]] = [("Conv", "x w", "c"), ("Relu", "c", "f")]
HEAD: list[tuple[Any, ...]] = [*BODY, ("Conv", "f wb", "b"), ("Conv", "f ws", "s")]
W, WEIGHTS = conv(16, 8), {"w": conv(16, 8), "wb": conv(4, 16), "ws": conv(3, 16, 3.0)}


class TestMixedOutputs:
    @pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
    def test_the_demo(self, tmp_path: Path, target: str) -> None:
        cpu = target == "onnxruntime"
        result = of_demo(tmp_path, target=target, dtype="uint8" if cpu else None)
        (finding,) = warned(result)
        assert finding.layers == (result.state.model.names["/decode/Mul"], "detections")
        assert "a score of 0.98 becomes 1.26 and one below 0.63 becomes 0" in finding.message
        assert all(f'"{n}": {"float32" if cpu else "int16"}' in finding.remedy for n in finding.layers)

    def test_the_demo_by_default_keeps_them_in_float(self, tmp_path: Path) -> None:
        assert not warned(of_demo(tmp_path))

    @pytest.mark.parametrize(("target", "dtype"), [("onnxruntime", "uint8"), ("rknn2", None)])
    def test_concat_then_scaled_by_constants(self, tmp_path: Path, target: str, dtype: str | None) -> None:
        rows = [*HEAD, ("Sigmoid", "b", "pb"), ("Sigmoid", "s", "ps")]
        rows += [("Concat", "pb ps", "j", {"axis": 1}), ("Mul", "j k", "y")]
        k = np.array([640] * 4 + [1] * 3, np.float32).reshape(1, 7, 1, 1)
        finding = by_code(found(tmp_path, rows, {**WEIGHTS, "k": k}, target=target, dtype=dtype))["mixed output"]
        assert (finding.layers, finding.severity) == (("y",), "warning")
        assert "a score of 0.98 becomes 0" in finding.message

    @pytest.mark.parametrize(("factor", "harmed"), [(300.0, True), (1.0, False)])
    def test_a_last_convolution(self, tmp_path: Path, factor: float, harmed: bool) -> None:
        last = conv(7, 16)
        last[:4] *= factor
        result = found(tmp_path, [*BODY, ("Conv", "f v", "y")], {"w": W, "v": last}, dtype="uint8")
        assert [(f.code, f.layers) for f in warned(result)] == ([("mixed output", ("y",))] if harmed else [])


class TestConcats:
    ROWS = (*HEAD, ("Sigmoid", "s", "ps"), ("Mul", "b k", "px"), ("Concat", "px ps", "y", {"axis": 1}))

    @pytest.mark.parametrize(("target", "layers"), [("rknn1", {"px", "ps"}), ("rknn2", {"y"})])
    def test_on_an_npu(self, tmp_path: Path, target: str, layers: set[str]) -> None:
        """Inputs that share the output's parameters, or keep their own before an output of one range."""
        result = found(tmp_path, list(self.ROWS), {**WEIGHTS, "k": np.float32(200)}, target=target)
        finding = by_code(result)["concat"]
        assert (finding.severity, set(finding.layers)) == ("warning", layers)
        assert "a score of 0.98 becomes" in finding.message

    @pytest.mark.parametrize("dtype", [None, "uint8"])
    def test_kept_apart_on_onnxruntime(self, tmp_path: Path, dtype: str | None) -> None:
        result = found(tmp_path, list(self.ROWS), {**WEIGHTS, "k": np.float32(200)}, dtype=dtype)
        assert by_code(result)["concat"].severity == "note"
        assert "on an NPU target" in by_code(result)["concat"].message

    @pytest.mark.parametrize(("factor", "precision"), [(20.0, "int16"), (5e4, "float32")])
    def test_remedies_agree_where_few_precisions_fit(self, tmp_path: Path, factor: float, precision: str) -> None:
        w = np.ones((8, 1, 1, 1), np.float32)
        w[0], w[1] = 20.0, 0.1
        rows = [("Conv", "x dw", "d", {"group": 8}), ("Conv", "d w", "c"), ("Relu", "c", "f"), *self.ROWS[2:]]
        result = found(tmp_path, rows, {**WEIGHTS, "dw": w, "k": np.float32(factor)}, target="rknn1")
        findings = by_code(result)
        assert [str(findings[c].precision) for c in ("concat", "channel spread")] == [precision] * 2

    def test_like_ranges(self, tmp_path: Path) -> None:
        assert not warned(found(tmp_path, [*HEAD, ("Concat", "b s", "y", {"axis": 1})], WEIGHTS, target="rknn2"))


class TestValues:
    @pytest.mark.parametrize(("scale", "harmed"), [(1.0, False), (60.0, True)])
    def test_sigmoid(self, tmp_path: Path, scale: float, harmed: bool) -> None:
        rows = [("Conv", "x w", "c"), ("Sigmoid", "c", "y")]
        findings = by_code(found(tmp_path, rows, {"w": conv(8, 8, scale)}, algorithm="normal", dtype="uint8"))
        assert ("squashed" in findings) is harmed
        assert not harmed or '"c": float32' in findings["squashed"].remedy

    def test_a_sigmoid_whose_range_is_trimmed_is_none(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "c"), ("Sigmoid", "c", "y")]
        options = {"algorithm": "trimmed", "dtype": "uint8"}
        assert "squashed" not in by_code(found(tmp_path, rows, {"w": conv(8, 8, 60.0)}, **options))

    def test_silu_is_no_finding(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "c"), ("Sigmoid", "c", "s"), ("Mul", "c s", "y")]
        assert not warned(found(tmp_path, rows, {"w": conv(8, 8, 60.0)}, dtype="uint8"))

    def test_zeros(self, tmp_path: Path) -> None:
        tensors = {"w": W, "b": np.full(16, -1e4, np.float32), "v": conv(8, 16)}
        rows = [("Conv", "x w b", "c"), ("Relu", "c", "r"), ("Conv", "r v", "y")]
        assert by_code(found(tmp_path, rows, tensors))["zero"].layer == "r"

    @pytest.mark.parametrize(("peak", "harmed"), [(5e3, True), (5.0, False)])
    def test_outlier(self, tmp_path: Path, peak: float, harmed: bool) -> None:
        feeds = samples()
        feeds[3]["x"][0, 0, 0, 0] = peak
        result = found(tmp_path, [("Conv", "x w", "y")], {"w": conv(8, 8)}, feeds, algorithm="mmse", dtype="uint8")
        state, stats = result.state, result.stats
        assert stats is not None
        entries = {k: replace(e, algorithm="normal") for k, e in state.calibrated.entries.items()}
        calibrated = replace(state.calibrated, entries=entries, algorithm="normal")
        again = lint(state.model, state.weights, calibrated, targets.load("onnxruntime"), stats.tensors)
        assert ("outlier" in {f.code for f in again}) is harmed

    @given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 1.0]))
    @settings(max_examples=50, deadline=None)
    def test_magnitude(self, values: list[float], share: float) -> None:
        held = np.array(values, np.float32)
        histogram = Histogram.of_codes((held.view(np.uint32) >> 16).astype(np.uint16))
        exact = float(np.sort(np.abs(held))[int(np.ceil(share * len(held))) - 1])
        slack = float(np.abs(held).max()) * 2.0**-14 + 1e-30
        assert exact * 0.99 - slack <= magnitude_of(histogram, share) <= exact * 1.01 + slack


class TestKernels:
    @pytest.mark.parametrize(("target", "harmed"), [("rknn1", True), ("rknn2", False), ("onnxruntime", False)])
    def test_depthwise_channels(self, tmp_path: Path, target: str, harmed: bool) -> None:
        w = np.ones((8, 1, 1, 1), np.float32)
        w[0], w[1] = 20.0, 0.1
        result = found(tmp_path, [("Conv", "x w", "y", {"group": 8})], {"w": w}, target=target)
        assert ("channel spread" in by_code(result)) is harmed

    def test_slow_only_where_planned(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "c"), ("Softmax", "c", "y", {"axis": 1})]
        assert "slow" not in by_code(found(tmp_path, rows, {"w": W}))
        assert '"y": float32' in by_code(found(tmp_path, rows, {"w": W}, dtype="uint8"))["slow"].remedy

    def test_between_integers_float_saves_no_time(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "c"), ("Softmax", "c", "p", {"axis": 1}), ("Conv", "p v", "y")]
        assert "slow" not in by_code(found(tmp_path, rows, {"w": W, "v": conv(8, W.shape[0])}, dtype="uint8"))

    def test_sum_of_unlike_addends(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "s"), ("Conv", "s u", "y")]
        tensors = {"w": conv(8, 8), "v": conv(8, 8, 1e-3), "u": conv(8, 8)}
        assert by_code(found(tmp_path, rows, tensors))["sum"].layer == "s"


class TestMixture:
    @given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
    def test_scale_does_not_matter(self, a: float, b: float, factor: float) -> None:
        ratio, step = max(a, b) / min(a, b), max(a, b) / 255
        if not FACTOR - 0.1 < ratio < FACTOR + 0.1:
            parts = [Part(Range(0, a)), Part(Range(0, b))]
            scaled = [Part(Range(0, a * factor)), Part(Range(0, b * factor))]
            assert (mixture(parts, step) is None) is (mixture(scaled, step * factor) is None) is (ratio < FACTOR)

    def test_what_never_changes_is_no_part(self) -> None:
        assert mixture([Part(Range(0, 0)), Part(Range(0, 640))], 2.5) is None


def test_command_line(tmp_path: Path) -> None:
    calibration, _ = demo.write_dataset(tmp_path / "data")
    arguments = ["step1", str(demo.model_path()), "--dataset", str(calibration), "--mean", "127.5", "--std", "64"]
    arguments += ["--dtype", "uint8", "-o", str(tmp_path / "out"), "--threads", "1"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert "a score of 0.98 becomes" in " ".join(said.stdout.split())
    data = json.loads(CliRunner().invoke(main, [*arguments, "--force", "--json"]).stdout)
    assert data["findings"][0]["code"] == "mixed output"
    assert "becomes" not in (tmp_path / "out" / "model.quantization.cfg").read_text()


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["ultraface_rfb320", "yunet_n", "squeezenet", "fastestdet"])
def test_healthy_models_hear_no_warning(zoo: ModuleType, name: str, tmp_path: Path) -> None:
    held = zoo.load(name)
    path, feeds = Path(held.model_path), list(islice(held.calibration(), 16))
    assert not warned(step1(path, feeds, tmp_path / "cpu", threads=1, weights_repair="none"))
    assert not warned(step1(path, feeds, tmp_path / "npu", target="rknn2", threads=1, weights_repair="none"))


def grouped(group: int, inputs: int = 8, each: int = 2) -> dict[str, Any]:
    """A ConvTranspose whose output channels differ 300 times in size, in ``group`` groups."""
    outputs = each * group
    size = np.geomspace(1 / 300, 1, outputs).reshape(group, 1, each, 1, 1)
    held = np.random.default_rng(2).normal(0, 0.2, (group, inputs // group, each, 3, 3)) * size
    return {"w": held.reshape(inputs, each, 3, 3).astype(np.float32)}


class TestCoarse:
    @pytest.mark.parametrize("group", [1, 2, 8])
    def test_small_channels_of_a_transposed_convolution(self, tmp_path: Path, group: int) -> None:
        tensors = grouped(group, each=16 // group)
        findings = found(tmp_path, [("ConvTranspose", "x w", "y", {"group": group})], tensors).findings
        assert any("'y'" in f.message and "step" in f.message for f in findings)

    def test_following_it_helps(self, tmp_path: Path) -> None:
        """A logarithm hears the small values that a few large ones have taken the steps from."""
        feeds = samples()
        for feed in feeds:
            size = np.where(np.arange(288) % 40 == 0, 100.0, 0.1).reshape(1, 8, 6, 6)
            feed["x"] = (np.abs(feed["x"]) * size).astype(np.float32)
        rows = [("Conv", "x w", "c"), ("Relu", "c", "r"), ("Add", "r one", "a"), ("Log", "a", "y")]
        tensors = {"w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "one": np.float32(1e-2)}
        result = found(tmp_path, rows, tensors, feeds, algorithm="normal", dtype="uint8")
        finding = by_code(result)["coarse"]
        assert finding.severity == "warning"
        command = finding.command(str(result.directory))
        assert command.startswith(f"hybridq set {result.directory} ")
        assert command.endswith(" float32")

        def noise() -> float:
            step2(result.directory)
            given = [
                run(session(p, threads=1), feeds[0])[0] for p in (tmp_path / "m.onnx", result.directory / "hybrid.onnx")
            ]
            return float(np.mean((given[0] - given[1]) ** 2))

        before = noise()
        for one in (f for f in result.findings if f.code == "coarse" and f.layers):
            set_precision(result.directory, " or ".join(one.layers), str(one.precision))
        assert noise() < before / 10

    def test_a_gate_that_hardly_a_value_moves_is_no_finding(self, tmp_path: Path) -> None:
        rows = [("Conv", "x w", "c"), ("HardSigmoid", "c", "g"), ("Mul", "c g", "y")]
        weights = {"w": conv(8, 8, 3000.0)}
        assert "squashed" not in by_code(found(tmp_path, rows, weights, algorithm="mmse", dtype="uint8"))


@pytest.mark.parametrize(("group", "told"), [(8, True), (1, False)])
def test_a_model_that_gains_nothing_is_told_so(tmp_path: Path, group: int, told: bool) -> None:
    rows = [("Conv", "x w", "y", {"group": group})]
    findings = by_code(found(tmp_path, rows, {"w": conv(8, 8 // group)}, dtype="uint8"))
    assert ("gainless" in findings) is told


@pytest.mark.parametrize(("unit", "severity"), [(1e4, ["warning"]), (30.0, ["note"])])
def test_columns_of_unlike_units_in_one_input_are_a_warning(unit: float, severity: list[str], tmp_path: Path) -> None:
    scale = np.ones((1, 8, 1, 1), np.float32)
    scale[0, 0] = unit
    feeds = [{"x": feed["x"] * scale} for feed in samples()]
    rows = [("Conv", "x w", "c"), ("Relu", "c", "y")]
    result = found(tmp_path, rows, {"w": conv(8, 8) / scale}, feeds, target="rknn2")
    assert [f.severity for f in result.findings if f.code == "coarse" and f.layer == "x"] == severity

"""Infinities that are meant, what stands for them, and tensors without any element: ranges come from what counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import hybridq
from hybridq.build.builder import build
from hybridq.calibration.calibrate import calibrate
from hybridq.calibration.statistics import CalibrationStats
from hybridq.calibration.unbounded import LOSES, Softmax, counting, is_odd, softmax_readers
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.view import Sharing
from hybridq.plan.plan import make_plan
from hybridq.plan.record import Request, decide
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice, QuantConfig
from hybridq.storage import state as storage
from hybridq.targets import load

N = helper.make_node
Feeds = list[dict[str, np.ndarray[Any, Any]]]
LOWEST = float(np.finfo(np.float32).min)
MASKS = [-np.inf, LOWEST, -1e9, -65504.0, -1e4]
RANDOM = np.random.default_rng(0)


START = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Of each test, whatever ran before it."""
    RANDOM.bit_generator.state = START


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.normal(size=shape).astype(np.float32)


class Net:
    """A small model, calibrated on the feeds that it is judged by."""

    def __init__(
        self,
        nodes: list[onnx.NodeProto],
        shapes: dict[str, Any],
        feeds: Feeds,
        target: str = "onnxruntime",
        **held: Any,
    ) -> None:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()],
        )
        given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        self.proto, self.feeds, self.target = canonicalize(given), feeds, load(target)
        self.model = analyse(self.proto, given, sharing=Sharing(self.target.outputs_share))
        self.weights = storage.weights_of(self.proto)

    def stats(self, *algorithms: str) -> CalibrationStats:
        return calibrate(self.model, self.proto, enumerate(self.feeds), algorithms={"normal", *algorithms}, threads=1)

    def sqnr(self, precision: Precision, algorithm: str = "normal") -> float:
        """Of the built model's output, every layer asked for a precision, in dB."""
        tensors = self.stats(algorithm).tensors
        request = Request(self.target, precision, algorithm, literal=True)
        calibrated = decide(self.model, self.weights, tensors, request, ["normal", algorithm])
        free = [x.name for x in self.model.layers if not x.float_only]
        asked = {n: LayerChoice(precision) for n in free}  # said by name, too: no infinity may be asked away
        plan = make_plan(
            self.model, calibrated, QuantConfig(self.target.name, asked, calibrated.entries, {}), self.weights
        )
        built = build(self.model, plan, self.weights).assemble()
        signal = noise = 0.0
        for feed in self.feeds:
            (a,), (b,) = (runtime.run(runtime.session(m, threads=1), feed) for m in (self.proto, built))
            signal, noise = signal + float((a**2).sum()), noise + float(((a - b) ** 2).sum())
        return 10 * np.log10(signal / noise) if noise else np.inf


def attention(mask: float, kind: str, target: str = "onnxruntime") -> Net:
    """Softmax(x w + mask) v, the mask a constant, chosen by Where, or an input."""
    upper = np.triu(np.ones((8, 8), bool), 1)
    values = np.where(upper, np.float32(mask), np.float32(0))
    nodes = [
        N("MatMul", ["x", "w"], ["s"]),
        N("Where", ["keep", "s", "low"], ["m"]) if kind == "Where" else N("Add", ["s", "mask"], ["m"]),
        N("Softmax", ["m"], ["p"]),
        N("MatMul", ["p", "v"], ["y"]),
    ]
    held: dict[str, Any] = {"w": normal(8, 8), "v": normal(8, 4)}
    held |= {"keep": ~upper, "low": np.float32(mask)} if kind == "Where" else {}
    held |= {"mask": values} if kind == "constant" else {}
    feeds = [{"x": normal(8, 8)} | ({"mask": values} if kind == "input" else {}) for _ in range(8)]
    return Net(nodes, {k: v.shape for k, v in feeds[0].items()}, feeds, target, **held)


@pytest.mark.parametrize("kind", ["constant", "Where", "input"])
@pytest.mark.parametrize("mask", MASKS)
class TestMasks:
    """A mask before a Softmax, whatever number stands for it, costs no accuracy in any precision."""

    @pytest.mark.parametrize(("precision", "least"), [(Precision.UINT8, 25.0), (Precision.INT16, 60.0)])
    def test_it_still_masks(self, mask: float, kind: str, precision: Precision, least: float) -> None:
        assert attention(mask, kind).sqnr(precision) >= least

    def test_ranges_are_of_the_other_values(self, mask: float, kind: str) -> None:
        stats = attention(mask, kind).stats("mmse").tensors["m"]
        assert stats.unbounded
        assert -1000 < stats.min < stats.max < 1000
        assert stats.histogram is not None
        assert stats.histogram.edges[0] > -1000

    def test_targets_without_float32_take_float16(self, mask: float, kind: str) -> None:
        assert attention(mask, kind, "rknn2").sqnr(Precision.INT8) >= 20.0


@pytest.mark.parametrize("kind", ["constant", "Where", "input"])
@pytest.mark.parametrize("mask", [-np.inf, -1e9])
def test_a_mask_is_no_drift(mask: float, kind: str, tmp_path: Path) -> None:
    net = attention(mask, kind)
    onnx.save(net.proto, tmp_path / "model.onnx")
    hybridq.step1(tmp_path / "model.onnx", net.feeds, tmp_path / "build", threads=1)
    hybridq.step2(tmp_path / "build", threads=1)
    report = hybridq.step3(tmp_path / "build", net.feeds, threads=1, seconds=0).report
    assert not report.drift
    loud = [{n: v * 4 if n == "x" else v for n, v in feed.items()} for feed in net.feeds]
    assert {"x"} <= {d.tensor for d in hybridq.step3(tmp_path / "build", loud, threads=1, seconds=0).report.drift}


class TestPadding:
    """A padding that can only lose in a MaxPool is the integers' lowest: nothing stays float, nothing is lost."""

    @pytest.mark.parametrize("value", [*MASKS, -1.0, 0.0])
    def test_it_shares_the_parameters_of_what_it_pads(self, value: float) -> None:
        net = padded(value, 3)
        assert net.model.group_of["q"] is net.model.group_of["c"] is net.model.group_of["p"]
        assert net.sqnr(Precision.UINT8) >= 30.0
        assert net.sqnr(Precision.INT16) >= 60.0

    @pytest.mark.parametrize(("value", "kernel"), [(1.0, 3), (-1.0, 1)])
    def test_not_where_it_may_win(self, value: float, kernel: int) -> None:
        net = padded(value, kernel)
        assert net.model.group_of["q"] is not net.model.group_of["c"]


def padded(value: float, kernel: int) -> Net:
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Pad", ["c", "pads", "value"], ["q"]),
        N("MaxPool", ["q"], ["p"], kernel_shape=[kernel] * 2),
        N("Conv", ["p", "v"], ["y"]),
    ]
    feeds: Feeds = [{"x": normal(1, 3, 8, 8)} for _ in range(8)]
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    return Net(
        nodes,
        {"x": [1, 3, 8, 8]},
        feeds,
        w=normal(4, 3, 1, 1),
        v=normal(4, 4, 1, 1),
        pads=pads,
        value=np.float32(value),
    )


class TestCounting:
    """Which values a range must hold."""

    @given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=20), st.sampled_from(MASKS))
    def test_a_mask_changes_nothing(self, row: list[float], mask: float) -> None:
        plain = np.float32([row])
        masked = np.concatenate([plain, np.full((1, 3), mask, np.float32)], axis=1)
        found = counting(masked, Softmax("m", -1))
        winning = plain[plain >= plain.max() - np.float32(LOSES)]
        assert set(found.tolist()) <= set(plain.ravel().tolist())
        assert set(winning.tolist()) <= set(found.tolist())

    def test_wide_logits_are_no_mask(self) -> None:
        logits = np.linspace(-60, 60, 100, dtype=np.float32)[None]
        assert counting(logits, Softmax("m", -1)).size == logits.size

    def test_without_a_softmax_only_infinities_are_left_out(self) -> None:
        values = np.float32([1, -1e4, -np.inf, LOWEST, np.inf])
        assert counting(values, None).tolist() == [1.0, -1e4]

    def test_what_must_be_looked_at(self) -> None:
        assert not is_odd(np.inf, -np.inf, None)  # no element
        assert not is_odd(-1e4, 1.0, None)
        assert is_odd(-1e4, 1.0, Softmax("m", -1))
        assert is_odd(-np.inf, 1.0, None)
        assert is_odd(LOWEST, 1.0, None)

    def test_only_a_softmax_that_alone_reads(self) -> None:
        alone = attention(-1e4, "constant").model
        assert set(softmax_readers(alone)) == {"s", "m"}

    @pytest.mark.parametrize(("last", "found"), [("Add", {"s", "m", "n"}), ("Mul", {"n"})])
    def test_through_further_masks(self, last: str, found: set[str]) -> None:
        nodes = [
            N("MatMul", ["x", "w"], ["s"]),
            N("Add", ["s", "first"], ["m"]),
            N(last, ["m", "second"], ["n"]),
            N("Softmax", ["n"], ["p"]),
            N("MatMul", ["p", "v"], ["y"]),
        ]
        held = {"first": normal(8, 8), "second": normal(8, 8)}
        net = Net(nodes, {"x": [8, 8]}, [{"x": normal(8, 8)}], w=normal(8, 8), v=normal(8, 4), **held)
        assert set(softmax_readers(net.model)) == found


class TestEmpty:
    """A tensor that has no element in some sample is neither infinite nor an error."""

    @pytest.mark.parametrize("algorithm", ["normal", "moving_average", "mmse", "percentile", "kl_divergence"])
    def test_samples_without_elements_say_nothing(self, algorithm: str) -> None:
        nodes = [N("Concat", ["past", "x"], ["all"], axis=0), N("MatMul", ["all", "w"], ["y"])]
        feeds: Feeds = [{"x": normal(4, 8), "past": normal(i, 8)} for i in range(5)]
        net = Net(nodes, {"x": [4, 8], "past": ["P", 8]}, feeds, w=normal(8, 4))
        assert net.sqnr(Precision.UINT8, algorithm) > 15.0
        past = net.stats("mmse").tensors["past"]
        assert past.samples == 5
        assert len(past.seen) == 4
        assert past.max == max(float(f["past"].max()) for f in feeds[1:])

    @pytest.mark.parametrize("algorithm", ["normal", "mmse"])
    def test_nothing_found_in_any_sample(self, algorithm: str) -> None:
        nodes = [
            N("MatMul", ["x", "w"], ["m"]),
            N("Greater", ["m", "limit"], ["g"]),
            N("NonZero", ["g"], ["z"]),
            N("Transpose", ["z"], ["t"], perm=[1, 0]),
            N("GatherND", ["m", "t"], ["s"]),
            N("Mul", ["s", "two"], ["y"]),
        ]
        feeds: Feeds = [{"x": normal(4, 8)} for _ in range(4)]
        net = Net(nodes, {"x": [4, 8]}, feeds, w=normal(8, 8), limit=np.float32(1000), two=np.float32(2))
        stats = net.stats(algorithm).tensors["y"]
        assert (stats.min, stats.max, len(stats.seen)) == (0.0, 0.0, 0)
        assert net.sqnr(Precision.UINT8, algorithm) == np.inf

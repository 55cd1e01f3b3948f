"""The plan decides and the build obeys: what stands in the hybrid model is what the plan says, no more and no less."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import CHAIN, F16, F32, I16, U8, case_of, normal
from helpers_graphs import given as graph
from onnx import TensorProto, helper
from random_graphs import Case, expose, make_case, random_case, random_choices, run

from hybridq.build.metadata import Copy, Metadata, read_metadata, write_metadata
from hybridq.plan.barriers import BEHIND_POOL, BETWEEN_INTEGERS
from hybridq.plan.defaults import KERNEL, PRODUCT, TAIL
from hybridq.plan.quant_plan import BarrierKind, QuantPlan, Stored
from hybridq.plan.share_of_macs import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import dequantize, quantize
from hybridq.quant.records import QuantConfig
from hybridq.report.build_json import BuildReport, report_build
from hybridq.report.effects import Effects

SEEDS = range(40)
W, V = normal(8, 8, 1, 1), normal(8, 8, 1, 1)


def planned(seed: int, *, portable: bool = False) -> tuple[Case, QuantPlan]:
    case = random_case(seed)
    return case, case.plan(random_choices(case, seed), portable=portable)


def stored_forms(plan: QuantPlan) -> Counter[Precision]:
    """How many tensors take each stored form: where they are made, and in conversions."""
    rounded = [plan.written(r.stored).precision for r in plan.roundings.values()]
    wanted = [(b.tensor, plan.written(b.conversion)) for b in plan.boundaries.values() if b.conversion is not None]
    converted = {(t, s.precision, _numbers(s)): s.precision for t, s in wanted}
    return Counter([*rounded, *converted.values()])


def _numbers(stored: Stored) -> tuple[float, ...]:
    p = stored.qparams
    return () if p is None else (float(p.scale), float(p.zero_point))


def written_forms(model: onnx.ModelProto) -> Counter[Precision]:
    """How many activations a model stores in each form."""
    of_type = {p.onnx: p for p in Precision}
    kinds = {t.name: of_type.get(t.data_type) for t in model.graph.initializer}
    found = [kinds[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    halves = [n for n in model.graph.node if n.op_type == "Cast" and n.attribute[0].i == TensorProto.FLOAT16]
    return Counter([*found, *[F16 for _ in halves]])


def leaky(model: onnx.ModelProto) -> Counter[float]:
    """Slopes of the LeakyRelus of a model."""
    return Counter(n.attribute[0].f for n in model.graph.node if n.op_type == "LeakyRelu")


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_stored_is_what_the_plan_stores(seed: int) -> None:
    case, plan = planned(seed)
    assert written_forms(case.build(plan)) == stored_forms(plan)


@pytest.mark.parametrize("seed", SEEDS)
def test_barriers_stand_where_the_plan_puts_them(seed: int) -> None:
    case, plan = planned(seed)
    kinds = Counter(r.barrier.kind for r in plan.roundings.values() if r.barrier)
    shielded = {b.tensor for b in plan.boundaries.values() if b.barrier}
    added = leaky(case.build(plan)) - leaky(case.proto)
    assert added[0.0] == kinds[BarrierKind.ACTIVATION]
    assert added[1.0] == kinds[BarrierKind.OWN_NODE] + len(shielded)


@pytest.mark.parametrize("seed", SEEDS)
def test_boundaries_are_the_edges_whose_ends_differ(seed: int) -> None:
    case, plan = planned(seed)
    for layer in case.model.layers:
        for tensor in (i for i in layer.inputs if i in case.model.group_of):
            held = plan.groups[case.model.group_of[tensor].name].stored.precision
            boundary = plan.boundaries.get((layer.name, tensor))
            assert (boundary is None) == (held is plan.layers[layer.name].done)
            if boundary is not None:
                assert (boundary.held, boundary.wanted) == (held, plan.layers[layer.name].done)
                assert (boundary.conversion is not None) == (boundary.wanted.bits < held.bits)
                assert boundary.why


@pytest.mark.parametrize("seed", SEEDS)
def test_a_portable_plan_has_nothing_for_one_runtime_alone(seed: int) -> None:
    case, plan = planned(seed, portable=True)
    _, usual = planned(seed)
    assert not any(x.padding or x.pool for x in plan.layers.values())
    assert not any(x.barrier or x.instead_of for x in plan.roundings.values())
    assert not any(b.barrier for b in plan.boundaries.values())
    sources = {s for g in case.model.groups for s in g.sources if not plan.groups[g.name].stored.is_float}
    assert sources <= set(plan.roundings)
    for name, layer in usual.layers.items():  # all the rest is the same
        assert (layer.done, layer.native) == (plan.layers[name].done, plan.layers[name].native)


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_hold_what_the_model_says(seed: int) -> None:
    """A copy is its tensor (an input as it is stored), brought into the form that the plan gives it, and restored."""
    case, plan = planned(seed)
    hybrid = case.build(plan)
    metadata = read_metadata(hybrid)
    assert metadata is not None
    inputs = {copy.tensor: name for name, copy in metadata.copies.items() if name.endswith("/dequantized")}
    forms = {(b.tensor, b.wanted): b.conversion for b in plan.boundaries.values()}
    for name, copy in metadata.copies.items():
        if copy.pads:
            continue
        form = forms[copy.tensor, Precision(name.rpartition("/as_")[2])] if "/as_" in name else None
        source = inputs.get(copy.tensor, copy.tensor) if form else copy.tensor
        exposed = expose(hybrid, [name, *([] if source in case.feed else [source])])
        values = dict(zip([o.name for o in exposed.graph.output], run(exposed, case.feed, "none"), strict=True))
        expected = restored((values | case.feed)[source], form or plan.roundings[copy.tensor].stored)
        np.testing.assert_array_equal(values[name], expected, err_msg=name)


def restored(values: Any, form: Stored) -> Any:
    if form.qparams is None:
        return values.astype(np.float16).astype(np.float32)
    return dequantize(quantize(values, form.qparams), form.qparams)


def report_of(case: Case, plan: QuantPlan) -> BuildReport:
    config = QuantConfig(case.calibrated.target, {}, case.calibrated.entries, {})
    return report_build(Effects(case.model, case.calibrated, config, case.weights, plan, plan), (0, 0))


def test_metadata_is_read_as_it_was_written() -> None:
    model = onnx.ModelProto()
    assert read_metadata(model) is None
    metadata = Metadata("rknn2", {"a": "int8", "b": "int16"}, {"b": "int8"}, {"x/as": Copy("x"), "y": Copy("x", "p")})
    write_metadata(model, metadata)
    assert read_metadata(model) == metadata


class TestRoundings:
    def test_behind_a_pool(self) -> None:
        """A float result that only a MaxPool reads is rounded behind it, with a barrier."""
        rows = [("Conv", "x w", "m"), ("MaxPool", "m", "p", {"kernel_shape": [2, 2]}), ("Conv", "p w", "y")]
        case = case_of(graph(rows, {"w": W}, ["y"]))
        plan = case.plan({**case.all(U8), "m": F32})
        assert plan.groups["m"].stored.precision is F32 or "m" not in plan.roundings
        held = case.plan({"m": I16, "y": I16})
        assert "m" not in held.roundings
        assert (held.roundings["p"].barrier, held.roundings["p"].instead_of) == (BEHIND_POOL, "m")

    @pytest.mark.parametrize("other", ["output", "reader"])
    def test_not_behind_a_pool_where_something_else_reads(self, other: str) -> None:
        rows = [("Conv", "x w", "m"), ("MaxPool", "m", "p", {"kernel_shape": [2, 2]}), ("Conv", "p w", "y")]
        rows += [("Conv", "m v", "z")] if other == "reader" else []
        outputs = ["y", "m"] if other == "output" else ["y", "z"]
        case = case_of(graph(rows, {"w": W, "v": V}, outputs))
        assert "m" in case.plan(case.all(I16)).roundings

    def test_before_a_relu_whose_integers_reach_below_zero(self) -> None:
        rows = [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Concat", "r x", "c", {"axis": 1}), ("Conv", "c u", "y")]
        case = case_of(graph(rows, {"w": W, "u": normal(8, 16, 1, 1)}, ["y"]))
        plan = case.plan(case.all(U8))
        assert plan.roundings["a"].stored == plan.roundings["r"].stored
        assert plan.barrier("r") == BETWEEN_INTEGERS


class TestOutsideReaders:
    """What layers do not read alone keeps the bits of who wrote it."""

    def test_a_concat_that_runs_in_float(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Conv", "a v", "y")]
        case = case_of(graph(rows, {"w": W, "v": V}, ["c", "y"]))
        held = case.plan({"a": I16, "b": U8, "y": U8}).groups["a"]
        assert held.stored.precision is I16
        assert set(held.conversions) == {U8}

    def test_a_subgraph(self) -> None:
        branches = []
        for name, op in (("one", "Neg"), ("other", "Abs")):
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            branches.append(helper.make_graph([helper.make_node(op, ["a"], [name])], name, [], [value]))
        either = {"then_branch": branches[0], "else_branch": branches[1]}
        rows = [("Conv", "x w", "a"), ("ReduceMax", "x", "m", {"keepdims": 0}), ("Greater", "m zero", "c")]
        rows += [("If", "c", "z", either), ("Conv", "a v", "y")]
        case = case_of(graph(rows, {"w": W, "v": V, "zero": np.float32(0)}, ["y", "z"]))
        assert case.plan({"a": I16, "y": U8}).groups["a"].stored.precision is I16

    def test_a_shape_is_no_reader(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "a v", "y"), ("Shape", "a", "s"), ("Reshape", "x s", "z")]
        case = case_of(graph(rows, {"w": W, "v": V}, ["y", "z"]))
        assert case.plan({"a": I16, "y": U8}).groups["a"].stored.precision is U8


class TestDefaults:
    """On ONNX Runtime some layers begin in float32; with a reason that is one of these."""

    def test_a_result_that_no_integer_layer_reads(self) -> None:
        rows = [("Conv", "x w", "a"), ("Mul", "a a", "m"), ("Conv", "m v", "b"), ("Mul", "b b", "y")]
        case = case_of(graph(rows, {"w": W, "v": V}, ["y"]))
        found = case.calibrated.layers
        assert (found["y"].precision, found["y"].why) == (F32, TAIL)
        assert [found[n].precision for n in ("a", "m", "b")] == [U8] * 3

    def test_a_product_of_two_activations(self) -> None:
        rows = [("MatMul", "x x", "p"), ("MatMul", "p w", "y")]
        model, feed = graph(rows, {"w": normal(8, 8)}, ["y"]), {"x": normal(4, 8, 8, 8)}
        found = make_case(model, feed).calibrated.layers
        assert (found["p"].precision, found["p"].why) == (F32, PRODUCT)
        assert found["y"].precision is U8
        assert make_case(model, feed, "rknn2").calibrated.layers["p"].precision.bits == 8

    def test_an_operator_without_integer_kernel(self) -> None:
        rows = [("Conv", "x w", "a"), ("Sub", "a x", "s"), ("Conv", "s v", "y")]
        found = case_of(graph(rows, {"w": W, "v": V}, ["y"])).calibrated.layers["s"]
        assert (found.precision, found.why) == (F32, KERNEL)


class TestShares:
    @pytest.mark.parametrize("wide", [F32, F16, I16])
    def test_everything_above_eight_bits_counts(self, wide: Precision) -> None:
        case = case_of(CHAIN)
        macs = {x.name: x.macs for x in case.model.layers}
        plan = case.plan({**case.all(U8), "r2": wide})
        assert high_fraction(case.model, plan) == macs["r2"] / sum(macs.values()) > 0
        assert high_fraction(case.model, case.plan(case.all(wide))) == 1
        assert high_fraction(case.model, case.plan(case.all(U8))) == 0

    def test_reports_say_the_same(self) -> None:
        case = case_of(CHAIN)
        plan = case.plan({**case.all(U8), "y": I16})
        report = report_of(case, plan)
        assert report.high_fraction == share_of_macs(case.model, ["y"]) == case.model.layer["y"].macs / case.model.macs


def test_what_is_built_is_told_with_its_reason() -> None:
    """``build.json`` has a word for each barrier, padding, pool, conversion and moved rounding."""
    rows = [
        ("Conv", "x s", "a"),
        ("AveragePool", "a", "p", {"kernel_shape": [2, 2]}),
        ("Conv", "p w", "m"),
        ("Relu", "m", "r"),
        ("Conv", "r w", "b"),
        ("MaxPool", "b", "q", {"kernel_shape": [2, 2]}),
        ("Conv", "q w", "y"),
    ]
    tensors = {"s": normal(16, 3, 1, 1), "w": normal(16, 16, 1, 1)}
    case = make_case(graph(rows, tensors, ["y"], ("n", 3, 9, 9)), {"x": normal(2, 3, 9, 9)})
    choices = {**case.all(U8), "r": I16, "b": I16}
    told = {row.name: set(row.built) for row in report_of(case, case.plan(choices)).layers}
    assert told == {"a": {"padding"}, "p": {"pool"}, "r": {"barrier"}, "b": {"rounded"}, "y": set()}
    portable = {row.name: set(row.built) for row in report_of(case, case.plan(choices, portable=True)).layers}
    assert {name: what - {"converted"} for name, what in portable.items()} == {name: set() for name in told}


@pytest.mark.parametrize(
    ("kernel", "between", "padded"),
    [
        ((3, 3), [], True),
        ((3, 3), [("Mul", "x half", "a")], True),
        ((3, 3), [("Conv", "x m", "a")], False),
        ((1, 601), [], False),
    ],
)
def test_channels_are_padded_for_stems_that_stay_small(
    kernel: tuple[int, int], between: list[tuple[str, str, str]], padded: bool
) -> None:
    """A picture's first convolution is worth it: not one further in, nor one whose weights would become a new model."""
    rows = [*between, ("Conv", "a v" if between else "x v", "y")]
    tensors = {"v": normal(16, 1, *kernel), "m": normal(1, 1, 1, 1), "half": np.array([0.5], np.float32)}
    shape = (1, 1, 4, 700)
    case = make_case(graph(rows, tensors, ["y"], shape), {"x": normal(*shape)})
    assert bool(case.plan(case.all(U8)).layers["y"].padding) is padded

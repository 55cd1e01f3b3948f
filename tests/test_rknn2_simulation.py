"""The target rknn2 computes as RKNN-Toolkit2's simulator does: its integers, tensor by tensor, and the rules behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import F16, I8, I16, normal
from helpers_graphs import given as graph
from random_graphs import Case, expose, make_case, run

from hybridq import targets
from hybridq.graph.model import Model
from hybridq.plan.fused import unrounded
from hybridq.plan.limits import inherited, joined
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import Range
from hybridq.quant.records import Measured
from hybridq.steps.common import read_config, read_state
from tests.rknn2.make import CHOICES, HERE, built

RKNN2 = targets.load("rknn2")
ONE_STEP_OFF = 0.004  # of a tensor's numbers: float32 sums that end beside a half


def tensors_of(hybrid: Path, names: set[str]) -> dict[str, np.ndarray]:
    """Tensors of a hybrid model for the first sample."""
    with np.load(HERE / "samples.npz") as held:
        feed = {"x": held["s0"]}
    model = onnx.load(hybrid)
    made = {o for n in model.graph.node for o in n.output} - {o.name for o in model.graph.output}
    shown = expose(model, sorted(names & made))
    return dict(zip([o.name for o in shown.graph.output], run(shown, feed, "none"), strict=True))


@pytest.mark.parametrize("choice", CHOICES)
def test_the_simulation_has_the_toolkits_integers(choice: str, tmp_path: Path) -> None:
    build = built(tmp_path / "build", choice)
    state = read_state(build)
    config, _ = read_config(build, state)
    plan = make_plan(state.model, state.calibrated, config, state.weights)
    with np.load(HERE / f"{choice}.npz") as held:
        theirs = {name.replace("|", "/"): held[name] for name in held.files}
    ours = tensors_of(build / "hybrid.onnx", set(theirs))
    compared = 0
    for name, values in ours.items():
        group = state.model.group_of.get(name)
        stored = plan.groups[group.name].stored.qparams if group and name in state.model.layer else None
        if stored is None:
            continue
        steps = np.abs(values - theirs[name].reshape(values.shape)) / float(stored.scale)
        assert np.mean(steps > 0.5) <= ONE_STEP_OFF, (name, np.mean(steps > 0.5))
        compared += 1
    assert compared >= 14


def planned(model: onnx.ModelProto, choices: dict[str, Precision] | None = None) -> tuple[Case, QuantPlan]:
    case = make_case(model, {"x": normal(4, 8, 8, 8)}, "rknn2")
    return case, case.plan({**case.all(I8), **(choices or {})})


def kept_whole(model: Model, choices: dict[str, Precision] | None = None) -> frozenset[str]:
    """Groups that are not rounded when every layer is int8 but for ``choices``."""
    return unrounded(model, RKNN2, {x.name: (choices or {}).get(x.name, I8) for x in model.layers})


W = {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1), "d": normal(8, 1, 1, 1)}


@pytest.mark.parametrize(
    ("op", "fused"), [("Sigmoid", True), ("HardSwish", True), ("Tanh", True), ("HardSigmoid", False), ("Exp", False)]
)
def test_an_activation_reads_what_a_convolution_computed(op: str, fused: bool) -> None:
    case, plan = planned(graph([("Conv", "x w", "c"), (op, "c", "y")], W, ["y"]))
    assert kept_whole(case.model) == ({"c"} if fused else set())
    assert ("c" in plan.roundings) is not fused


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([("Conv", "x w", "c"), ("Sigmoid", "c", "y")], ["y", "c"]),  # the model gives it
        ([("Conv", "x w", "c"), ("Sigmoid", "c", "y"), ("Exp", "c", "z")], ["y", "z"]),  # another reads it
        ([("Conv", "x d", "c", {"group": 8}), ("Sigmoid", "c", "y")], ["y"]),  # depthwise
        ([("Conv", "x w", "c"), ("Relu", "c", "r"), ("Add", "r x", "y")], ["y"]),  # an activation stands between
        ([("Conv", "x w", "c"), ("Transpose", "c", "t", {"perm": [0, 1, 3, 2]}), ("Add", "t x", "y")], ["y"]),
        ([("Mul", "x x", "c"), ("Sigmoid", "c", "y")], ["y"]),
    ],
)
def test_what_else_is_read_is_rounded(nodes: list[tuple[Any, ...]], outputs: list[str]) -> None:
    assert not kept_whole(planned(graph(nodes, W, outputs))[0].model)


def test_the_two_ends_must_have_one_precision() -> None:
    case, _ = planned(graph([("Conv", "x w", "c"), ("Sigmoid", "c", "y")], W, ["y"]))
    assert kept_whole(case.model, {"c": I16, "y": I16}) == {"c"}
    assert not kept_whole(case.model, {"y": I16})


def test_float16_is_rounded_everywhere_and_reads_integers_as_float16() -> None:
    nodes = [("Conv", "x w", "c"), ("Sigmoid", "c", "s"), ("Conv", "s v", "y"), ("Conv", "x v", "z")]
    case, plan = planned(graph(nodes, W, ["y", "z"]), {"c": F16, "s": F16})
    assert not kept_whole(case.model, {"c": F16, "s": F16})
    assert {b.tensor: b.conversion.precision for b in plan.boundaries.values() if b.conversion} == {"x": F16, "s": I8}


def test_an_integer_layer_reads_float16_as_integers() -> None:
    nodes = [("Conv", "x w", "c"), ("Conv", "c v", "y"), ("Conv", "c w", "z")]
    case, plan = planned(graph(nodes, W, ["y", "z"]), {"c": F16, "y": I16})
    wanted = {b.layer: b.conversion.precision for b in plan.boundaries.values() if b.conversion and b.tensor == "c"}
    assert wanted == {"y": I16, "z": I8}
    forms = plan.groups["c"].conversions
    ranges = {p: forms[p].qparams.range.max - forms[p].qparams.range.min for p in (I8, I16)}  # type: ignore[union-attr]
    assert ranges[I16] == pytest.approx(ranges[I8], rel=0.01)  # one range in the toolkit's cfg serves both
    alone = case.plan({**case.all(I16), "c": F16}).groups["c"].conversions[I16].qparams
    assert alone is not None
    assert alone.range.max - alone.range.min == pytest.approx(2 * ranges[I8], rel=0.01)


def test_an_input_is_as_narrow_as_its_narrowest_reader() -> None:
    case, plan = planned(graph([("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "y")], W, ["y"]), {"a": I16})
    assert plan.groups["x"].stored.precision is I8
    assert case.plan({**case.all(I8), "a": I16, "b": I16}).groups["x"].stored.precision is I16


def test_a_sum_takes_one_term_as_it_was_computed() -> None:
    nodes = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "s"), ("Relu", "s", "y")]
    case, _ = planned(graph(nodes, W, ["y"]))
    first = next(x.name for x in case.model.layers if x.op == "Conv")
    assert kept_whole(case.model) == {first}


def test_a_swish_is_rounded_at_its_end_alone() -> None:
    nodes = [("Conv", "x w", "c"), ("Sigmoid", "c", "s"), ("Mul", "c s", "y")]
    case, plan = planned(graph(nodes, W, ["y"]))
    assert kept_whole(case.model) == {"c", "s"}
    assert set(plan.roundings) == {"x", "y"}


def test_movement_between_a_convolution_and_its_activation_is_no_hindrance() -> None:
    nodes = [("Conv", "x w", "c"), ("Transpose", "c", "t", {"perm": [0, 2, 3, 1]}), ("Sigmoid", "t", "y")]
    case, plan = planned(graph(nodes, W, ["y"]))
    assert kept_whole(case.model) == {"c"}
    assert set(plan.roundings) == {"x", "y"}


def test_int16_is_stored_before_an_int8_layer_reads_it_over_the_range_of_eight_bits() -> None:
    nodes = [("Conv", "x w", "c"), ("Relu", "c", "r"), ("Conv", "r v", "y")]
    case = make_case(graph(nodes, W, ["y"]), {"x": normal(4, 8, 8, 8)}, "rknn2")
    wide, narrow = Range(0.0, 8.0), Range(0.0, 4.0)
    case.calibrated.measured["r"] = Measured(wide, {"normal": {8: narrow, 16: wide}})  # type: ignore[index]
    group = case.plan({**case.all(I8), "r": I16}).groups["r"]
    scales = {s.precision: float(s.qparams.scale) for s in (group.stored, *group.conversions.values()) if s.qparams}
    assert scales == {I16: pytest.approx(4 / 65535), I8: pytest.approx(4 / 255)}
    alone = case.plan({**case.all(I8), "r": I16, "y": I16}).groups["r"].stored.qparams
    assert alone is not None
    assert float(alone.scale) == pytest.approx(2 * 8 / 65535)


JOINED = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Exp", "c", "y")]


def test_a_concat_has_the_union_of_what_it_joins() -> None:
    model = planned(graph(JOINED, W, ["y"]))[0].model
    ranges = {"x": (0.0, 9.0), "a": (-1.0, 4.0), "b": (-3.0, 2.0), "c": (-2.0, 2.0), "y": (0.0, 1.0)}
    measured = {n: Measured(Range(*r), {"normal": {8: Range(*r)}}) for n, r in ranges.items()}
    found = {n: m.ranges["normal"][8] for n, m in joined(measured, model).items()}
    assert found == {**{n: Range(*r) for n, r in ranges.items()}, "c": Range(-3.0, 4.0)}


@pytest.mark.parametrize(("concat", "reader"), [(I8, I8), (I16, I8), (I16, I16), (F16, I8)])
def test_what_is_joined_never_leaves_the_range_of_the_result(concat: Precision, reader: Precision) -> None:
    """The toolkit would clip it there."""
    case, _ = planned(graph(JOINED, W, ["y"]))
    groups = case.plan({**case.all(I8), "a": I16, "c": concat, "y": reader}).groups
    result = groups["c"].stored.qparams or next(s.qparams for s in groups["c"].conversions.values())
    assert result is not None
    for name in ("a", "b"):
        part = groups[name].stored.qparams
        assert part is not None
        slack = float(max(part.scale, result.scale))
        assert part.range.min >= result.range.min - slack
        assert part.range.max <= result.range.max + slack


def test_an_average_pool_has_the_range_of_what_it_reads() -> None:
    nodes = [("AveragePool", "x", "p", {"kernel_shape": [2, 2]}), ("GlobalAveragePool", "p", "g"), ("Exp", "g", "y")]
    model = planned(graph(nodes, {}, ["y"]))[0].model
    ranges = {"x": 4.0, "p": 2.0, "g": 1.0, "y": 3.0}
    measured = {n: Measured(Range(0.0, m), {"normal": {8: Range(0.0, m)}}) for n, m in ranges.items()}
    found = {n: m.ranges["normal"][8].max for n, m in inherited(measured, model, RKNN2).items()}
    assert found == {**ranges, "p": 4.0}

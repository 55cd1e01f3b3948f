"""Parameters are not data: what steers an operator stays float, and with it what only computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from random_graphs import Case, expose, make_case, random_case, random_choices, run

from hybridq.graph.operators import Role, row_of
from hybridq.quant.dtypes import Precision

FLOAT = TensorProto.FLOAT
N = helper.make_node


def case(nodes: list[onnx.NodeProto], feed: dict[str, Any], **constants: Any) -> Case:
    held = {k: np.asarray(v) for k, v in constants.items()}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, FLOAT, np.shape(v)) for k, v in feed.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return make_case(model, {k: np.asarray(v, np.float32) for k, v in feed.items()})


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def resized() -> Case:
    """Scales out of a size and a shape."""
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Div", ["size", "divisor"], ["each"]),
        N("Concat", ["ones", "each"], ["scales"], axis=0),
        N("Resize", ["c", "", "scales"], ["y"], mode="linear"),
    ]
    feed = {"x": normal(1, 3, 8, 8), "size": [16.0, 17.0]}
    return case(nodes, feed, w=normal(4, 3, 1, 1), divisor=np.float32([8, 8]), ones=np.float32([1, 1]))


def gathered() -> Case:
    """An index computed in float."""
    nodes = [
        N("Mul", ["t", "k"], ["scaled"]),
        N("Floor", ["scaled"], ["floor"]),
        N("Cast", ["floor"], ["index"], to=TensorProto.INT64),
        N("Gather", ["table", "index"], ["row"]),
        N("MatMul", ["row", "w"], ["y"]),
    ]
    return case(nodes, {"t": np.linspace(0, 0.9, 8)}, k=np.float32(50), table=normal(50, 8), w=normal(8, 4))


def sampled() -> Case:
    """A grid from a convolution, whose input is a feature like any other."""
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Conv", ["c", "v"], ["flow"]),
        N("Transpose", ["flow"], ["grid"], perm=[0, 2, 3, 1]),
        N("GridSample", ["c", "grid"], ["y"]),
    ]
    return case(nodes, {"x": normal(1, 3, 8, 8)}, w=normal(4, 3, 1, 1), v=0.1 * normal(2, 4, 1, 1))


def rotated() -> Case:
    """Angles: positions times frequencies."""
    nodes = [
        N("Mul", ["p", "f"], ["angle"]),
        N("Sin", ["angle"], ["sine"]),
        N("Mul", ["x", "sine"], ["z"]),
        N("MatMul", ["z", "w"], ["y"]),
    ]
    feed = {"p": np.arange(16.0).reshape(16, 1), "x": normal(16, 8)}
    return case(nodes, feed, f=np.float32(10.0 ** -np.arange(8))[None], w=normal(8, 4))


class TestWhatSteers:
    """The tensors that stay float, with their reasons, and those that do not."""

    @pytest.mark.parametrize(
        ("made", "steering", "data"),
        [
            (resized, {"size", "each", "scales"}, {"x", "c", "y"}),
            (gathered, {"t", "scaled", "floor"}, {"row", "y"}),
            (sampled, {"flow", "grid"}, {"x", "c", "y"}),
            (rotated, {"p", "angle"}, {"x", "sine", "z", "y"}),
        ],
    )
    def test_it_and_what_only_computes_it(self, made: Any, steering: set[str], data: set[str]) -> None:
        model = made().model
        found = {t for g in model.groups if g.float_only for t in g.tensors}
        assert steering <= found
        assert not found & data
        assert all("a parameter" in model.group_of[n].float_only for n in steering)

    def test_an_angle_that_a_layer_learned_is_data(self) -> None:
        nodes = [N("MatMul", ["x", "w"], ["a"]), N("Sin", ["a"], ["s"]), N("MatMul", ["s", "v"], ["y"])]
        model = case(nodes, {"x": normal(16, 8)}, w=normal(8, 8), v=normal(8, 4)).model
        assert not any(g.float_only for g in model.groups)
        assert not any(x.float_only for x in model.layers)

    def test_data_that_also_matters_otherwise_may_be_rounded(self) -> None:
        nodes = [
            N("Neg", ["x"], ["a"]),
            N("ReduceMax", ["a"], ["e"], keepdims=0),
            N("Pow", ["b", "e"], ["p"]),
            N("MatMul", ["a", "w"], ["m"]),
            N("Add", ["p", "m"], ["y"]),
        ]
        model = case(nodes, {"x": normal(16, 8), "b": np.ones((16, 8))}, w=normal(8, 8)).model
        assert model.group_of["e"].float_only
        assert model.group_of["a"] is model.group_of["e"]  # a maximum moves data: the same values, one group
        assert not model.group_of["y"].float_only


@pytest.mark.parametrize("precision", [Precision.UINT8, Precision.INT16, Precision.FLOAT16])
@pytest.mark.parametrize("made", [resized, gathered, sampled, rotated])
def test_no_precision_rounds_a_parameter(made: Any, precision: Precision) -> None:
    """Where nothing else is upstream the built model has the same bits in it; in all, the same shapes come out."""
    one = made()
    plan = one.plan(one.all(precision))
    built = one.build(plan)
    (got,), (wanted,) = run(built, one.feed), run(one.proto, one.feed)
    assert got.shape == wanted.shape
    told = {g.name: g.float_only for g in plan.groups.values() if g.float_only}
    assert told
    assert all("a parameter and no data" in why for why in told.values())
    same = {resized: "scales", gathered: "floor", rotated: "angle"}.get(made)
    if same:
        a, b = (run(expose(m, [same]), one.feed)[-1] for m in (built, one.proto))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(40))
def test_no_random_plan_rounds_a_parameter(seed: int) -> None:
    one = random_case(seed)
    plan = one.plan(random_choices(one, seed))
    for node in one.model.proto.graph.node:
        for i, name in enumerate(node.input):
            if row_of(node).inputs[i] is Role.PARAMETER and name in one.model.group_of:
                group = one.model.group_of[name]
                assert group.float_only
                assert plan.groups[group.name].stored.is_float

"""Large constants that the branches of an If hold alike are there once."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hybridq.graph import runtime
from hybridq.graph.edit import graphs
from hybridq.graph.intake.shared_constants import share_constants

BIG = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)


def branch(name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], *, scale: float) -> onnx.GraphProto:
    held = [numpy_helper.from_array(values, f"{name}_w"), numpy_helper.from_array(np.float32(scale), f"{name}_s")]
    nodes = [
        helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_m"]),
        helper.make_node("Mul", [f"{name}_m", f"{name}_s"], [f"{name}_y"]),
    ]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", 1, [1, 20])], held)


def model(other: np.ndarray[tuple[int, ...], np.dtype[np.float32]], *outer: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", BIG, scale=2.0), else_branch=branch("b", other, scale=3.0)
    )
    ends = [helper.make_tensor_value_info("x", 1, [1, 20]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", ends, [helper.make_tensor_value_info("y", 1, [1, 20])], list(outer))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def held(proto: onnx.ModelProto) -> list[list[str]]:
    return [[t.name for t in g.initializer if np.prod(t.dims) > 1] for g in graphs(proto.graph)]


def test_one_is_kept_and_the_model_computes_the_same() -> None:
    given = model(BIG.copy())
    shared = onnx.ModelProto.FromString(given.SerializeToString())
    share_constants(shared.graph)
    assert sorted(map(len, held(shared))) == [0, 0, 1]
    assert len(held(shared)[0]) == 1
    for c in (True, False):
        feed = {"x": np.ones((1, 20), np.float32), "c": np.array(c)}
        a, b = (runtime.run(runtime.session(m, threads=1), feed)[0] for m in (given, shared))
        np.testing.assert_array_equal(a, b)


def test_the_outer_graphs_own_serves_all() -> None:
    shared = model(BIG.copy(), numpy_helper.from_array(BIG, "mine"))
    share_constants(shared.graph)
    assert held(shared) == [["mine"], [], []]


def test_what_differs_stays_where_it_is() -> None:
    proto = model(BIG + 1)
    before = proto.SerializeToString()
    share_constants(proto.graph)
    assert proto.SerializeToString() == before

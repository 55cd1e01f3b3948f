"""Fixed shapes: outputs are those of the open model, what shapes decide is gone, what values decide stays open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hybridq.graph import runtime
from hybridq.graph.fixed import fix, fixed_by

I64, F32 = TensorProto.INT64, TensorProto.FLOAT


def _model(
    nodes: list[onnx.NodeProto], shape: list[str | int], constants: Mapping[str, int | list[int]] = MappingProxyType({})
) -> onnx.ModelProto:
    held = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items()]
    ends = (helper.make_tensor_value_info("x", F32, shape), helper.make_tensor_value_info("y", F32, None))
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _grid() -> onnx.ModelProto:
    """As exporters make anchors: a number for every place, added to the places as rows."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["h"]),
        helper.make_node("Squeeze", ["h"], ["height"]),
        helper.make_node("Range", ["zero", "height", "one"], ["r"]),
        helper.make_node("Cast", ["r"], ["grid"], to=F32),
        helper.make_node("Reshape", ["grid", "column"], ["g"]),
        helper.make_node("Slice", ["s", "first", "last"], ["tail"]),
        helper.make_node("Concat", ["minus", "tail"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["rows"]),
        helper.make_node("Add", ["rows", "g"], ["y"]),
    ]
    words = {"two": [2], "zero": 0, "one": 1, "minus": [-1], "first": [2], "last": [4], "column": [1, -1, 1]}
    return _model(nodes, ["n", 3, "h", "w"], words)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5))
def test_the_fixed_model_computes_the_same_and_asks_no_shape(batch: int, height: int, width: int) -> None:
    open_model = _grid()
    feed = {"x": np.random.default_rng(0).normal(size=(batch, 3, height, width)).astype(np.float32)}
    expected = runtime.run(runtime.session(open_model, threads=1), feed)[0]
    before = open_model.SerializeToString()
    fixed_by(open_model, feed)
    assert open_model.SerializeToString() == before
    fix(open_model, feed)
    onnx.checker.check_model(open_model, full_check=True)
    assert [n.op_type for n in open_model.graph.node] == ["Reshape", "Add"]
    ends = (*open_model.graph.input, *open_model.graph.output)
    assert [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in ends] == [
        list(feed["x"].shape),
        list(expected.shape),
    ]
    np.testing.assert_array_equal(runtime.run(runtime.session(open_model, threads=1), feed)[0], expected)


def test_a_shape_that_hangs_on_values_stays_open() -> None:
    """How many numbers a NonZero finds is no matter of shapes: the Shape behind it stays."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Shape", ["places"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=F32),
    ]
    model = _model(nodes, ["n"])
    fix(model, {"x": np.array([0, 1, 2], np.float32)})
    other = np.array([0, 1, 0], np.float32)
    assert runtime.run(runtime.session(model, threads=1), {"x": other})[0] == pytest.approx([1, 1])

"""Graphs to JSON and back, over every attribute and value type."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import GraphProto, TensorProto, helper, numpy_helper

from hybridq.graph.graph_json import dtype_name, elem_type, graph_from_json, graph_to_json

quick = settings(max_examples=100, deadline=None)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
FLOATS = st.floats(width=32, allow_nan=False)
INTS = st.integers(-(2**63), 2**63 - 1)
NUMPY = st.sampled_from(["float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool", "uint64"])


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    raw = draw(st.binary(min_size=8 * int(np.prod(shape)), max_size=8 * int(np.prod(shape))))
    dtype = np.dtype(draw(NUMPY))
    values = np.frombuffer(raw, np.uint8)[: int(np.prod(shape)) * dtype.itemsize]
    array = (values & 1 if dtype.kind == "b" else values).view(dtype).reshape(shape)
    return numpy_helper.from_array(array, draw(NAMES))


VALUES = st.one_of(
    FLOATS,
    INTS,
    st.binary(max_size=8),
    st.text(max_size=8),
    tensors(),
    st.lists(FLOATS, min_size=1, max_size=4),
    st.lists(INTS, min_size=1, max_size=4),
    st.lists(st.binary(max_size=4), min_size=1, max_size=3),
    st.lists(tensors(), min_size=1, max_size=2),
    st.just(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None).type),
)
DIMS = st.one_of(st.integers(0, 9), st.just("batch"), st.none())
INFOS = st.builds(
    helper.make_tensor_value_info,
    NAMES,
    st.sampled_from([TensorProto.FLOAT, TensorProto.INT64, TensorProto.BFLOAT16, TensorProto.BOOL]),
    st.one_of(st.none(), st.lists(DIMS, max_size=4)),
)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 1) -> GraphProto:
    nodes = []
    for i in range(draw(st.integers(0, 3))):
        values: dict[str, Any] = draw(st.dictionaries(NAMES.filter(str.isidentifier), VALUES, max_size=3))
        node = onnx.NodeProto(op_type="Op", name=f"n{i}", domain=draw(st.sampled_from([None, "custom"])))
        node.input.extend(draw(st.lists(NAMES | st.just(""), max_size=3)))
        node.output.extend(draw(st.lists(NAMES, max_size=2)))
        node.attribute.extend(helper.make_attribute(k, v) for k, v in values.items())
        if depth and draw(st.booleans()):
            node.attribute.append(helper.make_attribute("body", draw(graphs(depth=depth - 1))))
        nodes.append(node)
    inner = draw(st.lists(tensors(), max_size=2)) if depth == 0 else []
    infos = [draw(st.lists(INFOS, max_size=2)) for _ in range(3)]
    graph = helper.make_graph(nodes, draw(NAMES), infos[0], infos[1], inner, value_info=infos[2])
    if draw(st.booleans()):
        graph.output.append(helper.make_tensor_sequence_value_info("sequence", TensorProto.FLOAT, ["n"]))
    return graph


@quick
@given(graphs())
def test_round_trip(graph: GraphProto) -> None:
    text = json.dumps(graph_to_json(graph), allow_nan=False)
    assert graph_from_json(json.loads(text)) == graph


@quick
@given(graphs())
def test_same_graph_same_text(graph: GraphProto) -> None:
    again = GraphProto.FromString(graph.SerializeToString())
    assert json.dumps(graph_to_json(again)) == json.dumps(graph_to_json(graph))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_json_cannot_say(value: float) -> None:
    node = helper.make_node("Op", [], [], name="n", one=value, many=[value, 1.0])
    text = json.dumps(graph_to_json(helper.make_graph([node], "g", [], [])), allow_nan=False)
    one, many = sorted(graph_from_json(json.loads(text)).node[0].attribute, key=lambda a: a.type)
    np.testing.assert_array_equal([one.f, *many.floats], [value, value, 1.0])


def test_floats_are_short() -> None:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="n", alpha=0.1)
    assert graph_to_json(helper.make_graph([node], "g", [], []))["nodes"][0]["attributes"] == {"alpha": {"float": 0.1}}


def test_string_tensors() -> None:
    held = helper.make_attribute("value", numpy_helper.from_array(np.array(["a", "ü"], object), "words"))
    node = onnx.NodeProto(op_type="Constant", name="n", output=["y"], attribute=[held])
    graph = helper.make_graph([node], "g", [], [])
    assert graph_from_json(json.loads(json.dumps(graph_to_json(graph)))) == graph


@pytest.mark.parametrize("kind", [v for k, v in TensorProto.DataType.items() if v])
def test_type_names(kind: int) -> None:
    assert elem_type(dtype_name(kind)) == kind

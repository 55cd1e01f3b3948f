"""What stands in the file is what the plan computes with: weights, biases, pools, zero channels, barriers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from hybridq.build import barriers, boundaries, packing, padding, pools
from hybridq.build.metadata import Copy
from hybridq.build.writer import Writer
from hybridq.plan.layer_weights import BiasPlan, WeightPlan, remains
from hybridq.plan.quant_plan import Barrier, BarrierKind, Boundary, Padding, PoolPlan, Stored
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import QParams, qparams_of_ranges
from hybridq.storage.weights import Weights

Array = NDArray[Any]
UINT8, INT8, INT16 = Precision.UINT8, Precision.INT8, Precision.INT16
STORED = Stored(UINT8, qparams_of_ranges(-1.0, 3.0, UINT8, Scheme.ASYMMETRIC))
RANDOM = np.random.default_rng(3)


def written(writer: Writer, name: str, feed: dict[str, Array] | None = None) -> Array:
    """The value that the written nodes give a tensor, by onnx's reference evaluator."""
    held = [onnx.numpy_helper.from_array(np.asarray(t.make()), t.name) for t in writer.tensors.values()]
    known = feed or {}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in known.items()]
    graph = helper.make_graph(writer.nodes, "g", inputs, [helper.make_value_info(name, onnx.TypeProto())], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if not writer.nodes:
        return np.asarray(writer.tensors[name].make())
    return np.asarray(ReferenceEvaluator(model).run([name], known)[0])


@given(
    folded=st.booleans(),
    per_channel=st.booleans(),
    scheme=st.sampled_from([Scheme.ASYMMETRIC, Scheme.SYMMETRIC]),
    precision=st.sampled_from([INT8, INT16]),
    channels=st.sampled_from([0, 1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_a_weight_is_what_remains_of_it(
    folded: bool, per_channel: bool, scheme: Scheme, precision: Precision, channels: int
) -> None:
    w = RANDOM.normal(0.3, 1.0, (4, 3, 2, 2)).astype(np.float32)
    axis = 0 if per_channel else None
    ends = (w.min((1, 2, 3)), w.max((1, 2, 3))) if per_channel else (w.min(), w.max())
    planned = WeightPlan("w", 1, precision, qparams_of_ranges(*ends, precision, scheme, axis), folded)
    weights, writer = Weights({"w": w}), Writer(GraphProto())
    name = packing.weight(writer, planned, Padding(channels, "") if channels else None, weights)
    assert packing.weight(writer, planned, Padding(channels, "") if channels else None, weights) == name
    found = written(writer, name)
    np.testing.assert_array_equal(found[:, :3], remains(planned, weights))
    if scheme is Scheme.SYMMETRIC:  # elsewhere the padded input has zeros there
        assert not found[:, 3:].any()
    assert found.shape == (4, 3 + channels, 2, 2)


@pytest.mark.parametrize("scale", [np.float32(0.01), np.array([0.5, 1e-9, 2.0], np.float32)])
def test_a_bias_is_rounded_to_its_steps_and_saturates(scale: Array) -> None:
    values = np.array([0.25, 7.0, -3.0], np.float32)
    writer = Writer(GraphProto())
    name = packing.bias(writer, BiasPlan("b", values, np.asarray(scale), (), False))
    assert packing.bias(writer, BiasPlan("b", values, np.asarray(scale), (), False)) == name
    steps = np.clip(np.rint(values.astype(np.float64) / scale), -(2**31), 2**31 - 1)
    np.testing.assert_allclose(written(writer, name), steps * scale, rtol=1e-6)
    kept = packing.bias(writer, BiasPlan("b", values, None, (), True))
    np.testing.assert_array_equal(writer.tensors[kept].make(), values)


def test_half_precision_saturates() -> None:
    found = packing.to_half(np.array([1e9, -1e9, 0.1], np.float32))
    assert found.dtype == np.float16
    assert found.tolist() == [65504.0, -65504.0, np.float16(0.1)]


@pytest.mark.parametrize("stored", [STORED, Stored(Precision.FLOAT16)])
def test_an_input_is_stored_and_read_restored(stored: Stored) -> None:
    x = RANDOM.normal(0, 2, (2, 5)).astype(np.float32)
    writer = Writer(GraphProto())
    boundaries.store_input(writer, "x", stored)
    p = stored.qparams
    expected = fake_quantize(x, p) if p else x.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(written(writer, writer.values["x"], {"x": x}), expected)
    assert writer.copies == {writer.values["x"]: Copy("x")}


@pytest.mark.parametrize("barrier", [None, Barrier(BarrierKind.OWN_NODE, "")])
def test_a_conversion_is_made_once_for_the_same_numbers(barrier: Barrier | None) -> None:
    x = RANDOM.normal(0, 2, (2, 5)).astype(np.float32)
    writer = Writer(GraphProto())
    edges = [Boundary("x", reader, INT16, UINT8, STORED, barrier, "") for reader in ("a", "b")]
    names = [boundaries.converted(writer, edge, STORED) for edge in edges]
    assert names[0] == names[1]
    assert [n.op_type for n in writer.nodes].count("LeakyRelu") == (barrier is not None)
    other = Stored(UINT8, qparams_of_ranges(-9.0, 9.0, UINT8, Scheme.ASYMMETRIC))
    assert boundaries.converted(writer, edges[0], other) != names[0]
    assert STORED.qparams is not None
    np.testing.assert_array_equal(written(writer, names[0], {"x": x}), fake_quantize(x, STORED.qparams))


def test_padded_channels_are_zeros() -> None:
    x = RANDOM.normal(0, 2, (1, 3, 2, 2)).astype(np.float32)
    writer = Writer(GraphProto())
    boundaries.store_input(writer, "x", STORED)
    read = writer.values["x"]
    name = padding.padded(writer, "x", read, STORED, Padding(2, ""))
    assert padding.padded(writer, "x", read, STORED, Padding(2, "")) == name
    found = written(writer, name, {"x": x})
    np.testing.assert_array_equal(found[:, :3], written(writer, read, {"x": x}))
    assert found.shape == (1, 5, 2, 2)
    assert not found[:, 3:].any()
    assert writer.copies[name].tensor == "x"
    pads = writer.tensors[writer.copies[name].pads].make()
    assert pads.tolist() == [0, 0, 0, 0, 0, 2, 0, 0]


@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
def test_a_pool_as_a_convolution_averages(strides: list[int]) -> None:
    x = RANDOM.normal(0, 1, (1, 3, 4, 4)).astype(np.float32)
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=strides, ceil_mode=0)
    expected = ReferenceEvaluator(_model([node], x)).run(["y"], {"x": x})[0]
    writer = Writer(GraphProto())
    pools.replace(writer, node, PoolPlan("Conv", ""), 3)
    writer.nodes.append(node)
    assert node.op_type == "Conv"
    np.testing.assert_allclose(written(writer, "y", {"x": x}), expected, rtol=1e-6, atol=1e-6)


def _model(nodes: list[onnx.NodeProto], x: Array) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info("x", 1, x.shape)], [helper.make_tensor_value_info("y", 1, None)]
    return helper.make_model(helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 21)])


def test_a_barrier_changes_no_value_that_it_does_not_cut() -> None:
    x = RANDOM.normal(0, 2, (9,)).astype(np.float32)
    writer = Writer(GraphProto())
    name = barriers.own_node(writer, "x")
    assert barriers.own_node(writer, "x") == name
    np.testing.assert_array_equal(written(writer, name, {"x": x}), x)
    relu = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    assert barriers.put(writer, relu, "y", None) == "y"
    assert barriers.put(writer, relu, "y", Barrier(BarrierKind.ACTIVATION, "")) == "y"
    writer.nodes.append(relu)
    np.testing.assert_array_equal(written(writer, "y", {"x": x}), np.maximum(x, 0))
    own = barriers.put(writer, relu, "y", Barrier(BarrierKind.OWN_NODE, ""))
    assert own != "y"


def test_equal_numbers_are_one_initializer() -> None:
    writer, p = Writer(GraphProto()), STORED.qparams
    assert p is not None
    names = writer.numbers(p)
    assert writer.numbers(QParams(p.precision, p.scheme, p.scale.copy(), p.zero_point.copy())) == names
    assert writer.numbers(QParams(p.precision, p.scheme, p.scale * 2, p.zero_point)) != names
    assert writer.tensors[names[1]].make().dtype == np.uint8

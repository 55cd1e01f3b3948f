"""Which patterns ONNX Runtime computes with integers, exactly: the operator table's claims.

A test that fails means: this version behaves differently. ``changed`` is the share of outputs that optimization
changes beyond float rounding; ``executed`` counts the operators of the graph that runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from qdq_graphs import (
    BIAS,
    FILTERS,
    IN,
    INT8_IN,
    MATRIX,
    OUT,
    POSITIVE,
    RARE,
    ROWS,
    Array,
    Graph,
    X,
    activation,
    changed,
    executed,
    optimized,
    run,
    symmetric,
    uint8,
)

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import quantize
from hybridq.quant.qparams import QParams, qparams_of_ranges

INT8_OUT = qparams_of_ranges(-30, 30, Precision.INT8, Scheme.ASYMMETRIC)


def int8_conv(graph: Graph, x: str, into: QParams = IN, values: Array = FILTERS, bias: bool = True, **kw: Any) -> str:
    """A Conv as the builder writes it for 8 bits; ``x`` is dequantized already."""
    p = symmetric(values, axis=0)
    inputs = [x, graph.dequantize(graph.const(quantize(values, p)), p)]
    if bias:
        inputs.append(graph.int32(BIAS[: len(values)], into.scale * p.scale))
    k = values.shape[2]
    return graph.op("Conv", *inputs, kernel_shape=[k, k], pads=[k // 2] * 4, **kw)


class TestIntegerKernels:
    """Operators between DequantizeLinear and QuantizeLinear: integer and exact, float, or integer and wrong."""

    @staticmethod
    def unary(op: str, into: QParams, out: QParams, **attributes: Any) -> Any:
        graph = Graph({"x": X["x"].shape})
        return graph.model(graph.stored(graph.op(op, graph.stored("x", into), **attributes), out))

    @pytest.mark.parametrize(
        ("op", "attributes", "out", "kernel"),
        [
            ("Sigmoid", {}, uint8(0, 1), "QLinearSigmoid"),
            ("LeakyRelu", {"alpha": 0.1}, OUT, "QLinearLeakyRelu"),
            ("GlobalAveragePool", {}, uint8(-1, 1), "QLinearGlobalAveragePool"),
            ("MaxPool", {"kernel_shape": [2, 2]}, IN, "MaxPool"),
        ],
    )
    def test_exact(self, op: str, attributes: dict[str, Any], out: QParams, kernel: str) -> None:
        model = self.unary(op, IN, out, **attributes)
        found = executed(model)
        assert (found[kernel], found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1, 1)
        assert changed(model, X) <= RARE

    @pytest.mark.parametrize("op", ["Add", "Mul"])
    def test_binary_exact(self, op: str) -> None:
        model = self.binary(op, IN, uint8(-3, 5), OUT)
        assert executed(model)[f"QLinear{op}"] == 1
        assert changed(model, X) <= RARE

    @pytest.mark.parametrize("op", ["Sub", "Div", "Max"])
    def test_binary_float(self, op: str) -> None:
        assert executed(self.binary(op, IN, uint8(-3, 5), OUT))[op] == 1

    def test_concat_takes_inputs_of_different_scales(self) -> None:
        graph = Graph({"x": X["x"].shape})
        parts = graph.stored("x", IN), graph.stored(graph.op("Neg", "x"), uint8(-3, 5))
        model = graph.model(graph.stored(graph.op("Concat", *parts, axis=1), uint8(-5, 5)))
        assert executed(model)["QLinearConcat"] == 1
        assert changed(model, X) <= RARE

    def test_silu(self) -> None:
        graph = Graph({"x": X["x"].shape})
        x = graph.stored("x", IN)
        y = graph.op("Mul", x, graph.stored(graph.op("Sigmoid", x), uint8(0, 1)))
        found = executed(graph.model(graph.stored(y, OUT)))
        assert (found["QLinearSigmoid"], found["QLinearMul"]) == (1, 1)

    @pytest.mark.parametrize("op", ["Tanh", "HardSigmoid", "Relu", "Erf"])
    def test_float_between(self, op: str) -> None:
        model = self.unary(op, IN, uint8(-1, 2))
        assert executed(model)[op] == 1
        assert changed(model, X) <= RARE

    def test_average_pool_and_softmax_are_not_faithful(self) -> None:
        assert executed(self.unary("AveragePool", IN, IN, kernel_shape=[2, 2]))["QLinearAveragePool"] == 1
        assert changed(self.unary("AveragePool", IN, IN, kernel_shape=[2, 2]), X) > 0.01
        assert changed(self.unary("Softmax", IN, uint8(0, 1), axis=1), X) > 0.01

    def test_average_pool_as_depthwise_convolution_is(self) -> None:
        graph = Graph({"x": X["x"].shape})
        ones = np.full((8, 1, 2, 2), 0.25, np.float32)
        p = symmetric(ones)
        w = graph.dequantize(graph.const(quantize(ones, p)), p)
        y = graph.op("Conv", graph.stored("x", IN), w, group=8, strides=[2, 2])
        model = graph.model(graph.stored(y, IN))
        pooled = self.unary("AveragePool", IN, IN, kernel_shape=[2, 2], strides=[2, 2])
        assert executed(model)["QLinearConv"] == 1
        step = float(IN.scale)  # sums of four end in .25, .5, .75: halves may go either way
        np.testing.assert_allclose(run(model, X), run(pooled, X, "none"), atol=1.01 * step)
        assert np.mean(run(model, X) != run(pooled, X, "none")) < 0.25

    @staticmethod
    def binary(op: str, left: QParams, right: QParams, out: QParams) -> Any:
        graph = Graph({"x": X["x"].shape})
        parts = graph.stored("x", left), graph.stored(graph.op("Neg", "x"), right)
        return graph.model(graph.stored(graph.op(op, *parts), out))


class TestConvolution:
    """When DequantizeLinear, Conv, QuantizeLinear become one QLinearConv."""

    @staticmethod
    def model(out: QParams = OUT, kind: str = "none", **options: Any) -> Any:
        graph = Graph({"x": X["x"].shape})
        y = int8_conv(graph, graph.stored("x", IN), **options)
        return graph.model(graph.stored(activation(graph, kind, y), out))

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(("out", "kind"), [(OUT, "none"), (POSITIVE, "relu"), (uint8(0, 20), "clip")])
    def test_fuses_and_is_exact(self, out: QParams, kind: str, bias: bool) -> None:
        model = self.model(out, kind, bias=bias)
        assert executed(model)["QLinearConv"] == 1
        assert changed(model, X) <= RARE

    @pytest.mark.parametrize(("out", "kind"), [(OUT, "relu"), (POSITIVE, "clip")])
    def test_relu_needs_the_lowest_zero_point_and_clip_its_own_range(self, out: QParams, kind: str) -> None:
        assert executed(self.model(out, kind))["QLinearConv"] == 0

    def test_relu_with_another_zero_point_as_integer_leaky_relu(self) -> None:
        graph = Graph({"x": X["x"].shape})
        y = graph.stored(int8_conv(graph, graph.stored("x", IN)), OUT)
        model = graph.model(graph.stored(graph.op("LeakyRelu", y, alpha=0.0), OUT))
        found = executed(model)
        assert (found["QLinearConv"], found["QLinearLeakyRelu"], found["DequantizeLinear"]) == (1, 1, 1)
        assert changed(model, X) <= RARE
        np.testing.assert_array_equal(run(model, X), run(self.model(OUT, "relu"), X, "none"))

    def test_without_output_quantizer_weights_are_dequantized_on_every_run(self) -> None:
        graph = Graph({"x": X["x"].shape})
        model = graph.model(int8_conv(graph, graph.stored("x", IN)))
        assert executed(model)["QLinearConv"] == 0
        assert executed(model)["DequantizeLinear"] >= 2

    def test_output_that_leaves_the_graph_too_does_not_fuse(self) -> None:
        graph = Graph({"x": X["x"].shape})
        y = int8_conv(graph, graph.stored("x", IN))
        assert executed(graph.model(y, graph.stored(y, OUT)))["QLinearConv"] == 0

    def test_exposing_the_integers_keeps_the_fusion(self) -> None:
        graph = Graph({"x": X["x"].shape})
        q = graph.quantize(int8_conv(graph, graph.stored("x", IN)), OUT)
        graph.dequantize(q, OUT)
        assert executed(graph.model(q, dtype=TensorProto.UINT8))["QLinearConv"] == 1

    @pytest.mark.parametrize("into", [IN, INT8_IN])
    @pytest.mark.parametrize("out", [OUT, INT8_OUT])
    def test_signs_mix(self, into: QParams, out: QParams) -> None:
        graph = Graph({"x": X["x"].shape})
        model = graph.model(graph.stored(int8_conv(graph, graph.stored("x", into), into), out))
        assert executed(model)["QLinearConv"] == 1
        assert changed(model, X) <= RARE

    @pytest.mark.parametrize(("into", "fused"), [(IN, 2), (INT8_IN, 0)])
    def test_int8_tensor_with_two_readers_computes_in_float(self, into: QParams, fused: int) -> None:
        graph = Graph({"x": X["x"].shape})
        x = graph.stored("x", into)
        outs = [graph.stored(int8_conv(graph, x, into), OUT) for _ in range(2)]
        assert executed(graph.model(*outs))["QLinearConv"] == fused

    def test_padding_the_first_channels_changes_no_bit(self) -> None:
        image = {"x": np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)}
        filters = FILTERS[:, :3]
        plain = Graph({"x": (1, 3, 32, 32)})
        expected = plain.model(plain.stored(int8_conv(plain, plain.stored("x", IN), values=filters), OUT))
        graph = Graph({"x": (1, 3, 32, 32)})
        zero = graph.const(IN.zero_point.astype(np.uint8))
        wide = graph.op("Pad", graph.quantize("x", IN), graph.const(np.array([0, 0, 0, 0, 0, 1, 0, 0])), zero)
        filters = np.pad(filters, [(0, 0), (0, 1), (0, 0), (0, 0)])
        model = graph.model(graph.stored(int8_conv(graph, graph.dequantize(wide, IN), values=filters), OUT))
        assert executed(model)["QLinearConv"] == 1
        for level in ("none", "all"):
            np.testing.assert_array_equal(run(model, image, level), run(expected, image, level))

    def test_residual_add_takes_its_relu(self) -> None:
        graph = Graph({"x": X["x"].shape})
        parts = graph.stored("x", IN), graph.stored(graph.op("Neg", "x"), uint8(-3, 5))
        model = graph.model(graph.stored(graph.op("Relu", graph.op("Add", *parts)), POSITIVE))
        assert (executed(model)["QLinearAdd"], executed(model)["Relu"]) == (1, 0)
        assert changed(model, X) <= RARE

    def test_dead_channel_needs_a_floor_under_its_scale(self) -> None:
        bias, filters = np.array([1.0, 1.0], np.float32), FILTERS[:2].copy()
        filters[1] = 0
        naive = np.float32(1e-12)
        floor = np.float32(1.0 / (float(IN.scale) * 2**30))
        assert float(bias[1]) / (float(IN.scale) * float(naive)) > 2**31
        for scale, right in ((naive, False), (floor, True)):
            p = QParams(
                Precision.INT8,
                Scheme.SYMMETRIC,
                np.array([symmetric(filters[0]).scale, scale], np.float32),
                np.zeros(2, np.int32),
                0,
            )
            graph = Graph({"x": X["x"].shape})
            steps = np.clip(np.rint(bias / (IN.scale * p.scale).astype(np.float64)), -(2**31), 2**31 - 1)
            b = graph.op(
                "DequantizeLinear", graph.const(steps.astype(np.int32)), graph.const(IN.scale * p.scale), axis=0
            )
            w = graph.dequantize(graph.const(quantize(filters, p)), p)
            y = run(graph.model(graph.stored(graph.op("Conv", graph.stored("x", IN), w, b), OUT)), X)
            assert bool(np.abs(y[:, 1] - 1.0).max() <= OUT.scale) is right


class TestMaxPool:
    """QuantizeLinear moves up through MaxPool: good after an integer convolution, slow after a float one."""

    def test_before_or_after_is_the_same_after_an_integer_convolution(self) -> None:
        kinds = []
        for early in (True, False):
            graph = Graph({"x": X["x"].shape})
            y = int8_conv(graph, graph.stored("x", IN))
            y = graph.stored(y, OUT) if early else y
            y = graph.stored(graph.op("MaxPool", y, kernel_shape=[2, 2]), OUT)
            kinds.append(executed(graph.model(y)))
        assert kinds[0] == kinds[1]
        assert kinds[0]["NhwcMaxPool"] == 1

    @pytest.mark.parametrize("kept", [True, False])
    def test_leaky_relu_keeps_it_float_after_a_float_convolution(self, kept: bool) -> None:
        graph = Graph({"x": X["x"].shape})
        y = graph.op("MaxPool", graph.op("Conv", "x", graph.const(FILTERS)), kernel_shape=[2, 2])
        y = graph.op("LeakyRelu", y, alpha=1.0) if kept else y
        order = [n.op_type for n in optimized(graph.model(graph.stored(y, OUT))).node]
        assert (order.index("MaxPool") < order.index("QuantizeLinear")) is kept


class TestProducts:
    """Gemm and MatMul."""

    @staticmethod
    def model(op: str, bias: str, stored: bool) -> Any:
        p = symmetric(MATRIX, axis=1)
        graph = Graph({"x": (5, 8)})
        inputs = [graph.stored("x", IN), graph.dequantize(graph.const(quantize(MATRIX, p)), p)]
        if bias:
            inputs.append(graph.int32(BIAS, IN.scale * p.scale) if bias == "int32" else graph.const(BIAS))
        y = graph.op(op, *inputs)
        return graph.model(graph.stored(y, OUT) if stored else y)

    @pytest.mark.parametrize(
        ("op", "bias", "stored", "kernel"),
        [
            ("Gemm", "int32", True, "QGemm"),
            ("Gemm", "int32", False, "QGemm"),
            ("Gemm", "", False, "QGemm"),
            ("Gemm", "float32", False, "Gemm"),
            ("MatMul", "", True, "QLinearMatMul"),
            ("MatMul", "", False, "MatMulIntegerToFloat"),
        ],
    )
    def test_kernel(self, op: str, bias: str, stored: bool, kernel: str) -> None:
        assert executed(self.model(op, bias, stored))[kernel] == 1
        assert changed(self.model(op, bias, stored), ROWS) <= RARE

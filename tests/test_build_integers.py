"""What is computed in integers reaches ONNX Runtime's integer kernels, with biases on their grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_build import assert_close_to_float, assert_same_at_all_levels, ops
from helpers_graphs import CHAIN, F16, F32, I16, U8, built, case_of, given, normal
from onnx import TensorProto, numpy_helper
from qdq_graphs import executed
from random_graphs import run

from hybridq.quant.dtypes import Precision


class TestIntegerKernels:
    def test_convolutions(self) -> None:
        found = executed(built(case_of(CHAIN), {}))
        assert found["QLinearConv"] == 3
        assert not found["Conv"] + found["FusedConv"] + found["Relu"]

    def test_everything_that_has_one(self) -> None:
        model = given(
            [
                ("Conv", "x w b", "a"),
                ("Add", "a x", "s"),
                ("Relu", "s", "r"),
                ("Sigmoid", "r", "g"),
                ("Mul", "r g", "m"),
                ("LeakyRelu", "m", "l", {"alpha": 0.1}),
                ("Concat", "l m", "c", {"axis": 1}),
                ("GlobalAveragePool", "c", "p"),
                ("Flatten", "p", "f"),
                ("Gemm", "f k kb", "h", {"transB": 1}),
                ("MatMul", "h q", "y"),
            ],
            {"w": normal(8, 8, 1, 1), "b": normal(8), "k": normal(6, 16), "kb": normal(6), "q": normal(6, 5)},
            ["y"],
        )
        found = executed(built(case_of(model), {}))
        for op in (
            *("QLinearConv", "QLinearAdd", "QLinearSigmoid", "QLinearMul", "QLinearLeakyRelu", "QLinearConcat"),
            *("QLinearGlobalAveragePool", "QGemm", "MatMulIntegerToFloat"),
        ):
            assert found[op] == 1, op
        assert not found["DequantizeLinear"] + found["Relu"]

    @pytest.mark.parametrize("op", ["Add", "Mul"])
    def test_constants_of_elementwise_layers(self, op: str) -> None:
        rows = [("Sigmoid", "x", "a"), (op, "a c", "s"), ("Conv", "s w", "y")]
        case = case_of(given(rows, {"w": normal(8, 8, 1, 1), "c": normal(8, 1, 1)}, ["y"]))
        assert executed(built(case, {}))[f"QLinear{op}"] == 1

    def test_relu_before_integers_that_reach_below_zero(self) -> None:
        """Its group has negative values: rounded, then cut in integers, with the result of cutting in float."""
        model = given(
            [("Conv", "x w b", "a"), ("Relu", "a", "r"), ("Concat", "r x", "c", {"axis": 1}), ("Conv", "c v", "y")],
            {"w": normal(8, 8, 1, 1), "b": normal(8), "v": normal(8, 16, 1, 1)},
            ["y"],
        )
        case = case_of(model)
        model = built(case, {})
        found = executed(model)
        assert found["QLinearConv"] == 2
        assert not found["FusedConv"] + found["Conv"]
        portable = built(case, {}, portable=True)
        np.testing.assert_array_equal(run(model, case.feed, "none")[0], run(portable, case.feed, "none")[0])

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_a_small_first_convolution_is_padded(self, channels: int) -> None:
        x = normal(2, channels, 9, 9)
        rows = [("Conv", "x w b", "a", {"strides": [2, 2]}), ("Relu", "a", "y")]
        tensors = {"w": normal(16, channels, 3, 3), "b": normal(16)}
        case = case_of(given(rows, tensors, ["y"], ("n", channels, 9, 9)), {"x": x})
        model, portable = built(case, {}), built(case, {}, portable=True)
        assert "Pad" in ops(model)
        assert "Pad" not in ops(portable)
        np.testing.assert_array_equal(run(model, {"x": x})[0], run(portable, {"x": x})[0])
        assert executed(model)["QLinearConv"] == 1

    @pytest.mark.parametrize("wide", [I16, F32, F16])
    def test_padding_reads_the_converted_input(self, wide: Precision) -> None:
        """The input has more bits for another layer's sake."""
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "z")]
        tensors = {"w": normal(16, 3, 3, 3), "v": normal(4, 3, 1, 1)}
        case = case_of(given(rows, tensors, ["a", "z"], ("n", 3, 9, 9)), {"x": normal(2, 3, 9, 9)})
        model = built(case, {"z": wide})
        assert "Pad" in ops(model)
        portable = built(case, {"z": wide}, portable=True)
        for a, b in zip(run(model, case.feed, "none"), run(portable, case.feed, "none"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert_same_at_all_levels(model, case.feed)

    @pytest.mark.parametrize("shape", [(2, 6, 4), (1, 6, 4)])
    def test_batched_weights_run(self, shape: tuple[int, ...]) -> None:
        """ONNX Runtime's integer product refuses parameters per channel here: it computes in float."""
        case = case_of(given([("MatMul", "x w", "y")], {"w": normal(*shape)}, ["y"], (2, 5, 6)), {"x": normal(2, 5, 6)})
        model = built(case, {})
        assert run(model, case.feed)[0].shape == (2, 5, 4)
        assert any(t.data_type == TensorProto.INT8 for t in model.graph.initializer)

    @pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}, {"alpha": 2.0, "beta": 0.5, "transB": 1}])
    def test_scaled_gemm(self, attributes: dict[str, Any]) -> None:
        tensors = {"w": normal(8, 8), "b": normal(8, scale=3)}
        case = case_of(given([("Gemm", "x w b", "y", attributes)], tensors, ["y"], ("n", 8)), {"x": normal(50, 8)})
        assert_close_to_float(case, built(case, {}), 25)

    @pytest.mark.parametrize("shape", [(), (1,), (1, 8), (50, 8), (50, 1)])
    def test_every_shape_of_a_gemm_bias(self, shape: tuple[int, ...]) -> None:
        tensors = {"w": normal(8, 8), "b": normal(*shape, scale=3)}
        case = case_of(given([("Gemm", "x w b", "y")], tensors, ["y"], (50, 8)), {"x": normal(50, 8)})
        assert_close_to_float(case, built(case, {}), 25)


class TestBias:
    def test_scale_is_the_product(self) -> None:
        case = case_of(CHAIN)
        plan = case.plan(case.all(U8))
        layer = plan.layers["r1"]
        assert layer.bias is not None
        into, weights = plan.read("x", "r1").qparams, layer.weights[0].qparams
        assert into is not None
        assert weights is not None
        np.testing.assert_array_equal(layer.bias.scale, into.scale * weights.scale)
        model = case.build(plan)
        steps = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "b1/int32")
        assert steps.dtype == np.int32
        np.testing.assert_allclose(steps * layer.bias.scale, case.weights["b1"], atol=float(layer.bias.scale.max()))

    @pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-20, 1e-12])
    def test_dead_channels_keep_their_bias(self, tiny: float) -> None:
        """A channel without weights says its bias and nothing else, whatever the scale of the input."""
        w, b = normal(8, 8, 1, 1), normal(8)
        w[2] *= tiny
        w[5] *= tiny
        b[2], b[5] = 0.3, -1e-3
        case = case_of(given([("Conv", "x w b", "y")], {"w": w, "b": b}, ["y"]), {"x": normal(4, 8, 8, 8, scale=255)})
        plan = case.plan(case.all(U8))
        layer = plan.layers["y"]
        assert layer.bias is not None
        steps = np.rint(b / layer.bias.scale.astype(np.float64))
        assert np.abs(steps).max() < 2**31
        np.testing.assert_allclose((steps * layer.bias.scale)[[2, 5]], b[[2, 5]], rtol=1e-4)
        assert_same_at_all_levels(case.build(plan), case.feed)

    def test_a_large_bias_on_small_weights(self) -> None:
        tensors = {"w": normal(8, 8, 1, 1, scale=1e-9), "b": normal(8, scale=1e3)}
        case = case_of(given([("Conv", "x w b", "y")], tensors, ["y"]))
        assert_close_to_float(case, built(case, {}), 30)

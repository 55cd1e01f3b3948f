"""ONNX Runtime's silent changes to mixed-precision graphs, and what the builder writes to stop them.

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
    FLOAT,
    IN,
    INT8_IN,
    MATRIX,
    MUCH,
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
    run,
    uint8,
    weight,
)

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams, qparams_of_ranges

INT16_IN = qparams_of_ranges(-8, 8, Precision.INT16, Scheme.SYMMETRIC)
INT16_OUT = qparams_of_ranges(-60, 60, Precision.INT16, Scheme.SYMMETRIC)

PRODUCTS: dict[str, tuple[Array, int, dict[str, Any], dict[str, Array]]] = {  # weights, channel axis, attributes, feed
    "Conv": (FILTERS, 0, {"kernel_shape": [3, 3], "pads": [1] * 4}, X),
    "ConvTranspose": (np.ascontiguousarray(FILTERS.swapaxes(0, 1)), 1, {"kernel_shape": [3, 3]}, X),
    "Gemm": (MATRIX, 1, {}, ROWS),
}


def barrier(graph: Graph, kind: str, x: str) -> str:
    """The same computation with a LeakyRelu that ONNX Runtime does not look through."""
    if kind == "relu":
        return graph.op("LeakyRelu", x, alpha=0.0)
    return graph.op("LeakyRelu", activation(graph, kind, x), alpha=1.0)


def product(op: str, form: str, into: QParams, out: QParams, end: Any = activation, kind: str = "none") -> Graph:
    """Quantize, one product with weights in ``form``, ``end``, quantize: the last node's output is the result."""
    values, axis, attributes, feed = PRODUCTS[op]
    graph = Graph({"x": feed["x"].shape})
    y = graph.op(op, graph.stored("x", into), weight(graph, form, values, axis), graph.const(BIAS), **attributes)
    graph.stored(end(graph, kind, y), out)
    return graph


def last(graph: Graph) -> Any:
    return graph.model(graph.nodes[-1].output[0])


class TestWeightBiasQuantization:
    """A float computation between DequantizeLinear and QuantizeLinear becomes an 8-bit one."""

    @pytest.mark.parametrize("form", ["float32", "float16", "int16 folded"])
    @pytest.mark.parametrize("op", PRODUCTS)
    @pytest.mark.parametrize("kind", ["none", "relu", "clip"])
    def test_it_is_there_and_leaky_relu_stops_it(self, op: str, form: str, kind: str) -> None:
        out, feed = (OUT if kind == "none" else POSITIVE), PRODUCTS[op][3]
        assert changed(last(product(op, form, IN, out, activation, kind)), feed) > MUCH / 2
        assert changed(last(product(op, form, IN, out, barrier, kind)), feed) <= RARE

    @pytest.mark.parametrize(
        ("op", "given", "attributes"),
        [
            ("Transpose", [], {"perm": [0, 2, 3, 1]}),
            ("Reshape", [[1, 16, 144]], {}),
            ("Slice", [[0], [8], [1]], {}),
            ("Unsqueeze", [[1]], {}),
            ("Identity", [], {}),
        ],
    )
    @pytest.mark.parametrize("stopped", [False, True])
    def test_it_reaches_through_movers(
        self, op: str, given: list[list[int]], attributes: dict[str, Any], stopped: bool
    ) -> None:
        def end(graph: Graph, kind: str, y: str) -> str:
            y = graph.op("LeakyRelu", y, alpha=1.0) if stopped else y
            return graph.op(op, y, *(graph.const(np.array(v, np.int64)) for v in given), **attributes)

        share = changed(last(product("Conv", "float32", IN, OUT, end)), X)
        assert share <= RARE if stopped else share > MUCH

    def test_a_graph_output_is_no_reader(self) -> None:
        graph = product("Conv", "float32", IN, OUT)
        result = next(n.output[0] for n in graph.nodes if n.op_type == "Conv")
        assert changed(graph.model(result, graph.nodes[-1].output[0]), X) > MUCH

    def test_a_second_reader_stops_it(self) -> None:
        graph = product("Conv", "float32", IN, OUT)
        result = next(n.output[0] for n in graph.nodes if n.op_type == "Conv")
        assert changed(graph.model(graph.nodes[-1].output[0], graph.op("Sigmoid", result)), X) <= RARE

    def test_it_reaches_through_maxpool(self) -> None:
        assert changed(last(product("Conv", "float32", IN, OUT, activation, "maxpool")), X) > MUCH
        assert changed(last(product("Conv", "float32", IN, OUT, barrier, "maxpool")), X) <= RARE

    @pytest.mark.parametrize(("into", "out"), [(INT16_IN, INT16_OUT), (INT16_IN, OUT), (IN, INT16_OUT)])
    def test_it_fires_on_16_bit_edges_too(self, into: QParams, out: QParams) -> None:
        assert changed(last(product("Conv", "int16 folded", into, out)), X) > MUCH
        assert changed(last(product("Conv", "int16 folded", into, out, barrier)), X) <= RARE

    @pytest.mark.parametrize("op", ["Conv", "Gemm"])
    def test_the_barrier_is_free(self, op: str) -> None:
        found = executed(last(product(op, "float32", IN, POSITIVE, barrier, "relu")))
        assert found["LeakyRelu"] == 0
        assert found["Conv"] + found["FusedConv"] + found["FusedGemm"] == 1

    def test_plain_matmul_is_left_alone(self) -> None:
        graph = Graph({"x": (5, 8)})
        graph.stored(graph.op("MatMul", graph.stored("x", IN), graph.const(MATRIX)), OUT)
        assert changed(last(graph), ROWS) <= RARE
        assert executed(last(graph))["MatMul"] == 1

    def test_float_inputs_and_float_outputs_are_safe(self) -> None:
        graph = Graph({"x": X["x"].shape})
        y = graph.op("Conv", "x", graph.const(FILTERS), graph.const(BIAS), pads=[1] * 4)
        assert changed(graph.model(graph.stored(y, OUT)), X) <= RARE
        graph = Graph({"x": X["x"].shape})
        y = graph.op("Conv", graph.stored("x", IN), graph.const(FILTERS), graph.const(BIAS), pads=[1] * 4)
        assert changed(graph.model(y), X) <= RARE

    def test_transposed_convolution_never_computes_in_integers(self) -> None:
        found = executed(last(product("ConvTranspose", "int8", IN, OUT)))
        assert (found["ConvTranspose"], found["QuantizeLinear"]) == (1, 2)


class TestDoubleConversions:
    """Two quantizers of the same type in a row are merged with recomputed scales."""

    @staticmethod
    def chain(first: QParams, second: QParams, between: str = "") -> Any:
        graph = Graph({"x": X["x"].shape})
        x = graph.stored("x", first)
        if between == "LeakyRelu":
            x = graph.op("LeakyRelu", x, alpha=1.0)
        if between == "Cast":
            x = graph.op("Cast", graph.op("Cast", x, to=TensorProto.FLOAT16), to=FLOAT)
        return graph.model(graph.stored(x, second))

    def test_uint8_to_uint8_is_merged(self) -> None:
        assert changed(self.chain(IN, uint8(-3, 5)), X) > MUCH

    def test_int16_to_int16_is_merged(self) -> None:
        other = qparams_of_ranges(-5, 5, Precision.INT16, Scheme.SYMMETRIC)
        assert executed(self.chain(INT16_IN, other))["QuantizeLinear"] == 1

    @pytest.mark.parametrize("between", ["LeakyRelu", "Cast"])
    def test_something_between_keeps_both(self, between: str) -> None:
        assert changed(self.chain(IN, uint8(-3, 5), between), X) <= RARE

    @pytest.mark.parametrize(("first", "second"), [(IN, INT8_IN), (INT16_IN, IN), (IN, INT16_IN)])
    def test_different_types_keep_both(self, first: QParams, second: QParams) -> None:
        assert changed(self.chain(first, second), X) <= RARE


class TestFloat16:
    """float16 is storage: both Casts stay, nothing computes in it."""

    def test_rounding_survives_optimization(self) -> None:
        graph = Graph({"x": X["x"].shape})
        model = graph.model(graph.op("Cast", graph.op("Cast", "x", to=TensorProto.FLOAT16), to=FLOAT))
        assert executed(model)["Cast"] == 2
        np.testing.assert_array_equal(run(model, X), X["x"].astype(np.float16).astype(np.float32))


class TestStoredWeights:
    """Integer weights of float computations: Cast and Mul are folded at load, DequantizeLinear is not."""

    @pytest.mark.parametrize("precision", ["int8", "int16"])
    @pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
    def test_folded_equals_dequantized(self, op: str, precision: str) -> None:
        results, models = [], []
        for how in ("folded", "dequantized"):
            values, axis, attributes, feed = PRODUCTS.get(op, (MATRIX, 1, {}, ROWS))
            graph = Graph({"x": feed["x"].shape})
            models.append(
                graph.model(graph.op(op, "x", weight(graph, f"{precision} {how}", values, axis), **attributes))
            )
            results.append(run(models[-1], feed, "none"))
        np.testing.assert_array_equal(*results)
        left = executed(models[0])
        assert not left["Cast"] + left["Mul"] + left["DequantizeLinear"]
        assert changed(models[0], feed) <= RARE
        kept = executed(models[1])
        assert kept["DequantizeLinear"] + kept["MatMulNBits"] == 1

    def test_dequantized_int8_matrices_are_replaced_by_something_coarser(self) -> None:
        random = np.random.default_rng(1)
        values = random.normal(size=(64, 32)).astype(np.float32)
        feed = {"x": random.normal(size=(5, 64)).astype(np.float32)}
        graph = Graph({"x": (5, 64)})
        model = graph.model(graph.op("MatMul", "x", weight(graph, "int8 dequantized", values, 1)))
        assert executed(model)["MatMulNBits"] == 1
        assert changed(model, feed) > MUCH

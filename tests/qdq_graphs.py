"""Small graphs with quantized edges, and what ONNX Runtime makes of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hybridq.graph import runtime
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import quantize
from hybridq.quant.qparams import QParams, qparams_of_ranges

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
RARE, MUCH = 0.002, 0.1  # shares of outputs; RARE: halves that float arithmetic rounds the other way


def uint8(low: float, high: float) -> QParams:
    return qparams_of_ranges(low, high, Precision.UINT8, Scheme.ASYMMETRIC)


def symmetric(values: Array, precision: Precision = Precision.INT8, axis: int | None = None) -> QParams:
    """Parameters of weights, per tensor or along an axis."""
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    amax = np.abs(values).max(axis=others)
    return qparams_of_ranges(-amax, amax, precision, Scheme.SYMMETRIC, axis)


@dataclass
class Graph:
    """A graph in the making; every method returns the name of the tensor it made."""

    shapes: dict[str, tuple[int, ...]]
    dtype: int = FLOAT
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}/node", **attributes))
        return name

    def const(self, values: Any) -> str:
        name = f"constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def numbers(self, p: QParams) -> tuple[str, str]:
        return self.const(p.scale), self.const(p.zero_point.astype(p.precision.numpy))

    def quantize(self, x: str, p: QParams) -> str:
        return self.op("QuantizeLinear", x, *self.numbers(p))

    def dequantize(self, q: str, p: QParams) -> str:
        axis = {} if p.axis is None else {"axis": p.axis}
        return self.op("DequantizeLinear", q, *self.numbers(p), **axis)

    def stored(self, x: str, p: QParams) -> str:
        """QuantizeLinear and DequantizeLinear."""
        return self.dequantize(self.quantize(x, p), p)

    def int32(self, bias: Array, scale: NDArray[np.float32]) -> str:
        """An int32 bias of scale ``s_x * s_w`` behind DequantizeLinear."""
        steps = np.rint(bias / scale).astype(np.int32)
        return self.op("DequantizeLinear", self.const(steps), self.const(scale), axis=0)

    def folded(self, q: Array, p: QParams) -> str:
        """Weights as integers -> Cast -> Mul(scale)."""
        shape = [-1 if i == p.axis else 1 for i in range(q.ndim)] if p.axis is not None else []
        return self.op("Mul", self.op("Cast", self.const(q), to=FLOAT), self.const(p.scale.reshape(shape)))

    def model(self, *outputs: str, dtype: int = FLOAT) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(k, self.dtype, v) for k, v in self.shapes.items()],
            [helper.make_tensor_value_info(o, dtype, None) for o in outputs],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run(model: onnx.ModelProto, feed: dict[str, Array], level: str = "all") -> Array:
    """The first output."""
    result: Array = runtime.run(runtime.session(model, threads=1, level=level), feed)[0]
    return result


def as_written(model: onnx.ModelProto | Path, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    """Every output on every feed, as the file says: ONNX Runtime without optimizing."""
    one = runtime.session(model, threads=1, level="none")
    return [a for feed in feeds for a in runtime.run(one, dict(feed))]


def optimized(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph that ONNX Runtime executes."""
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.options(threads=1)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        runtime.session(model, session_options=options)
        return onnx.load(options.optimized_model_filepath).graph


def executed(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs in the graph that ONNX Runtime executes."""
    return Counter(n.op_type for n in optimized(model).node)


def changed(model: onnx.ModelProto, feed: dict[str, Array]) -> float:
    """The share of the output's elements that optimization changes by more than float rounding."""
    plain, fast = run(model, feed, "none"), run(model, feed, "all")
    return float(np.mean(np.abs(plain - fast) > 1e-5 * np.abs(plain).max()))


def weight(graph: Graph, form: str, values: Array, axis: int | None) -> str:
    """Weights in one of the forms a layer can have."""
    if form == "float32":
        return graph.const(values)
    if form == "float16":
        return graph.op("Cast", graph.const(values.astype(np.float16)), to=FLOAT)
    precision, _, how = form.partition(" ")
    p = symmetric(values, Precision(precision), axis)
    q = quantize(values, p)
    return graph.folded(q, p) if how == "folded" else graph.dequantize(graph.const(q), p)


def activation(graph: Graph, kind: str, x: str) -> str:
    """One of the ways from a layer to its output quantizer."""
    if kind == "relu":
        return graph.op("Relu", x)
    if kind == "clip":
        return graph.op("Clip", x, graph.const(np.float32(0)), graph.const(np.float32(20)))
    if kind == "maxpool":
        return graph.op("MaxPool", x, kernel_shape=[2, 2])
    return x


# what the tests of ONNX Runtime's rules are fed
RANDOM = np.random.default_rng(0)
X = {"x": RANDOM.normal(size=(1, 8, 12, 12)).astype(np.float32)}
ROWS = {"x": RANDOM.normal(size=(5, 8)).astype(np.float32)}
BIAS = RANDOM.normal(size=16).astype(np.float32)
SPREAD = np.where(np.arange(16) < 4, 4.0, 0.2).astype(np.float32)  # channels that per-tensor weights would ruin
FILTERS = RANDOM.normal(size=(16, 8, 3, 3)).astype(np.float32) * SPREAD.reshape(-1, 1, 1, 1)
MATRIX = RANDOM.normal(size=(8, 16)).astype(np.float32) * SPREAD
IN, OUT, POSITIVE = uint8(-4, 4), uint8(-30, 30), uint8(0, 30)
INT8_IN = qparams_of_ranges(-4, 4, Precision.INT8, Scheme.ASYMMETRIC)

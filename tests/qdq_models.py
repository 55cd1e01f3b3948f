"""A small two-headed float model and hand-made QDQ models of it, which say where tensors lie as hybridq's models do.

``t`` stored as integers becomes ``t/float -> t/uint8 -> t``, the input ``x -> x/uint8 -> x/dequantized``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hybridq.build.metadata import Copy, Metadata, write_metadata
from hybridq.compare import LayerPair
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import quantize
from hybridq.quant.qparams import QParams, qparams_of_ranges

PRECISION = Precision.UINT8
LAYERS = {"stem": ("x",), "body": ("stem",), "box": ("body",), "score": ("body",)}


def two_heads(seed: int = 0) -> onnx.ModelProto:
    """Conv+Relu, Conv, and two Conv heads (large boxes, small scores) joined by a Concat; outputs ``out, score``."""
    rng = np.random.default_rng(seed)
    weights = {
        "stem.w": rng.normal(0, 0.5, (4, 3, 3, 3)),
        "body.w": rng.normal(0, 0.5, (4, 4, 3, 3)),
        "box.w": rng.normal(0, 50, (4, 4, 1, 1)),
        "score.w": rng.normal(0, 0.05, (2, 4, 1, 1)),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem.w"], ["stem.pre"], "stem.conv", pads=[1, 1, 1, 1]),
        node("Relu", ["stem.pre"], ["stem"], "stem.relu"),
        node("Conv", ["stem", "body.w"], ["body"], "body.conv", pads=[1, 1, 1, 1]),
        node("Conv", ["body", "box.w"], ["box"], "box.conv"),
        node("Conv", ["body", "score.w"], ["score"], "score.conv"),
        node("Concat", ["box", "score"], ["out"], "join", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two_heads",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [
            helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 6, 8, 8]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 2, 8, 8]),
        ],
        [numpy_helper.from_array(w.astype(np.float32), k) for k, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def samples(count: int = 4, seed: int = 1, scale: float = 1.0) -> list[dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(seed)
    return [{"x": (scale * rng.normal(size=(1, 3, 8, 8))).astype(np.float32)} for _ in range(count)]


def quantized(
    given: onnx.ModelProto, stored: Mapping[str, tuple[float, float]], weights: Iterable[str] = ()
) -> onnx.ModelProto:
    """``given`` with the tensors ``stored`` (name to range) as uint8 and ``weights`` as int8."""
    graph = onnx.GraphProto()
    graph.CopyFrom(given.graph)
    del graph.node[:]
    read = {w: f"{w}/as_int8" for w in weights}
    for t in [v.name for v in graph.input if v.name in stored]:
        read[t] = f"{t}/dequantized"
        graph.node.extend(_storage(graph, t, t, read[t], stored[t]))
    for w in weights:
        graph.node.append(_weight(graph, w))
    for node in given.graph.node:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [read.get(i, i) for i in node.input]
        name = node.output[0]
        if name in stored:
            copy.output[0] = f"{name}/float"
            graph.node.extend(_storage(graph, name, copy.output[0], name, stored[name]))
    model = helper.make_model(graph, opset_imports=given.opset_import, ir_version=given.ir_version)
    copies = {read[t]: Copy(t) for t in read if t in stored}
    write_metadata(model, Metadata("onnxruntime", dict.fromkeys(LAYERS, "uint8"), {}, copies))
    onnx.checker.check_model(model, full_check=True)
    return model


def pairs(precision: str = "uint8") -> list[LayerPair]:
    return [LayerPair(name, "Conv", precision, name, name, inputs) for name, inputs in LAYERS.items()]


def _storage(
    graph: onnx.GraphProto, name: str, source: str, target: str, ends: tuple[float, float]
) -> Iterator[onnx.NodeProto]:
    scale, zero = _constants(graph, name, qparams_of_ranges(*ends, PRECISION, Scheme.ASYMMETRIC))
    yield helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}/uint8"], f"{name}/q")
    yield helper.make_node("DequantizeLinear", [f"{name}/uint8", scale, zero], [target], f"{name}/dq")


def _weight(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    held = next(t for t in graph.initializer if t.name == name)
    values = numpy_helper.to_array(held)
    p = qparams_of_ranges(values.min(), values.max(), Precision.INT8, Scheme.SYMMETRIC)
    scale, zero = _constants(graph, name, p)
    held.CopyFrom(numpy_helper.from_array(quantize(values, p), name))
    return helper.make_node("DequantizeLinear", [name, scale, zero], [f"{name}/as_int8"], f"{name}/dq")


def _constants(graph: onnx.GraphProto, name: str, p: QParams) -> tuple[str, str]:
    names = f"{name}/scale", f"{name}/zero_point"
    graph.initializer.append(numpy_helper.from_array(p.scale, names[0]))
    graph.initializer.append(numpy_helper.from_array(p.zero_point.astype(p.precision.numpy), names[1]))
    return names

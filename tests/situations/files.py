"""How a file may say the same: where its weights stand, what it calls the domain, functions, what it leaves unsaid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, parser

from situations.common import Situation, written

TEXT = "(float[1, 6, 8] x) => (float[1, 6, 8] y) { m = MatMul(x, w)  a = Relu(m)  y = MatMul(a, v) }"
PLAIN = written(TEXT, {"w": (8, 8), "v": (8, 8)}, x=(1, 6, 8))
FUNCTIONS = """<ir_version: 9, opset_import: ["": 18, "own": 1]>
agraph (float[1, 6, 8] x) => (float[1, 6, 8] y) { h = own.block<slope = 0.3>(x, w)  y = own.block(h, w) }
<domain: "own", opset_import: ["": 18, "own": 1]>
block <slope: float = 0.1> (a, b) => (c) { m = MatMul(a, b)  n = own.act<alpha: float = @slope>(m)  c = Add(n, a) }
<domain: "own", opset_import: ["": 18]>
act <alpha> (a) => (b) { b = LeakyRelu<alpha: float = @alpha>(a) }"""


def changed(situation: Situation, change: Callable[[ModelProto], object]) -> Situation:
    """The same with the model written otherwise."""
    model = ModelProto()
    model.CopyFrom(situation.model)
    change(model)
    return replace(situation, model=model)


def constant_nodes(model: ModelProto) -> None:
    graph = model.graph
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
    nodes += [NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


def sparse_weights(model: ModelProto) -> None:
    """One that lists places by a number each, one by coordinates."""
    graph = model.graph
    whole = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    del graph.initializer[:]
    for name, values in whole.items():
        kept = np.argwhere(np.abs(values) > 0.3)
        places = kept if name == "w" else kept @ np.array([values.shape[1], 1])
        held = numpy_helper.from_array(values[tuple(kept.T)], name)
        index = numpy_helper.from_array(places.astype(np.int64), f"{name}/places")
        graph.sparse_initializer.append(helper.make_sparse_tensor(held, index, list(values.shape)))


def long_domain(model: ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"


def no_shapes(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")


def four_bits(model: ModelProto) -> None:
    """The second weight in blocks of four rows."""
    graph, steps = model.graph, np.random.default_rng(0).integers(-8, 8, 64)
    kept = [t for t in graph.initializer if t.name != "v"]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.append(helper.make_tensor("v/int4", TensorProto.INT4, [8, 8], steps.tolist()))
    graph.initializer.append(numpy_helper.from_array(np.linspace(0.03, 0.06, 16, dtype=np.float32).reshape(2, 8), "s"))
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["v/int4", "s"], ["v"], axis=0, block_size=4))
    model.opset_import[0].version, model.ir_version = 21, 10


def functions() -> Situation:
    """A default that is handed on to a function inside."""
    model = parser.parse_model(FUNCTIONS)
    random = np.random.default_rng(0)
    model.graph.initializer.append(numpy_helper.from_array(random.normal(0, 0.3, (8, 8)).astype(np.float32), "w"))
    return Situation(model, PLAIN.feeds)


CASES: dict[str, Situation] = {
    "constant-nodes": changed(PLAIN, constant_nodes),
    "sparse-weights": changed(PLAIN, sparse_weights),
    "long-domain": changed(PLAIN, long_domain),
    "no-shapes": changed(PLAIN, no_shapes),
    "four-bit-weights": changed(PLAIN, four_bits),
    "functions-with-defaults": functions(),
    "weights-through-float16": written(
        """(float[1, 6, 8] x) => (float[1, 6, 8] y) { t = Transpose<perm = [1, 0]>(w)  i = Identity(t)
        m = MatMul(x, i)  h = Cast<to = 10>(v)  b = Cast<to = 1>(h)  y = MatMul(m, b) }""",
        {"w": (8, 8), "v": (8, 8)},
        x=(1, 6, 8),
    ),
    "machine-learning": written(
        """(float[4, 6] x) => (float[4, 3] y)
        { n = ai.onnx.ml.Scaler<offset = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0], scale = [1.0, 2.0, 1.0, 1.0, 1.0, 0.5]>(x)
            m = MatMul(n, w)  y = Softmax(m) }""",
        {"w": (6, 3)},
        x=(4, 6),
    ),
}

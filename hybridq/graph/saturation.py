"""Processors without VNNI, where ONNX Runtime's kernels for uint8 x int8 saturate, and how it computes exactly there.

Those kernels add two products in 16 bits: 2 * 255 * 127 is more than 32767. A model that is right on a board, or on
another processor, is wrong there, so nothing said of it would be true. ONNX Runtime can hold such weights as uint8,
which is exact and slower (``session.x64quantprecision``).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.edit import TakenNames, consumers

EXACT = "session.x64quantprecision"
IN_THE_WAY = (
    "ConstantSharing"  # it gives two weights one zero point, and ONNX Runtime shifts it twice under one name: an error
)
SATURATES = (
    f"this processor has no VNNI, and uint8 x int8 saturates there: computed here with {EXACT}=1 and without "
    f"{IN_THE_WAY}, which your own sessions want, too (docs/onnxruntime.md)"
)


@cache
def saturates() -> bool:
    """Whether a sum of two uint8 x int8 products saturates on this processor."""
    weights = np.full((64, 8), 127, np.int8)
    values = np.full((4, 64), 255, np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return bool(np.any(session.run(None, {"x": values})[0] != 255 * 127 * 64))


def apart(model: ModelProto) -> ModelProto:
    """A copy where each reader of int8 weights has its own: ONNX Runtime would shift shared ones twice under a name."""
    found = ModelProto()
    found.CopyFrom(model)
    graph, own = found.graph, _Own(found.graph)
    readers, nodes = consumers(graph.node), list[NodeProto]()
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "DequantizeLinear" and node.input[0] in own.held:
            others = readers.get(node.output[0], ())[1:]
            nodes += [own.dequantized(node, reader) for reader in others]
            node.input[:] = map(own.tensor, node.input)
    copies = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return found


class _Own:
    """Gives each who asks int8 tensors of his own."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph, self.names = graph, TakenNames.of(graph)
        self.held = {t.name: t for t in graph.initializer if t.data_type == TensorProto.INT8}
        self.given = set[str]()

    def tensor(self, name: str) -> str:
        if name not in self.held or name not in self.given:
            self.given.add(name)
            return name
        copy = self.graph.initializer.add()
        copy.CopyFrom(self.held[name])
        copy.name = self.names.fresh(name)
        return copy.name

    def dequantized(self, node: NodeProto, reader: NodeProto) -> NodeProto:
        shared, copy = node.output[0], _copy(node)
        copy.name = copy.output[0] = self.names.fresh(shared)
        copy.input[:] = map(self.tensor, node.input)
        reader.input[:] = [copy.output[0] if name == shared else name for name in reader.input]
        return copy


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy

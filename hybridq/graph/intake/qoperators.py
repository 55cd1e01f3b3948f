"""Operators on integers (QLinearConv and the like) as the float operator between dequantizers and a quantizer.

Inputs of https://onnx.ai/onnx/operators and of ONNX Runtime's own domain com.microsoft. Of a QLinearConv's bias, int32,
the scale is ``x_scale * w_scale`` and the zero point 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.errors import ModelError
from hybridq.graph import edit

# operator: (float operator, where each quantized input begins, where the output's scale is, where a bias is)
TABLE: dict[str, tuple[str, tuple[int, ...], int, int]] = {
    "QLinearConv": ("Conv", (0, 3), 6, 8),
    "QLinearMatMul": ("MatMul", (0, 3), 6, -1),
    "QLinearAdd": ("Add", (0, 3), 6, -1),
    "QLinearMul": ("Mul", (0, 3), 6, -1),
    "QLinearSigmoid": ("Sigmoid", (0,), 3, -1),
    "QLinearLeakyRelu": ("LeakyRelu", (0,), 3, -1),
    "QLinearSoftmax": ("Softmax", (0,), 3, -1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3, -1),
    "QLinearAveragePool": ("AveragePool", (0,), 3, -1),
    "QLinearReduceMean": ("ReduceMean", (0,), 3, -1),
    "QGemm": ("Gemm", (0, 3), 7, 6),
}
PRIVATE = ("channels_last", "opset")  # attributes that the float operator does not have


def as_qdq(given: onnx.ModelProto, path: str = "") -> onnx.ModelProto:
    """The model with every quantized operator written as QDQ; as it is where there is none.

    Raises ModelError for an operator that is not in the table.
    """
    if not any(_is_quantized(n) for n in given.graph.node):
        return given
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    work = _Work({t.name: t for t in proto.graph.initializer}, path)
    for node in given.graph.node:
        work.add(node)
    del proto.graph.node[:]
    proto.graph.node.extend(work.nodes)
    proto.graph.initializer.extend(work.constants)
    return proto


def _is_quantized(node: NodeProto) -> bool:
    return node.op_type in TABLE or node.op_type.startswith("QLinear")


@dataclass
class _Work:
    held: dict[str, TensorProto]
    path: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, node: NodeProto) -> None:
        """One node of the given graph."""
        if not _is_quantized(node):
            self.nodes.append(node)
        elif node.op_type == "QLinearConcat":
            self._concat(node)
        elif node.op_type in TABLE:
            self._operator(node)
        else:
            hint = "Quantize the float model in QDQ format, or give the float model itself."
            raise ModelError(f"'{node.op_type}' is no operator that can be taken apart", path=self.path, hint=hint)

    def _operator(self, node: NodeProto) -> None:
        op, places, result, bias = TABLE[node.op_type]
        inputs = [self._dequantized(node, place, index) for index, place in enumerate(places)]
        if 0 < bias < len(node.input) and node.input[bias]:
            inputs.append(self._bias(node, bias))
        attributes = [a for a in node.attribute if a.name not in PRIVATE]
        self._quantized(node, op, inputs, node.input[result : result + 2], attributes)

    def _concat(self, node: NodeProto) -> None:
        places = range(2, len(node.input), 3)
        inputs = [self._dequantized(node, place, index) for index, place in enumerate(places)]
        self._quantized(node, "Concat", inputs, node.input[:2], list(node.attribute))

    def _quantized(
        self, node: NodeProto, op: str, inputs: list[str], numbers: list[str], attributes: list[onnx.AttributeProto]
    ) -> None:
        name = f"{node.output[0]}/float"
        made = helper.make_node(op, inputs, [name], name=node.name)
        made.attribute.extend(attributes)
        self.nodes.append(made)
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *filter(None, numbers)], [node.output[0]]))

    def _dequantized(self, node: NodeProto, place: int, index: int) -> str:
        """The float form of one input: integers, scale and zero point in a row."""
        numbers = [n for n in node.input[place : place + 3] if n]
        name = f"{node.output[0]}/input_{index}"
        scale = self.held.get(numbers[1])
        many = scale is not None and int(np.prod(scale.dims)) > 1
        self.nodes.append(_dequantizer(numbers, name, _axis(node) if many else None))
        return name

    def _bias(self, node: NodeProto, place: int) -> str:
        name = f"{node.output[0]}/bias"
        scales = [numpy_helper.to_array(self.held[node.input[i]]).astype(np.float32) for i in (1, 4)]
        scale = np.atleast_1d(scales[0] * scales[1]).reshape(-1)
        self.constants.append(numpy_helper.from_array(scale if scale.size > 1 else scale.reshape(()), f"{name}_scale"))
        self.nodes.append(_dequantizer([node.input[place], f"{name}_scale"], name, 0 if scale.size > 1 else None))
        return name


def _dequantizer(inputs: list[str], output: str, axis: int | None) -> NodeProto:
    node = helper.make_node("DequantizeLinear", inputs, [output])
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _axis(node: NodeProto) -> int:
    """The axis along which a weight has a scale a channel."""
    return 0 if node.op_type == "QLinearConv" or edit.attribute(node, "transB", 0) else 1

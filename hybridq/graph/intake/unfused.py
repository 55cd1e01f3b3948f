"""Operators that ONNX Runtime's own optimizer fuses, written as the standard ones they stand for.

A file that ONNX Runtime saved optimized holds them, and nothing but ONNX Runtime knows them. What has no standard form
here (attention in one node, weights in blocks for one machine's registers) stays as it is and in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from hybridq.graph import edit
from hybridq.graph.opset import PRIVATE, opset_of

BLOCKED = "com.microsoft.nchwc"
GELU = 20  # the opset that brought Gelu
SUM = 3  # of FusedConv: what is added before the activation; of SkipLayerNormalization: what was normalized
PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}
PLAIN = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")
Ranks = Callable[[Iterable[str]], Mapping[str, int]]


def unfuse(proto: ModelProto, ranks: Ranks) -> None:
    """Write the fused operators of a model out, where there are standard ones for them.

    ``ranks`` tells the number of axes of tensors, as far as it is known.
    """
    fused = [n for n in proto.graph.node if n.domain == PRIVATE and n.op_type in FORMS]
    if not fused:
        return
    turned = [name for n in fused if _turned(n) for name in n.input]
    writer = _Writer(proto.graph, opset_of(proto), ranks(turned) if turned else {})
    for node in proto.graph.node:
        if node.domain == PRIVATE and node.op_type in FORMS:
            writer.write(node)
        else:
            writer.nodes.append(node)
    nodes = [NodeProto.FromString(n.SerializeToString()) for n in writer.nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def private(graph: GraphProto) -> list[NodeProto]:
    """The nodes that only ONNX Runtime knows."""
    return [n for g in edit.graphs(graph) for n in g.node if n.domain.startswith(PRIVATE)]


@dataclass
class _Writer:
    """The graph as it is written anew."""

    graph: GraphProto
    opset: int
    ranks: Mapping[str, int]
    nodes: list[NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fresh = edit.TakenNames.of(self.graph).fresh

    def write(self, node: NodeProto) -> None:
        """Append what a node stands for, or the node where that has no form here."""
        before = len(self.nodes)
        if not FORMS[node.op_type](self, node, edit.attributes(node)):
            del self.nodes[before:]
            self.nodes.append(node)

    def add(self, op: str, inputs: Iterable[str], output: str, name: str = "", **attributes: Any) -> str:
        """Append a standard node."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def number(self, name: str, value: float) -> str:
        """A float constant."""
        made = self.fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), made))
        return made

    def activation(self, kind: str, numbers: list[float], source: str, output: str) -> bool:
        """Append the activation of a fused node; whether there is one of this kind."""
        if kind in PLAIN:
            self.add(kind, [source], output)
        elif kind in PARAMETERS:
            told: dict[str, Any] = dict(zip(PARAMETERS[kind], numbers, strict=False))
            self.add(kind, [source], output, **told)
        elif kind == "Clip":
            self.add(kind, [source, *(self.number(f"{output}/bound", n) for n in numbers)], output)
        return kind in (*PLAIN, *PARAMETERS, "Clip")

    def transposed(self, name: str) -> str:
        """A tensor with its last two axes exchanged, empty where its rank is not known."""
        rank = self.ranks.get(name, 0)
        if rank < 2:
            return ""
        perm = [*range(rank - 2), rank - 1, rank - 2]
        return self.add("Transpose", [name], self.fresh(f"{name}/transposed"), perm=perm)


def _turned(node: NodeProto) -> bool:
    return any(edit.attribute(node, name, 0) for name in ("transA", "transB"))


def _without(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k not in names and not k.startswith("activation")}


def _convolution(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    output = node.output[0]
    made = to.add("Conv", node.input[:SUM], to.fresh(f"{output}/Conv"), node.name, **_without(given))
    if len(node.input) > SUM and node.input[SUM]:
        made = to.add("Add", [made, node.input[SUM]], to.fresh(f"{output}/Add"))
    return to.activation(given["activation"].decode(), list(given.get("activation_params", ())), made, output)


def _gemm(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    made = to.add("Gemm", node.input, to.fresh(f"{node.output[0]}/Gemm"), node.name, **_without(given))
    numbers = [given[f"activation_{k}"] for k in ("alpha", "beta") if f"activation_{k}" in given]
    return to.activation(given["activation"].decode(), numbers, made, node.output[0])


def _product(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    """``alpha * A @ B``, either with its last two axes exchanged."""
    if given.get("transBatchA") or given.get("transBatchB"):
        return False
    inputs = [to.transposed(n) if given.get(w) else n for n, w in zip(node.input, ("transA", "transB"), strict=True)]
    alpha, output = given.get("alpha", 1.0), node.output[0]
    scaled = to.fresh(f"{output}/MatMul") if alpha != 1 else output
    to.add("MatMul", inputs, scaled, node.name)
    if alpha != 1:
        to.add("Mul", [scaled, to.number(f"{output}/alpha", alpha)], output)
    return all(inputs)


def _gelu(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    """Gelu of a sum; FastGelu is the one by a tanh."""
    source, output = node.input[0], node.output[0]
    if len(node.input) > 1 and node.input[1]:
        source = to.add("Add", node.input[:2], to.fresh(f"{output}/Add"))
    way = {"approximate": "tanh"} if node.op_type == "FastGelu" else {}
    to.add("Gelu", [source], output, node.name, **way)
    return to.opset >= GELU


def _quick_gelu(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    """``x * sigmoid(alpha * x)``."""
    (source,), (output,) = node.input, node.output
    scaled = to.add("Mul", [source, to.number(f"{output}/alpha", given.get("alpha", 1.702))], to.fresh(f"{output}/Mul"))
    gate = to.add("Sigmoid", [scaled], to.fresh(f"{output}/Sigmoid"))
    to.add("Mul", [source, gate], output, node.name)
    return True


def _skip(to: _Writer, node: NodeProto, given: Mapping[str, Any]) -> bool:
    """The normalization of a sum, which is an output, too."""
    if any(node.output[1:SUM]):
        return False
    inputs = [*node.input, "", "", ""]
    output, total = node.output[0], (node.output[SUM] if len(node.output) > SUM else "")
    last = total or to.fresh(f"{output}/Add")
    added = to.fresh(f"{output}/skip") if inputs[4] else last
    to.add("Add", inputs[:2], added)
    if inputs[4]:
        to.add("Add", [added, inputs[4]], last)
    scale = [n for n in inputs[2:4] if n]
    to.add("LayerNormalization", [last, *scale], output, node.name, epsilon=given.get("epsilon", 1e-12))
    return True


FORMS: dict[str, Callable[[_Writer, NodeProto, Mapping[str, Any]], bool]] = {
    "FusedConv": _convolution,
    "FusedGemm": _gemm,
    "FusedMatMul": _product,
    "TransposeMatMul": _product,
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip,
}

"""Layers of two models that no plan ties together: matched by the names of the tensors that both compute."""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto

from hybridq.compare.probes import GraphIndex
from hybridq.compare.results import LayerPair
from hybridq.graph.operators import Kind, row_of

STORED: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
}


def pairs_by_name(reference: onnx.ModelProto, other: onnx.ModelProto) -> tuple[LayerPair, ...]:
    """Where each layer of ``reference`` is in ``other``: the tensor of its name, behind its quantizer if it has one.

    A layer here is a node that computes: what only moves values, and what quantizes, is none. Layers whose tensor the
    other model does not have are left out: another tool fused them.
    """
    one, two = GraphIndex(reference), GraphIndex(other)
    quantizers, restorers = _first_readers(two, "QuantizeLinear"), _first_readers(two, "DequantizeLinear")
    found = []
    for node in one.nodes:
        name = node.output[0] if node.output else ""
        if name and _computes(node) and name in two.producers:
            made, quantizer = two.producers[name], quantizers.get(name)
            restorer = restorers.get(quantizer.output[0]) if quantizer else None
            restorer = made if made.op_type == "DequantizeLinear" else restorer
            stored = _precision(two, restorer) if restorer else _of_weights(two, made)
            tensor = restorer.output[0] if restorer else name
            reads = tuple(i for i in dict.fromkeys(node.input) if i and i not in one.initializers)
            found.append(LayerPair(name, node.op_type, stored or "float32", name, tensor, reads))
    return tuple(found)


def _computes(node: NodeProto) -> bool:
    return row_of(node).kind in (Kind.COMPUTE, Kind.ELEMENTWISE, Kind.FLOAT)


def _first_readers(view: GraphIndex, op: str) -> dict[str, NodeProto]:
    """The first node of an operator that reads each tensor as its data."""
    found: dict[str, NodeProto] = {}
    for node in view.nodes:
        if node.op_type == op:
            found.setdefault(node.input[0], node)
    return found


def _precision(view: GraphIndex, node: NodeProto) -> str | None:
    """What a QuantizeLinear makes or a DequantizeLinear reads: its zero point's type, uint8 where it has none."""
    zero = view.initializers.get(node.input[2]) if len(node.input) > 2 else None
    return STORED.get(zero.data_type if zero else TensorProto.UINT8)


def _of_weights(view: GraphIndex, node: NodeProto) -> str | None:
    """The precision of a node's weights where they are stored as integers."""
    for name in node.input:
        restored = view.producers.get(name)
        if restored is not None and restored.op_type == "DequantizeLinear":
            held = view.initializers.get(restored.input[0])
            if held is not None and held.data_type in STORED:
                return STORED[held.data_type]
    return None

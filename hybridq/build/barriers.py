"""Barriers: the LeakyRelu that the plan wants before a quantizer."""

from __future__ import annotations

from onnx import NodeProto, helper

from hybridq.build.writer import Writer
from hybridq.plan.quant_plan import Barrier, BarrierKind


def put(writer: Writer, node: NodeProto, raw: str, barrier: Barrier | None) -> str:
    """Put a barrier behind ``node``, which writes ``raw``, or into it; returns the tensor to quantize."""
    if barrier is None:
        return raw
    if barrier.kind is BarrierKind.OWN_NODE:
        return own_node(writer, raw)
    _cut_at_zero(node)
    return raw


def own_node(writer: Writer, tensor: str) -> str:
    """A tensor behind a LeakyRelu of slope 1, one for all who want it."""
    return writer.once(
        ("barrier", tensor), lambda: writer.node("LeakyRelu", [tensor], writer.fresh(f"{tensor}/barrier"), alpha=1.0)
    )


def _cut_at_zero(activation: NodeProto) -> None:
    """Make an activation a LeakyRelu of slope 0: it sends everything below zero to zero."""
    activation.op_type = "LeakyRelu"
    del activation.input[1:]
    del activation.attribute[:]
    activation.attribute.append(helper.make_attribute("alpha", 0.0))

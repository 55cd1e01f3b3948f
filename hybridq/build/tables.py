"""Rows of a table that is stored in integers: they are picked first, and what was picked becomes real numbers."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto, TensorProto, helper

from hybridq.build import packing
from hybridq.build.writer import Writer
from hybridq.graph import edit
from hybridq.plan.layer_weights import WeightPlan
from hybridq.storage.weights import Weights


def pick(writer: Writer, node: NodeProto, planned: Iterable[WeightPlan], weights: Weights) -> None:
    """Make a node that picks rows the product of the integers that it picks and their rows' scales.

    ``real = scale[row] * q[row]``; a table with one scale has no more to pick. Nothing is done for a float table.
    """
    table = next((w for w in planned if w.picked), None)
    if table is None or table.qparams is None:
        return
    rows, result, p = node.input[1], node.output[0], table.qparams
    words = edit.attributes(node)
    held = packing.stored_integers(writer, table, weights)
    picked = writer.node(node.op_type, [held, rows], writer.fresh(f"{result}/rows"), **words)
    real = writer.node("Cast", [picked], writer.fresh(f"{result}/integers"), to=TensorProto.FLOAT)
    shape = (-1, *[1] * (weights[table.tensor].ndim - 1)) if p.axis is not None else ()
    name = f"{table.tensor}/scale"
    scale = writer.once((name, p.scale.tobytes()), lambda: writer.small(name, p.scale.reshape(shape)))
    if p.axis is not None:
        scale = writer.node(node.op_type, [scale, rows], writer.fresh(f"{result}/scale"), **words)
    del node.attribute[:]
    node.CopyFrom(helper.make_node("Mul", [real, scale], [result], node.name))

"""Tables of integers: rows are picked first and become real numbers behind, so that the table stays small."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import onnx
from onnx import NodeProto

from hybridq.graph import edit
from hybridq.graph.operators import Layout, row_of

DEQUANTIZE = "DequantizeLinear"


def picked_first(given: onnx.ModelProto) -> onnx.ModelProto:
    """The model with tables that Gathers alone read dequantized behind them, so that they stay integers."""
    held, readers = {t.name for t in given.graph.initializer}, edit.consumers(given.graph.node)
    outputs = {o.name for o in given.graph.output}
    tables = {
        n.output[0]: n
        for n in given.graph.node
        if n.op_type == DEQUANTIZE and held.issuperset(n.input) and _picks_rows(n, readers, given.graph, outputs)
    }
    if not tables:
        return given
    proto = onnx.ModelProto()
    proto.CopyFrom(given)
    del proto.graph.node[:]
    for node in given.graph.node:
        if node.op_type == DEQUANTIZE and node.output[0] in tables:
            continue
        table = tables.get(node.input[0]) if node.input else None
        if table is None:
            proto.graph.node.append(node)
            continue
        picked, behind = NodeProto.FromString(node.SerializeToString()), NodeProto()
        behind.CopyFrom(table)
        picked.input[0], picked.output[0] = table.input[0], f"{node.output[0]}/integers"
        behind.input[0], behind.output[0], behind.name = picked.output[0], node.output[0], f"{node.output[0]}/table"
        proto.graph.node.extend([picked, behind])
    return proto


def _picks_rows(
    node: NodeProto, readers: Mapping[str, tuple[NodeProto, ...]], graph: onnx.GraphProto, outputs: Collection[str]
) -> bool:
    """Whether Gathers alone read a dequantized table that has one scale."""
    scale = next(t for t in graph.initializer if t.name == node.input[1])
    found = readers.get(node.output[0], ())
    picks = all(row_of(r).layout is Layout.TABLE and r.input[0] == node.output[0] for r in found)
    return bool(found) and picks and math.prod(scale.dims) == 1 and node.output[0] not in outputs

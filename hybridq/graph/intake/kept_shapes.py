"""Shapes behind operators of ``ai.onnx.ml`` that change numbers alone, of which ONNX's shape inference says nothing."""

from __future__ import annotations

from onnx import GraphProto, TensorProto, helper

DOMAIN = "ai.onnx.ml"
KEEPING = ("Binarizer", "Imputer", "Normalizer", "Scaler")  # in the input's shape


def keep_shapes(graph: GraphProto) -> bool:
    """Write down, in place, the shapes that follow from known ones; returns whether there was one."""
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    found = False
    for node in graph.node:
        source = values.get(node.input[0]) if node.input else None
        if node.domain != DOMAIN or node.op_type not in KEEPING or source is None or node.output[0] in values:
            continue
        kind = source.type.tensor_type
        kept = helper.make_tensor_value_info(node.output[0], _type(node.op_type, kind.elem_type), None)
        if kind.HasField("shape"):
            kept.type.tensor_type.shape.CopyFrom(kind.shape)
            graph.value_info.append(kept)
            values[kept.name] = kept
            found = True
    return found


def _type(op: str, given: int) -> int:
    """The type of a result: Imputer and Binarizer keep the input's."""
    return given if op in ("Imputer", "Binarizer") else int(TensorProto.FLOAT)

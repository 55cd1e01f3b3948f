"""Graphs as JSON and back: every node, attribute and value type, readable and without loss.

Attributes carry their ONNX type: ``{"kernel_shape": {"ints": [3, 3]}}``. Floats are written as the shortest decimal of
the float32. Tensors inside attributes are base64 of their little-endian bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

Json = dict[str, Any]


def graph_to_json(graph: GraphProto) -> Json:
    """A graph with its initializers' names, types and shapes; their data lies elsewhere (or inline in subgraphs)."""
    return {
        "name": graph.name,
        "inputs": [_value_to_json(v) for v in graph.input],
        "outputs": [_value_to_json(v) for v in graph.output],
        "values": [_value_to_json(v) for v in graph.value_info if v.type.HasField("tensor_type")],
        "nodes": [_node_to_json(n) for n in graph.node],
    }


def graph_from_json(data: Mapping[str, Any]) -> GraphProto:
    """The graph that ``graph_to_json`` wrote."""
    graph = GraphProto(name=data["name"])
    graph.input.extend(_value_from_json(v) for v in data["inputs"])
    graph.output.extend(_value_from_json(v) for v in data["outputs"])
    graph.value_info.extend(_value_from_json(v) for v in data["values"])
    graph.node.extend(_node_from_json(n) for n in data["nodes"])
    graph.initializer.extend(_tensor_from_json(t) for t in data.get("initializers", []))
    return graph


def dtype_name(elem_type: int) -> str:
    """``float32``, ``int64``, ``bfloat16``, ... of an ONNX element type."""
    return "float32" if elem_type == TensorProto.FLOAT else str(TensorProto.DataType.Name(elem_type).lower())


def elem_type(name: str) -> int:
    """The ONNX element type of a name that ``dtype_name`` gave."""
    return int(TensorProto.FLOAT if name == "float32" else TensorProto.DataType.Value(name.upper()))


def _value_to_json(value: onnx.ValueInfoProto) -> Json:
    if not value.type.HasField("tensor_type"):  # sequences and optionals stay as they are
        return {"name": value.name, "proto": base64.b64encode(value.SerializeToString(deterministic=True)).decode()}
    kind = value.type.tensor_type
    data: Json = {"name": value.name, "dtype": dtype_name(kind.elem_type)}
    if kind.HasField("shape"):
        data["shape"] = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim]
    return data


def _value_from_json(data: Mapping[str, Any]) -> onnx.ValueInfoProto:
    if "proto" in data:
        return onnx.ValueInfoProto.FromString(base64.b64decode(data["proto"]))
    return helper.make_tensor_value_info(data["name"], elem_type(data["dtype"]), data.get("shape"))


def _node_to_json(node: NodeProto) -> Json:
    data: Json = {"name": node.name, "op": node.op_type, "inputs": list(node.input), "outputs": list(node.output)}
    if node.domain:
        data["domain"] = node.domain
    if node.attribute:
        data["attributes"] = {a.name: _attribute_to_json(a) for a in node.attribute}
    return data


def _node_from_json(data: Mapping[str, Any]) -> NodeProto:
    node = NodeProto(name=data["name"], op_type=data["op"], domain=data.get("domain"))
    node.input.extend(data["inputs"])
    node.output.extend(data["outputs"])
    node.attribute.extend(_attribute_from_json(k, v) for k, v in data.get("attributes", {}).items())
    return node


def _attribute_to_json(a: AttributeProto) -> Json:
    kind = AttributeProto.AttributeType.Name(a.type).lower()
    if kind == "float":
        return {kind: _float(a.f)}
    if kind == "floats":
        return {kind: [_float(f) for f in a.floats]}
    if kind in ("int", "ints"):
        return {kind: a.i if kind == "int" else list(a.ints)}
    if kind in ("string", "strings"):
        return {kind: _text(a.s) if kind == "string" else [_text(s) for s in a.strings]}
    if kind == "tensor":
        return {kind: _tensor_to_json(a.t)}
    if kind == "graph":
        inner = graph_to_json(a.g)
        return {kind: inner | {"initializers": [_tensor_to_json(t) for t in a.g.initializer]}}
    return {"proto": base64.b64encode(a.SerializeToString(deterministic=True)).decode()}


def _attribute_from_json(name: str, data: Mapping[str, Any]) -> AttributeProto:
    ((kind, value),) = data.items()
    if kind == "proto":
        return AttributeProto.FromString(base64.b64decode(value))
    a = AttributeProto(name=name, type=kind.upper())
    if kind in ("float", "int"):
        setattr(a, kind[0], float(value) if kind == "float" else value)
    elif kind in ("floats", "ints"):
        getattr(a, kind).extend(float(v) for v in value) if kind == "floats" else a.ints.extend(value)
    elif kind == "string":
        a.s = _bytes(value)
    elif kind == "strings":
        a.strings.extend(_bytes(v) for v in value)
    elif kind == "tensor":
        a.t.CopyFrom(_tensor_from_json(value))
    else:
        a.g.CopyFrom(graph_from_json(value))
    return a


def _float(value: float) -> float | str:
    """A float32 as the shortest decimal; JSON has no infinity and no NaN, so these are words."""
    number = np.float32(value)
    return float(str(number)) if np.isfinite(number) else str(number)


def _text(value: bytes) -> str | Json:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: str | Mapping[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])


def _tensor_to_json(tensor: TensorProto) -> Json:
    data = numpy_helper.to_array(tensor)
    held = {"name": tensor.name, "dtype": dtype_name(tensor.data_type), "shape": list(tensor.dims)}
    if tensor.data_type == TensorProto.STRING:
        return held | {"proto": base64.b64encode(tensor.SerializeToString(deterministic=True)).decode()}
    return held | {"base64": base64.b64encode(data.tobytes()).decode()}


def _tensor_from_json(data: Mapping[str, Any]) -> TensorProto:
    if "proto" in data:
        return TensorProto.FromString(base64.b64decode(data["proto"]))
    tensor = TensorProto(name=data["name"], data_type=elem_type(data["dtype"]), dims=data["shape"])
    tensor.raw_data = base64.b64decode(data["base64"])
    return tensor

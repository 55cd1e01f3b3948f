"""The canonical float graph and our view of it as JSON, and back."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hybridq.graph.graph_json import elem_type, graph_from_json, graph_to_json
from hybridq.graph.halves import half_ends, mark_halves
from hybridq.graph.intake.canonical import SMALL
from hybridq.graph.model import Group, Layer, Model, Tensor, Weight
from hybridq.storage.record_json import Json
from hybridq.storage.weights import Tensors


def proto_to_json(proto: onnx.ModelProto) -> Json:
    """The graph without its initializers, and what its numbers' meaning hangs on."""
    head: Json = {"opsets": {o.domain: o.version for o in proto.opset_import}, "ir_version": proto.ir_version}
    halves = half_ends(proto)
    return head | ({} if halves is None else {"halves": halves}) | graph_to_json(proto.graph)


def model_from_json(data: Json, weights: Tensors) -> Model:
    """The model that ``data``, the object in model.json, tells of; small initializers are filled in."""
    held = data["graph"]
    proto = onnx.ModelProto(ir_version=held["ir_version"], graph=graph_from_json(held))
    proto.opset_import.extend(helper.make_opsetid(d, v) for d, v in held["opsets"].items())
    if "halves" in held:
        mark_halves(proto, held["halves"])
    placed = {n: data["weights"]["tensors"][n] for n in weights}
    sizes = {n: math.prod(t["shape"]) for n, t in placed.items()}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(weights[n]), n) for n, size in sizes.items() if size <= SMALL
    )
    proto.graph.initializer.extend(
        onnx.TensorProto(name=n, data_type=elem_type(placed[n]["dtype"]), dims=placed[n]["shape"])
        for n, size in sizes.items()
        if size > SMALL
    )
    layers = tuple(_layer_from_json(x) for x in data["layers"])
    return Model(
        name=data["model"]["name"],
        sha256=data["model"]["sha256"],
        proto=proto,
        layers=layers,
        groups=tuple(_group_from_json(g) for g in data["groups"]),
        tensors=_tensors(held),
        inputs=tuple(i["name"] for i in held["inputs"]),
        outputs=tuple(o["name"] for o in held["outputs"]),
        states=dict(data.get("states", {}).get("pairs", {})),
    )


def _tensors(graph: Json) -> dict[str, Tensor]:
    found = {}
    for v in [*graph["inputs"], *graph["outputs"], *graph["values"]]:
        if "dtype" in v:
            shape = tuple(d if d is not None else "?" for d in v["shape"]) if "shape" in v else None
            kind = elem_type(v["dtype"])
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name if kind else "unknown"
            found[v["name"]] = Tensor(v["name"], shape, dtype)
    return found


def _layer_from_json(data: Json) -> Layer:
    weights = tuple(Weight(w["tensor"], w["index"], tuple(w["shape"]), w.get("axis")) for w in data["weights"])
    words: Json = {k: data.get(k, "") for k in ("activation", "activation_op", "bias", "float_only")}
    lists: Json = {k: tuple(data[k]) for k in ("inputs", "aliases")}
    plain: Json = {k: data[k] for k in ("name", "op", "node", "macs", "group")}
    return Layer(**plain, **words, **lists, weights=weights)


def _group_from_json(data: Json) -> Group:
    fixed = data.get("fixed")
    lists = {k: tuple(data[k]) for k in ("tensors", "sources", "layers")}
    return Group(
        name=data["name"], **lists, fixed=(fixed[0], fixed[1]) if fixed else None, float_only=data.get("float_only", "")
    )

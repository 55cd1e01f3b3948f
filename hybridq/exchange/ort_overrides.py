"""ONNX Runtime's ``TensorQuantOverrides``: what ``quantize_static`` takes in ``extra_options``, as JSON.

``quant_type`` is a word here and an enum in Python, which three lines make of it (``docs/targets.md``)::

    overrides = json.load(open("model.overrides.json"))
    enum = lambda d: {k: QuantType[v] if k == "quant_type" else enum(v) if k == "convert" else
                      set(v) if k == "recv_nodes" else v for k, v in d.items()}
    overrides = {name: [enum(d) for d in found] for name, found in overrides.items()}
"""

from __future__ import annotations

from typing import Any

from hybridq.errors import Problem
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.records import Export, ExportOptions, dumped, lost
from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams

TYPES = {Precision.UINT8: "QUInt8", Precision.INT8: "QInt8", Precision.INT16: "QInt16"}


def write(view: View, options: ExportOptions) -> Export:
    """Scale and zero point of every quantized tensor and weight, and the boundary where readers want fewer bits."""
    overrides: dict[str, list[dict[str, Any]]] = {}
    for t in view.tensors:
        if t.stored.qparams is not None:
            overrides[t.name] = [_numbers(t.stored.qparams, 0) | _convert(t, view)]
    for w in view.parameters:
        if w.qparams is not None:
            overrides[w.tensor] = _channels(w, w.qparams)
    return Export({f"{options.name}.overrides.json": dumped(overrides)}, _losses(view))


def _numbers(p: QParams, channel: int) -> dict[str, Any]:
    scale, zero_point = p.scale.reshape(-1)[channel], p.zero_point.reshape(-1)[channel]
    return {"quant_type": TYPES[p.precision], "scale": float(scale), "zero_point": int(zero_point)}


def _channels(w: WeightView, p: QParams) -> list[dict[str, Any]]:
    axis = {} if p.axis is None else {"axis": p.axis}
    return [axis | _numbers(p, channel) for channel in range(p.scale.size)]


def _convert(t: TensorView, view: View) -> dict[str, Any]:
    """The narrower form of a tensor, and the nodes that read it."""
    group = view.plan.groups[t.group]
    for precision, stored in group.conversions.items():
        readers = [x.node for x in view.layers if t.name in x.inputs and x.precision is precision]
        if readers and stored.qparams is not None:
            return {"convert": _numbers(stored.qparams, 0) | {"recv_nodes": sorted(readers)}}
    return {}


def _losses(view: View) -> list[Problem]:
    problems = [
        lost(f'"{x.name}": stays {x.precision}: give quantize_static nodes_to_exclude=["{x.node}"]')
        for x in view.layers
        if not x.precision.is_integer
    ]
    for name, group in view.plan.groups.items():
        floats = [p for p, s in group.conversions.items() if _is_half(s)]
        problems += [lost(f'"{name}": its readers of {p} read {group.stored.precision}') for p in floats]
    return [*problems, *weights_stay(view)]


def _is_half(stored: Stored) -> bool:
    return stored.precision is Precision.FLOAT16

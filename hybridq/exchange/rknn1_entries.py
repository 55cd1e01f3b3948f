"""A result in RKNN-Toolkit 1.x's terms: what both of its formats say of a tensor, a weight or a bias."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams, fraction_length

TYPES = {Precision.UINT8: "u8", Precision.INT8: "i8", Precision.INT16: "i16"}
DTYPES = {
    Scheme.ASYMMETRIC: "asymmetric_affine",
    Scheme.SYMMETRIC: "asymmetric_affine",
    Scheme.DYNAMIC_FIXED_POINT: "dynamic_fixed_point",
}


@dataclass(frozen=True, slots=True)
class Entry1:
    """One entry. ``dtype`` is ``None``, as text, for float; a bias has no range and the type i32, beside int16 i64."""

    key: str
    op: str
    dtype: str
    qtype: str = ""
    min: float | None = None
    max: float | None = None
    zero_point: int = 0
    scale: float = 1.0
    fl: int | None = None


def key_of(name: str, view: View) -> str:
    """``{layer}_{id}``: the node that writes a tensor, or the input itself, with our count."""
    order = {t.name: i for i, t in enumerate(t for t in view.tensors if t.layer or t.is_input)}
    layer = view.model.layer.get(name)
    return f"{layer.node if layer else name}_{order.get(name, 0)}"


def entries(view: View, io: bool = False) -> Iterator[Entry1]:
    """Inputs, then layer by layer weight, bias and output, as the toolkit lists them.

    ``io``: model inputs and outputs alone. Tensors that only move values have no entry of their own.
    """
    for t in view.tensors:
        if t.is_input:
            yield _tensor(f"@{key_of(t.name, view)}:out0", "input", t)
    for layer in view.layers:
        written = view.tensor.get(layer.name)
        if not io:
            yield from _parameters(layer.name, layer.op, view)
            if written is not None:
                yield _tensor(f"@{key_of(written.name, view)}:out0", layer.op, written)
    for t in view.tensors:
        if t.is_output:
            yield _tensor(f"@attach_{t.name}/out0_0:out0", "output", t)


def _parameters(layer: str, op: str, view: View) -> Iterator[Entry1]:
    key = key_of(layer, view)
    weights = view.weights_of.get(layer, ())
    for w in weights[:1]:
        yield _weight(f"@{key}:weight", op, w, view)
    scale = _bias_scale(layer, view)
    if layer in view.bias:
        if scale is None:
            yield Entry1(f"@{key}:bias", op, "None")
        else:
            power = math.frexp(scale)[0] == 0.5  # not so where a layer of fixed point reads what is none
            scheme = weights[0].qparams.scheme if weights[0].qparams and power else Scheme.ASYMMETRIC
            fl = fraction_length(scale) if scheme is Scheme.DYNAMIC_FIXED_POINT else None
            wide = weights[0].precision is Precision.INT16
            yield Entry1(f"@{key}:bias", op, DTYPES[scheme], "i64" if wide else "i32", scale=scale, fl=fl)


def _bias_scale(layer: str, view: View) -> float | None:
    """``s_x * s_w``; None where either is float."""
    weights = view.weights_of.get(layer, ())
    inputs = view.model.layer[layer].inputs
    read = view.tensor[inputs[0]].stored.qparams if inputs and inputs[0] in view.tensor else None
    if not weights or weights[0].qparams is None or read is None:
        return None
    return float(read.scale) * float(weights[0].qparams.scale)


def _tensor(key: str, op: str, t: TensorView) -> Entry1:
    p = t.stored.qparams
    return Entry1(key, op, "None") if p is None else _entry(key, op, p, t.range.min, t.range.max)


def _weight(key: str, op: str, w: WeightView, view: View) -> Entry1:
    values = view.values(w)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    return Entry1(key, op, "None") if w.qparams is None else _entry(key, op, w.qparams, low, high)


def _entry(key: str, op: str, p: QParams, low: float, high: float) -> Entry1:
    fl = fraction_length(float(p.scale)) if p.scheme is Scheme.DYNAMIC_FIXED_POINT else None
    low, high = (0.0 if math.isinf(x) else x for x in (low, high))
    return Entry1(key, op, DTYPES[p.scheme], TYPES[p.precision], low, high, int(p.zero_point), float(p.scale), fl)

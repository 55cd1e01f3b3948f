"""What step1 writes down for a model that arrives quantized: the given scales and zero points, not chosen ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx

from hybridq.errors import Problem
from hybridq.graph import edit
from hybridq.graph.intake.recovered import Quantizer, Recovered
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Movement, row_of
from hybridq.plan.layer_weights import entry_key
from hybridq.plan.record import activation_entry
from hybridq.quant.dtypes import Precision, Scheme, Storage
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, Entry, LayerDefault, Measured
from hybridq.targets import Target

GIVEN = "as given"
PRECISIONS = {"uint8": Precision.UINT8, "int8": Precision.INT8, "int16": Precision.INT16, "uint16": Precision.INT16}


def apart(proto: onnx.ModelProto, tensors: Mapping[str, Quantizer]) -> frozenset[str]:
    """Nodes that must stay layers of their own: data movement between two quantizers, activations behind one."""
    found = set()
    makers = edit.producers(proto.graph.node)
    for node in proto.graph.node:
        row = row_of(node)
        results = [tensors[o] for o in node.output if o in tensors]
        if row.movement is not Movement.NONE:
            sources = [tensors.get(i) for i in (node.input if row.moves_all else node.input[:1])]
            if any(s is None or not s.same_as(r) for r in results for s in sources):
                found.add(node.name)
        elif row.absorbed and node.input and node.input[0] in tensors and node.input[0] in makers:
            found.add(node.name)
    return frozenset(found)


def as_given(
    calibrated: Calibrated, model: Model, recovered: Recovered, target: Target, path: str
) -> tuple[Calibrated, list[Problem]]:
    """What was calibrated, with the given quantizers in place of chosen ranges; what the target cannot hold of them."""
    problems = list[Problem]()
    quantizers = {g.name: _of(g.sources, recovered) or _of(g.tensors, recovered) for g in model.groups}
    measured = {}
    for name, m in calibrated.measured.items():
        q = quantizers.get(name)
        found = _range(q, target) if q is not None else None
        if q is not None and found is None:
            problems.append(_problem(f"'{name}' is {q.dtype} with a zero point that {target.name} cannot hold", path))
        measured[name] = _with_range(m, *found) if found else m
    layers = {x.name: _default(x, model, recovered, target, quantizers) for x in model.layers}
    entries = {g.name: _activation(g, calibrated, measured, layers, quantizers, target) for g in model.groups}
    for layer in model.layers:
        for weight in layer.weights:
            given = recovered.weights.get(weight.tensor)
            entry = _weight(given, layer, target) if given is not None else None
            if given is not None and entry is None:
                problems.append(_problem(f"'{weight.tensor}' is {given.dtype}, which {target.name} has not", path))
            usual = calibrated.entries[entry_key(layer)]
            entries[entry_key(layer)] = Entry(Precision.FLOAT32) if given is None else entry or usual
    return replace(calibrated, entries=entries, measured=measured, layers=layers, as_given=True), problems


def _problem(message: str, path: str) -> Problem:
    return Problem(f"not as given: {message}", path, severity="warning", code="quantized")


def _of(names: Iterable[str], recovered: Recovered) -> Quantizer | None:
    return next((recovered.tensors[n] for n in names if n in recovered.tensors), None)


def _precision(q: Quantizer | None, target: Target) -> Precision | None:
    found = PRECISIONS.get(str(q.dtype)) if q is not None else None
    return found if found in target.precisions else None


def _shift(q: Quantizer) -> int:
    """What takes its zero points to those of our type: uint16 becomes int16."""
    return -32768 if q.dtype == np.uint16 else 0


def _range(q: Quantizer, target: Target) -> tuple[Range, int] | None:
    """The range that gives a quantizer's parameters, and its bits; None where the target's scheme cannot."""
    precision = _precision(q, target)
    if precision is None or q.scale.ndim:
        return None
    storage, scale, zero = target.activation(precision), float(q.scale), int(q.zero_point) + _shift(q)
    if storage.scheme is Scheme.ASYMMETRIC:
        low, high = scale * (precision.qmin - zero), scale * (precision.qmax - zero)
    elif zero == (precision.qmin + precision.qmax + 1) // 2:
        high = scale * (precision.qmax - zero)
        low = -high
    else:
        return None
    return Range(low / storage.headroom, high / storage.headroom), precision.bits


def _with_range(m: Measured, r: Range, bits: int) -> Measured:
    """What was measured, with the range ``r`` by every algorithm for so many bits."""
    return replace(m, ranges={a: {**found, bits: r} for a, found in m.ranges.items()}, unbounded=False)


def _default(
    layer: Layer, model: Model, recovered: Recovered, target: Target, quantizers: Mapping[str, Quantizer | None]
) -> LayerDefault:
    """The precision of its output; where that is float, of its weights alone."""
    written = _precision(quantizers.get(layer.group), target)
    held = next((recovered.weights[w.tensor] for w in layer.weights if w.tensor in recovered.weights), None)
    bias = "float32" if layer.bias and layer.bias not in recovered.biases else ""
    if layer.float_only or written is None:
        only = _precision(held, target) if not layer.float_only else None
        return LayerDefault(Precision.FLOAT32, layer.float_only or GIVEN, only, bias)
    return LayerDefault(written, "", None, bias)


def _activation(
    group: Group,
    calibrated: Calibrated,
    measured: Mapping[str, Measured],
    layers: Mapping[str, LayerDefault],
    quantizers: Mapping[str, Quantizer | None],
    target: Target,
) -> Entry:
    precision = _precision(quantizers.get(group.name), target) or Precision.FLOAT32
    return activation_entry(measured[group.name], precision, calibrated.algorithm, target)


def _weight(q: Quantizer, layer: Layer, target: Target) -> Entry | None:
    """A weight's entry with the given numbers; None where the target stores weights otherwise."""
    precision, constant = _precision(q, target), all(w.axis is None for w in layer.weights)
    zero = q.zero_point + _shift(q)
    if constant and precision is not None:
        storage: Storage | None = target.activation(precision)
    else:
        unsigned = q.dtype == np.uint8  # which says the same as int8, shifted
        zero = zero - (128 if unsigned else 0)
        storage = _weight_storage(Precision.INT8 if unsigned else precision, target)
    if storage is None or storage.scheme is None or (storage.scheme.is_symmetric and zero.any()):
        return None
    many = bool(q.scale.ndim)
    return Entry(
        dtype=storage.dtype,
        qtype=storage.scheme,
        qmethod="channel" if many else "layer",
        algorithm="normal",
        scale=tuple(float(s) for s in q.scale) if many else float(q.scale),
        zero_point=tuple(int(z) for z in np.broadcast_to(zero, q.scale.shape)) if many else int(zero),
    )


def _weight_storage(precision: Precision | None, target: Target) -> Storage | None:
    """How the target stores weights in integers of this width."""
    found = [s.weight for s in target.precisions.values() if precision is not None and s.weight.dtype is precision]
    return found[0] if found else None

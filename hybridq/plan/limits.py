"""Ranges as a target's toolchain takes them: some ends it cuts, whatever calibration measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import row_of
from hybridq.quant.qparams import Range
from hybridq.quant.records import Measured
from hybridq.targets import Target


def limit(model: Model, group: Group, target: Target) -> Range | None:
    """The range within which a target keeps a group that nothing but certain operators reads, if it does."""
    readers = model.readers.get(group.name, ())
    bounds = [target.limits.get(x.op) for x in readers]
    if not bounds or None in bounds or any(t in model.outputs for t in group.tensors):
        return None
    return Range(max(b[0] for b in bounds if b), min(b[1] for b in bounds if b))


def completed(m: Measured, model: Model, group: Group, target: Target) -> Measured:
    """What was measured, with upper ends raised where the target takes a result that comes so near for the whole."""
    ends = [target.completes.get(model.layer[n].op) for n in group.layers]
    if not ends or None in ends or m.fixed:
        return m
    near, end = max(e for e in ends if e)

    def raised(r: Range) -> Range:
        return Range(r.min, end) if near <= r.max < end else r

    return replace(m, ranges={a: {bits: raised(r) for bits, r in found.items()} for a, found in m.ranges.items()})


def within(m: Measured, bounds: Range | None) -> Measured:
    """What was measured, with every chosen range cut to ``bounds``."""
    if bounds is None or m.fixed:
        return m

    def cut(r: Range) -> Range:
        return Range(max(r.min, bounds.min), min(r.max, bounds.max))

    return replace(m, ranges={a: {bits: cut(r) for bits, r in found.items()} for a, found in m.ranges.items()})


def joined(measured: Mapping[str, Measured], model: Model) -> dict[str, Measured]:
    """What was measured, with the union of the joined tensors' ranges for each Concat that is a layer.

    A toolchain clips what is joined to the range of the result. Of a tensor that was moved, a part alone may be joined
    (a Split's): that counts within what the result took.
    """
    found = dict(measured)
    for layer in model.layers:
        groups = [(i, model.group_of[i]) for i in layer.inputs if i in model.group_of]
        if joins(model, layer) and groups:
            own = found[layer.group]
            parts = [
                found[g.name] if i in g.sources else within(found[g.name], own.range.with_zero()) for i, g in groups
            ]
            found[layer.group] = replace(own, ranges={a: _union(parts, a, own) for a in own.ranges}, fixed=False)
    return found


def joins(model: Model, layer: Layer) -> bool:
    """Whether a layer joins tensors, as a Concat does."""
    return row_of(model.nodes[layer.node]).moves_all


def _union(parts: Sequence[Measured], algorithm: str, own: Measured) -> dict[int, Range]:
    """By bits, the range that holds those of all parts."""
    found = {}
    for bits, r in own.ranges[algorithm].items():
        ranges = [m.range if m.fixed else m.ranges.get(algorithm, {}).get(bits, r) for m in parts]
        found[bits] = Range(min(x.min for x in ranges), max(x.max for x in ranges))
    return found


def inherited(measured: Mapping[str, Measured], model: Model, target: Target) -> dict[str, Measured]:
    """What was measured, with the range of what they read for the results of operators that the target ties to it."""
    found = dict(measured)
    for layer in model.layers:
        source = model.group_of.get(layer.inputs[0]) if layer.inputs else None
        if layer.op in target.inherits and source is not None:
            own, given = found[layer.group], found[source.name]
            ranges = (
                given.ranges if not given.fixed else {a: dict.fromkeys(r, given.range) for a, r in own.ranges.items()}
            )
            found[layer.group] = replace(own, ranges=ranges, fixed=False)
    return found

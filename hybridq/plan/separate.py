"""Which tensors share parameters, decided: those that data movement ties, but for Concats that the cfg makes separate.

The one place where a cfg's ``separate_concats`` counts: it gives the model that everything else then plans, builds and
compares. Step1 records beside its ranges those of the parts into which groups fall (``Calibrated.apart``), so that no
sample is needed again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from hybridq import targets
from hybridq.graph.model import Group, Model
from hybridq.graph.separated import named, separable, separated
from hybridq.plan.record import activation_entry
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, Entry, LayerDefault, Measured


def may_separate(model: Model, calibrated: Calibrated) -> tuple[str, ...]:
    """The Concats, by their results, whose inputs may have scales of their own; none where the target has none."""
    if not targets.load(calibrated.target).concats_separate or not calibrated.apart or calibrated.as_given:
        return ()
    return tuple(n for n in separable(model) if not calibrated.measured[model.group_of[n].name].unbounded)


def separate(model: Model, calibrated: Calibrated, concats: Collection[str]) -> tuple[Model, Calibrated]:
    """The model with these Concats separate, by any of their names, and what is recorded of its tensors and layers.

    What has another group than before starts as step1 would have it; all else stays as it is. Names of what cannot be
    separate count for nothing (the cfg's check tells of them).
    """
    asked = {named(model, name) for name in concats}
    wanted = tuple(n for n in may_separate(model, calibrated) if n in asked)
    if not wanted:
        return model, calibrated
    target = targets.load(calibrated.target)
    words = {"outputs_share": target.outputs_share, "fixed_ranges": target.fixed_ranges}
    change = _Change(model, calibrated, separated(model, wanted, **words), separated(model, separable(model), **words))
    return change.after, change.record(wanted)


@dataclass(frozen=True)
class _Change:
    """From a model and its record to one with less in common; in ``parts`` all is separate that could be."""

    before: Model
    calibrated: Calibrated
    after: Model
    parts: Model

    def record(self, concats: tuple[str, ...]) -> Calibrated:
        """What is recorded of the model after."""
        old = self.calibrated
        measured = {g.name: self._measured(g) for g in self.after.groups}
        layers = {n: old.layers.get(n) or self._default(n) for n in self.after.layer}
        entries = {g.name: self._entry(g, measured, layers) for g in self.after.groups}
        entries |= {k: e for k, e in old.entries.items() if k not in self.before.group}
        made = replace(old, entries=entries, measured=measured, layers=layers)
        return replace(made, separate=concats, written=tuple(old.entries.items()))

    def _same(self, group: Group) -> bool:
        return group is self.before.group.get(group.name)

    def _measured(self, group: Group) -> Measured:
        """What is known of a group: what was measured of it, or of the parts that it is made of."""
        old = self.calibrated
        if self._same(group):
            return old.measured[group.name]
        names = dict.fromkeys(self.parts.group_of[t].name for t in group.tensors)
        return union([old.apart.get(n) or old.measured[n] for n in names])

    def _default(self, concat: str) -> LayerDefault:
        """What a Concat starts with: the precision that its tensors have together."""
        return LayerDefault(self.calibrated.entries[self.before.group_of[concat].name].dtype)

    def _entry(self, group: Group, measured: Mapping[str, Measured], layers: Mapping[str, LayerDefault]) -> Entry:
        old = self.calibrated
        if self._same(group):
            return old.entries[group.name]
        precisions = [layers[n].precision for n in group.layers]
        precision = Precision.FLOAT32 if group.float_only else widest(precisions) if precisions else old.default
        return activation_entry(measured[group.name], precision, old.algorithm, targets.load(old.target))


def union(parts: Sequence[Measured]) -> Measured:
    """Ranges that hold those of all parts."""
    if len(parts) == 1:
        return parts[0]
    ranges = {
        algorithm: {bits: _hull([m.range if m.fixed else m.ranges[algorithm][bits] for m in parts]) for bits in by_bits}
        for algorithm, by_bits in parts[0].ranges.items()
    }
    return Measured(_hull([m.range for m in parts]), ranges, all(m.fixed for m in parts))


def _hull(ranges: Sequence[Range]) -> Range:
    return Range(min(r.min for r in ranges), max(r.max for r in ranges))

"""What each edit of a cfg did to the model, field by field.

The fields of one entry are taken in the order in which they win over each other; a field did something where the
parameters after it differ from those before it. So their effects add up to the whole, and what another edit makes void
is said to be without effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from hybridq import targets
from hybridq.config.precisions import group_storage
from hybridq.graph.model import Layer, Model
from hybridq.plan.layer_weights import storage_of, weight_axis
from hybridq.plan.quant_plan import Barrier, GroupPlan, LayerPlan, Padding, PoolPlan, QuantPlan, Rounding
from hybridq.quant.dtypes import Precision, Storage
from hybridq.quant.entry_params import OWN_FIELDS, TOGETHER, activation_params, weight_params
from hybridq.quant.qparams import QParams
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, Edit, Entry, QuantConfig
from hybridq.storage.weights import Weights

Params = TypeVar("Params")

NONE = "none: the model is the same without it"
ORDER = ("dtype", "qtype", "qmethod", "fl", "scale", "zero_point", "min", "max", "algorithm")  # the first wins
SAID: dict[type, frozenset[str]] = {  # what a plan says of a thing, not how it is built
    LayerPlan: frozenset({"name", "asked", "done", "why", "rewritable"}),
    GroupPlan: frozenset({"precision"}),
    Rounding: frozenset({"why"}),
    Barrier: frozenset({"why"}),
    Padding: frozenset({"why"}),
    PoolPlan: frozenset({"why"}),
}


@dataclass(frozen=True)
class Effects:
    """Two plans of one model, ``plain`` being the one without any edit, and what they were made of."""

    model: Model
    calibrated: Calibrated
    config: QuantConfig
    weights: Weights
    plan: QuantPlan
    plain: QuantPlan

    def of(self, edit: Edit) -> str:
        """What an edit changed in the model, in words; starts with "none" when nothing changed."""
        key = edit.key
        if edit.field == "precision":
            return self._layer(key)
        if edit.field == "separate":
            return "a layer of its own: what it joins keeps scales of its own"
        if key in self.model.group:
            return self._precision(key) if edit.field == "dtype" else self._tensor(key, edit.field)
        return self._weight(self.model.layer[key.removesuffix(WEIGHT_SUFFIX)], key, edit.field)

    # -- precisions ---------------------------------------------------------------------------------------------------

    def _layer(self, name: str) -> str:
        """What asking a layer for a precision did."""
        planned, before = self.plan.layers[name], self.plain.layers[name]
        lifted = planned.done is not planned.asked and planned.done in self._asked_beside(name)
        if lifted or (planned.done is before.done and planned.weight_only is before.weight_only):
            return f"none: {planned.why}" if planned.why else NONE
        if not self._is_built_anew(name):
            beside = [n for n in self.model.group[self.model.layer[name].group].layers if n != name]
            moved = [n for n in beside if self._is_built_anew(n)]
            return f"{moved[0]}, which shares its parameters, is {self.plan.layers[moved[0]].done}" if moved else NONE
        word = f"weight_only {planned.weight_only}" if planned.weight_only else str(planned.done)
        return f"{word}: {planned.why}" if planned.why else word

    def _asked_beside(self, name: str) -> set[str]:
        """What is asked of the other layers that share a layer's parameters."""
        others = self.model.group[self.model.layer[name].group].layers
        return {self.plan.layers[n].asked for n in others if n != name}

    def _is_built_anew(self, name: str) -> bool:
        """Whether what a layer computes, writes or reads is built otherwise than without edits."""
        layer = self.model.layer[name]
        group = self.model.group[layer.group]
        read = [g.name for i in layer.inputs if (g := self.model.group_of.get(i)) is not None]
        written = {*group.tensors, *self.model.nodes[layer.node].output}

        def built(plan: QuantPlan) -> tuple[Any, ...]:
            return (
                plan.groups[group.name],
                [plan.read(g, name) for g in read],
                [b.barrier for b in plan.boundaries_of(layer) if b.barrier],
                [plan.roundings.get(t) for t in sorted(written)],
            )

        alike = same(self.plan.layers[name], self.plain.layers[name]) and same(built(self.plan), built(self.plain))
        return not alike

    def _precision(self, key: str) -> str:
        """What the edited ``dtype`` of a tensor did to the layers that write it, and how it is stored now."""
        told = {n: self._layer(n) for n in self.model.group[key].layers}
        changed = [n for n, text in told.items() if not text.startswith("none")]
        if not changed:
            return next(iter(told.values()), NONE)
        stored = self.plan.groups[key].stored.precision
        done = self.plan.layers[changed[0]].done
        return self._stored(key) if stored is done else f"{changed[0]} is {done}; {key} is stored as {stored}"

    # -- numbers ------------------------------------------------------------------------------------------------------

    def _tensor(self, key: str, name: str) -> str:
        """What an edited number or word of a tensor's entry did to its parameters."""
        group = self.plan.groups[key]
        forms = [s.precision for s in (group.stored, *group.conversions.values()) if s.qparams is not None]
        if not forms:
            return f"none: nothing reads {key} as integers, it stays {group.stored.precision}"

        def params(entry: Entry, edited: frozenset[str]) -> list[QParams]:
            measured = self.calibrated.measured[key]
            return [activation_params(entry, edited, self.storage(key, p), measured) for p in forms]

        before, after = self._around(key, name, params)
        changed = [a for a, b in zip(after, before, strict=True) if not a.same_as(b)]
        entry = self.config.entries[key]
        if not changed and name in OWN_FIELDS and entry.dtype not in forms:
            return f"none: it counts for {entry.dtype}, and {key} is stored as {forms[0]}"
        if not changed:
            return NONE
        if group.stored.precision is changed[0].precision:
            return self._stored(key)
        return f"{key} is read as {_in_words(changed[0])}"

    def storage(self, key: str, precision: Precision) -> Storage:
        """How a tensor is stored in a precision, its readers being as planned."""
        done = {n: x.done for n, x in self.plan.layers.items()}
        return group_storage(self.model, self.model.group[key], self.calibrated, done, precision)

    def _stored(self, key: str) -> str:
        stored = self.plan.groups[key].stored
        return f"{key} is stored as {stored.precision if stored.qparams is None else _in_words(stored.qparams)}"

    def _weight(self, layer: Layer, key: str, name: str) -> str:
        """What an edited field of a weight's entry did to its parameters, or to how it is rounded."""
        planned, before = self.plan.layers[layer.name], self.plain.layers[layer.name]
        held = next((w for w in planned.weights if w.qparams is not None), None)
        if held is None:
            return f"none: its weights stay {planned.weights[0].precision}"
        if same((planned.weights, planned.bias), (before.weights, before.bias)):
            return NONE
        weight = next(w for w in layer.weights if w.tensor == held.tensor)
        storage = storage_of(layer, planned.weight_only or planned.done, targets.load(self.config.target))

        def params(entry: Entry, edited: frozenset[str]) -> tuple[QParams, bool]:
            axis = weight_axis(weight, entry, edited, storage, self.calibrated.weights_per)
            found = weight_params(entry, edited, storage, axis, self.weights[weight.tensor])
            return found, entry.algorithm == TOGETHER and layer.name in self.weights.rounded

        if same(*self._around(key, name, params)):
            return NONE
        together = [any(w.rounded for w in p.weights) for p in (before, planned)]
        how = {(True, False): ", each rounded to the nearest", (False, True): ", rounded together"}
        return f"its weights are {held.precision}{how.get((together[0], together[1]), '')}"

    def _around(self, key: str, name: str, params: Callable[[Entry, frozenset[str]], Params]) -> tuple[Params, Params]:
        """The parameters of an entry before and after a field, where the fields that win over it are edited already."""
        recorded, final, edited = self.calibrated.entries[key], self.config.entries[key], self.config.edited[key]
        earlier = frozenset(f for f in ORDER[: ORDER.index(name)] if f in edited)

        def having(some: frozenset[str]) -> Params:
            values = {f: getattr(final, f) for f in some} | {"dtype": final.dtype}
            return params(replace(recorded, **values), some)

        return having(earlier), having(earlier | {name})


def _in_words(p: QParams) -> str:
    zero = "" if p.scheme.is_symmetric else f" and zero point {int(p.zero_point)}"
    return f"{p.precision} with scale {float(p.scale):.6g}{zero}"


def same(a: Any, b: Any) -> bool:
    """Whether two parts of plans are built alike, whatever they say of it: dataclasses and arrays by value."""
    if isinstance(a, QParams) and isinstance(b, QParams):
        return a.same_as(b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if is_dataclass(a) and type(a) is type(b):
        left_out = SAID.get(type(a), frozenset())
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in left_out)
    return bool(a == b)

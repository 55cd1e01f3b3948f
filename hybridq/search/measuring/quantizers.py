"""The quantizers of a plan, each to be measured alone: weights of a unit, and tensors as each reader reads them.

A *unit* is a group with the layers that write it: they rise together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hybridq.graph.model import Group, Model
from hybridq.plan.layer_weights import remains
from hybridq.plan.quant_plan import QuantPlan
from hybridq.search.measuring.growing import Form, Forms, Key
from hybridq.storage.weights import Weights


def units_of(model: Model, plan: QuantPlan) -> tuple[Group, ...]:
    """Groups whose layers may be raised: those that the plan leaves in 8 bits."""
    low = {n for n, x in plan.layers.items() if x.done.bits == 8}
    return tuple(g for g in model.groups if any(n in low for n in g.layers))


@dataclass(frozen=True)
class NoiseSource:
    """One quantizer to measure alone: the forms that switch it on, and where its noise goes in the model."""

    forms: Forms
    unit: str = ""
    group: str = ""
    reader: str = ""


def weight_forms(model: Model, plan: QuantPlan, weights: Weights, layers: Iterable[str]) -> dict[Key, Form]:
    """What 8-bit weights do to layers; ``weights`` may hold corrected biases, which belong to them."""
    found: dict[Key, Form] = {}
    for name in layers:
        form = {w.tensor: remains(w, weights) for w in plan.layers[name].weights if w.qparams is not None}
        if form:
            bias = model.layer[name].bias
            found["weight", name] = {**form, bias: np.asarray(weights[bias])} if bias else form
    return found


def readers_of(model: Model, group: Group) -> dict[str, list[str]]:
    """Layers that read a group, by the group they write, in the order of the model."""
    found: dict[str, list[str]] = {}
    for layer in model.readers.get(group.name, ()):
        found.setdefault(layer.group, []).append(layer.name)
    return found


def group_forms(model: Model, plan: QuantPlan, weights: Weights, group: Group) -> dict[Key, Form]:
    """Everything that 8 bits do to one group alone: its layers' weights and its tensor."""
    forms = weight_forms(model, plan, weights, group.layers)
    stored = plan.groups[group.name].stored
    if stored.qparams is not None:
        forms["tensor", group.name] = stored.qparams
    return forms


def sources(model: Model, plan: QuantPlan, weights: Weights, *, edges: bool = True) -> list[NoiseSource]:
    """Every quantizer of a plan once; a tensor that several units read also as each of them reads it.

    A tensor that stays float has none but those of its conversions, which are measured as the edges they stand on.
    """
    found = []
    for group in model.groups:
        forms = weight_forms(model, plan, weights, group.layers)
        if forms:
            found.append(NoiseSource(forms, unit=group.name))
        stored = plan.groups[group.name].stored
        if stored.qparams is None:
            found.extend(_conversions(model, plan, group))
            continue
        found.append(NoiseSource({("tensor", group.name): stored.qparams}, group=group.name))
        readers = readers_of(model, group)
        if edges and len(readers) + leaves(model, group) > 1:
            for reader, layers in readers.items():
                forms = {("edge", group.name, n): stored.qparams for n in layers}
                found.append(NoiseSource(forms, group=group.name, reader=reader))
    return found


def _conversions(model: Model, plan: QuantPlan, group: Group) -> Iterator[NoiseSource]:
    """The quantizers of a group that stays float: one a unit that reads it in 8 bits."""
    for reader, layers in readers_of(model, group).items():
        forms = {n: plan.read(group.name, n).qparams for n in layers}
        edges: dict[Key, Form] = {("edge", group.name, n): p for n, p in forms.items() if p is not None}
        if edges:
            yield NoiseSource(edges, group=group.name, reader=reader)


def leaves(model: Model, group: Group) -> bool:
    """Whether a tensor of the group is a model output."""
    return any(t in model.outputs for t in group.tensors)

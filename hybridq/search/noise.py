"""The additive model: what each unit's weights and each tensor, as each reader reads it, add to the damage.

A *unit* is a group with the layers that write it: they rise together. A layer's weights make noise while its unit is in
8 bits. A tensor makes noise for a reader unless its producer *and* that reader are raised; a model input has no
producer, an output no reader: these ends count as raised. So gains come in pairs, and islands win.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Group, Model
from hybridq.plan.layer_weights import remains
from hybridq.plan.quant_plan import QuantPlan
from hybridq.search.growing import Form, Forms, Key
from hybridq.search.knapsack import Pairs
from hybridq.storage.weights import Weights

ALWAYS = -1  # the end of a tensor that counts as raised


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


def pairs(
    model: Model, plan: QuantPlan, found: Sequence[NoiseSource], damage: NDArray[np.float64], cost: Mapping[str, float]
) -> Pairs:
    """The model from what each source does alone; ``cost`` by unit."""
    units = units_of(model, plan)
    place = {g.name: i for i, g in enumerate(units)}
    own = np.zeros(len(units))
    terms: list[tuple[int, int, float]] = []
    by_reader: dict[tuple[str, str], float] = {
        (s.group, s.reader): d for s, d in zip(found, damage.tolist(), strict=True)
    }
    whole = {s.group for s in found if s.group and not s.reader}
    for source, value in zip(found, damage.tolist(), strict=True):
        if source.unit in place:
            own[place[source.unit]] += value
        if source.reader and source.group not in whole:  # a conversion: its tensor is float already
            terms.append((ALWAYS, place.get(source.reader, ALWAYS), value))
        if not source.group or source.reader:
            continue
        group = model.group[source.group]
        begin = place.get(group.name, ALWAYS)
        for reader, part in _parts(model, group, value, by_reader).items():
            terms.append((begin, place.get(reader, ALWAYS), part))
    return _collect([g.name for g in units], own, terms, np.array([cost[g.name] for g in units]))


def _parts(model: Model, group: Group, value: float, by_reader: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The noise of a tensor split over its readers ("" is the model's output) in proportion to each alone."""
    readers = [*readers_of(model, group), *([""] if leaves(model, group) else [])]
    if len(readers) < 2:
        return dict.fromkeys(readers, value)
    alone = {r: by_reader.get((group.name, r), 0.0) for r in readers if r}
    if "" in readers:
        alone[""] = max(value - sum(alone.values()), 0.0)
    total = sum(alone.values())
    return {r: value * a / total if total > 0 else value / len(readers) for r, a in alone.items()}


def _collect(
    units: list[str], own: NDArray[np.float64], terms: list[tuple[int, int, float]], cost: NDArray[np.float64]
) -> Pairs:
    summed: dict[tuple[int, int], float] = {}
    for a, b, value in terms:
        if a == b or ALWAYS in (a, b):
            if max(a, b) != ALWAYS:
                own[max(a, b)] += value
        else:
            key = (min(a, b), max(a, b))
            summed[key] = summed.get(key, 0.0) + value
    keys = np.array(list(summed), np.int64).reshape(-1, 2)
    return Pairs(tuple(units), own, keys[:, 0], keys[:, 1], np.array(list(summed.values())), cost)

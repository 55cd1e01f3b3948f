"""The additive model: what each unit's weights and each tensor, as each reader reads it, add to the damage.

A *unit* is a group with the layers that write it: they rise together. A layer's weights make noise while its unit is in
8 bits. A tensor makes noise for a reader unless its producer *and* that reader are raised; a model input has no
producer, an output no reader: these ends count as raised. So gains come in pairs, and islands win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Group, Model
from hybridq.plan.quant_plan import QuantPlan
from hybridq.search.allocation.knapsack import Pairs
from hybridq.search.measuring.quantizers import NoiseSource, leaves, readers_of, units_of

ALWAYS = -1  # the end of a tensor that counts as raised


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

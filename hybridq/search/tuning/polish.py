"""The last touch: ranges, roundings and biases of a chosen set changed one by one, each as the whole model takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.records import WEIGHT_SUFFIX
from hybridq.search.choice import Choice, Tuning, rounding
from hybridq.search.measuring.joint import Bench
from hybridq.search.tuning.alternatives import CORRECTED, Alternatives

BETTER = 0.995  # a change must bring the damage below this share of what it was
LIKELY = 1.1  # times the damage that a quantizer does alone now: what does more is not tried

Change = Callable[[Tuning], Tuning]


def polished(bench: Bench, chosen: Choice, found: Alternatives, alone: Mapping[str, float], most: int) -> Choice:
    """The choice with what helps it as it is, the likeliest gain first; ``most`` joint models are measured.

    ``alone`` is the damage of layers' weights and groups' tensors by ``LAYER:weight`` and group.
    """
    now = bench.measure(chosen)
    plan, _ = bench.plan(chosen)
    changes = sorted(_changes(plan, chosen.tuning, found, alone), key=lambda c: (-c[0], c[1]))[:most]
    for done, (_, _, change) in enumerate(changes, start=1):
        trial = replace(chosen, tuning=change(chosen.tuning))
        figures = bench.measure(trial)
        if figures.clearly_better(now, BETTER):
            chosen, now = trial, figures
        bench.progress("last touches", done, len(changes))
    return chosen


def _changes(
    plan: QuantPlan, tuning: Tuning, found: Alternatives, alone: Mapping[str, float]
) -> Iterator[tuple[float, str, Change]]:
    """Damage that each change may take off, a name, and the change; only of what is still in 8 bits."""
    low = {n for n, x in plan.layers.items() if x.done.bits == 8}
    for group, forms in found.ranges.items():
        stored = plan.groups[group].stored.qparams
        if stored is None or stored.precision.bits > 8:
            continue
        now = forms.get(tuning.ranges.get(group, ""), 1.0)
        for how in _likeliest({"": 1.0, **forms}, now, tuning.ranges.get(group, "")):
            gain = now - ({"": 1.0, **forms})[how]
            yield gain * alone.get(group, 0.0), f"{group} {how}", _range(group, how)
    for layer in low & (set(found.weights) | set(found.biases)):
        forms = {"": 1.0, **found.weights.get(layer, {}), **found.biases.get(layer, {})}
        now = found.of_layer(layer, tuning)
        there = tuning.weights.get(layer, CORRECTED if layer in tuning.biases else "")
        for how in _likeliest(forms, now, there):
            key = layer + WEIGHT_SUFFIX
            yield (now - forms[how]) * alone.get(key, 0.0), f"{key} {how}", _rounding(layer, how)


def _likeliest(forms: Mapping[str, float], now: float, there: str) -> list[str]:
    """Forms other than the one that is there which alone do hardly more damage, at most two."""
    other = [how for how, share in forms.items() if how != there and share < LIKELY * max(now, 1e-12)]
    return sorted(other, key=lambda how: (forms[how], how))[:2]


def _range(group: str, how: str) -> Change:
    """Another range, "" for the one that was there at first."""

    def change(tuning: Tuning) -> Tuning:
        rest = {g: a for g, a in tuning.ranges.items() if g != group}
        return replace(tuning, ranges=rest | {group: how} if how else rest)

    return change


def _rounding(layer: str, how: str) -> Change:
    """A layer's weights rounded otherwise (and without the bias that fits the usual way), or its bias corrected."""

    def change(tuning: Tuning) -> Tuning:
        rest = {n: a for n, a in tuning.weights.items() if n != layer}
        biases = tuning.biases - {layer}
        if how == CORRECTED:
            return replace(tuning, weights=rest, biases=biases | {layer})
        return replace(tuning, weights=rest | {layer: rounding(how)} if how else rest, biases=biases)

    return change

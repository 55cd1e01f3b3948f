"""The last touch: ranges and roundings of a chosen set changed one by one, each as the whole model takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.records import WEIGHT_SUFFIX
from hybridq.search.choice import Choice, Tuning, rounding
from hybridq.search.joint import Bench
from hybridq.search.tuning import Alternatives

BETTER = 0.995  # a change must bring the damage below this share of what it was
HOPE = 0.98  # of the damage that a quantizer does alone: what an alternative must promise to be tried

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
    for group, (share, how) in found.ranges.items():
        stored = plan.groups[group].stored.qparams
        if stored is not None and stored.precision.bits == 8 and (share < HOPE or group in tuning.ranges):
            yield abs(1 - share) * alone[group], group, _range(group, how)
    for layer, (share, how) in found.weights.items():
        if layer in low and (share < HOPE or layer in tuning.weights):
            yield abs(1 - share) * alone[layer + WEIGHT_SUFFIX], layer + WEIGHT_SUFFIX, _rounding(layer, how)


def _range(group: str, how: str) -> Change:
    """Take a range's alternative, or give it up where it is there."""

    def change(tuning: Tuning) -> Tuning:
        rest = {g: a for g, a in tuning.ranges.items() if g != group}
        return replace(tuning, ranges=rest if group in tuning.ranges else rest | {group: how})

    return change


def _rounding(layer: str, how: str) -> Change:
    """Take another rounding of a layer's weights (and with it the bias that fits the usual one away), or give it up."""

    def change(tuning: Tuning) -> Tuning:
        rest = {n: a for n, a in tuning.weights.items() if n != layer}
        if layer in tuning.weights:
            return replace(tuning, weights=rest)
        return replace(tuning, weights=rest | {layer: rounding(how)}, biases=tuning.biases - {layer})

    return change

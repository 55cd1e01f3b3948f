"""Damage of every quantizer of a large model: whole groups first, their parts only where most of the damage is.

Where there are more groups than may be measured, stretches of the model come first, and halves of the worst of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hybridq.plan.quant_plan import QuantPlan
from hybridq.search.measuring.damage import Doubles
from hybridq.search.measuring.growing import Forms
from hybridq.search.measuring.joint import Bench
from hybridq.search.measuring.quantizers import NoiseSource, group_forms
from hybridq.storage.weights import Weights

MOST = 0.8  # of the damage, done by the groups whose parts are told apart
GROUPS = 40  # of these at most
FIRST = 0.5  # of what may be measured: stretches of the whole model, before any is halved
PARTS = 0.5  # of the time there is left, if one was set, is for telling parts of groups apart
ROUND = 4  # stretches that are halved at a time

Stretch = tuple[str, ...]  # groups that follow each other


def coarse_damages(
    bench: Bench, plan: QuantPlan, weights: Weights, found: Sequence[NoiseSource], samples: Sequence[int], most: float
) -> Doubles:
    """About what ``Bench.damages`` gives for the sources, from ``most`` measurements of whole groups.

    Of groups whose parts are not told apart all damage counts as their tensor's.
    """
    made = {g.name: group_forms(bench.model, plan, weights, g) for g in bench.model.groups}
    forms = {n: f for n, f in made.items() if f}
    names = list(forms)
    whole = of_groups(bench, forms, samples, most)
    damage = np.array([0.0 if s.unit else whole.get(s.group, 0.0) for s in found])
    left = most - len(names)
    if left <= 0:
        return damage
    ranked = sorted(names, key=lambda n: (-whole[n], n))
    total = np.cumsum([whole[n] for n in ranked])
    enough = int(np.searchsorted(total, MOST * total[-1])) + 1 if ranked else 0
    apart = set(ranked[: min(enough, GROUPS)])
    fine = [i for i, s in enumerate(found) if (s.unit or s.group) in apart]
    with bench.effort.within(PARTS):
        damage[fine] = bench.damages([found[i].forms for i in fine], samples)
    return damage


def of_groups(bench: Bench, forms: Mapping[str, Forms], samples: Sequence[int], most: float) -> dict[str, float]:
    """Damage by group, of at most about ``most`` measurements; groups of one stretch share its damage evenly."""
    names = list(forms)
    count = len(names) if len(names) <= most else max(1, int(FIRST * most))
    stretches = (
        [tuple(map(str, part)) for part in np.array_split(np.array(names, dtype=object), count)] if names else []
    )
    known = _measured(bench, forms, stretches, samples)
    while len(known) + ROUND <= most:
        worst = sorted((s for s in known if len(s) > 1), key=lambda s: (-known[s], s))[:ROUND]
        if not worst:
            break
        halves = [half for s in worst for half in (s[: len(s) // 2], s[len(s) // 2 :])]
        known = {s: d for s, d in known.items() if s not in worst} | _measured(bench, forms, halves, samples)
    return {name: damage / len(stretch) for stretch, damage in known.items() for name in stretch}


def _measured(
    bench: Bench, forms: Mapping[str, Forms], stretches: Sequence[Stretch], samples: Sequence[int]
) -> dict[Stretch, float]:
    variants = [{key: form for name in s for key, form in forms[name].items()} for s in stretches]
    found = bench.damages(variants, samples, "stretches of the model alone")
    return dict(zip(stretches, found.tolist(), strict=True))

"""Damage of every quantizer of a large model: whole groups first, their parts only where most of the damage is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridq.plan.quant_plan import QuantPlan
from hybridq.search.damage import Doubles
from hybridq.search.joint import Bench
from hybridq.search.noise import Source, group_forms
from hybridq.storage.weights import Weights

MOST = 0.8  # of the damage, done by the groups whose parts are told apart
GROUPS = 40  # of these at most


def coarse_damages(
    bench: Bench, plan: QuantPlan, weights: Weights, found: Sequence[Source], samples: Sequence[int]
) -> Doubles:
    """About what ``Bench.damages`` gives for the sources: of the other groups all damage counts as their tensor's."""
    forms = {g.name: group_forms(bench.model, plan, weights, g) for g in bench.model.groups}
    names = [n for n, f in forms.items() if f]
    whole = dict(zip(names, bench.damages([forms[n] for n in names], samples).tolist(), strict=True))
    ranked = sorted(names, key=lambda n: (-whole[n], n))
    total = np.cumsum([whole[n] for n in ranked])
    enough = int(np.searchsorted(total, MOST * total[-1])) + 1 if ranked else 0
    apart = set(ranked[: min(enough, GROUPS)])
    fine = [i for i, s in enumerate(found) if (s.unit or s.group) in apart]
    damage = np.array([0.0 if s.unit else whole.get(s.group, 0.0) for s in found])
    damage[fine] = bench.damages([found[i].forms for i in fine], samples)
    return damage

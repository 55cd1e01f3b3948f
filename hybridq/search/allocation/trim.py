"""From the predicted set to the measured best: add and remove units while the joint model gets better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hybridq.search.allocation.frontier import Candidate, Frontier
from hybridq.search.allocation.knapsack import Raised, filled, solution
from hybridq.search.choice import Figures

BETTER = 0.99  # a step must bring the damage below this share of what it was
NOTHING = 0.003  # of the damage: what a unit must take off to keep its bits
TRIES = 12  # candidates measured for one step
STEPS = 6

Enough = Callable[[Figures], bool]


def improve(front: Frontier, units: tuple[str, ...], high: float, steps: int = STEPS) -> tuple[str, ...]:
    """Better sets within a share of the MACs: one unit or tied pair added, or one exchanged for what then fits."""
    for _ in range(min(steps, STEPS)):
        now = front.judged(units)
        trials = _neighbours(front, front.raised(units), high - front.base_high)
        choices = [front.choice(t) for t in trials]
        measured = front.bench.measure_all(choices, "repairing")
        fits = [(front.judged(t), t) for f, t in zip(measured, trials, strict=True) if f.high <= high + 1e-12]
        if not fits or min(fits)[0] > BETTER * now:
            break
        units = min(fits)[1]
    return units


def _neighbours(front: Frontier, raised: Raised, room: float) -> list[tuple[str, ...]]:
    """The neighbouring sets that the additive model likes best."""
    pairs = front.pairs
    found: dict[tuple[str, ...], float] = {}

    def note(trial: Raised) -> None:
        if pairs.cost[trial].sum() <= room + 1e-12 and not np.array_equal(trial, raised):
            found[front.candidate(solution(pairs, trial)).raised] = pairs.damage(trial)

    ties = [(int(a), int(b)) for a, b in zip(pairs.first, pairs.second, strict=True)]
    for move in [*((int(u),) for u in np.flatnonzero(~raised)), *(t for t in ties if not raised[list(t)].all())]:
        trial = raised.copy()
        trial[list(move)] = True
        note(trial)
    for unit in np.flatnonzero(raised):
        trial = raised.copy()
        trial[unit] = False
        open_pairs = filled(pairs, trial, room, without=int(unit))
        note(open_pairs)
    return [t for t, _ in sorted(found.items(), key=lambda x: (x[1], x[0]))][:TRIES]


def trim(
    front: Frontier, units: tuple[str, ...], enough: Enough | None = None, most: int | None = None
) -> tuple[str, ...]:
    """Take bits away where they bring nothing, or, with ``enough``, as long as a choice is still good enough.

    They bring nothing where neither the measured nor the predicted damage is lower for them: few samples do not show
    what cheap bits do for others. ``most`` units are tried, those of least worth for their cost first.
    """
    limit = (1 + 2 * NOTHING) * front.judged(units)
    for unit in _least_worth_first(front, units)[:most]:
        trial = tuple(u for u in units if u != unit)
        figures = front.bench.measure(front.choice(trial))
        idle = front.judged(trial) <= min(limit, (1 + NOTHING) * front.judged(units)) and _as_good(front, trial, units)
        if enough(figures) if enough is not None else idle:
            units = trial
    return units


def _as_good(front: Frontier, fewer: tuple[str, ...], units: tuple[str, ...]) -> bool:
    """Whether the additive model promises hardly more of the units than of ``fewer``."""
    return front.candidate_of(fewer).damage <= (1 + NOTHING) * front.candidate_of(units).damage


def _least_worth_first(front: Frontier, units: tuple[str, ...]) -> list[str]:
    raised = front.raised(units)
    now = front.pairs.damage(raised)
    worth = {}
    for i in np.flatnonzero(raised):
        trial = raised.copy()
        trial[i] = False
        worth[front.pairs.units[i]] = (front.pairs.damage(trial) - now) / max(float(front.pairs.cost[i]), 1e-9)
    return sorted(worth, key=lambda u: (worth[u], u))


def cheapest_enough(front: Frontier, candidates: list[Candidate], enough: Enough) -> tuple[str, ...] | None:
    """The cheapest candidate that is good enough, by bisection and a few steps down; None when none is."""
    if candidates and enough(front.bench.measure(front.choice(candidates[0].raised))):
        return candidates[0].raised
    low, high = min(1, len(candidates)), len(candidates)
    while low < high:
        middle = (low + high) // 2
        if enough(front.bench.measure(front.choice(candidates[middle].raised))):
            high = middle
        else:
            low = middle + 1
    if low == len(candidates):
        return None
    for i in range(max(0, low - 3), low):
        if enough(front.bench.measure(front.choice(candidates[i].raised))):
            return candidates[i].raised
    return candidates[low].raised

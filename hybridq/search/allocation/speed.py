"""Sets that are fast: the minimum cut with a price on time as well as on multiply-accumulates.

``time(x) = sum (high - low)[u] * x[u] + sum boundary * |x[a] - x[b]|``: raising a unit may save time, and a boundary
between 8 bits and more costs a conversion, so contiguous islands win. Both terms fit into the same cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.mincut import source_side
from hybridq.search.allocation.costs import Times, boundary_elements, speedup
from hybridq.search.allocation.frontier import Candidate, Frontier
from hybridq.search.allocation.knapsack import Raised, solution

PRICES = (0.0, *np.geomspace(1e-2, 1e2, 17).tolist())  # of all the time or MACs, in units of the whole damage
SHARES = (0.15, 0.3, 0.5, 1.0)  # of MACs above 8 bits, tried in turn when only speed is asked for
TIMED = 10  # candidates that are timed at most
SURE = 1.02  # a measured speedup must be this much above what is asked for: times vary


@dataclass(frozen=True)
class Clock:
    """Microseconds: by unit what raising it adds, by pair of units what a boundary between them costs."""

    added: NDArray[np.float64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    boundary: NDArray[np.float64]
    low: float

    def time(self, raised: Raised) -> float:
        """Predicted microseconds of a set."""
        cut = raised[self.first] != raised[self.second]
        return float(self.low + self.added[raised].sum() + self.boundary[cut].sum())


def clock(front: Frontier, times: Times) -> Clock:
    """The time model of a frontier's units."""
    plan, _ = front.bench.plan(front.start)
    place = {u: i for i, u in enumerate(front.pairs.units)}
    groups = front.bench.model.group
    added = np.array([times.added(groups[u].layers) for u in front.pairs.units])
    ends: list[tuple[int, int, float]] = []
    for (unit, reader), elements in boundary_elements(front.bench.model, plan).items():
        cost = times.boundary * elements / 1e3
        if reader in place:
            ends.append((place[unit], place[reader], cost))
        else:
            added[place[unit]] -= cost
    keys = np.array([e[:2] for e in ends], np.int64).reshape(-1, 2)
    return Clock(added, keys[:, 0], keys[:, 1], np.array([e[2] for e in ends]), times.total)


def fast_sets(front: Frontier, ticks: Clock, high: float) -> list[tuple[Candidate, float]]:
    """Sets on the surface of damage, MACs and time, with their predicted microseconds, within a share of the MACs."""
    pairs = front.pairs
    found = {c.raised: (c, ticks.time(front.raised(c.raised))) for c in front.within(high)}
    first, second = (np.concatenate(x) for x in ((pairs.first, ticks.first), (pairs.second, ticks.second)))
    scale = max(pairs.total, 1e-30)
    for slow in PRICES:
        per_us = slow * scale / max(ticks.low, 1e-9)
        for dear in PRICES:
            value = pairs.own - dear * scale * pairs.cost - per_us * ticks.added
            np.add.at(value, pairs.first, pairs.noise / 2)
            np.add.at(value, pairs.second, pairs.noise / 2)
            weight = np.concatenate([pairs.noise / 2, per_us * ticks.boundary])
            raised = source_side(len(pairs.units), value, first, second, weight)
            candidate = front.candidate(solution(pairs, raised))
            if candidate.high <= high + 1e-12:
                found[candidate.raised] = (candidate, ticks.time(raised))
    return sorted(found.values(), key=lambda c: (c[0].damage, c[1]))


def fast_enough(
    front: Frontier, times: Times, wanted: float, shares: Sequence[float], threads: int
) -> tuple[tuple[str, ...], bool]:
    """The set with the least damage that is measured to be ``wanted`` times as fast as float32, and whether one is.

    The least share of the MACs that has one wins. When none has, the fastest measured set.
    """
    ticks = clock(front, times)
    units: dict[tuple[str, ...], float] = {}
    for share in shares:
        sets = fast_sets(front, ticks, share)
        likely = sorted(sets, key=lambda c: (c[1] * wanted > 1.05 * times.given, c[0].damage))
        fastest = min(sets, key=lambda c: c[1], default=None)
        tried = [c for c, _ in likely[:TIMED]] + ([fastest[0]] if fastest else [])
        for candidate in tried:
            if candidate.raised not in units:
                units[candidate.raised] = speedup(front.bench, front.choice(candidate.raised), times, threads)
        good = [u for u, ratio in units.items() if ratio >= SURE * wanted and _high(front, u) <= share + 1e-12]
        if good:
            front.bench.measure_all([front.choice(u) for u in good])
            return min(good, key=lambda u: (front.judged(u), u)), True
    if shares[-1] >= 1.0 and wanted <= 1.0:
        return front.pairs.units, True  # float32 itself
    return max(units, key=lambda u: (units[u], u), default=()), False


def _high(front: Frontier, units: Sequence[str]) -> float:
    return front.candidate_of(units).high

"""The knapsack with pairs: which units to raise for a budget. Maximal gain, cost within the budget, gains in pairs.

Without the budget and with a price on cost the best set is a minimum cut (terms are supermodular: Picard, "Maximal
closure of a graph", 1976; Rhys 1970). Prices give the convex hull of the Pareto front; branch and bound, with the same
cut as its bound, closes what lies between. Exact when it ends before ``nodes``; else ``gap`` bounds what is missed.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.mincut import source_side

Raised = NDArray[np.bool_]
TINY = 1e-12
NODES = 40  # of branch and bound: what it still finds after these is far below what measuring resolves


@dataclass(frozen=True)
class Pairs:
    """Damage by unit and by pair of units, and costs.

    ``damage(x) = sum own[u] * (1 - x[u]) + sum noise[i] * (1 - x[first[i]] * x[second[i]])`` for x in {0, 1}.
    """

    units: tuple[str, ...]
    own: NDArray[np.float64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    noise: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def total(self) -> float:
        """Damage when nothing is raised."""
        return float(self.own.sum() + self.noise.sum())

    def damage(self, raised: NDArray[np.bool_]) -> float:
        """Damage when ``raised`` units have more bits."""
        both = raised[self.first] & raised[self.second]
        return float(self.own[~raised].sum() + self.noise[~both].sum())

    def gains(self, raised: Raised) -> NDArray[np.float64]:
        """What raising each unit alone takes off the damage of a set, 0 for those that are in it."""
        count = len(self.units)
        found = self.own.copy()
        for one, other in ((self.first, self.second), (self.second, self.first)):
            found += np.bincount(one, self.noise * raised[other], count)
        return np.where(raised, 0.0, found)

    @cached_property
    def hull(self) -> list[Solution]:
        """The Pareto front's convex hull, cheapest first; worked out once."""
        return hull(self)


@dataclass(frozen=True)
class Solution:
    """A set of units, its damage and cost by the model; ``gap``: how much better any set could be."""

    raised: Raised
    damage: float
    cost: float
    gap: float = 0.0


def solution(pairs: Pairs, raised: Raised, gap: float = 0.0) -> Solution:
    """A set with its figures."""
    return Solution(raised, pairs.damage(raised), float(pairs.cost[raised].sum()), gap)


def at_price(pairs: Pairs, price: float, on: Raised | None = None, off: Raised | None = None) -> Raised:
    """The set with the most ``gain - price * cost``; ``on`` and ``off`` are decided already."""
    count = len(pairs.units)
    value = pairs.own - price * pairs.cost
    np.add.at(value, pairs.first, pairs.noise / 2)
    np.add.at(value, pairs.second, pairs.noise / 2)
    large = 4.0 * (np.abs(value).sum() + pairs.noise.sum() + 1.0)
    if on is not None:
        value = np.where(on, large, value)
    if off is not None:
        value = np.where(off, -large, value)
    return source_side(count, value, pairs.first, pairs.second, pairs.noise / 2)


def hull(pairs: Pairs, limit: int = 200) -> list[Solution]:
    """The Pareto front's convex hull, cheapest first: from the units that cost nothing to all of them."""
    count = len(pairs.units)
    if not count:
        return [solution(pairs, np.zeros(0, bool))]
    left = solution(pairs, pairs.cost <= 0)
    right = solution(pairs, np.ones(count, bool))
    found = [left, right]
    waiting = [(left, right)]
    while waiting and len(found) < limit:
        a, b = waiting.pop(0)
        if b.cost - a.cost <= TINY or a.damage - b.damage <= TINY:
            continue
        price = (a.damage - b.damage) / (b.cost - a.cost)
        middle = solution(pairs, at_price(pairs, price))
        better = (a.damage + price * a.cost) - (middle.damage + price * middle.cost)
        if better > 1e-9 * max(pairs.total, TINY) and a.cost < middle.cost < b.cost:
            found.append(middle)
            waiting += [(a, middle), (middle, b)]
    return sorted(found, key=lambda s: (s.cost, s.damage))


def solve(pairs: Pairs, budget: float, nodes: int = NODES) -> Solution:
    """The set with the least damage whose cost is within ``budget``."""
    front = pairs.hull
    fits = [s for s in front if s.cost <= budget + TINY]
    if not fits:
        return solution(pairs, np.zeros(len(pairs.units), bool))
    best = min(fits, key=lambda s: s.damage)
    above = [s for s in front if s.cost > budget + TINY]
    if not above:
        return best
    low, high = max(fits, key=lambda s: s.cost), min(above, key=lambda s: s.cost)
    price = max(0.0, (low.damage - high.damage) / max(high.cost - low.cost, TINY))
    best = solution(pairs, improved(pairs, filled(pairs, best.raised, budget), budget))
    return _branch(pairs, budget, price, best, nodes)


def filled(pairs: Pairs, raised: Raised, budget: float, without: int = -1) -> Raised:
    """Add units, alone or in tied pairs, by gain a cost while they fit; never the unit ``without``."""
    raised = raised.copy()
    barred = np.zeros(len(raised), bool)
    if without >= 0:
        barred[without] = True
    while True:
        room = budget - float(pairs.cost[raised].sum()) + TINY
        gains = pairs.gains(raised)
        shut = raised | barred
        single = np.where(shut | (pairs.cost > room), 0.0, gains / np.maximum(pairs.cost, 1e-9))
        a, b = pairs.first, pairs.second
        cost = pairs.cost[a] + pairs.cost[b]
        both = (gains[a] + gains[b] + pairs.noise) / np.maximum(cost, 1e-9)
        tied = np.where(shut[a] | shut[b] | (cost > room), 0.0, both)
        best, pair = single.max(initial=0.0), tied.max(initial=0.0)
        if max(best, pair) <= 0.0:
            return raised
        if best >= pair:
            raised[int(single.argmax())] = True
        else:
            raised[[a[int(tied.argmax())], b[int(tied.argmax())]]] = True


def improved(pairs: Pairs, raised: Raised, budget: float) -> Raised:
    """Drop one unit and fill again, as long as that helps."""
    best, damage = raised, pairs.damage(raised)
    for _ in range(8):
        before = damage
        for unit in np.flatnonzero(best):
            trial = best.copy()
            trial[unit] = False
            again = filled(pairs, trial, budget)
            if pairs.damage(again) < damage - TINY:
                best, damage = again, pairs.damage(again)
                break
        if damage >= before:
            break
    return best


def _branch(pairs: Pairs, budget: float, price: float, best: Solution, nodes: int) -> Solution:
    """Best first; the bound of a node is ``min damage + price * (cost - budget)`` over its sets, a minimum cut."""
    count = len(pairs.units)
    scale = max(pairs.total, TINY)
    none = np.zeros(count, bool)

    def bound(on: Raised, off: Raised) -> tuple[float, Raised]:
        raised = at_price(pairs, price, on, off)
        raised = (raised | on) & ~off
        found = solution(pairs, raised)
        return found.damage + price * (found.cost - budget), raised

    value, raised = bound(none, none)
    heap: list[tuple[float, int, Raised, Raised, Raised]] = [(value, 0, none, none, raised)]
    seen = 0
    while heap:
        value, _, on, off, raised = heapq.heappop(heap)
        if value >= best.damage - 1e-9 * scale:
            return Solution(best.raised, best.damage, best.cost)
        if seen >= nodes:
            return Solution(best.raised, best.damage, best.cost, best.damage - value)
        if pairs.cost[raised].sum() <= budget + TINY and pairs.damage(raised) < best.damage:
            best = solution(pairs, raised)
        free = np.flatnonzero(~on & ~off)
        if not len(free):
            continue
        unit = _pick(pairs, free, raised)
        for turn in (True, False):
            more, less = on.copy(), off.copy()
            (more if turn else less)[unit] = True
            if pairs.cost[more].sum() > budget + TINY:
                continue
            seen += 1
            value, raised_here = bound(more, less)
            if value < best.damage - 1e-9 * scale:
                heapq.heappush(heap, (value, seen, more, less, raised_here))
    return best


def _pick(pairs: Pairs, free: NDArray[np.int64], raised: Raised) -> int:
    """The undecided unit that matters most: the costliest of those the relaxed set wants, else of all."""
    wanted = free[raised[free]]
    pool = wanted if len(wanted) else free
    return int(pool[np.argmax(pairs.cost[pool])])


_NOTHING = np.zeros(0)
NO_PAIRS = Pairs((), _NOTHING, _NOTHING.astype(np.int64), _NOTHING.astype(np.int64), _NOTHING, _NOTHING)

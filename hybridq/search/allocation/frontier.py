"""From the additive model to choices worth measuring: the Pareto front of damage against MACs above 8 bits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hybridq.quant.dtypes import Precision
from hybridq.search.allocation.knapsack import Pairs, Raised, Solution, solution, solve
from hybridq.search.choice import Choice
from hybridq.search.measuring.joint import Bench

GRID = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
PREDICTED = 0.2  # share of the prediction in the rank of a set
HULL_POINTS = 24  # of the hull's corners at most are measured


@dataclass(frozen=True)
class Candidate:
    """A set of units and what the additive model says about it. ``high`` includes what is high in any case."""

    raised: tuple[str, ...]
    damage: float
    high: float


@dataclass(frozen=True)
class Frontier:
    """The additive model with what turns its sets into choices."""

    bench: Bench
    start: Choice
    pairs: Pairs
    base_high: float
    precision: Precision

    def choice(self, units: Iterable[str]) -> Choice:
        """The choice that raises these units."""
        groups = self.bench.model.group
        layers = {n: self.precision for u in units for n in groups[u].layers}
        return self.start.with_layers(layers)

    def raised(self, units: Iterable[str]) -> Raised:
        """The set as a mask."""
        wanted = set(units)
        return np.array([u in wanted for u in self.pairs.units], bool)

    def candidate(self, found: Solution) -> Candidate:
        """A solution by name."""
        names = tuple(u for u, x in zip(self.pairs.units, found.raised, strict=True) if x)
        return Candidate(names, found.damage, self.base_high + found.cost)

    def judged(self, units: Iterable[str]) -> float:
        """What to rank sets by: measured damage with a share of the predicted.

        Measured alone, a set may win because errors happen to cancel on these samples; the prediction knows no luck.
        """
        named = tuple(units)
        start = self.bench.measure(self.choice(())).damage
        predicted = self.candidate_of(named).damage * start / max(self.pairs.total, 1e-30)
        return (1 - PREDICTED) * self.bench.measure(self.choice(named)).damage + PREDICTED * predicted

    def candidate_of(self, units: Iterable[str]) -> Candidate:
        """A set by name with what the additive model says of it."""
        return self.candidate(solution(self.pairs, self.raised(units)))

    def at(self, high: float) -> Candidate:
        """The best set within a share of the MACs."""
        return self.candidate(solve(self.pairs, high - self.base_high))

    def within(self, high: float, most: int = HULL_POINTS + len(GRID)) -> list[Candidate]:
        """About ``most`` candidates up to a share of the MACs, cheapest first: corners of the hull, a grid."""
        corners = [c for c in map(self.candidate, self.pairs.hull) if c.high <= high + 1e-12]
        step = max(1, -(-len(corners) // max(2, min(HULL_POINTS, most // 2))))
        grid = [g for g in GRID if self.base_high < g < high]
        budgets = [*grid[:: -(-len(grid) // max(1, most // 2)) or 1], high]
        found = {c.raised: c for c in [*corners[::step], *corners[-1:], *map(self.at, budgets)]}
        found.setdefault((), Candidate((), self.pairs.total, self.base_high))
        return sorted(found.values(), key=lambda c: (c.high, c.damage))

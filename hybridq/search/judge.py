"""Whether a measured choice is good enough: what a budget asks, and where float's own answer is reached."""

from __future__ import annotations

from dataclasses import dataclass

from hybridq.compare.metric import Metric
from hybridq.search.budget import Budget
from hybridq.search.choice import Figures
from hybridq.search.measuring.damage import Reference

LOST_SLICE = 10.0  # dB below which a slice that had signal is as good as lost
SAME_ANSWERS = 0.005  # expected share of classifications that may differ where nobody asked for more
SAME_VALUES = 40.0  # dB of an output's worst slice from where on it is as good as float's


@dataclass(frozen=True)
class Judge:
    """The budget with what it takes to apply it to figures. ``float_metric`` is the float model's."""

    budget: Budget
    float_metric: float | None = None

    @property
    def asks_share(self) -> bool:
        """Whether the best within a share of the multiply-accumulates is wanted, and nothing else is asked for."""
        return self.budget.min_speedup is None and not self.budget.asks_quality

    def enough(self, figures: Figures) -> bool:
        """Whether the quality asked for is there."""
        drop, metric = self.budget.max_drop, figures.metric
        asked = drop is not None and metric is not None and self.float_metric is not None
        if asked and self.float_metric - metric > drop + 1e-12:  # type: ignore[operator]
            return False
        return self._missing(figures) <= 0

    def holds(self, figures: Figures) -> bool:
        """Whether the whole budget holds, as far as it can be seen without a clock."""
        return self.budget.min_speedup is None and figures.high <= self.budget.high + 1e-12 and self.enough(figures)

    def reached(self, figures: Figures) -> float:
        """How near a choice comes to the quality asked for; more is better."""
        if figures.metric is not None and self.budget.max_drop is not None:
            return figures.metric
        return -self._missing(figures)

    def settled(self, figures: Figures) -> bool:
        """Whether float's own answer is reached, where nothing is asked for: more bits would bring nothing."""
        if self.budget.asks_quality:
            return False
        changed = figures.changed
        return all(
            changed[name] <= SAME_ANSWERS if name in changed else db >= SAME_VALUES
            for name, db in figures.worst_sqnr_db.items()
        )

    def lost_slices(self, figures: Figures, feasible: bool) -> list[str]:
        """What to know of a budget that holds for an output as a whole while a slice of it is nearly gone."""
        if not feasible or self.budget.min_sqnr is None:
            return []
        return [
            f"{name} has {figures.sqnr_db[name]:.1f} dB as a whole, but its worst slice has {worst:.1f} dB: "
            f"--min-sqnr worst:{LOST_SLICE:g} asks for that one too"
            for name, worst in figures.worst_sqnr_db.items()
            if worst < LOST_SLICE
        ]

    def _missing(self, figures: Figures) -> float:
        """How many dB the worst of what is asked for lacks; negative where more is there."""
        asked = ((self.budget.min_sqnr, figures.least), (self.budget.min_worst_sqnr, figures.least_worst))
        return max((db - found for db, found in asked if db is not None), default=0.0)


def judge_of(budget: Budget, metric: Metric | None, reference: Reference) -> Judge:
    """The judge of a search; the user's metric of the float model is worked out once."""
    if metric is None or budget.max_drop is None:
        return Judge(budget)
    outputs = [dict(zip(reference.names, sample, strict=True)) for sample in reference.given]
    return Judge(budget, float(metric(outputs)))

"""What the user asks of a search, and whether a measured choice gives it."""

from __future__ import annotations

from dataclasses import dataclass, replace

USUAL_HIGH = 0.15  # share of the multiply-accumulates above 8 bits when nothing is asked for


@dataclass(frozen=True, slots=True)
class Budget:
    """Any combination; None: not asked for. ``max_high`` counts all layers, 0 to 1. ``max_drop`` needs a metric.

    ``min_sqnr``: dB at the worst output, signal power of the whole output over noise power. ``min_worst_sqnr``: dB at
    the worst slice of any output, that slice's variance over its noise.
    ``min_speedup``: times the speed of float32 on this machine. ``time``: seconds after which the best found is taken.
    """

    min_sqnr: float | None = None
    min_worst_sqnr: float | None = None
    max_drop: float | None = None
    max_high: float | None = None
    min_speedup: float | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        if self.max_high is not None and not 0 <= self.max_high <= 1:
            raise ValueError(f"max_high is a share between 0 and 1, got {self.max_high}")
        if self.max_drop is not None and self.max_drop < 0:
            raise ValueError(f"max_drop must not be negative, got {self.max_drop}")
        if self.min_speedup is not None and self.min_speedup <= 0:
            raise ValueError(f"min_speedup must be above 0, got {self.min_speedup}")
        if self.time is not None and self.time <= 0:
            raise ValueError(f"time must be above 0 seconds, got {self.time}")

    @property
    def high(self) -> float:
        """The most MACs above 8 bits: as asked, 15 % when nothing is asked for, all when something else is."""
        if self.max_high is not None:
            return self.max_high
        return USUAL_HIGH if self.asks_nothing else 1.0

    @property
    def asks_nothing(self) -> bool:
        """Whether the usual is wanted: the best within the usual share of the MACs."""
        return replace(self, time=None) == Budget()

    @property
    def asks_quality(self) -> bool:
        """Whether the cheapest choice that is good enough is wanted, rather than the best that is cheap enough."""
        return any(x is not None for x in (self.min_sqnr, self.min_worst_sqnr, self.max_drop))

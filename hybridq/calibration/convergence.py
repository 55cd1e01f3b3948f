"""Whether samples were enough: how much the last quarter of them still moved each range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.statistics import CalibrationStats

LAST = 0.25  # the share of samples, at the end, whose influence is asked for
SETTLED = 0.01  # a range that moved by less of its width no longer needs samples


@dataclass(frozen=True)
class Convergence:
    """How much each tensor's range still grew in the last quarter of the samples, as a share of its width."""

    moved: Mapping[str, float]

    @property
    def summary(self) -> str:
        """One line for people."""
        growing = sorted((t for t, m in self.moved.items() if m > SETTLED), key=lambda t: -self.moved[t])
        if not growing:
            return f"All {len(self.moved)} ranges had settled before the last quarter of the samples."
        worst = growing[0]
        return (
            f"{len(growing)} of {len(self.moved)} ranges still grew by more than {SETTLED:.0%} in the last quarter of "
            f"the samples, most of all '{worst}' ({self.moved[worst]:.0%}): more samples may help."
        )


def convergence(stats: CalibrationStats) -> Convergence:
    """What the last quarter of the samples (one at least) added to each range; 0 where there is but one sample."""
    return Convergence({name: _moved(s.pairs.astype(np.float64)) for name, s in stats.tensors.items()})


def _moved(pairs: NDArray[np.float64]) -> float:
    pairs = pairs[pairs[:, 0] <= pairs[:, 1]]
    before = pairs[: len(pairs) - max(1, round(LAST * len(pairs)))]
    if not len(before):
        return 0.0
    low, high = min(pairs[:, 0].min(), 0.0), max(pairs[:, 1].max(), 0.0)
    old_low, old_high = min(before[:, 0].min(), 0.0), max(before[:, 1].max(), 0.0)
    return float((old_low - low + high - old_high) / (high - low)) if high > low else 0.0

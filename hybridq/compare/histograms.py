"""How each layer's float values are spread: few bins over the calibrated range and what lies beside it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.results import Histogram

BINS = 48
BESIDE = 0.125  # of the range on either side, so that what is outside shows
ELEMENTS = 4096  # of a tensor and sample, evenly spaced


@dataclass(slots=True)
class HistogramWatch:
    """Counts by layer; ``ranges`` are real (min, max) by tensor, else those of the first sample are taken."""

    ranges: Mapping[str, tuple[float, float]]
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    own: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, layer: str, tensor: str, x: NDArray[Any]) -> None:
        """Take in one sample's values; the outermost bins hold all that lies beyond."""
        flat = x.reshape(-1)
        if x.dtype.kind != "f" or not flat.size:
            return
        some = flat[:: -(-flat.size // ELEMENTS)]
        some = some[np.isfinite(some)]
        if layer not in self.ends:
            self.ends[layer] = self._ends(tensor, some)
        if layer not in self.counts:
            self.counts[layer] = np.zeros(BINS, np.int64)
        least, largest = self.own.get(layer, (np.inf, -np.inf))
        self.own[layer] = float(some.min(initial=least)), float(some.max(initial=largest))
        low, high = self.ends[layer]
        inside = some.astype(np.float64).clip(low, high)  # what is far outside would overflow
        at = ((inside - low) / (high - low) * BINS).clip(0, BINS - 1).astype(np.int64)
        self.counts[layer] += np.bincount(at, minlength=BINS)

    def merge(self, later: HistogramWatch) -> None:
        """Take in what was counted of later samples, between the same ends."""
        for layer, counts in later.counts.items():
            self.ends.setdefault(layer, later.ends[layer])
            self.counts[layer] = self.counts.get(layer, 0) + counts
            (low, high), (least, largest) = later.own[layer], self.own.get(layer, (np.inf, -np.inf))
            self.own[layer] = min(low, least), max(high, largest)

    def of(self, layer: str) -> Histogram | None:
        """What was counted of a layer."""
        if layer not in self.counts:
            return None
        least, largest = self.own[layer] if self.counts[layer].any() else (0.0, 0.0)
        return Histogram(*self.ends[layer], tuple(self.counts[layer].tolist()), least, largest)

    def _ends(self, tensor: str, seen: NDArray[Any]) -> tuple[float, float]:
        usual = float(seen.min(initial=0.0)), float(seen.max(initial=0.0))
        low, high = self.ranges.get(tensor, usual)
        beside = BESIDE * (high - low) or 0.5
        return low - beside, high + beside

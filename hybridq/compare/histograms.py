"""How each layer's float values are spread: few bins over the calibrated range and what lies beside it, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.drift import ends_of
from hybridq.compare.results import LayerHistogram

Doubles = NDArray[np.float64]
Places = NDArray[np.int64]

BINS = 48
BESIDE = 0.125  # of the range on either side, so that what is outside shows
ELEMENTS = 1024  # of a tensor and sample, evenly spaced


@dataclass(slots=True)
class HistogramWatch:
    """Counts of ``tensors``, by number, between ends that are chosen once.

    ``ranges`` are real (min, max) by name, else those of the first sample are taken; ``known`` are ends that another
    has chosen. ``ends`` and ``own``, shape (tensors, 2), are where the bins end, NaN before the first sample, and the
    least and largest value; ``counts`` has shape (tensors, BINS).
    """

    tensors: Sequence[str]
    ranges: Mapping[str, tuple[float, float]]
    known: Doubles | None = None
    ends: Doubles = field(init=False)
    counts: NDArray[np.int64] = field(init=False)
    own: Doubles = field(init=False)

    def __post_init__(self) -> None:
        many = len(self.tensors)
        self.ends = np.full((many, 2), np.nan) if self.known is None else self.known.copy()
        self.counts = np.zeros((many, BINS), np.int64)
        self.own = np.tile([np.inf, -np.inf], (many, 1))

    def add(self, tensor: int, x: NDArray[Any], *, counted: bool = True) -> None:
        """Take in one sample's values of one tensor; the outermost bins hold all that lies beyond."""
        finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x[:0]
        if finite.size:
            which = np.array([tensor])
            self.widen(which, np.array([ends_of(finite)]))
            if counted:
                some = finite[:: -(-finite.size // ELEMENTS)].astype(np.float64)
                self.count(which, some, np.array([len(some)]))

    def widen(self, which: Places, ends: Doubles) -> None:
        """Take in ``ends_of`` one sample of tensors ``which``, shape (tensors, 2), all finite."""
        for i in np.flatnonzero(np.isnan(self.ends[which, 0])).tolist():
            self.ends[which[i]] = self._around(self.tensors[which[i]], *ends[i].tolist())
        self.own[which, 0] = np.minimum(self.own[which, 0], ends[:, 0])
        self.own[which, 1] = np.maximum(self.own[which, 1], ends[:, 1])

    def count(self, which: Places, some: NDArray[Any], lengths: Places) -> None:
        """Count finite values, evenly spaced ones of each tensor whose ends are known, one tensor after the other."""
        low, high = self.ends[which].T
        at = _bins(some, *(np.repeat(x, lengths) for x in (low, high - low)))
        at += np.repeat(np.arange(len(which)) * BINS, lengths)
        self.counts[which] += np.bincount(at, minlength=len(which) * BINS).reshape(-1, BINS)

    def merge(self, later: HistogramWatch) -> None:
        """Take in what was counted of later samples, between the same ends."""
        self.ends = np.where(np.isnan(self.ends), later.ends, self.ends)
        self.counts += later.counts
        self.own[:, 0] = np.minimum(self.own[:, 0], later.own[:, 0])
        self.own[:, 1] = np.maximum(self.own[:, 1], later.own[:, 1])

    def of(self, tensor: int) -> LayerHistogram | None:
        """What was counted of a tensor."""
        if np.isnan(self.ends[tensor, 0]):
            return None
        (low, high), (least, largest) = self.ends[tensor].tolist(), self.own[tensor].tolist()
        return LayerHistogram(low, high, tuple(self.counts[tensor].tolist()), least, largest)

    def _around(self, tensor: str, least: float, largest: float) -> tuple[float, float]:
        low, high = self.ranges.get(tensor, (min(least, 0.0), max(largest, 0.0)))
        beside = BESIDE * (high - low) or 0.5
        return low - beside, high + beside


def _bins(values: NDArray[Any], low: Doubles, width: Doubles) -> Places:
    """The bin of each value: ``floor((value - low) / width * BINS)``, what is beyond in the outermost."""
    at = values - low
    with np.errstate(over="ignore"):
        at /= width
        at *= BINS
    return np.clip(at, 0, BINS - 1, out=at).astype(np.int64)

"""``TensorStatistics``: what one pass over the samples leaves of a tensor; exact where it must be, small, mergeable.

Two parts: the exact minimum and maximum of every sample (eight bytes a sample, kept by sample index, so that shards
measured in any order give the same bytes), and a histogram of a subsample with a fixed number of bins.

The histogram is logarithmic: a bin is the upper 16 bits of a float32 (sign, exponent, 7 bits of mantissa), which needs
no range in advance. It keeps the ``OCTAVES`` octaves below the largest magnitude seen; what is smaller counts as zero,
less than half a step even in 16 bits. Octaves leave at the bottom as larger values come, and what left can never come
back, so any order of merging gives the same counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

OCTAVES = 16  # 2 ** -16 of the largest magnitude: half a step of 16 bits
MANTISSA_BITS = 7  # of the 16 bits; float32 has 23
PER_OCTAVE = 1 << MANTISSA_BITS
SIDE = OCTAVES * PER_OCTAVE  # bins of each sign
BINS = 2 * SIDE + 1  # the middle one is zero
CODES = 1 << 16
SIGNLESS = np.uint16(0x7FFF)
INFINITE = 0x7F80  # the upper 16 bits of infinity; above it lies NaN


def codes_of(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper 16 bits of float32 values; the last axis must be contiguous. Shape as given, a view."""
    upper = 1 if np.little_endian else 0
    return values.view(np.uint16)[..., upper::2]


def magnitudes(codes: ArrayLike) -> NDArray[np.float64]:
    """The smallest float32 magnitude of each 16-bit code; codes out of range saturate to 0 and the largest finite."""
    bits = np.minimum(np.maximum(np.asarray(codes, np.int64), 0), INFINITE).astype(np.uint32) << 16
    found: NDArray[np.float32] = bits.view(np.float32)
    return np.minimum(found.astype(np.float64), float(np.finfo(np.float32).max))


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of ``BINS`` bins in ascending order of value.

    ``top`` is the biased float32 exponent of the highest octave kept (0: none, all zero or denormal).
    ``counts`` is int64, shape ``(BINS,)``: ``SIDE`` negative bins, zero, ``SIDE`` positive bins.
    """

    top: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def count(self) -> int:
        """How many elements were counted."""
        return int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' limits in ascending order, shape ``(BINS + 1,)``; bin i lies between edges i and i + 1."""
        base = (self.top - OCTAVES + 1) * PER_OCTAVE
        positive = magnitudes(np.arange(base, base + SIDE + 1))
        return np.concatenate([-positive[::-1], positive])

    @property
    def typical(self) -> float:
        """The magnitude that half of the values that are not zero do not exceed; 0 where all are."""
        counts = self.counts[SIDE + 1 :] + self.counts[:SIDE][::-1]
        if not counts.any():
            return 0.0
        return float(self.edges[SIDE + 2 :][np.argmax(2 * np.cumsum(counts) >= counts.sum())])

    def grown(self, top: int) -> Histogram:
        """The same counts with octaves up to ``top >= self.top``; the lowest octaves join the zero bin."""
        lost = min((top - self.top) * PER_OCTAVE, SIDE)
        if lost == 0:
            return self
        counts = np.zeros(BINS, np.int64)
        counts[lost : SIDE + 1] = self.counts[: SIDE + 1 - lost]
        counts[SIDE:-lost] = self.counts[SIDE + lost :]
        counts[SIDE] = self.counts[SIDE - lost : SIDE + lost + 1].sum()
        return Histogram(top, counts)

    def __add__(self, other: Histogram) -> Histogram:
        """Counts of both."""
        top = max(self.top, other.top)
        return Histogram(top, self.grown(top).counts + other.grown(top).counts)

    @staticmethod
    def of_codes(codes: NDArray[np.uint16]) -> Histogram:
        """Count 16-bit codes of any shape. Raises ValueError when one is infinite or no number."""
        flat = codes.reshape(-1)
        largest = int((flat & SIGNLESS).max(initial=0))
        if largest >= INFINITE:
            raise ValueError("a value is infinite or not a number")
        counts = np.bincount(flat, minlength=CODES)
        positive, negative = counts[: CODES // 2], counts[CODES // 2 :]
        top = largest // PER_OCTAVE
        base = (top - OCTAVES + 1) * PER_OCTAVE
        low, skip = max(base, 0), max(-base, 0)
        kept = np.zeros(BINS, np.int64)
        kept[SIDE] = positive[:low].sum() + negative[:low].sum()
        kept[SIDE + 1 + skip :] = positive[low : base + SIDE]
        kept[: SIDE - skip] = negative[low : base + SIDE][::-1]
        return Histogram(top, kept)

    def same_as(self, other: Histogram) -> bool:
        """Whether both hold the same counts, bin for bin."""
        return self.top == other.top and np.array_equal(self.counts, other.counts)


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """What is known of one tensor, or of tensors that share parameters.

    ``index`` (int64, ascending, shape ``(samples,)``) says which samples were seen; ``pairs`` (float32, shape
    ``(samples, 2)``) has each one's exact minimum and maximum, infinity and -infinity where it had no element.
    ``histogram`` is None where only those were asked for. ``unbounded``: some values were infinite, or lost in a
    Softmax as if they were; neither part knows them.
    """

    index: NDArray[np.int64]
    pairs: NDArray[np.float32]
    histogram: Histogram | None = None
    unbounded: bool = False

    def __post_init__(self) -> None:
        if self.index.ndim != 1 or self.pairs.shape != (len(self.index), 2):
            raise ValueError(f"index {self.index.shape} and pairs {self.pairs.shape} do not fit")
        empty = (self.pairs[:, 0] == np.inf) & (self.pairs[:, 1] == -np.inf)
        if not np.isfinite(self.pairs[~empty]).all():
            raise ValueError("a minimum or maximum is infinite or not a number")
        if (np.diff(self.index) <= 0).any():
            raise ValueError("a sample was measured twice, or samples are out of order")

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return len(self.index)

    @property
    def seen(self) -> NDArray[np.float32]:
        """The pairs of the samples in which the tensor had an element, in order."""
        return self.pairs[self.pairs[:, 0] <= self.pairs[:, 1]]

    @property
    def min(self) -> float:
        """The smallest element of all samples (0 when there is none)."""
        return float(self.seen[:, 0].min()) if len(self.seen) else 0.0

    @property
    def max(self) -> float:
        """The largest element of all samples (0 when there is none)."""
        return float(self.seen[:, 1].max()) if len(self.seen) else 0.0

    @property
    def count(self) -> int:
        """How many elements the histogram holds."""
        return self.histogram.count if self.histogram else 0

    def merge(self, other: TensorStatistics) -> TensorStatistics:
        """Samples of both. Raises ValueError when both have seen the same sample."""
        index = np.concatenate([self.index, other.index])
        order = np.argsort(index, kind="stable")
        pairs = np.concatenate([self.pairs, other.pairs])[order]
        histogram = _plus(self.histogram, other.histogram)
        return TensorStatistics(index[order], pairs, histogram, self.unbounded or other.unbounded)

    def same_as(self, other: TensorStatistics) -> bool:
        """Whether both are equal byte for byte."""
        both = self.histogram is not None and other.histogram is not None
        return (
            np.array_equal(self.index, other.index)
            and self.pairs.tobytes() == other.pairs.tobytes()
            and self.unbounded == other.unbounded
            and (self.histogram is None) == (other.histogram is None)
            and (not both or self.histogram.same_as(other.histogram))  # type: ignore[union-attr, arg-type]
        )


def pool(parts: Iterable[TensorStatistics]) -> TensorStatistics:
    """Statistics of tensors that share parameters, all measured on the same samples: a group's sources.

    Every source enters with its own subsample, however large it is. Raises ValueError for no part, or other samples.
    """
    return reduce(_pool_two, parts)


def _pool_two(a: TensorStatistics, b: TensorStatistics) -> TensorStatistics:
    if not np.array_equal(a.index, b.index):
        raise ValueError("tensors of one group were measured on different samples")
    low = np.minimum(a.pairs[:, 0], b.pairs[:, 0])
    high = np.maximum(a.pairs[:, 1], b.pairs[:, 1])
    histogram = _plus(a.histogram, b.histogram)
    return TensorStatistics(a.index, np.stack([low, high], axis=1), histogram, a.unbounded or b.unbounded)


def _plus(a: Histogram | None, b: Histogram | None) -> Histogram | None:
    """The sum, None where one side was not counted."""
    return a + b if a is not None and b is not None else None


@dataclass(frozen=True)
class CalibrationStats:
    """What one pass measured. ``left_out`` says why a tensor was not measured."""

    samples: int
    tensors: Mapping[str, TensorStatistics]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def merge(self, other: CalibrationStats) -> CalibrationStats:
        """Samples of both; ValueError when they measured other tensors or share a sample."""
        if self.tensors.keys() != other.tensors.keys():
            raise ValueError("the two measured different tensors")
        tensors = {name: own.merge(other.tensors[name]) for name, own in self.tensors.items()}
        return CalibrationStats(self.samples + other.samples, tensors, self.left_out)

    def of(self, names: Iterable[str]) -> CalibrationStats:
        """Those of some tensors alone."""
        return CalibrationStats(self.samples, {n: self.tensors[n] for n in names if n in self.tensors}, self.left_out)

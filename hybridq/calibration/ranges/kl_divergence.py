"""``kl_divergence``: the range whose quantized distribution says most of what the true one says.

After S. Migacz, "8-bit Inference with TensorRT" (GTC 2017), for both ends: for every candidate range the reference P
is the histogram with what lies outside moved to the edge, Q the same histogram at the resolution of the integers
(spread evenly over the bins that are not empty), and the range of the least ``sum(P * log(P / Q))`` wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.ranges.common import USUAL, RangeOptions, finish, with_extremes
from hybridq.calibration.ranges.moments import Values
from hybridq.calibration.ranges.percentile import quantile
from hybridq.calibration.statistics import SIDE, Histogram, TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range

PER_LEVEL = 2  # bins a level; the paper's 16 reward clipping for structure that no 8 bits resolve (vww: 0.73, not 0.95)
SHARES = np.exp2(-np.arange(33) / 32.0)  # positions tried at each end, down to half
EMPTY = 1e-9  # counts below are rounding
SWEEPS = 2  # each end is searched this often
BULK, TAIL = 0.999, 8.0  # beyond 8 times the 99.9th percentile of magnitudes even bins hide the bulk: cut first
ZOOMS = 16  # a search that ends at half the range goes on inside it, this often at most


def kl_divergence(
    stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL
) -> Range:
    """Search one end, then the other, until both have been tried twice; 16 bits resolve all bins: min/max."""
    low, high = min(stats.min, 0.0), max(stats.max, 0.0)
    if precision.bits > 8 or low == high:
        return finish(low, high, scheme, options)
    histogram = with_extremes(stats)
    levels = precision.qmax - precision.qmin + 1
    if scheme.is_symmetric:
        histogram = _folded(histogram)
        low, high, levels = 0.0, max(-low, high), levels // 2
    reach = TAIL * quantile(_folded(histogram), BULK)
    if reach > 0:
        low, high = max(low, -reach), min(high, reach)
    for _ in range(ZOOMS):
        fine = _Fine.of(histogram, low, high, levels * PER_LEVEL)
        a, b = _search(fine, levels)
        low, high = fine.edge(a), fine.edge(b)
        if PER_LEVEL * (b - a) > fine.bins + PER_LEVEL:
            break
    return finish(low, high, scheme, options)


def _folded(histogram: Histogram) -> Histogram:
    """The histogram of the magnitudes."""
    counts = histogram.counts.copy()
    counts[SIDE + 1 :] += counts[:SIDE][::-1]
    counts[:SIDE] = 0
    return Histogram(histogram.top, counts)


@dataclass(frozen=True, slots=True, eq=False)
class _Fine:
    """Evenly spaced bins over ``[low, high]`` as sums over everything below each edge.

    ``mass`` of the counts (``total``: of all, outside too), ``filled`` of the bins that are not empty, ``entropy`` of
    ``count * log(count)``. Exact zeros are left out: every quantizer hits them. ``zero`` is the edge nearest zero.
    """

    low: float
    high: float
    step: float
    zero: int
    total: float
    mass: Values
    filled: Values
    entropy: Values

    @staticmethod
    def of(histogram: Histogram, low: float, high: float, bins: int) -> _Fine:
        counts = histogram.counts.astype(np.float64)
        counts[SIDE] = 0.0
        cumulative = np.concatenate([[0.0], np.cumsum(counts)])
        below = np.interp(np.linspace(low, high, bins + 1), histogram.edges, cumulative)
        mass = np.diff(below)
        mass[mass < EMPTY] = 0.0
        entropy = mass * np.log(np.where(mass > 0, mass, 1.0))
        filled, uncertainty = (np.concatenate([[0.0], np.cumsum(v)]) for v in (mass > 0, entropy))
        step = (high - low) / bins
        return _Fine(low, high, step, round(-low / step), float(cumulative[-1]), below, filled, uncertainty)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.mass) - 1

    def edge(self, index: int) -> float:
        """The real value of an edge."""
        return min(self.low + index * self.step, self.high)

    def divergence(self, a: NDArray[np.int64], b: NDArray[np.int64], levels: int) -> Values:
        """KL divergence of the ranges from edge a to edge b, arrays of one shape; infinite for an empty range."""
        edges = a[:, None] + (b - a)[:, None] * np.arange(levels + 1) // levels
        mass, filled = np.diff(self.mass[edges]), np.diff(self.filled[edges])
        level = np.maximum(mass, EMPTY) / np.maximum(filled, 1.0)
        divergence = self.entropy[b] - self.entropy[a] - (mass * np.log(level)).sum(axis=1)
        for outside, edge in ((self.mass[a], mass[:, 0]), (self.total - self.mass[b], mass[:, -1])):
            together = np.maximum(edge + outside, EMPTY)
            divergence += together * np.log(together / np.maximum(edge, EMPTY))
        total, inside = max(self.total, EMPTY), self.mass[b] - self.mass[a]
        found = divergence / total + np.log(np.maximum(inside, EMPTY) / total)
        return np.where(inside > 0, found, np.inf)


def _search(fine: _Fine, levels: int) -> tuple[int, int]:
    """Edges of the best range: each end in turn, the other kept."""
    lows = np.unique(fine.zero - np.rint(fine.zero * SHARES).astype(np.int64))
    highs = np.unique(fine.zero + np.rint((fine.bins - fine.zero) * SHARES).astype(np.int64))
    a, b = 0, fine.bins
    for _ in range(SWEEPS if len(lows) > 1 and len(highs) > 1 else 1):
        b = _best(fine, np.full_like(highs, a), highs, levels)[1]
        a = _best(fine, lows, np.full_like(lows, b), levels)[0]
    return a, b


def _best(fine: _Fine, a: NDArray[np.int64], b: NDArray[np.int64], levels: int) -> tuple[int, int]:
    wide = b - a >= levels  # a level needs a bin
    a, b = a[wide], b[wide]
    order = np.argsort(a - b, kind="stable")  # of equals the widest
    best = order[np.argmin(fine.divergence(a[order], b[order], levels))]
    return int(a[best]), int(b[best])

"""A histogram as cumulative moments, from which the error of any quantizer follows in a few look-ups.

Inside a bin the values are taken as spread evenly. A quantizer with step d that clips to [low, high] errs by

* ``(x - high) ** 2`` above the range and ``(x - low) ** 2`` below it,
* ``x ** 2`` where ``|x| < d / 2``: those become zero, which every quantizer hits exactly,
* ``d ** 2 / 12`` elsewhere: the variance of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.ranges.common import counted
from hybridq.calibration.statistics import SIDE, TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme

Values = NDArray[np.float64]
HAIR = 1e-6
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums over all values below each edge: of their number, of x and of x squared; shape ``(edges,)`` each."""

    edges: Values
    number: Values
    first: Values
    second: Values

    def below(self, x: Values) -> tuple[Values, Values, Values]:
        """Number, sum and sum of squares of the values below ``x``, any shape."""
        place = np.searchsorted(self.edges[1:-1], x, side="right")
        left, right = self.edges[place], self.edges[place + 1]
        part = np.minimum(np.maximum((x - left) / (right - left), 0.0), 1.0)
        number, first, second = (
            s[place] + part * (s[place + 1] - s[place]) for s in (self.number, self.first, self.second)
        )
        return number, first, second

    def errors(self, low: Values, high: Values, step: Values) -> tuple[Values, Values]:
        """Sums of squared errors outside ``[low, high]`` (clipping) and inside (rounding); the three broadcast."""
        number_low, first_low, second_low = self.below(low)
        number_high, first_high, second_high = self.below(high)
        under = second_low - 2 * low * first_low + low * low * number_low
        over = (self.second[-1] - second_high) - 2 * high * (self.first[-1] - first_high)
        over = over + high * high * (self.number[-1] - number_high)
        near_low, _, square_low = self.below(np.maximum(-step / 2, low))
        near_high, _, square_high = self.below(np.minimum(step / 2, high))
        far = (number_high - number_low) - (near_high - near_low)
        rounding = np.maximum(square_high - square_low, 0.0) + np.maximum(far, 0.0) * step * step / 12
        return np.maximum(under, 0.0) + np.maximum(over, 0.0), rounding


@lru_cache(maxsize=1)  # the algorithms ask for the same tensor in turn
def moments_of(stats: TensorStatistics) -> Moments:
    """Cumulative moments of a histogram; its outermost bins end at the exact extremes, its zero bin is exactly zero."""
    histogram = counted(stats)
    beyond = HAIR * max(-stats.min, stats.max)  # or a lone extreme on a bin's edge would have no bin
    edges = np.clip(histogram.edges, stats.min - beyond, stats.max + beyond)
    left, right = edges[:-1], edges[1:]
    counts = histogram.counts.astype(np.float64)
    mean, square = (left + right) / 2, (left * left + left * right + right * right) / 3
    mean[SIDE] = square[SIDE] = 0.0
    kept = np.append(np.flatnonzero(right > left), len(counts))  # bins without width join their neighbours
    sums = [np.concatenate([[0.0], np.cumsum(v)])[kept] for v in (counts, counts * mean, counts * square)]
    return Moments(edges[kept], *sums)


def step_of(low: Values, high: Values, precision: Precision, scheme: Scheme) -> Values:
    """The quantization step of ``[low, high]``; a power of two for dynamic fixed point."""
    if scheme is Scheme.ASYMMETRIC:
        return np.maximum((high - low) / (precision.qmax - precision.qmin), TINY)
    step = np.maximum(np.maximum(-low, high) / (precision.qmax - middle_of(precision)), TINY)
    return np.exp2(np.ceil(np.log2(step))) if scheme is Scheme.DYNAMIC_FIXED_POINT else step


def middle_of(precision: Precision) -> int:
    """The integer that stands for zero in symmetric schemes: 0, or 128 for uint8."""
    return (precision.qmin + precision.qmax + 1) // 2


def squared_error(
    moments: Moments,
    low: Values,
    high: Values,
    precision: Precision,
    scheme: Scheme,
    clipping_weight: float = 1.0,
) -> Values:
    """Mean squared error of quantizing to the ranges ``[low, high]``, which broadcast against each other.

    Symmetric schemes clip where their integers end, dynamic fixed point beyond the range that was asked for.
    ``clipping_weight`` multiplies the part of values outside.
    """
    step = step_of(low, high, precision, scheme)
    if scheme.is_symmetric:
        low, high = (precision.qmin - middle_of(precision)) * step, (precision.qmax - middle_of(precision)) * step
    clipped, rounded = moments.errors(low, high, step)
    found: Values = (clipping_weight * clipped + rounded) / max(float(moments.number[-1]), 1.0)
    return found

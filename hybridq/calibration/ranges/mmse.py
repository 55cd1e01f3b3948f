"""``mmse``: the range of least mean squared error, the quantizer's own error with what it clips included."""

from __future__ import annotations

import numpy as np

from hybridq.calibration.ranges.common import USUAL, RangeOptions, finish
from hybridq.calibration.ranges.moments import Moments, Values, moments_of, squared_error
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range

SHARES = (  # of a limit: from the whole to 1/256 by half octaves, then finer around the best, twice
    np.exp2(-np.arange(0, 17) / 2.0),
    np.exp2(np.arange(-4, 5) / 8.0),
    np.exp2(np.arange(-4, 5) / 32.0),
)


def mmse(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL) -> Range:
    """Search both ends (one for symmetric schemes), first coarsely, then finer around the best."""
    low, high = least_error(moments_of(stats), stats, precision, scheme, 1.0)
    return finish(low, high, scheme, options)


def least_error(
    moments: Moments, stats: TensorStatistics, precision: Precision, scheme: Scheme, clipping_weight: float
) -> tuple[float, float]:
    """The limits of least error, clipped values weighing ``clipping_weight`` times theirs."""
    low, high = min(stats.min, 0.0), max(stats.max, 0.0)
    if scheme.is_symmetric:
        high = max(-low, high)
        low = -high
    if low == high:
        return low, high
    floor, top = low, high
    for shares in SHARES:
        lows = np.unique(np.maximum(low * shares, floor))
        highs = np.unique(np.minimum(high * shares, top))
        low, high = _best(moments, lows, highs, precision, scheme, clipping_weight)
    return low, high


def _best(
    moments: Moments, lows: Values, highs: Values, precision: Precision, scheme: Scheme, clipping_weight: float
) -> tuple[float, float]:
    if scheme.is_symmetric:
        errors = squared_error(moments, -highs, highs, precision, scheme, clipping_weight)
        high = float(highs[::-1][np.argmin(errors[::-1])])  # of equals the widest
        return -high, high
    lows, highs = lows[:, None], highs[None, ::-1]
    errors = squared_error(moments, lows, highs, precision, scheme, clipping_weight)
    i, j = np.unravel_index(np.argmin(errors), errors.shape)
    return float(lows[i, 0]), float(highs[0, j])

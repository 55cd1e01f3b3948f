"""``percentile``: the range that holds a given percentage of all elements."""

from __future__ import annotations

import numpy as np

from hybridq.calibration.ranges.common import USUAL, RangeOptions, counted, finish
from hybridq.calibration.statistics import Histogram, TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range


def percentile(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL) -> Range:
    """Cut off ``(100 - percentile) / 2`` percent of the elements at each end; symmetric: of the magnitudes, all of it.

    The range never exceeds the exact minimum and maximum.
    """
    histogram = counted(stats)
    if histogram.count == 0:
        return finish(stats.min, stats.max, scheme, options)
    tail = (1.0 - options.percentile / 100.0) / 2.0
    low, high = quantile(histogram, tail), quantile(histogram, 1.0 - tail)
    return finish(max(low, stats.min), min(high, stats.max), scheme, options)


def quantile(histogram: Histogram, share: float) -> float:
    """The value below which a share (0 to 1) of the elements lies; inside a bin they are taken as spread evenly."""
    cumulative = np.concatenate([[0], np.cumsum(histogram.counts)])
    place = share * float(cumulative[-1])
    bin_ = int(np.searchsorted(cumulative, place, side="left")) - 1
    bin_ = min(max(bin_, 0), len(histogram.counts) - 1)
    part = (place - cumulative[bin_]) / max(int(histogram.counts[bin_]), 1)
    left, right = histogram.edges[bin_ : bin_ + 2].tolist()
    return float(left + min(max(part, 0.0), 1.0) * (right - left))

"""What the range algorithms share: their options, and how a pair of limits becomes a ``Range``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridq.calibration.statistics import Histogram, TensorStatistics, codes_of
from hybridq.quant.dtypes import Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.words import number_of

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class RangeOptions:
    """What the algorithms may be told.

    ``percentile``: percent of the elements inside the range, what is cut off shared by both ends.
    ``momentum``: weight of the newest sample in a moving average. ``minimum_range``: narrowest range allowed in real
    units (0.01 is SNPE's), 0 for none.
    """

    percentile: float = 99.99
    momentum: float = 0.01
    minimum_range: float = 0.0

    def __post_init__(self) -> None:
        number_of(self.percentile, "percentile", 50, 100, above=True)
        number_of(self.momentum, "momentum", 0, 1, above=True)
        number_of(self.minimum_range, "minimum_range", 0, LARGEST)


USUAL = RangeOptions()


def finish(low: float, high: float, scheme: Scheme, options: RangeOptions) -> Range:
    """The range of two limits: with zero in it, no narrower than allowed, centred on zero for symmetric schemes.

    A narrow range grows at its upper end: ``max = max(max, min + minimum_range)``, as SNPE does.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    high = max(high, low + options.minimum_range)
    if scheme.is_symmetric:
        largest = max(-low, high)
        low, high = -largest, largest
    return Range(max(low, -LARGEST), min(high, LARGEST))


def counted(stats: TensorStatistics) -> Histogram:
    """The histogram. Raises ValueError when calibration kept none."""
    if stats.histogram is None:
        raise ValueError("this algorithm needs a histogram, and calibration kept none")
    return stats.histogram


def with_extremes(stats: TensorStatistics) -> Histogram:
    """The histogram with every sample's exact minimum and maximum counted once more.

    A subsample misses the farthest elements, which in a detector often are those that matter.
    """
    return counted(stats) + Histogram.of_codes(codes_of(np.ascontiguousarray(stats.seen).reshape(-1)))

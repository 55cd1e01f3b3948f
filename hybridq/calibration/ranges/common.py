"""What the range algorithms share: their options, and how a pair of limits becomes a ``Range``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridq.calibration.statistics import Histogram, TensorStatistics, codes_of
from hybridq.quant.dtypes import Scheme
from hybridq.quant.qparams import Range

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the algorithms.

    ``percentile``: percent of the elements inside the range, what is cut off shared by both ends.
    ``momentum``: weight of the newest sample in a moving average. ``minimum_range``: narrowest range allowed in real
    units (0.01 is SNPE's), 0 for none.
    """

    percentile: float = 99.99
    momentum: float = 0.01
    minimum_range: float = 0.0

    def __post_init__(self) -> None:
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(f"a percentile lies above 50 and up to 100, got {self.percentile}")
        if not 0.0 < self.momentum <= 1.0:
            raise ValueError(f"a momentum lies above 0 and up to 1, got {self.momentum}")
        if not 0.0 <= self.minimum_range < LARGEST:
            raise ValueError(f"a minimum range is 0 or more, got {self.minimum_range}")


DEFAULTS = Options()


def finish(low: float, high: float, scheme: Scheme, options: Options) -> Range:
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
    return counted(stats) + Histogram.of_codes(codes_of(np.ascontiguousarray(stats.pairs).reshape(-1)))

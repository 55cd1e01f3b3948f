"""``normal`` and ``moving_average``: ranges from every sample's exact minimum and maximum; no histogram needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.ranges.common import USUAL, RangeOptions, finish
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range


def normal(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL) -> Range:
    """The smallest and the largest element of all samples: nothing that calibration saw is clipped."""
    return finish(stats.min, stats.max, scheme, options)


def moving_average(
    stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL
) -> Range:
    """The samples' minima and maxima, averaged in order: a single outlying sample moves the range only a little.

    ``average += max(1 / t, momentum) * (new - average)`` for sample t = 1, 2, ...: the plain mean until ``1 / t``
    falls below ``momentum``, exponential from there on.
    """
    seen = stats.seen.astype(np.float64)
    if not len(seen):
        return finish(0.0, 0.0, scheme, options)
    weights = _weights(len(seen), options.momentum)
    low, high = (seen * weights[:, None]).sum(axis=0).tolist()
    return finish(low, high, scheme, options)


def _weights(samples: int, momentum: float) -> NDArray[np.float64]:
    """The weight of each sample in the final average, shape ``(samples,)``; they sum to 1."""
    newest = np.maximum(1.0 / np.arange(1, samples + 1), momentum)
    kept = np.cumprod((1.0 - newest)[:0:-1])[::-1]  # what later samples leave of each
    found: NDArray[np.float64] = newest * np.append(kept, 1.0)
    return found

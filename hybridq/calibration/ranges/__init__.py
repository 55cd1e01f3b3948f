"""From what calibration measured to the range a tensor gets: one algorithm a file, one table."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from hybridq.calibration.ranges.auto import auto
from hybridq.calibration.ranges.common import USUAL, RangeOptions
from hybridq.calibration.ranges.kl_divergence import kl_divergence
from hybridq.calibration.ranges.minmax import moving_average, normal
from hybridq.calibration.ranges.mmse import mmse
from hybridq.calibration.ranges.percentile import percentile
from hybridq.calibration.ranges.trimmed import trimmed
from hybridq.calibration.readers import Response
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.weight_ranges import weight_qparams

__all__ = ["ALGORITHMS", "OWN_OPTION", "USUAL", "RangeAlgorithm", "RangeOptions", "choose", "weight_qparams"]

Function = Callable[[TensorStatistics, Precision, Scheme, RangeOptions], Range]


class RangeAlgorithm(StrEnum):
    """How a tensor's range is chosen from its statistics."""

    NORMAL = "normal"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    KL_DIVERGENCE = "kl_divergence"
    MMSE = "mmse"
    AUTO = "auto"
    TRIMMED = "trimmed"


ALGORITHMS: dict[str, Function] = {
    RangeAlgorithm.NORMAL: normal,
    RangeAlgorithm.MOVING_AVERAGE: moving_average,
    RangeAlgorithm.PERCENTILE: percentile,
    RangeAlgorithm.KL_DIVERGENCE: kl_divergence,
    RangeAlgorithm.MMSE: mmse,
    RangeAlgorithm.AUTO: auto,
    RangeAlgorithm.TRIMMED: trimmed,
}
OWN_OPTION = {  # which of the ``RangeOptions`` an algorithm alone reads
    RangeAlgorithm.PERCENTILE: "percentile",
    RangeAlgorithm.MOVING_AVERAGE: "momentum",
}
BY_READERS = frozenset({RangeAlgorithm.TRIMMED})  # algorithms that look at who reads a tensor


def choose(
    algorithm: str,
    stats: TensorStatistics,
    precision: Precision,
    scheme: Scheme,
    options: RangeOptions = USUAL,
    readers: Response | None = None,
) -> Range:
    """The range that an algorithm, by its name in ``ALGORITHMS``, chooses for a tensor.

    ``readers``: what becomes of its values, for algorithms that look at it. Raises KeyError for an unknown name,
    ValueError for statistics without the histogram that an algorithm needs.
    """
    if algorithm in BY_READERS:
        return trimmed(stats, precision, scheme, options, readers)
    return ALGORITHMS[algorithm](stats, precision, scheme, options)

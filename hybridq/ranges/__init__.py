"""From what calibration measured to the range a tensor gets: one algorithm a file, one table."""

from __future__ import annotations

from collections.abc import Callable

from hybridq.dtypes import Precision, Scheme
from hybridq.qparams import Range
from hybridq.ranges.auto import auto
from hybridq.ranges.common import DEFAULTS, Options
from hybridq.ranges.kl_divergence import kl_divergence
from hybridq.ranges.minmax import moving_average, normal
from hybridq.ranges.mmse import mmse
from hybridq.ranges.percentile import percentile
from hybridq.ranges.weights import weight_qparams
from hybridq.statistics import TensorStatistics

__all__ = ["ALGORITHMS", "DEFAULTS", "Options", "choose", "weight_qparams"]

Algorithm = Callable[[TensorStatistics, Precision, Scheme, Options], Range]

ALGORITHMS: dict[str, Algorithm] = {
    "normal": normal,
    "moving_average": moving_average,
    "percentile": percentile,
    "kl_divergence": kl_divergence,
    "mmse": mmse,
    "auto": auto,
}


def choose(
    algorithm: str, stats: TensorStatistics, precision: Precision, scheme: Scheme, options: Options = DEFAULTS
) -> Range:
    """The range that an algorithm, by its name in ``ALGORITHMS``, chooses for a tensor.

    Raises KeyError for an unknown name, ValueError for statistics without the histogram that it needs.
    """
    return ALGORITHMS[algorithm](stats, precision, scheme, options)

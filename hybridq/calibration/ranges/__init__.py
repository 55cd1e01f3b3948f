"""From what calibration measured to the range a tensor gets: one algorithm a file, one table."""

from __future__ import annotations

from collections.abc import Callable

from hybridq.calibration.ranges.auto import auto
from hybridq.calibration.ranges.common import DEFAULTS, Options
from hybridq.calibration.ranges.kl_divergence import kl_divergence
from hybridq.calibration.ranges.minmax import moving_average, normal
from hybridq.calibration.ranges.mmse import mmse
from hybridq.calibration.ranges.percentile import percentile
from hybridq.calibration.statistics import TensorStatistics
from hybridq.calibration.weight_ranges import weight_qparams
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range

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

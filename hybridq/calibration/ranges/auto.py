"""``auto`` of one tensor: the range of least error, where clipping weighs more than rounding.

``--algorithm auto`` does not take it for the answer: it is one of the candidates that are measured on the whole model
(``search/choose_algorithm``), and the best of those serves every tensor.

Rounding errors are independent noise that layers average away, while what is clipped may be a detector's strongest
response: hence the weight. On seven small models it was the best or near the best of all algorithms, but so were pure
mean squared error and min/max on some: differences there are of the size of the evaluation's own noise.
"""

from __future__ import annotations

from hybridq.calibration.ranges.common import USUAL, RangeOptions, finish
from hybridq.calibration.ranges.mmse import least_error
from hybridq.calibration.ranges.moments import moments_of
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range

CLIPPING_WEIGHT = 4.0


def auto(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: RangeOptions = USUAL) -> Range:
    """Search both ends, first coarsely, then finer around the best, for the least weighted error."""
    low, high = least_error(moments_of(stats), stats, precision, scheme, CLIPPING_WEIGHT)
    return finish(low, high, scheme, options)

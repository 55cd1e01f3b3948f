"""``auto``: the range of least error for the tensor at hand, where clipping weighs more than rounding.

Rounding errors are independent noise that layers average away; what is clipped is a detector's strongest response, and
is lost. Tried on detectors, classifiers and landmarks, pure mean squared error clips slightly too much, min/max too
little, and a weight of 2 to 10 on what is clipped did about equally well.
"""

from __future__ import annotations

from hybridq.dtypes import Precision, Scheme
from hybridq.qparams import Range
from hybridq.ranges.common import DEFAULTS, Options, finish
from hybridq.ranges.mmse import least_error
from hybridq.ranges.moments import moments_of
from hybridq.statistics import TensorStatistics

CLIPPING_WEIGHT = 4.0


def auto(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: Options = DEFAULTS) -> Range:
    """Search all ranges, those that the other algorithms choose among them, for the least weighted error."""
    low, high = least_error(moments_of(stats), stats, precision, scheme, CLIPPING_WEIGHT)
    return finish(low, high, scheme, options)

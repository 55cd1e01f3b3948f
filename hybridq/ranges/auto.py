"""``auto``: for every tensor the algorithm whose range errs least there."""

from __future__ import annotations

from hybridq.dtypes import Precision, Scheme
from hybridq.qparams import Range
from hybridq.ranges.common import DEFAULTS, Options, counted, finish
from hybridq.ranges.mmse import least_error
from hybridq.ranges.moments import moments_of
from hybridq.statistics import TensorStatistics

CLIPPING_WEIGHT = 4.0


def auto(stats: TensorStatistics, precision: Precision, scheme: Scheme, options: Options = DEFAULTS) -> Range:
    low, high = least_error(moments_of(counted(stats)), stats, precision, scheme, CLIPPING_WEIGHT)
    return finish(low, high, scheme, options)

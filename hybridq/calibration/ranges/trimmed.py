"""``trimmed``: minimum and maximum without what says nothing: far ends to which every reader is deaf.

SiLU makes 0 of all far below zero, HardSwish of all below -3, a Sigmoid 0 or 1 of whatever is large: there a range may
end without a value being lost, and all others gain steps. An end is moved only where no value beyond it, seen or not,
changes what readers make of it by more than ``DEAF`` steps, and only if the error behind the readers falls.
"""

from __future__ import annotations

import numpy as np

from hybridq.calibration.ranges.common import USUAL, RangeOptions, counted, finish
from hybridq.calibration.ranges.minmax import normal
from hybridq.calibration.ranges.moments import Values
from hybridq.calibration.readers import Response
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import dequantize, quantize
from hybridq.quant.qparams import Range, qparams_of_ranges

DEAF = (0.0, 0.125, 0.25, 0.5)  # steps of what readers make, each a place where a range may end
LEAST = 0.05  # of the range: an end that would move by less stays
WORTH = 0.9  # of the error of the whole range: what brings less is not worth clipping


def trimmed(
    stats: TensorStatistics,
    precision: Precision,
    scheme: Scheme,
    options: RangeOptions = USUAL,
    readers: Response | None = None,
) -> Range:
    """The range of ``normal``, trimmed where ``readers`` are deaf; 8 bits only, more need no more steps."""
    whole = normal(stats, precision, scheme, options)
    if readers is None or precision.bits > 8:
        return whole
    values, counts = _values(stats)
    if not counts.size:
        return whole
    errors = {
        r: _error(r, values, counts, precision, scheme, readers) for r in _candidates(whole, scheme, options, readers)
    }
    best = min(errors, key=lambda r: (errors[r], r.min - r.max))  # of equals the widest
    return best if errors[best] < WORTH * errors[whole] else whole


def _candidates(whole: Range, scheme: Scheme, options: RangeOptions, readers: Response) -> list[Range]:
    steps = np.ptp(readers.made, axis=1) / 255.0
    lows = {_deaf_below(readers.knots, readers.made, d * steps) for d in DEAF}
    mirrored = readers.made[:, ::-1]
    highs = {-_deaf_below(-readers.knots[::-1], mirrored, d * steps) for d in DEAF}
    short = LEAST * (whole.max - whole.min)
    lows = {whole.min, *(low for low in lows if low - whole.min >= short)}
    highs = {whole.max, *(high for high in highs if whole.max - high >= short)}
    found = [finish(low, high, scheme, options) for low in sorted(lows) for high in sorted(highs)]
    return list(dict.fromkeys([whole, *(r for r in found if r.max > r.min)]))


def _deaf_below(knots: Values, made: Values, allowed: Values) -> float:
    """The largest number up to zero below which no function changes by more than it is allowed to."""
    highest, lowest = (f.accumulate(made, axis=1) for f in (np.maximum, np.minimum))
    change = np.maximum(highest - made, made - lowest)
    deaf = (change <= allowed[:, None] + 1e-12).all(axis=0) & (knots <= 0)
    return float(knots[np.flatnonzero(deaf)[-1]]) if deaf.any() else float(knots[0])


def _values(stats: TensorStatistics) -> tuple[Values, Values]:
    """The middle of every bin that is not empty and not zero, and what it counts."""
    histogram = counted(stats)
    edges = histogram.edges
    middle = np.clip((edges[:-1] + edges[1:]) / 2, stats.min, stats.max)
    kept = (histogram.counts > 0) & (np.arange(len(middle)) != len(middle) // 2)
    return middle[kept], histogram.counts[kept].astype(np.float64)


def _error(r: Range, values: Values, counts: Values, precision: Precision, scheme: Scheme, readers: Response) -> float:
    """Noise over signal behind the readers, the sum over all of them."""
    params = qparams_of_ranges(r.min, r.max, precision, scheme)
    rounded = dequantize(quantize(values, params), params).astype(np.float64)
    exact = readers.of(values)
    noise = ((readers.of(rounded) - exact) ** 2 * counts).sum(axis=1)
    mean = (exact * counts).sum(axis=1, keepdims=True) / counts.sum()
    signal = ((exact - mean) ** 2 * counts).sum(axis=1)
    return float((noise / np.maximum(signal, 1e-30)).sum())

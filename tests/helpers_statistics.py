"""Statistics of whole arrays, as calibration would keep them of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.statistics import Histogram, TensorStatistics, codes_of


def of_samples(samples: Sequence[NDArray[np.float32]], first: int = 0, *, histogram: bool = True) -> TensorStatistics:
    """One array a sample, numbered from ``first``; nothing is left out of the histogram."""
    index = np.arange(first, first + len(samples), dtype=np.int64)
    pairs = np.array([(s.min(), s.max()) for s in samples], np.float32).reshape(-1, 2)
    flat = [codes_of(np.ascontiguousarray(s, np.float32).reshape(-1)) for s in samples]
    counted = Histogram.of_codes(np.concatenate(flat)) if flat else Histogram()
    return TensorStatistics(index, pairs, counted if histogram else None)

"""``psnr``: peak signal to noise ratio of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hybridq.compare.named.common import Outputs, first

MOST_DB = 100.0  # identical pictures, whose ratio has no number


def psnr(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """``10 log10(peak^2 / mse)`` in dB, the mean over samples, at most ``MOST_DB``, of the first output.

    ``peak`` is float's largest value minus its smallest over all samples, ``mse`` a sample's mean squared error.
    """
    givens = [first(a).astype(np.float64) for a in reference]
    peak = max(float(a.max()) for a in givens) - min(float(a.min()) for a in givens)
    found = []
    for a, b in zip(givens, outputs, strict=True):
        mse = float(np.mean((a - first(b).astype(np.float64)) ** 2))
        limit = mse <= 0.0 or peak <= 0.0
        found.append(MOST_DB if limit else min(MOST_DB, 10.0 * math.log10(peak**2 / mse)))
    return math.fsum(found) / len(found)

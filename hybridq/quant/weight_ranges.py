"""Quantization parameters of weights, per channel or per tensor, from the weights themselves."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams, qparams_of_ranges


class WeightAlgorithm(StrEnum):
    """How the range of a weight, or of each of its channels, is chosen."""

    NORMAL = "normal"
    MMSE = "mmse"


SHARES = np.linspace(1.0, 0.4, 31)  # of the whole range; a narrower one never won on real weights
STALE = 6  # shares in a row that are better for no channel end the search


def weight_qparams(
    w: NDArray[np.floating],
    axis: int | None,
    precision: Precision,
    scheme: Scheme,
    algorithm: WeightAlgorithm = WeightAlgorithm.NORMAL,
) -> QParams:
    """Parameters of a weight for the range that an algorithm chooses, see ``weight_range``.

    A channel of zeros gets the scale 1, or its parameters would say more than its weights. Raises ValueError where a
    weight is infinite or no number.
    """
    return qparams_of_ranges(*weight_range(w, axis, precision, scheme, algorithm), precision, scheme, axis)


def weight_range(
    w: NDArray[np.floating],
    axis: int | None,
    precision: Precision,
    scheme: Scheme,
    algorithm: WeightAlgorithm = WeightAlgorithm.NORMAL,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimum and maximum of a weight, any shape, zero included: one pair a channel of ``axis``, or of the whole.

    ``normal`` takes all there is, ``mmse`` the share of that range with the least squared error of its quantizer. Both
    arrays have the shape ``(channels,)``, or ``()`` where ``axis`` is None.
    """
    rows = np.asarray(w, np.float32)
    rows = rows.reshape(1, -1) if axis is None else np.moveaxis(rows, axis, 0).reshape(w.shape[axis], -1)
    low = np.minimum(rows.min(axis=1, initial=0.0), 0.0).astype(np.float64)
    high = np.maximum(rows.max(axis=1, initial=0.0), 0.0).astype(np.float64)
    if WeightAlgorithm(algorithm) is WeightAlgorithm.MMSE and rows.size:
        share = _best_share(rows, low, high, precision, scheme)
        low, high = low * share, high * share
    return (low, high) if axis is not None else (low.reshape(()), high.reshape(()))


def _best_share(
    rows: NDArray[np.float32],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    precision: Precision,
    scheme: Scheme,
) -> NDArray[np.float64]:
    """For each row the share of its range with the least squared error, shape ``(rows,)``."""
    best = np.ones(len(rows))
    least = np.full(len(rows), np.inf)
    stale = 0
    scratch = np.empty_like(rows)
    for share in SHARES:
        error = _errors(rows, qparams_of_ranges(low * share, high * share, precision, scheme, 0), scratch)
        better = error < least
        best[better], least[better] = share, error[better]
        stale = 0 if better.any() else stale + 1
        if stale == STALE:
            break
    return best


def _errors(rows: NDArray[np.float32], p: QParams, scratch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of squared errors of each row, in float32 but for the sum; ``scratch`` has the shape of ``rows``."""
    scale = p.scale[:, None]
    zero = p.zero_point[:, None].astype(np.float32)
    np.divide(rows, scale, out=scratch)
    np.rint(scratch, out=scratch)
    np.clip(scratch, p.qmin - zero, p.qmax - zero, out=scratch)
    scratch *= scale
    scratch -= rows
    found: NDArray[np.float64] = np.einsum("ij,ij->i", scratch, scratch, dtype=np.float64)
    return found

"""``iou``: how far masks overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.named.common import Array, Outputs, classes, first


def iou(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """Mean over classes of ``|both| / |either|``, pixels of all samples together, of the first output, 0 to 1.

    Classes that neither model finds do not count. An output with one channel is a mask: what lies above the middle,
    0.5 where all of float's values lie in 0 to 1, else 0; its background does not count.
    """
    givens, others = ([first(one) for one in some] for some in (reference, outputs))
    middle = 0.5 if all(a.min() >= 0.0 and a.max() <= 1.0 for a in givens) else 0.0
    a, b = (np.concatenate([_labels(one, middle) for one in some]) for some in (givens, others))
    background = 0 if _is_mask(givens[0]) else -1
    found = [c for c in np.union1d(a, b) if c != background]
    ratios = [np.count_nonzero((a == c) & (b == c)) / np.count_nonzero((a == c) | (b == c)) for c in found]
    return float(np.mean(ratios)) if ratios else 1.0


def _is_mask(values: Array) -> bool:
    return values.dtype.kind == "b" or (values.dtype.kind == "f" and (values.ndim < 4 or values.shape[1] == 1))


def _labels(values: Array, middle: float) -> NDArray[np.int64]:
    mask = values.dtype.kind == "f" and _is_mask(values)
    return np.ravel((values > middle).astype(np.int64) if mask else classes(values))

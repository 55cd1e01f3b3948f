"""``agreement``: how often both models choose the same class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridq.compare.named.common import Outputs, classes, first


def agreement(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """The share of decisions (rows, or pixels of a mask) in which the first output's class is float's, 0 to 1."""
    same = [classes(first(a)) == classes(first(b)) for a, b in zip(reference, outputs, strict=True)]
    return float(np.mean(np.concatenate([np.ravel(one) for one in same])))

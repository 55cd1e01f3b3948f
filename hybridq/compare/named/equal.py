"""``equal``: how many values are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybridq.compare.named.common import Outputs


def equal(reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """The share of elements, over all outputs and samples, that equal float's exactly, 0 to 1."""
    pairs = [(a[name], b[name]) for a, b in zip(reference, outputs, strict=True) for name in a]
    same = sum(int(np.count_nonzero(a == b)) if a.shape == b.shape else 0 for a, b in pairs)
    return same / max(1, sum(a.size for a, _ in pairs))

"""How often a classification, or a threshold on scores, would give another answer than float's.

A few dozen samples hardly ever show one changed answer in two hundred. So what is counted is what to expect. Of a
classification: the margin between the two likeliest classes of every sample, against how far quantization moves such
margins, as a normal deviate. Of scores that somebody will hold against a threshold, which may be anywhere between 0
and 1: a score passes as many thresholds as it is large, and gets as many wrong as it differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIKELIEST = 5  # classes whose errors say how far margins move
FLOOR = 1e-12


def is_classification(outputs: Sequence[NDArray[Any]]) -> bool:
    """Whether every sample's output is one row of float scores, one a class, three classes or more.

    Classes lie along axis 1 of (1, C) or (1, C, 1, 1); scores of anchors, (1, N, 1), are no classes.
    """
    shapes = {x.shape for x in outputs}
    if len(shapes) != 1 or any(x.dtype.kind != "f" for x in outputs):
        return False
    shape = shapes.pop()
    return len(shape) in (2, 4) and shape[1] > 2 and int(np.prod(shape)) == shape[1]


def changed(reference: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]], *, logarithms: bool) -> float:
    """The expected share of changed answers, 0 to 1; ``logarithms``: the outputs are probabilities."""
    one, other = (np.stack([np.ravel(x).astype(np.float64) for x in values]) for values in (reference, found))
    if logarithms:
        one, other = (np.log(np.maximum(x, 0.0) + FLOOR) for x in (one, other))
    order = np.argsort(-one, axis=1, kind="stable")[:, :LIKELIEST]
    likely = np.take_along_axis(one, order, 1)
    errors = np.take_along_axis(other - one, order, 1)
    moved = errors[:, :1] - errors[:, 1:]
    spread = math.sqrt(float(np.mean(np.square(moved))))
    margins = likely[:, 0] - likely[:, 1]
    if not math.isfinite(spread):
        return 1.0
    seen = (np.argmax(one, axis=1) != np.argmax(other, axis=1)).astype(np.float64)
    expected = np.array([0.5 * math.erfc(m / (math.sqrt(2.0) * max(spread, FLOOR))) for m in margins.tolist()])
    return float(max(seen.mean(), expected.mean()))


@dataclass
class Passed:
    """Scores summed up over samples: of the float model, and how far those of another differ from them."""

    scores: float = 0.0
    moved: float = 0.0

    def add(self, reference: NDArray[Any], found: NDArray[Any], weights: NDArray[Any] | float = 1.0) -> None:
        """The scores of one sample, of one shape, and how much each is read."""
        self.scores += float((weights * np.abs(reference)).sum(dtype=np.float64))
        self.moved += float((weights * np.abs(np.subtract(found, reference, dtype=np.float64))).sum())

    @property
    def changed(self) -> float:
        """The expected share of decisions that differ; 0 where no score speaks up, at most 1."""
        share = self.moved / self.scores if self.scores > 0 else 0.0
        return min(share, 1.0) if math.isfinite(share) else 1.0

"""What named metrics share: outputs, classes, and metrics that have the float model as their reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.errors import HybridqError

Array = NDArray[Any]
Outputs = dict[str, Array]
Metric = Callable[[list[Outputs]], float]
Score = Callable[[Sequence[Outputs], Sequence[Outputs]], float]


@dataclass(frozen=True)
class Against:
    """A metric against the float model's outputs on the same samples; the float model itself scores against itself."""

    name: str
    score: Score
    reference: Sequence[Outputs] | None = None

    def __call__(self, outputs: list[Outputs]) -> float:
        """The score of a model; higher is better."""
        return self.score(outputs if self.reference is None else self.reference, outputs)

    def bound(self, reference: Sequence[Outputs]) -> Against:
        """The same metric with the float model's outputs to compare with."""
        return replace(self, reference=reference)


def against_float(name: str, score: Score) -> Callable[[str], Metric]:
    """What makes such a metric of the text after its name, which must be none."""

    def made(argument: str) -> Metric:
        if argument:
            raise HybridqError(f"the metric {name} takes nothing after its name, not '{argument}'")
        return Against(name, score)

    return made


def first(outputs: Outputs) -> Array:
    """The model's first output."""
    return next(iter(outputs.values()))


def classes(values: Array) -> NDArray[np.int64]:
    """Class numbers: integers as they are, else the largest along the class axis, the first among equals.

    The class axis is 1 of four axes and more (``(n, classes, height, width)``), else the last.
    """
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    return np.asarray(values.argmax(axis=1 if values.ndim >= 4 else -1), np.int64)

"""The error of a recurrent model over time: whether what its states carry settles, grows or explodes.

Signal and error powers are summed by step, over all sequences, and told in a few stretches of time::

    sqnr_db[w] = 10 log10(sum of float ** 2 / sum of (float - hybrid) ** 2), both over the steps of stretch w

A stretch of silence has hardly any signal, so ``FLOOR`` of the mean signal is added to each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.metric import Outputs
from hybridq.compare.results import LoopCourse, LoopReport, Stretch

Doubles = NDArray[np.float64]

STRETCHES = 8  # of time
LEAST = 16  # steps of the longest sequence from which on a course can be told
FLOOR = 0.1  # of the mean signal
GROWN = 3.0  # dB that the error's share has more at the end than in the second quarter: it grows
NOTICED = 50.0  # dB of signal over error: less error than that may come and go unseen
EXPLODED = 0.0  # dB of signal over error at the end, below which an error that grows has taken over


@dataclass
class LoopWatch:
    """Sums by output and step. ``states`` are pairs of input and output."""

    states: Mapping[str, str]
    step: int = 0
    sequences: int = 0
    counts: list[int] = field(default_factory=list)
    powers: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, begins: bool, reference: Outputs, outputs: Outputs) -> None:
        """Take in one step of both models."""
        self.step = 0 if begins else self.step + 1
        self.sequences += begins
        if self.step == len(self.counts):
            self.counts.append(0)
        self.counts[self.step] += 1
        for name, a in reference.items():
            b = outputs[name]
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size and np.shape(a) == np.shape(b):
                self._add(name, a.astype(np.float64), np.asarray(b, np.float64))

    def _add(self, name: str, a: Doubles, b: Doubles) -> None:
        held = self.powers.setdefault(name, [])
        held += [(0.0, 0.0)] * (self.step + 1 - len(held))
        signal, error = held[self.step]
        with np.errstate(invalid="ignore", over="ignore"):
            held[self.step] = signal + float(np.square(a).sum()), error + float(np.square(a - b).sum())

    def found(self) -> LoopReport | None:
        """What was seen; None where nothing goes round."""
        if not self.states:
            return None
        states = set(self.states.values())
        courses = tuple(self._course(name, name in states) for name in self.powers)
        return LoopReport(dict(self.states), self.sequences, len(self.counts), courses)

    def _course(self, name: str, state: bool) -> LoopCourse:
        powers = np.array(self.powers[name])
        edges = np.unique(np.linspace(0, len(powers), STRETCHES + 1).round().astype(int)).tolist()
        stretches = tuple(Stretch(a, b, _db(powers[a:b], powers)) for a, b in pairwise(edges))
        return LoopCourse(name, state, _db(powers, powers, 0.0), stretches, course_of(powers))


def course_of(powers: Doubles) -> str:
    """``settles``, ``grows`` or ``explodes``: signal and error powers by step, (steps, 2); empty for too few steps."""
    if len(powers) < LEAST:
        return ""
    quarter = len(powers) // 4
    early, late = (_db(powers[s], powers) for s in (slice(quarter, 2 * quarter), slice(-quarter, None)))
    if not np.isfinite(powers).all() or (late < EXPLODED and early - late > GROWN):
        return "explodes"
    return "grows" if early - late > GROWN and late < NOTICED else "settles"


def _db(part: Doubles, whole: Doubles, floor: float = FLOOR) -> float:
    signal = float(part[:, 0].sum() + floor * whole[:, 0].mean() * len(part))
    error = float(part[:, 1].sum())
    if not math.isfinite(error) or (signal <= 0 < error):
        return -math.inf
    return 10 * math.log10(signal / error) if error > 0 else math.inf

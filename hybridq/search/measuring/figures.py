"""The two SQNRs of every output as step3 tells them, from sums that a search has anyway.

What the reference alone decides (powers, variances, which slices vary) is worked out once; see ``quant.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.metrics import Parts, SliceDamage, decibel

Array = NDArray[Any]
Doubles = NDArray[np.float64]
BOUND = 200.0  # dB that stand for infinity, which JSON cannot say: nothing differs, nothing is left


class Sqnr(NamedTuple):
    """dB by output: of the whole (signal power over noise power), and of its worst slice against its own variance."""

    whole: dict[str, float]
    worst: dict[str, float]


@dataclass(frozen=True)
class Told:
    """Of one output: the whole's power and every slice's variance (NaN where it does not vary), over all samples.

    ``first`` slices are those of the first cut, which together are the whole. Slices lie as a ``Reference`` cuts them.
    """

    power: float
    variance: Doubles
    first: int

    def sqnr(self, errors: Doubles) -> tuple[float, float]:
        """Whole and worst from the sums of squared errors of every slice."""
        whole = bounded(decibel(self.power, float(errors[: self.first].sum())))
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = self.variance / np.maximum(errors, 1e-300)
        least = float(np.nanmin(ratio, initial=math.inf))
        return whole, min(whole, bounded(10.0 * math.log10(max(least, 1e-300))))


@dataclass
class Sums:
    """Sums of squared errors over samples; outputs that a reference cuts otherwise than step3 are taken in whole."""

    told: Mapping[str, Told]
    errors: dict[str, Doubles] = field(default_factory=dict)
    odd: dict[str, SliceDamage] = field(default_factory=dict)
    classes: dict[str, SliceDamage] = field(default_factory=dict)  # integers and booleans

    def add(self, name: str, errors: Doubles, reference: Array, x: Array) -> None:
        """One output of one sample: squared errors by slice, and the pair."""
        if reference.dtype.kind != "f":  # equal ones are the signal, others noise
            x = np.asarray(reference == x, np.float64) if np.shape(reference) == np.shape(x) else x
            self.classes.setdefault(name, SliceDamage()).add(np.ones(reference.shape), x)
        elif name in self.told:
            self.errors[name] = self.errors.get(name, 0.0) + errors
        else:
            self.odd.setdefault(name, SliceDamage()).add(reference, x)

    def sqnr(self) -> Sqnr:
        """What step3 would report; integers and booleans have no SQNR and count only where there is nothing else."""
        found = {n: self.told[n].sqnr(e) for n, e in self.errors.items()}
        rest = self.odd or (self.classes if not found else {})
        found |= {n: (bounded(d.sqnr_db), bounded(d.worst().sqnr_db)) for n, d in rest.items()}
        return Sqnr({n: whole for n, (whole, _) in found.items()}, {n: worst for n, (_, worst) in found.items()})


def told_of(given: Sequence[Array], rows: Sequence[Array], parts: Parts | None) -> Told | None:
    """What the reference alone decides of an output, from its samples; None where it is no batch of one row."""
    if {x.shape for x in given} != {rows[0].shape}:
        return None
    sums = SliceDamage(parts)
    for sample in given:
        sums.add(sample, sample)
    slices = sums.slices()
    first = len(sums.parts.sizes) if sums.parts else sum(1 for s in slices if s.axis == slices[0].axis) or 1
    variance = np.array([s.signal if s.varies else math.nan for s in slices] or [math.nan])
    return Told(float(sums.whole[0]), variance, first)


def bounded(db: float) -> float:
    """Decibels within +-200."""
    return min(BOUND, max(-BOUND, db))

"""Which samples suffer most: each one's noise in its worst slice, against what that slice usually says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.metrics import Slice, SliceDamage, decibel

Doubles = NDArray[np.float64]
Noise = dict[int, Doubles]  # of one output of one sample, by axis: the error's square in every slice
KEPT_NUMBERS = 1 << 23  # of noise, over all samples; more would be a quarter of a gigabyte


class Worst(NamedTuple):
    """Where a sample lost most: an output's slice and that slice's SQNR in this sample, in dB (inf: no difference)."""

    sqnr_db: float = math.inf
    output: str = ""
    slice: Slice | None = None

    @property
    def is_sliced(self) -> bool:
        """Whether that is a part of the output, not the whole."""
        return self.slice is not None and self.slice.axis >= 0


@dataclass
class NoiseBySample:
    """Takes in every sample's outputs; ``worst`` tells at the end each sample's worst slice.

    A slice's signal is its variance over all samples: one sample hardly says what a channel is used to say. Samples
    beyond ``KEPT_NUMBERS`` of slices are judged by their whole outputs.
    """

    total: dict[str, SliceDamage] = field(default_factory=dict)
    noise: list[dict[str, Noise]] = field(default_factory=list)
    numbers: int = 0

    def add(self, reference: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]]) -> None:
        """Take in one sample: outputs of equal names and shapes."""
        found: dict[str, Noise] = {}
        for name, a in reference.items():
            one = SliceDamage()
            one.add(a, outputs[name])
            self.total.setdefault(name, SliceDamage()).merge(one)
            sums = one.sums if self.numbers < KEPT_NUMBERS else {}
            found[name] = {-1: one.whole[1:2], **{axis: rows[1].copy() for axis, rows in sums.items()}}
            self.numbers += sum(len(rows) for rows in found[name].values())
        self.noise.append(found)

    def worst(self) -> list[Worst]:
        """Of every sample the slice of the lowest SQNR."""
        slices = {name: list(_judged(total)) for name, total in self.total.items()}
        count = max(len(self.noise), 1)
        return [_worst_of(found, slices, count) for found in self.noise]


def _judged(total: SliceDamage) -> Iterator[Slice]:
    """The slices that vary, and the whole."""
    yield Slice(-1, 0, 1, 0.0, signal=float(total.whole[0]))
    yield from (one for one in total.slices() if one.varies)


def _worst_of(found: dict[str, Noise], slices: dict[str, list[Slice]], count: int) -> Worst:
    worst = Worst()
    for name, noise in found.items():
        for one in (s for s in slices[name] if s.axis in noise and s.stop <= len(noise[s.axis])):
            lost = float(noise[one.axis][one.start : one.stop].sum())
            if lost and (sqnr := decibel(one.signal / count, lost)) < worst.sqnr_db:
                worst = Worst(sqnr, name, one)
    return worst

"""``Damages``: ``Damage`` of many tensors, taken in together where float32 is exact enough, else one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.row_layout import Doubles, Flags, Places, Singles
from hybridq.compare.row_sums import Gaps
from hybridq.quant.metrics import Damage, Largest

FAINT = 1e-28  # a sum of squares below this may have lost terms in float32


@dataclass
class Damages:
    """Sums over samples of ``count`` tensors, by number; ``sums`` are signal, power and noise of those together.

    ``counts`` are their numbers, ``records`` the largest errors so far.
    """

    count: int
    each: list[Damage] = field(init=False)
    samples: Places = field(init=False)
    counts: Places = field(init=False)
    sums: Doubles = field(init=False)
    records: Singles = field(init=False)

    def __post_init__(self) -> None:
        self.each = [Damage() for _ in range(self.count)]
        self.samples = np.zeros(self.count, np.int64)
        self.counts = np.zeros(self.count, np.int64)
        self.sums = np.zeros((3, self.count))
        self.records = np.full(self.count, -1, np.float32)

    def add(self, tensor: int, reference: NDArray[Any], x: NDArray[Any], sample: int | None = None) -> None:
        """Take in one sample of one tensor; ``sample`` is its number where others were taken in before their turn."""
        one = self.each[tensor]
        one.samples = int(self.samples[tensor]) if sample is None else sample
        one.add(reference, x)
        self.samples[tensor] += 1
        self.records[tensor] = one.largest.error

    def add_rows(self, which: Places, signal: Doubles, gaps: Gaps, place: Places, fits: Flags) -> Flags:
        """Take in a few samples of tensors ``which``, measured in rows, as far as each ``fits``, (samples, tensors).

        ``place`` has the numbers in rows of the same shape; ``signal`` is float's. Gives which of them were taken in:
        of others float32 says too little.
        """
        sums = np.stack([signal, gaps.power, gaps.noise])[:, place]
        tops = gaps.tops[place]
        with np.errstate(invalid="ignore"):
            faint = (sums[:2] < FAINT).any(0) | ((sums[2] < FAINT) & (tops > 0))
            plain: Flags = fits & np.isfinite(sums.sum(0)) & ~faint
        self._note_all(which, gaps, place, np.where(plain, tops, -1))
        self.sums[:, which] += np.where(plain, sums, 0).sum(1)
        taken = plain.sum(0)
        self.samples[which] += taken
        self.counts[which] += taken * gaps.a.layout.sizes[place[0]]
        return plain

    def _note_all(self, which: Places, gaps: Gaps, place: Places, tops: Singles) -> None:
        """Note the largest errors that no earlier sample has; ``tops`` is -1 where there is nothing to be noted."""
        known, best = self.records[which], tops.max(0)
        higher = (tops == best) & (best >= 0) & ((best > known) | ((best == known) & (known > 0)))
        samples, tensors = np.nonzero(higher)
        found = gaps.largest(place[higher]) if len(samples) else {}
        for sample, i in zip(samples.tolist(), tensors.tolist(), strict=True):
            at = int(place[sample, i])
            number = int(self.samples[which[i]]) + sample
            self._note(int(which[i]), number, found[at], gaps.a.layout.shapes[at])

    def merge(self, later: Damages) -> None:
        """Take in what was measured on samples that follow."""
        for tensor in range(self.count):
            self._settle(tensor).merge(later._settle(tensor))
            self.records[tensor] = self.each[tensor].largest.error
        self.samples += later.samples

    def of(self, tensor: int) -> Damage | None:
        """What was found of a tensor; None without any sample."""
        return self._settle(tensor) if self.samples[tensor] else None

    def _settle(self, tensor: int) -> Damage:
        """A tensor's own sums with what was added up together. ``2 a x = a^2 + x^2 - (a - x)^2``."""
        one = self.each[tensor]
        signal, power, noise = self.sums[:, tensor].tolist()
        one.samples = int(self.samples[tensor])
        one.signal, one.power, one.noise = one.signal + signal, one.power + power, one.noise + noise
        one.product += (signal + power - noise) / 2
        one.count += int(self.counts[tensor])
        self.sums[:, tensor] = self.counts[tensor] = 0
        return one

    def _note(self, tensor: int, sample: int, largest: tuple[float, int], shape: tuple[int, ...]) -> None:
        one, (error, at) = self.each[tensor], largest
        if error > one.largest.error or not one.largest.at:
            place = []
            for size in reversed(shape):  # np.unravel_index takes several times as long
                at, i = divmod(at, size)
                place.append(i)
            one.largest = Largest(error, (sample, *reversed(place)))
            self.records[tensor] = error

"""``Damages``: ``Damage`` of many tensors, taken in together where float32 is exact enough, else one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.row_layout import Doubles, Places, RowLayout, Singles, gaps
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

    def add(self, tensor: int, reference: NDArray[Any], x: NDArray[Any]) -> None:
        """Take in one sample of one tensor."""
        one = self.each[tensor]
        one.samples = int(self.samples[tensor])
        one.add(reference, x)
        self.samples[tensor] += 1
        self.records[tensor] = one.largest.error

    def add_rows(
        self, which: Places, layout: RowLayout, a: Singles, x: Singles, signal: Doubles, fits: NDArray[np.bool_]
    ) -> None:
        """Take in one sample of tensors ``which``, laid out in rows, as far as each ``fits``; ``signal`` is ``a``'s."""
        if not which.size:
            return
        found = gaps(layout, a, x)
        sums = np.stack([signal, found.power, found.noise])
        with np.errstate(invalid="ignore"):
            faint = (sums[:2] < FAINT).any(0) | ((found.noise < FAINT) & (found.tops > 0))
        plain = fits & np.isfinite(sums.sum(0)) & ~faint
        ours = which[plain]
        self.sums[:, ours] += sums[:, plain]
        self.samples[ours] += 1
        self.counts[ours] += layout.sizes[plain]
        known = self.records[which]
        higher = np.flatnonzero(plain & ((found.tops > known) | ((found.tops == known) & (known > 0))))
        for i, largest in zip(higher.tolist(), found.largest(higher, a, x), strict=True):
            self._note(int(which[i]), largest, layout.shapes[i])
        views = [layout.views(rows) for rows in (a, x)] if (fits & ~plain).any() else []
        for i in np.flatnonzero(fits & ~plain).tolist():
            self.add(int(which[i]), *(held[i] for held in views))

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

    def _note(self, tensor: int, largest: tuple[float, int], shape: tuple[int, ...]) -> None:
        one, (error, at) = self.each[tensor], largest
        if error > one.largest.error or not one.largest.at:
            place = tuple(int(i) for i in np.unravel_index(at, shape))
            one.largest = Largest(error, (int(self.samples[tensor]) - 1, *place))
            self.records[tensor] = error

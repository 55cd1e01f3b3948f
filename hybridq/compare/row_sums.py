"""What is summed over tensors laid out in rows: of float's their squares and ends, of others how far they are from it.

One pass takes a block of rows of all sides while it is in the cache. Squares are summed row by row in float32, by BLAS,
rows in float64: exact to some 1e-7 of the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybridq.compare.row_layout import BLOCK, ROW, Doubles, Places, Rows, Singles


class Gaps(NamedTuple):
    """How far tensors are from others in the same layout: sums of squares by tensor, and the largest ``|a - x|``.

    ``peaks`` has the largest by row, ``tops`` by tensor.
    """

    a: Rows
    x: Rows
    power: Doubles
    noise: Doubles
    peaks: Singles
    tops: Singles

    def largest(self, tensors: Places) -> dict[int, tuple[float, int]]:
        """The largest ``|a - x|`` of some tensors, in float64, and its place in the tensor, the first of equals."""
        layout = self.a.layout
        wanted = np.zeros(len(self.tops), bool)
        wanted[tensors] = self.tops[tensors] > 0
        rows = np.flatnonzero(wanted[layout.owners] & (self.peaks == self.tops[layout.owners]))
        found = dict.fromkeys(tensors.tolist(), (0.0, 0))
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            a, x = self.a.at(some), self.x.at(some)
            hits = np.nonzero(np.abs(a - x) == self.peaks[some, None])
            errors = np.abs(a[hits].astype(np.float64) - x[hits])
            owners = layout.owners[some[hits[0]]]
            places = (some[hits[0]] - layout.starts[owners]) * ROW + hits[1]
            for tensor, error, place in zip(owners.tolist(), errors.tolist(), places.tolist(), strict=True):
                if error > found[tensor][0]:
                    found[tensor] = error, place
        return found


class RowSums(NamedTuple):
    """Float's sums of squares, and the least and largest numbers, by tensor; and how far each other side is from it."""

    signal: Doubles
    least: Singles
    most: Singles
    gaps: list[Gaps]


class OnePass:
    """Measures float's rows ``a`` and the ``others`` in the same layout, again and again with the same memory.

    What is not finite, or too small to be squared in float32, shows in the sums.
    """

    def __init__(self, a: Rows, others: Sequence[Rows]) -> None:
        self.a, self.others = a, others
        self._scratch = np.empty((BLOCK, ROW), np.float32)
        self._begins = np.arange(BLOCK) * ROW
        self._rows = np.empty((1 + 2 * len(others), a.layout.count))  # signal; power and noise of each
        self._tops = np.empty((2 + len(others), a.layout.count), np.float32)  # least and most; peaks of each

    def sums(self) -> RowSums:
        """What lies in the rows now."""
        layout = self.a.layout
        with np.errstate(invalid="ignore", over="ignore"):
            for block, rows in enumerate(layout.blocks):
                a = self.a.real(block, self._scratch)
                self._rows[0, rows] = _squares(a)
                self._tops[0, rows] = self._at(a, a.argmin(1))
                self._tops[1, rows] = self._at(a, a.argmax(1))
                for number, other in enumerate(self.others):
                    self._gap(a, other.real(block, self._scratch), number, rows)
            signal, *sums = (layout.by_tensor(rows) for rows in self._rows)
            found = zip(self.others, sums[::2], sums[1::2], self._tops[2:], strict=True)
            starts = layout.starts[:-1]
            gaps = [Gaps(self.a, *one, np.maximum.reduceat(one[-1], starts)) for one in found]
        return RowSums(signal, *self._least_and_most(), gaps)

    def _gap(self, a: Singles, x: Singles, number: int, rows: slice) -> None:
        self._rows[1 + 2 * number, rows] = _squares(x)
        gap = np.subtract(a, x, out=self._scratch[: len(a)])
        self._rows[2 + 2 * number, rows] = _squares(gap)
        np.abs(gap, out=gap)
        self._tops[2 + number, rows] = self._at(gap, gap.argmax(1))

    def _at(self, rows: Singles, columns: Places) -> Singles:
        """One number of each row. With argmax that is twice as fast as the maximum by row."""
        columns += self._begins[: len(rows)]
        return rows.reshape(-1).take(columns)

    def _least_and_most(self) -> tuple[Singles, Singles]:
        (least, most), layout = self._tops[:2], self.a.layout
        last, places = layout.tails
        ends = self.a.flat()[places]
        least[last], most[last] = ends.min(1), ends.max(1)
        least[layout.unused], most[layout.unused] = np.inf, -np.inf
        starts = layout.starts[:-1]
        return np.minimum.reduceat(least, starts), np.maximum.reduceat(most, starts)


def _squares(rows: Singles) -> Singles:
    found: Singles = np.matmul(rows[:, None, :], rows[:, :, None])
    return found.reshape(-1)

"""Tensors of one sample laid out in rows of one array, so that a few operations measure all of them at once.

A tensor begins with a row of its own; what its last row has left is zero. Squares are summed row by row in float32, by
BLAS, rows in float64: exact to some 1e-7 of the sum. Blocks of rows stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]

ROW = 1024  # numbers
BLOCK = 128  # rows


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Where tensors of these ``shapes``, none of them empty, lie in an array of shape (rows, ROW)."""

    shapes: Sequence[tuple[int, ...]]

    @cached_property
    def sizes(self) -> Places:
        """How many numbers each tensor has."""
        return np.array([math.prod(shape) for shape in self.shapes], np.int64)

    @cached_property
    def starts(self) -> Places:
        """The first row of each tensor, and how many rows there are."""
        return np.cumsum([0, *-(-self.sizes // ROW)], dtype=np.int64)

    @cached_property
    def edges(self) -> Places:
        """Rows at which a tensor or a block begins or ends: between two lies a segment."""
        return np.union1d(self.starts, np.arange(0, self.starts[-1], BLOCK))

    @cached_property
    def firsts(self) -> Places:
        """The first segment of each tensor."""
        return np.searchsorted(self.edges, self.starts[:-1])

    @cached_property
    def owners(self) -> Places:
        """The tensor of each segment."""
        return np.searchsorted(self.starts, self.edges[:-1], "right") - 1

    def array(self) -> Singles:
        """Memory for all of them."""
        return np.zeros((int(self.starts[-1]), ROW), np.float32)

    def views(self, rows: Singles) -> list[Singles]:
        """The tensors in such memory."""
        flat = rows.reshape(-1)
        begins = (self.starts[:-1] * ROW).tolist()
        return [
            flat[at : at + n].reshape(shape)
            for at, n, shape in zip(begins, self.sizes.tolist(), self.shapes, strict=True)
        ]

    def picks(self, most: int) -> tuple[Places, Places]:
        """Places in flat memory of about ``most`` numbers a tensor, evenly spaced; and where each tensor's begin."""
        own = [np.arange(0, n, -(-n // most)) for n in self.sizes.tolist()]
        starts = np.cumsum([0, *map(len, own)])[:-1]
        return np.concatenate([at * ROW + one for at, one in zip(self.starts.tolist(), own, strict=False)]), starts

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows that are measured together, and their segments."""
        for first in range(0, int(self.starts[-1]), BLOCK):
            last = min(first + BLOCK, int(self.starts[-1]))
            yield slice(first, last), slice(*np.searchsorted(self.edges, (first, last)).tolist())

    @cached_property
    def parts(self) -> list[tuple[slice, slice, list[int]]]:
        """``blocks``, and where their segments begin within them."""
        return [(rows, within, (self.edges[within] - rows.start).tolist()) for rows, within in self.blocks()]

    def by_tensor(self, rows: Doubles) -> Doubles:
        """Sums of rows by tensor."""
        found: Doubles = np.add.reduceat(rows, self.starts[:-1])
        return found

    def squares(self, a: Singles) -> Doubles:
        """The sum of squares of each tensor."""
        if not self.shapes:
            return np.empty(0)
        rows = np.empty(len(a))
        with np.errstate(invalid="ignore", over="ignore"):
            for at, *_ in self.parts:
                rows[at] = _squares(a[at])
        return self.by_tensor(rows)


class Gaps(NamedTuple):
    """How far tensors are from others in the same layout: sums of squares by tensor, and the largest ``|a - x|``.

    ``peaks`` has the largest by segment and column, ``tops`` by tensor.
    """

    layout: RowLayout
    power: Doubles
    noise: Doubles
    peaks: Singles
    tops: Singles

    def largest(self, tensors: Places, a: Singles, x: Singles) -> list[tuple[float, int]]:
        """The largest ``|a - x|`` of some tensors, in float64, and its place in the tensor, the first of equals."""
        ours = tensors[self.tops[tensors] > 0]
        wanted = np.flatnonzero(np.isin(self.layout.owners, ours))
        owners = self.layout.owners[wanted]
        hits, columns = np.nonzero(self.peaks[wanted] == self.tops[owners][:, None])
        found = dict.fromkeys(tensors.tolist(), (0.0, 0))
        for tensor, largest in zip(owners[hits].tolist(), self._at(wanted[hits], columns, a, x), strict=True):
            found[tensor] = max(found[tensor], largest, key=lambda one: (one[0], -one[1]))
        return [found[tensor] for tensor in tensors.tolist()]

    def _at(self, segments: Places, columns: Places, a: Singles, x: Singles) -> list[tuple[float, int]]:
        """The largest of some columns of segments, and its place in the tensor."""
        edges, owners = self.layout.edges, self.layout.owners[segments]
        rows = np.minimum(edges[segments][:, None] + np.arange(BLOCK), edges[segments + 1][:, None] - 1)
        places = rows * ROW + columns[:, None]
        found = np.abs(a.reshape(-1)[places].astype(np.float64) - x.reshape(-1)[places])
        best = (np.arange(len(found)), found.argmax(axis=1))
        return list(zip(found[best].tolist(), (places[best] - self.layout.starts[owners] * ROW).tolist(), strict=True))


def gaps(layout: RowLayout, a: Singles, x: Singles) -> Gaps:
    """Measure ``x`` against ``a``: what is not finite, or too small to be squared in float32, shows in the sums."""
    power, noise = np.empty(len(a)), np.empty(len(a))
    peaks = np.empty((len(layout.edges) - 1, ROW), np.float32)
    gap = np.empty((BLOCK, ROW), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, within, begins in layout.parts:
            here = np.subtract(a[rows], x[rows], out=gap[: rows.stop - rows.start])
            power[rows], noise[rows] = _squares(x[rows]), _squares(here)
            np.abs(here, out=here)
            for segment, (begin, end) in enumerate(pairwise((*begins, len(here))), within.start):
                np.maximum.reduce(here[begin:end], axis=0, out=peaks[segment])
        tops = np.maximum.reduceat(peaks.max(axis=1), layout.firsts)
    return Gaps(layout, layout.by_tensor(power), layout.by_tensor(noise), peaks, tops)


def _squares(rows: Singles) -> Singles:
    found: Singles = np.matmul(rows[:, None, :], rows[:, :, None])
    return found.reshape(-1)

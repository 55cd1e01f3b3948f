"""Tensors laid out in rows of one array, so that a few operations measure all of them at once.

A tensor begins with a row of its own. What its last row has left stands for zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.held import FLOAT, Held

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

ROW = 1024  # numbers
BLOCK = 64  # rows: with what is made of them they stay in the cache


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Where tensors of these ``shapes``, none of them empty, lie in arrays of shape (``count``, ROW).

    ``dtypes`` are those in which a run may hold them: where the next tensor has another one, a new block begins.
    """

    shapes: Sequence[tuple[int, ...]]
    dtypes: Sequence[np.dtype[Any]]

    @cached_property
    def sizes(self) -> Places:
        """How many numbers each tensor has."""
        return np.array([math.prod(shape) for shape in self.shapes], np.int64)

    @cached_property
    def starts(self) -> Places:
        """The first row of each tensor, and how many rows there are."""
        found, before = [0], None
        for rows, dtype in zip((-(-self.sizes // ROW)).tolist(), self.dtypes, strict=True):
            if dtype != before:
                found[-1] += -found[-1] % BLOCK
            found.append(found[-1] + rows)
            before = dtype
        return np.array(found, np.int64)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.starts[-1])

    @cached_property
    def owners(self) -> Places:
        """The tensor of each row."""
        return np.searchsorted(self.starts, np.arange(self.count), "right") - 1

    @cached_property
    def blocks(self) -> list[slice]:
        """All rows, in order, so many at a time as are measured together: all of one dtype."""
        return [slice(start, min(start + BLOCK, self.count)) for start in range(0, self.count, BLOCK)]

    @cached_property
    def tails(self) -> tuple[Places, Places]:
        """The last row of each tensor, and places of its numbers, the first one again for what it has left."""
        last = self.starts[:-1] + (self.sizes - 1) // ROW
        columns = np.arange(ROW)
        held = columns < ((self.sizes - 1) % ROW + 1)[:, None]
        return last, last[:, None] * ROW + np.where(held, columns, 0)

    @cached_property
    def unused(self) -> Places:
        """Rows between tensors of two dtypes."""
        ends = self.starts[:-1] - (-self.sizes // ROW)
        return np.concatenate([np.arange(a, b) for a, b in zip(ends, self.starts[1:], strict=True)])

    def picks(self, tensors: Places, most: int) -> tuple[Places, Places]:
        """Places in flat memory of about ``most`` numbers of each tensor, evenly spaced; and how many each has."""
        own = [np.arange(0, n, -(-n // most)) for n in self.sizes[tensors].tolist()]
        places = [start * ROW + one for start, one in zip(self.starts[tensors].tolist(), own, strict=True)]
        return np.concatenate(places), np.array([len(one) for one in own])

    def by_tensor(self, rows: Doubles) -> Doubles:
        """Sums of rows by tensor."""
        found: Doubles = np.add.reduceat(rows, self.starts[:-1])
        return found


class Rows:
    """Memory for tensors in a ``layout``, each as it is ``stored``: one array for every dtype.

    ``views`` are the tensors in it; None where one is stored in another dtype than the layout says.
    """

    def __init__(self, layout: RowLayout, stored: Sequence[Held]) -> None:
        self.layout, self.stored = layout, stored
        self._kinds = [FLOAT] * len(stored) if all(one.dtype == FLOAT for one in stored) else layout.dtypes
        self._arrays = {
            kind: np.zeros((layout.count, ROW), kind) for kind in dict.fromkeys(self._kinds)
        }  # pages unused cost none
        self._scales = np.array([one.scale for one in stored], np.float32)
        self._zero_points = np.array([one.zero_point for one in stored], np.float32)
        self.views = [self._view(tensor) for tensor in range(len(stored))]

    def _view(self, tensor: int) -> NDArray[Any] | None:
        one, layout = self.stored[tensor], self.layout
        if one.dtype != self._kinds[tensor]:
            return None
        begin, end = layout.starts[tensor : tensor + 2].tolist()
        held = self._arrays[one.dtype][begin:end]
        if one.zero_point:
            held[...] = one.zero_point
        return held.reshape(-1)[: layout.sizes[tensor]].reshape(layout.shapes[tensor])

    @cached_property
    def _parts(self) -> list[tuple[np.dtype[Any], list[tuple[slice, np.float32, np.float32]]]]:
        """Of each block the dtype, and which rows of it have one scale and zero point."""
        found = []
        for block in self.layout.blocks:
            owners = self.layout.owners[block]
            scales, zero_points = self._scales[owners], self._zero_points[owners]
            edges = np.flatnonzero((np.diff(scales) != 0) | (np.diff(zero_points) != 0)) + 1
            ends = pairwise([0, *edges.tolist(), len(owners)])
            parts = [(slice(begin, end), scales[begin], zero_points[begin]) for begin, end in ends]
            found.append((self._kinds[owners[0]], parts))
        return found

    def real(self, block: int, out: Singles) -> Singles:
        """What a block of rows stands for; ``out`` is written where it is not held as such."""
        kind, parts = self._parts[block]
        held = self._arrays[kind][self.layout.blocks[block]]
        if kind == FLOAT:
            return held
        x = out[: len(held)]
        x[...] = held
        for rows, scale, zero_point in parts:
            part = x[rows]
            if zero_point:
                np.subtract(part, zero_point, out=part)
            np.multiply(part, scale, out=part)
        return x

    def at(self, rows: Places) -> Singles:
        """What some rows stand for."""
        owners = self.layout.owners[rows]
        if len(self._arrays) == 1:
            found = next(iter(self._arrays.values()))[rows].astype(np.float32)
        else:
            found = np.empty((len(rows), ROW), np.float32)
            for kind, array in self._arrays.items():
                ours = np.array([self._kinds[owner] == kind for owner in owners.tolist()], bool)
                found[ours] = array[rows[ours]]
        found -= self._zero_points[owners, None]
        found *= self._scales[owners, None]
        return found

    def flat(self) -> Singles:
        """All rows of memory that holds floats alone."""
        return self._arrays[FLOAT].reshape(-1)

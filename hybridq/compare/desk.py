"""``Desk``: where the tensors of some layers lie while they are measured, from sample to sample in the same memory.

After the first sample the shapes are known; from then on float's tensors are written to one array of rows, the hybrid
model's, and after them the pieces', to another. What does not fit (another type or shape, no number) stays by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.damages import Damages
from hybridq.compare.drift import Ends
from hybridq.compare.histograms import ELEMENTS, HistogramWatch
from hybridq.compare.row_layout import Doubles, Places, RowLayout, Singles
from hybridq.graph.bound import Bound
from hybridq.graph.runtime import Feed, Session

Values = dict[str, NDArray[Any]]


class Laid(NamedTuple):
    """One run: all tensors by name, each layer's (None: not in this run), which of those with a place ``fit`` there."""

    named: Values
    values: list[NDArray[Any] | None]
    rows: Singles
    fits: NDArray[np.bool_]


@dataclass(eq=False)
class Side:
    """A session and what it calls each layer's tensor; ``others`` are asked for as well."""

    one: Session
    names: Sequence[str]
    others: Sequence[str] = ()
    bound: Bound = field(init=False)
    rows: Singles = field(init=False)
    views: list[tuple[int, Singles]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        given = {output.name for output in self.one.get_outputs()}
        asked = [name for name in dict.fromkeys((*self.names, *self.others)) if name in given]
        self.bound = Bound(self.one, asked)

    def settle(self, which: Places, layout: RowLayout, rows: Singles) -> None:
        """From now on write the tensors of layers ``which`` to ``rows``."""
        self.rows, self.views = rows, list(zip(which.tolist(), layout.views(rows), strict=True))
        named = {self.names[i]: view for i, view in self.views}
        self.bound = Bound(self.one, self.bound.names, {n: named[n] for n in self.bound.names if n in named})

    def run(self, feed: Feed) -> Values:
        """Tensors by name, those that were fed included."""
        return {**feed, **self.bound.run(feed)}

    def laid(self, named: Values) -> Laid:
        """Bring all tensors of a run to their places."""
        values = [named.get(name) for name in self.names]
        fits = np.array([_lay(values[i], view) for i, view in self.views], bool)
        return Laid(named, values, self.rows, fits)


class Desk:
    """The sides of some layers: float, hybrid, and the sessions that run layers alone, each fed float's values."""

    def __init__(self, numbers: Sequence[int], reference: Side, hybrid: Side, alone: Sequence[Side]) -> None:
        self.numbers = np.array(numbers, np.int64)  # of the layers, by which sums are kept
        self.layout = RowLayout(())
        self.which = np.empty(0, np.int64)  # of these layers have a place
        self._reference, self._hybrid, self._alone = reference, hybrid, alone
        self._reads = [[found.name for found in side.one.get_inputs()] for side in alone]
        self._settled = False

    @property
    def names(self) -> Sequence[str]:
        """Float's tensors of the layers."""
        return self._reference.names

    @cached_property
    def picks(self) -> tuple[Places, Places]:
        """What of float's rows is counted, and where each tensor's part begins."""
        return self.layout.picks(ELEMENTS)

    def reference(self, feed: Feed) -> Laid:
        """Run the float model on a sample."""
        named = self._reference.run(feed)
        if not self._settled:
            self._settle(named)
        return self._reference.laid(named)

    def hybrid(self, feed: Feed) -> Laid:
        """Run the hybrid model; what lies there of the sample before is overwritten."""
        return self._hybrid.laid(self._hybrid.run(feed))

    def alone(self, reference: Laid) -> Iterator[Laid]:
        """Run layers by themselves on float's values; each run overwrites what the one before laid."""
        for side, reads in zip(self._alone, self._reads, strict=True):
            yield side.laid(side.run({name: reference.named[name] for name in reads}))

    def _settle(self, named: Values) -> None:
        """Give places to the tensors of a first sample that can be measured in rows."""
        found = {i: named[name] for i, name in enumerate(self._reference.names)}
        placed = {i: x.shape for i, x in found.items() if x.dtype == np.float32 and x.size}
        self.which, self.layout, self._settled = np.array([*placed], np.int64), RowLayout([*placed.values()]), True
        self._reference.settle(self.which, self.layout, self.layout.array())
        other = self.layout.array()
        for side in (self._hybrid, *self._alone):
            side.settle(self.which, self.layout, other)


def difference(desk: Desk, reference: Laid, other: Laid, squares: Doubles, damages: Damages) -> None:
    """Add up how far a run's tensors are from float's, whose sums of ``squares`` are known."""
    fits = reference.fits & other.fits
    damages.add_rows(desk.numbers[desk.which], desk.layout, reference.rows, other.rows, squares, fits)
    placed = set(desk.which[fits].tolist())
    for i, (a, x) in enumerate(zip(reference.values, other.values, strict=True)):
        if i not in placed and a is not None and x is not None:
            damages.add(int(desk.numbers[i]), a, x)


def spread_of(desk: Desk, reference: Laid, spread: HistogramWatch, ends: Mapping[str, Ends]) -> None:
    """Count values of float's tensors, whose ``ends_of`` are known: at once those that lie in rows and are finite."""
    empty = (np.nan, np.nan)
    found = np.array([ends.get(desk.names[i], empty) for i in desk.which.tolist()]).reshape(-1, 2)
    together = reference.fits & np.isfinite(found).all(1)
    if together.any():
        places, starts = desk.picks
        lengths = np.diff(starts, append=len(places))
        some = reference.rows.reshape(-1)[places[np.repeat(together, lengths)]]
        begins = np.cumsum([0, *lengths[together]])[:-1]
        spread.add_all(desk.numbers[desk.which[together]], found[together], some, begins)
    done = set(desk.which[together].tolist())
    for i, x in enumerate(reference.values):
        if i not in done and x is not None:
            spread.add(int(desk.numbers[i]), x)


def _lay(value: NDArray[Any] | None, view: Singles) -> bool:
    """Bring a tensor to its place; whether it fits."""
    if value is None or value.dtype != view.dtype or value.shape != view.shape:
        return False
    if value is not view:
        view[...] = value
    return True

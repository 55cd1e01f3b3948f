"""``Desk``: where the tensors of some layers lie while they are measured, from sample to sample in the same memory.

After the first sample the shapes are known; from then on float's tensors are written to one array of rows, those of the
hybrid model and of layers by themselves to others, as they are stored. What does not fit (another type or shape, no
number) stays by itself. Small models have places for a few samples, which are run one after the other and then measured
together: a model that stays in the cache runs up to twice as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridq.compare.damages import Damages
from hybridq.compare.drift import DriftWatch, Ends
from hybridq.compare.held import FLOAT, Held
from hybridq.compare.histograms import ELEMENTS, HistogramWatch
from hybridq.compare.row_layout import Flags, Places, RowLayout, Rows
from hybridq.compare.row_sums import OnePass, RowSums
from hybridq.graph.bound import Bound
from hybridq.graph.runtime import Feed, Session

TOGETHER, NUMBERS = 8, 1 << 24  # samples measured together at most, and how many numbers of float they have

Values = Mapping[str, NDArray[Any]]


class Laid(NamedTuple):
    """One run: what it gave of each layer (None: not in this run), and which of those with a place ``fit`` there."""

    stored: Sequence[Held]
    values: list[NDArray[Any] | None]
    fits: list[bool]

    def real(self, layer: int) -> NDArray[Any] | None:
        """What a layer's tensor stands for."""
        value = self.values[layer]
        return None if value is None else self.stored[layer].real(value)


class LaidSample(NamedTuple):
    """All runs of one sample: float's tensors by name, and what was laid of float, hybrid, and layers alone."""

    named: Values
    laid: tuple[Laid, Laid, Laid]


class LaidBatch(NamedTuple):
    """Samples that were measured together, the ``first`` of all or later ones; ``sums`` of what lies in rows."""

    samples: list[LaidSample]
    sums: RowSums | None
    first: bool


@dataclass(eq=False)
class Side:
    """What one kind of run gives of each layer, and the rows in which it lies: ``views`` by sample and layer."""

    stored: Sequence[Held]
    rows: Rows = field(init=False)
    views: list[list[tuple[int, NDArray[Any] | None]]] = field(init=False, default_factory=lambda: [[]])

    def settle(self, which: Places, place: Places, layout: RowLayout) -> None:
        """From now on layers ``which`` have a ``place`` in rows, shape (samples, layers)."""
        held: list[Held] = [self.stored[0]] * place.size
        for at, layer in zip(place.reshape(-1).tolist(), np.tile(which, len(place)).tolist(), strict=True):
            held[at] = self.stored[layer]
        self.rows = Rows(layout, held)
        self.views = [
            [(layer, self.rows.views[at]) for layer, at in zip(which.tolist(), row.tolist(), strict=True)]
            for row in place
        ]

    def into(self, sample: int) -> dict[str, NDArray[Any]]:
        """Where a session writes."""
        return {self.stored[layer].tensor: view for layer, view in self.views[sample] if view is not None}

    def laid(self, named: Values, sample: int) -> Laid:
        """Bring all tensors of a run to their places."""
        values = [named.get(one.tensor) for one in self.stored]
        return Laid(self.stored, values, [_lay(values[layer], view) for layer, view in self.views[sample]])


class BoundSession:
    """A session that is asked for what it gives of ``names``."""

    def __init__(self, one: Session, names: Sequence[str]) -> None:
        given = {output.name for output in one.get_outputs()}
        self.one, self.names = one, [name for name in dict.fromkeys(names) if name in given]
        self.reads = [found.name for found in one.get_inputs()]
        self._bound = [Bound(one, self.names)]

    def settle(self, into: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """From now on write to these arrays, one set for each of a few samples."""
        self._bound = [Bound(self.one, self.names, {n: own[n] for n in self.names if n in own}) for own in into]

    def run(self, feed: Feed, sample: int) -> dict[str, NDArray[Any]]:
        """Tensors by name."""
        return self._bound[sample].run(feed)


class Desk:
    """The three sides of some layers: float, hybrid, and layers alone, which are fed float's values.

    ``reference`` runs float, and of layers alone what it gives; ``alone`` run the others. ``numbers`` are those of the
    layers, by which sums are kept; layers ``which`` have a place in rows, ``place`` has shape (samples, layers).
    """

    def __init__(
        self,
        numbers: Sequence[int],
        sides: tuple[Side, Side, Side],
        reference: BoundSession,
        hybrid: BoundSession,
        alone: Sequence[BoundSession] = (),
    ) -> None:
        self.numbers = np.array(numbers, np.int64)
        self.sides = sides
        self.which, self.place = np.empty(0, np.int64), np.empty((1, 0), np.int64)
        self.layout = RowLayout((), ())
        self._reference, self._hybrid, self._alone = reference, hybrid, alone
        self._pass: OnePass | None = None
        self._settled = False

    @cached_property
    def picks(self) -> tuple[Places, Places]:
        """What of float's rows is counted of a first sample, and how much of each tensor."""
        return self.layout.picks(self.place[0], ELEMENTS)

    def measured(self, fed: Sequence[tuple[Feed, Feed]]) -> Iterator[LaidBatch]:
        """Run samples and measure them, a few at a time; what lies there of those before is overwritten."""
        left, first = iter(fed), True
        while some := list(islice(left, len(self.place) if self._settled else 1)):
            ran = [self._references(feed, sample) for sample, (feed, _) in enumerate(some)]
            other = [
                self.sides[1].laid({**feed, **self._hybrid.run(feed, sample)}, sample)
                for sample, (_, feed) in enumerate(some)
            ]
            samples = [LaidSample(named, (a, x, alone)) for (named, a, alone), x in zip(ran, other, strict=True)]
            yield LaidBatch(samples, self._pass.sums() if self._pass is not None else None, first)
            first = False

    def _references(self, feed: Feed, sample: int) -> tuple[Values, Laid, Laid]:
        """Float, and layers alone on its values."""
        named = {**feed, **self._reference.run(feed, sample)}
        if not self._settled:
            self._settle(named)
        found = dict(named)
        for runner in self._alone:
            found.update(runner.run({name: named[name] for name in runner.reads}, sample))
        return named, self.sides[0].laid(named, sample), self.sides[2].laid(found, sample)

    def _settle(self, named: Values) -> None:
        """Give places to the tensors of a first sample that can be measured in rows."""
        self._settled = True
        found = {i: named[one.tensor] for i, one in enumerate(self.sides[0].stored)}
        shapes = {i: x.shape for i, x in found.items() if x.dtype == FLOAT and x.size}
        if shapes:
            self._lay_out(shapes)
            self._bind(named)

    def _lay_out(self, shapes: Mapping[int, tuple[int, ...]]) -> None:
        """Make rows for layers of these shapes, for a few samples: those of one dtype together."""
        dtypes = [one.dtype for one in self.sides[1].stored]
        samples = min(TOGETHER, max(1, NUMBERS // sum(map(math.prod, shapes.values()))))
        order = [(n, i) for i in sorted(shapes, key=lambda i: dtypes[i].str) for n in range(samples)]
        at = {one: number for number, one in enumerate(order)}
        self.which = np.array(list(shapes), np.int64)
        self.place = np.array([[at[n, i] for i in shapes] for n in range(samples)], np.int64)
        self.layout = RowLayout([shapes[i] for _, i in order], [dtypes[i] for _, i in order])
        for side in self.sides:
            side.settle(self.which, self.place, self.layout)
        self._pass = OnePass(self.sides[0].rows, [side.rows for side in self.sides[1:]])

    def _bind(self, named: Values) -> None:
        """Let the sessions write to the rows; what float's gives beside them goes to arrays of its own."""
        first, other, alone = ([side.into(n) for n in range(len(self.place))] for side in self.sides)
        beside = {n: x for n, x in named.items() if n in self._reference.names and n not in first[0]}
        into = zip(first, alone, strict=True)
        self._reference.settle([{**{n: x.copy() for n, x in beside.items()}, **a, **b} for a, b in into])
        self._hybrid.settle(other)
        for runner in self._alone:
            runner.settle(alone)


def fits(desk: Desk, measured: LaidBatch, side: int) -> Flags:
    """Which tensors of a side lie in their place, shape (places for samples, layers with a place)."""
    found = np.zeros(desk.place.shape, bool)
    for own, sample in zip(found, measured.samples, strict=False):
        own[:] = sample.laid[side].fits
    return found


def difference(desk: Desk, measured: LaidBatch, side: int, damages: Damages) -> None:
    """Add up how far a side is from float's."""
    before = damages.samples[desk.numbers]
    taken = np.zeros(desk.place.shape, bool)
    if measured.sums is not None:
        both = fits(desk, measured, 0) & fits(desk, measured, side)
        gaps = measured.sums.gaps[side - 1]
        taken = damages.add_rows(desk.numbers[desk.which], measured.sums.signal, gaps, desk.place, both)
    for n, sample in enumerate(measured.samples):
        placed = set(desk.which[taken[n]].tolist())
        for i, a in enumerate(sample.laid[0].values):
            if i not in placed and a is not None and (x := sample.laid[side].real(i)) is not None:
                damages.add(int(desk.numbers[i]), a, x, int(before[i]) + n)


def drift_of(desk: Desk, measured: LaidBatch, watched: Sequence[str], drift: DriftWatch) -> None:
    """Compare float's tensors with their ranges: at once those that lie in rows and within."""
    ends, done = _ends(desk, measured), set[str]()
    for name in watched:
        known = [one[name] for one in ends if name in one]
        if len(known) == len(measured.samples):
            around = min(least for least, _ in known), max(most for _, most in known)
            count = sum(sample.named[name].size for sample in measured.samples)
            if drift.add_within(name, around, count):
                done.add(name)
    for sample, one in zip(measured.samples, ends, strict=True):
        for name in watched:
            if name not in done:
                drift.add(name, sample.named[name], one.get(name))


def _ends(desk: Desk, measured: LaidBatch) -> list[dict[str, Ends]]:
    """The least and largest value of float's tensors that lie in rows, by sample and name."""
    if measured.sums is None:
        return [{} for _ in measured.samples]
    names = [desk.sides[0].stored[i].tensor for i in desk.which.tolist()]
    found = []
    for sample, place in zip(measured.samples, desk.place, strict=False):
        least, most = measured.sums.least[place].tolist(), measured.sums.most[place].tolist()
        held = zip(names, least, most, sample.laid[0].fits, strict=True)
        found.append({name: (low, high) for name, low, high, fits in held if fits})
    return found


def spread_of(desk: Desk, measured: LaidBatch, spread: HistogramWatch) -> None:
    """Take in ends of float's tensors, and of the first sample's counts: at once of those in rows that are finite."""
    numbers = desk.numbers[desk.which]
    for n, sample in enumerate(measured.samples):
        done, counted = set[int](), measured.first and n == 0
        if measured.sums is not None:
            place = desk.place[n]
            ends = np.stack([measured.sums.least[place], measured.sums.most[place]], axis=1).astype(np.float64)
            held = np.array(sample.laid[0].fits, bool) & np.isfinite(ends).all(1)
            spread.widen(numbers[held], ends[held])
            done = set(desk.which[held].tolist())
            if counted:
                places, lengths = desk.picks
                some = desk.sides[0].rows.flat()[places if held.all() else places[np.repeat(held, lengths)]]
                spread.count(numbers[held], some, lengths[held])
        for i, x in enumerate(sample.laid[0].values):
            if i not in done and x is not None:
                spread.add(int(desk.numbers[i]), x, counted=counted)


def _lay(value: NDArray[Any] | None, view: NDArray[Any] | None) -> bool:
    """Bring a tensor to its place; whether it fits."""
    if value is view:
        return view is not None
    if value is None or view is None or value.dtype != view.dtype or value.shape != view.shape:
        return False
    view[...] = value
    return True

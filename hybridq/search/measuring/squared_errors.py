"""Squared errors at the outputs, by figure: whole outputs and the slices that 8 bits harm most, as step3 tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed
from hybridq.quant.metrics import Slice, SliceDamage
from hybridq.report.prediction import Figure
from hybridq.search.measuring.alone import Variants, chunks, noise_of
from hybridq.search.measuring.damage import LOST, Array, Doubles, Reference, one_row
from hybridq.search.measuring.outputs import layouts

OUTPUTS, SLICES = 12, 3  # whole outputs at most, and slices of each, those that 8 bits harm most
Run = Callable[[Feed], Sequence[Array]]


@dataclass(frozen=True)
class OutputSlice:
    """Where a figure lies: the output's number, and ``[start, stop)`` along ``axis`` (-1: all of it)."""

    output: int
    axis: int = -1
    start: int = 0
    stop: int = 0

    def of(self, values: Array) -> Array:
        """The figure's numbers of an output ``(rows, ...)``, as (rows, numbers)."""
        if self.axis >= 0:
            values = np.take(values, range(self.start, self.stop), axis=self.axis)
        return values.reshape(len(values), -1)


@dataclass(frozen=True)
class Plain(Reference):
    """A reference that tells plain squared errors of ``places``, not weighed, no logarithms: see ``alone.noise_of``."""

    places: tuple[OutputSlice, ...] = ()

    def noise(self, sample: int, outputs: Sequence[Array], told: Any = None) -> Doubles:
        """One row of each output against the reference: (1, figures)."""
        given = [one_row(x) for x in self.given[sample]]
        return np.stack([_squares(p, given[p.output], outputs[p.output]) for p in self.places], 1)

    def noise_of_rows(
        self, sample: int, outputs: Sequence[Array], takes: Sequence[Array], *, from_base: bool = True
    ) -> Doubles:
        """Every variant against row 0: (variants + 1, figures)."""
        rows = [(p, outputs[p.output], takes[p.output]) for p in self.places]
        return np.stack([_squares(p, values[:1], values)[take] for p, values, take in rows], 1)


def figures_of(model: Model, reference: Reference, run: Run) -> tuple[tuple[Figure, OutputSlice], ...]:
    """Every float output as a whole, and those of its slices that the model of ``run``, all in 8 bits, harms most."""
    found: list[tuple[Figure, OutputSlice]] = []
    damage = _damage(model, reference, run)
    floats = [i for i, x in enumerate(reference.given[0]) if x.dtype.kind == "f" and x.size]
    for i in floats[:OUTPUTS]:
        name, cut = reference.names[i], damage[i]
        found.append((Figure(name, "", float(cut.whole[0])), OutputSlice(i)))
        rowed = all(one_row(sample[i]).shape == sample[i].shape for sample in reference.given)  # else axes are others
        cuts = (s for s in cut.slices() if s.varies and rowed)
        worst = sorted(cuts, key=lambda s: s.sqnr_db)[:SLICES]
        found += [
            (Figure(name, _label(s, reference.given[0][i].ndim), s.signal), OutputSlice(i, s.axis, s.start, s.stop))
            for s in worst
        ]
    return tuple(found)


def noise_alone(
    asked: Variants,
    places: Sequence[OutputSlice],
    samples: Sequence[int],
    threads: int,
    progress: Callable[[int, int], object],
) -> Doubles:
    """Squared errors that every variant makes alone on some of the samples, (variants, figures)."""
    reference, forms = asked.reference, asked.forms
    plain = Plain(**{f.name: getattr(reference, f.name) for f in fields(Reference)}, places=tuple(places))
    total = np.zeros((len(forms), len(places)))
    for start, chunk in chunks(asked.model, forms):
        rows = noise_of(replace(asked, forms=chunk, reference=plain), samples, threads=threads)
        for i, noise in enumerate(rows, start=1):
            total[start : start + len(chunk)] += noise[1:]
            progress(start * len(samples) + i * len(chunk), len(forms) * len(samples))
    return total


def measured(reference: Reference, figures: Sequence[tuple[Figure, OutputSlice]], run: Run) -> tuple[float, ...]:
    """Every figure of a model in dB, over all samples."""
    noise = np.zeros(len(figures))
    for feed, given in zip(reference.feeds, reference.given, strict=True):
        outputs = run(feed)
        for k, (_, place) in enumerate(figures):
            noise[k] += _squares(place, one_row(given[place.output]), one_row(outputs[place.output]))[0]
    return tuple(f.plain(float(n)) for (f, _), n in zip(figures, noise, strict=True))


def _damage(model: Model, reference: Reference, run: Run) -> list[SliceDamage]:
    seen = {n: one_row(x).shape for n, x in zip(reference.names, reference.given[0], strict=True)}
    parts = {n: x.parts for n, x in layouts(model, seen).items()}
    found = [SliceDamage(parts.get(n)) for n in reference.names]
    for feed, given in zip(reference.feeds, reference.given, strict=True):
        for one, mine, theirs in zip(found, given, run(feed), strict=True):
            one.add(mine, theirs)
    return found


def _label(one: Slice, rank: int) -> str:
    """Which slice, in step3's words."""
    name = "channel" if one.axis == 1 and rank > 2 else f"axis {one.axis}"
    return f"{name} [{one.start}{f':{one.stop}' if one.stop > one.start + 1 else ''}]"


def _squares(place: OutputSlice, mine: Array, rows: Array) -> Doubles:
    """Sums of squared errors of every row; ``LOST`` where a shape is another or a number is none.

    Two equal infinities are no error.
    """
    if mine.shape[1:] != rows.shape[1:]:
        return np.full(len(rows), LOST)
    theirs, own = place.of(rows).astype(np.float64), place.of(mine)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities that are meant
        error = np.where(theirs == own, 0.0, theirs - own)
        return np.asarray(np.nan_to_num(np.einsum("ij,ij->i", error, error), nan=LOST, posinf=LOST))

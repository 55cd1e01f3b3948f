"""Damage at the model outputs: the noise of every slice against that slice's own signal, and one number of it.

Slices are those of ``metrics``: channels, the last axis, concatenated parts. A detector whose boxes and scores share a
tensor shows its broken scores here, where one number for the whole output hides them.

The one number must be additive over independent noises for a knapsack to work on it, and must not be ruled by a few
samples or slices that are lost anyway. So noise power ``n`` of sample s and slice k counts with fixed weights::

    damage = sum over s, k of share_k / M * n[s, k] / (tolerated_k * signal_k + min(start[s, k], signal_k))

``start`` is the noise of the model with all layers in 8 bits: what is broken there counts fully, what is well above the
tolerated ratio counts little. Decisions hang on scores, so these tolerate less than values do. All in 8 bits has a
damage of about 1 or less, and no slice counts more than ``WORST``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, Session
from hybridq.quant.metrics import PART_FLOOR, SIGNAL_FLOOR, Parts, cut_axes
from hybridq.search.measuring.answers import Passed, is_classification
from hybridq.search.measuring.figures import Sums, Told, told_of
from hybridq.search.measuring.outputs import (
    LEAST_PROBABILITY,
    TINY,
    OutputLayout,
    attention,
    classifications,
    layouts,
    likelihood,
)

Array = NDArray[Any]
Doubles = NDArray[np.float64]

TOLERATED = 0.01  # noise over signal (20 dB) around which a slice begins to count
IN_SCORES = 0.0001  # the same of scores (40 dB): decisions hang on them
BESIDE_SCORES = 0.25  # of its share: what an output counts that is read only where a score speaks up
WORST = 4.0  # a slice of a sample counts at most this many times its share: lost is lost
LOST = 1e30  # square of an error that is no number


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut an output: into single slices of ``axis``, into ``sizes`` along it, or (axis -1) not at all."""

    axis: int
    sizes: tuple[int, ...] = ()

    def sums(self, values: Array) -> Doubles:
        """Sums over everything but the batch and the slices: ``(batch, ...)`` to ``(batch, slices)``."""
        if self.axis < 0:
            return np.asarray(values.reshape(len(values), -1).sum(1, dtype=np.float64)[:, None])
        others = tuple(i for i in range(1, values.ndim) if i != self.axis)
        found: Doubles = np.asarray(values.sum(others, dtype=np.float64) if others else values, np.float64)
        if self.sizes:
            found = np.add.reduceat(found, self.starts(found.shape[1]), axis=1)
        return found

    def starts(self, length: int) -> NDArray[np.int64]:
        """First index of every slice."""
        return np.cumsum([0, *self.sizes[:-1]]) if self.sizes else np.arange(length)


def cuts_of(shapes: Sequence[Sequence[int]], parts: Parts | None) -> tuple[Cut, ...]:
    """How an output is cut whose samples have these shapes (batch first); parts come first.

    An axis is cut where it is the same length in every sample.
    """
    shape = shapes[0]
    alike = [a for a in cut_axes(shape) if all(len(s) == len(shape) and s[a] == shape[a] for s in shapes)]
    found = [Cut(axis) for axis in alike]
    if len(alike) < len(cut_axes(shape)):
        parts = None
    if parts is not None and 0 < parts.axis < len(shape) and sum(parts.sizes) == shape[parts.axis]:
        found.insert(0, Cut(parts.axis, tuple(parts.sizes)))
    return tuple(found) or (Cut(-1),)


@dataclass(frozen=True)
class Reference:
    """The float model's outputs on some samples and what follows from them.

    ``signal`` holds the variance of every slice, all outputs and cuts laid end to end; ``share`` how much each counts:
    outputs alike, then the cuts of an output alike, then the parts of a cut and the slices of a part alike; what is
    read only where a score speaks up counts less. Shares sum to 1. ``tolerated`` is noise over signal around which a
    slice begins to count, ``counts`` are numbers by sample and slice. ``labels`` say output, axis and first index of
    every slice.
    """

    names: tuple[str, ...]
    feeds: tuple[Feed, ...]
    outputs: tuple[tuple[Array, ...], ...]  # a sample, an output
    cuts: Mapping[str, tuple[Cut, ...]]
    signal: Doubles
    share: Doubles
    tolerated: Doubles
    counts: Doubles
    labels: tuple[tuple[str, int, int], ...] = field(repr=False, default=())
    attention: tuple[Mapping[str, Array], ...] = ()  # a sample: weights of an output's elements
    logs: frozenset[str] = frozenset()  # outputs compared by their logarithm; ``outputs`` holds these already
    given: tuple[tuple[Array, ...], ...] = ()  # a sample, an output: as the model gave it
    told: Mapping[str, Told] = field(repr=False, default_factory=dict)
    classes: frozenset[str] = frozenset()  # outputs that are a classification of the sample
    scores: Mapping[str, OutputLayout | None] = field(
        repr=False, default_factory=dict
    )  # of outputs that hold any beside these; None: all of it

    def noise(self, sample: int, outputs: Sequence[Array], told: Sums | None = None) -> Doubles:
        """Mean squared error of every slice: outputs ``(rows, ...)`` against one sample, gives (rows, slices).

        ``told`` takes in the first row's squared errors as they are, neither weighed nor of logarithms.
        """
        found = []
        for i, (name, theirs) in enumerate(zip(self.names, outputs, strict=True)):
            mine = self.outputs[sample][i]
            square = _square(mine, self._logarithm(name, theirs))
            weighed = self._weighed(sample, name, square)
            sums = [cut.sums(weighed) for cut in self.cuts[name]]
            found += sums
            if told is not None:
                given = self.given[sample][i]
                if name in self.logs or weighed is not square:
                    sums = [cut.sums(_square(one_row(given), theirs)) for cut in self.cuts[name]]
                told.add(name, np.concatenate(sums, axis=1)[0], given, _as_given(theirs, given))
        return np.asarray(np.concatenate(found, axis=1) / self.counts[sample])

    def passed(self, sample: int, outputs: Mapping[str, Array], into: dict[str, Passed]) -> None:
        """Take in what the scores of one sample do beside float's; those of another shape are no scores."""
        for name, layout in self.scores.items():
            mine, theirs = self.given[sample][self.names.index(name)], outputs[name]
            if mine.shape != theirs.shape:
                continue
            found = into.setdefault(name, Passed())
            if layout is None:
                found.add(mine, theirs)
                continue
            weights = self.attention[sample].get(name) if self.attention else None
            read = 1.0 if weights is None else layout.scores_of(weights)
            found.add(layout.scores_of(mine), layout.scores_of(theirs), read)

    def _logarithm(self, name: str, values: Array) -> Array:
        return logarithm(values) if name in self.logs else values

    def _weighed(self, sample: int, name: str, square: Array) -> Array:
        weights = self.attention[sample].get(name) if self.attention else None
        return square if weights is None else square * weights

    def noise_of_rows(
        self, sample: int, outputs: Sequence[Array], takes: Sequence[Array], *, from_base: bool = True
    ) -> Doubles:
        """``noise`` of outputs with different numbers of rows; ``takes`` says which row of each output belongs where.

        ``from_base``: against row 0 of each output instead of the reference. What ONNX Runtime rounds otherwise in
        another graph is no noise then.
        """
        found = []
        for name, mine, rows, take in zip(self.names, self.outputs[sample], outputs, takes, strict=True):
            seen = self._logarithm(name, rows)
            square = self._weighed(sample, name, _square(seen[:1] if from_base else mine, seen))
            found += [cut.sums(square)[take] for cut in self.cuts[name]]
        return np.asarray(np.concatenate(found, axis=1) / self.counts[sample])


def logarithm(probabilities: Array) -> Array:
    """``log(p + LEAST_PROBABILITY)``; see ``outputs.classifications``."""
    return np.asarray(np.log(np.maximum(probabilities, 0.0) + LEAST_PROBABILITY))


def _square(mine: Array, theirs: Array) -> Array:
    if theirs.shape[1:] != mine.shape[1:]:
        return np.full((len(theirs), *mine.shape[1:]), LOST, np.float32)
    if mine.dtype.kind != "f":  # class numbers have no distance
        return np.asarray(mine != theirs, np.float32)
    kind = np.float32 if mine.dtype.itemsize <= 4 else np.float64
    with np.errstate(invalid="ignore", over="ignore"):  # infinities that are meant
        square: Array = np.square(np.subtract(theirs, mine, dtype=kind))
    if not np.isfinite(square).all():
        alike = (theirs == mine) | (np.isnan(theirs) & np.isnan(mine))
        square = np.where(alike, kind(0), np.where(np.isfinite(square), square, kind(LOST)))
    return square


def batched(values: Array) -> Array:
    """An output of many rows with a batch axis."""
    return values.reshape(1, -1) if values.ndim < 2 else values


def one_row(values: Array) -> Array:
    """An output of one sample as one row, also where its first axis is none of the batch (the state of a GRU)."""
    made = batched(values)
    return made if len(made) == 1 else made[None]


def _as_given(values: Array, given: Array) -> Array:
    """A row in the shape that the model gave it, as far as it has as many numbers."""
    return values.reshape(given.shape) if values.size == given.size else values


def measure_reference(session: Session, feeds: Sequence[Feed], model: Model) -> Reference:
    """Run the float model; everything later is compared with what it says."""
    logs, names = classifications(model), measured_outputs(session, model)
    rolled = Rolled(session, model.states)
    given = tuple(tuple(rolled.run(feed, list(names))) for feed in feeds)
    rows = tuple(tuple(one_row(x) for x in sample) for sample in given)
    found = _layouts(model, names, given, rows, logs)
    outputs = tuple(tuple(logarithm(x) if n in logs else x for n, x in zip(names, o, strict=True)) for o in rows)
    parts = {n: x.parts for n, x in found.items() if x.parts}
    cuts = {n: cuts_of([sample[i].shape for sample in outputs], parts.get(n)) for i, n in enumerate(names)}
    read = attention(found, names, outputs)
    known, classes = _told(names, given, rows, parts)
    found = {n: replace(x, scores=()) if n in classes else x for n, x in found.items()}  # those are judged by answers
    likely = {n: [sample[i] for sample in rows] for i, n in enumerate(names) if n in logs - classes}
    weights = _weighted(read, likely)
    slices = _slices(names, outputs, weights, cuts, found, likely)
    scores = {**{n: x for n, x in found.items() if x.scores}, **dict.fromkeys(likely)}
    return Reference(names, tuple(feeds), outputs, cuts, *slices, weights, logs, given, known, classes, scores)


def _layouts(
    model: Model,
    names: Sequence[str],
    given: Sequence[Sequence[Array]],
    rows: Sequence[Sequence[Array]],
    logs: Collection[str],
) -> dict[str, OutputLayout]:
    """What is known of outputs, but of classifications and of those whose first axis is none of the batch."""
    rowless = {n for i, n in enumerate(names) if any(a[i].ndim != b[i].ndim for a, b in zip(given, rows, strict=True))}
    seen = {n: x.shape for n, x in zip(names, rows[0], strict=True)}
    return {n: x for n, x in layouts(model, seen).items() if n not in rowless and n not in logs}


def _weighted(
    read: Sequence[Mapping[str, Array]], likely: Mapping[str, Sequence[Array]]
) -> tuple[Mapping[str, Array], ...]:
    """What counts how much of every sample's outputs: what is read, and of probabilities what is likely."""
    counted = {n: likelihood(found) for n, found in likely.items()}
    return tuple({**at, **{n: w[i] for n, w in counted.items()}} for i, at in enumerate(read))


def _told(
    names: Sequence[str], given: Sequence[Sequence[Array]], rows: Sequence[Sequence[Array]], parts: Mapping[str, Parts]
) -> tuple[dict[str, Told], frozenset[str]]:
    """What step3 tells of every output, and the outputs that are classifications."""
    known, classes = {}, []
    for i, name in enumerate(names):
        as_given = [sample[i] for sample in given]
        told = told_of(as_given, [sample[i] for sample in rows], parts.get(name))
        known.update({name: told} if told is not None else {})
        classes += [name] if is_classification(as_given) else []
    return known, frozenset(classes)


def _slices(
    names: Sequence[str],
    outputs: Sequence[Sequence[Array]],
    weights: Sequence[Mapping[str, Array]],
    cuts: Mapping[str, Sequence[Cut]],
    known: Mapping[str, OutputLayout],
    likely: Mapping[str, Sequence[Array]],
) -> tuple[Doubles, Doubles, Doubles, Doubles, tuple[tuple[str, int, int], ...]]:
    """Of every slice of every output: signal, share of the whole, tolerated noise, numbers by sample, and place."""
    signal, share, tolerated, counts, labels = [], [], [], [], []
    for i, name in enumerate(names):
        values, layout = [sample[i] for sample in outputs], known.get(name)
        for cut in cuts[name]:
            variance, count = _moments(cut, values, [w.get(name) for w in weights])
            length = values[0].shape[cut.axis] if cut.axis >= 0 else 1
            floors = _floors(variance, cut, layout.parts if layout else None)
            signal.append(np.maximum(variance, floors) if values[0].dtype.kind == "f" else np.ones(len(variance)))
            counts.append(count)
            slices = _likeliest(cut, likely[name]) if name in likely else _alike(cut, len(variance), layout)
            share.append(slices / len(names) / len(cuts[name]))
            starts = cut.starts(length).tolist()
            tolerated.append(_tolerated(layout, cut.axis, [*starts, length], values[0].shape))
            labels += [(name, cut.axis, start) for start in starts]
    ratios = np.concatenate(tolerated)
    gated = [name in weights[0] and name not in likely for name, _, _ in labels]
    shares = np.concatenate(share) * np.where(gated & (ratios == TOLERATED), BESIDE_SCORES, 1.0)
    told = np.concatenate(signal), shares / shares.sum(), ratios
    return (*told, np.concatenate(counts, axis=1), tuple(labels))


def _alike(cut: Cut, slices: int, layout: OutputLayout | None) -> Doubles:
    """The share of each slice of a cut: the parts of an output alike, then the slices of a part alike."""
    parts = layout.parts if layout else None
    if parts is None or cut.axis != parts.axis or cut.sizes or sum(parts.sizes) != slices:
        return np.full(slices, 1.0 / slices)
    return np.repeat([1.0 / len(parts.sizes) / size for size in parts.sizes], parts.sizes)


def _likeliest(cut: Cut, probabilities: Sequence[Array]) -> Doubles:
    """The share of each slice of a classification by position: classes by how likely they ever are."""
    if cut.axis < 0:
        return np.ones(1)
    most = np.max([p.max(tuple(i for i in range(p.ndim) if i != cut.axis)) for p in probabilities], axis=0)
    return np.asarray(most / max(float(most.sum()), TINY), np.float64)


def _tolerated(layout: OutputLayout | None, axis: int, bounds: Sequence[int], shape: Sequence[int]) -> Doubles:
    """Noise over signal around which each slice between ``bounds`` along an axis begins to count."""
    slices = list(pairwise(bounds))
    if layout is None:
        return np.full(len(slices), TOLERATED)
    return np.array([IN_SCORES if layout.are_scores(axis, a, b, shape) else TOLERATED for a, b in slices])


def measured_outputs(session: Session, model: Model) -> tuple[str, ...]:
    """The outputs that hold numbers and that a precision could change: no constants; all, where there is none.

    The states of a recurrent model are no answers: what their errors do shows in the outputs of later steps.
    """
    answers = set(model.answers)
    held = [o for o in session.get_outputs() if o.type.startswith("tensor(") and "string" not in o.type]
    numeric = [o.name for o in held if o.name in answers] or [o.name for o in held]
    return tuple(n for n in numeric if n in model.producers) or tuple(numeric)


def _floors(variance: Doubles, cut: Cut, parts: Parts | None) -> Doubles:
    """The least signal a slice is weighed with."""
    floor = np.full(len(variance), max(SIGNAL_FLOOR * float(variance.max(initial=0.0)), 1e-30))
    if parts is not None and cut.axis == parts.axis and not cut.sizes:
        bounds = np.cumsum([0, *parts.sizes])
        for start, stop in pairwise(bounds):
            floor[start:stop] = np.maximum(floor[start:stop], PART_FLOOR * variance[start:stop].max(initial=0.0))
    return floor


def _moments(cut: Cut, values: Sequence[Array], weights: Sequence[Array | None]) -> tuple[Doubles, Doubles]:
    """Variance of every slice over all samples (two passes, no cancellation) and its numbers, sample by sample."""
    finite = [np.nan_to_num(v.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0) for v in values]
    ones = [np.ones_like(v) if w is None else np.broadcast_to(w, v.shape) for v, w in zip(finite, weights, strict=True)]
    count = np.stack([np.maximum(cut.sums(np.ones_like(v)).sum(0), 1.0) for v in finite])
    total = np.maximum(np.sum([cut.sums(w).sum(0) for w in ones], axis=0), 1e-30)
    mean = np.sum([cut.sums(v * w).sum(0) for v, w in zip(finite, ones, strict=True)], axis=0) / total
    centres = (_spread(cut, mean, v.ndim) for v in finite)
    squares = (cut.sums((v - c) ** 2 * w).sum(0) for v, c, w in zip(finite, centres, ones, strict=True))
    variance = np.sum(list(squares), axis=0) / total
    return np.nan_to_num(variance, nan=0.0, posinf=LOST), count


def _spread(cut: Cut, mean: Doubles, rank: int) -> Doubles:
    """A mean a slice, shaped to broadcast against an output."""
    if cut.axis < 0:
        return mean.reshape((1,) * rank)
    shape = [1] * rank
    shape[cut.axis] = -1
    return (np.repeat(mean, cut.sizes) if cut.sizes else mean).reshape(shape)


@dataclass(frozen=True)
class Objective:
    """Noise to damage: ``weights`` of shape (samples, slices), see the module's text."""

    reference: Reference
    weights: Doubles

    def of(self, sample: int, noise: Doubles) -> Doubles:
        """What one sample adds to the damage: noise (rows, slices) to (rows,)."""
        most = WORST * self.reference.share / len(self.reference.feeds)
        found: Doubles = np.minimum(np.minimum(noise, LOST) * self.weights[sample], most).sum(1)
        return found


def objective(reference: Reference, start: Doubles) -> Objective:
    """Weights that fit the noise ``start`` (samples, slices) of the model with all layers in 8 bits."""
    tolerated = np.maximum(reference.tolerated * reference.signal, np.finfo(np.float64).tiny)
    broken = np.minimum(start, reference.signal)  # lost is lost: what is left after a repair must still count
    return Objective(reference, reference.share / len(reference.feeds) / (tolerated + broken))

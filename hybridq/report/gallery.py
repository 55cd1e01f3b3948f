"""The samples themselves: each one's own SQNR, and the worst and the median with pictures and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.compare import Outputs
from hybridq.compare.by_sample import NoiseBySample, Worst
from hybridq.dataset import Preprocessing, Sample
from hybridq.quant.metrics import sqnr_db
from hybridq.report.pictures import Draw, as_uri, picture_of

Array = NDArray[Any]

WORST, MEDIAN = 6, 3  # samples that are shown
KEPT = 512  # samples of which what is shown is kept until it is known which these are
SMALL, LARGE = 144, 288  # pixels of a thumbnail, and of a picture with something drawn on it
POINTS = 96  # of a curve: each the most extreme of its stretch
OUTPUTS = 3  # of a sample, the most damaged


@dataclass(frozen=True, slots=True)
class Curve:
    """A signal or an output in at most ``POINTS`` values; ``hybrid`` is empty for what was fed."""

    name: str
    float_values: tuple[float, ...]
    hybrid_values: tuple[float, ...]
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Shot:
    """One sample: its name, ``number`` from 0, the lowest SQNR of its outputs in dB, pictures as URIs.

    ``worst_sqnr_db`` is that of its worst slice, in ``worst_output``, which is empty where only whole outputs were
    judged. ``drawn`` are float's and the hybrid model's
    outputs drawn on it.
    """

    name: str
    number: int
    sqnr_db: float
    picture: str
    drawn: tuple[str, ...]
    wave: tuple[float, ...]
    outputs: tuple[Curve, ...]
    worst_sqnr_db: float = math.inf
    worst_output: str = ""


@dataclass
class Gallery:
    """Watches a comparison; ``coming`` says what the next sample is called."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    draw: Draw | None = None
    sqnr: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kept: dict[int, Shot] = field(default_factory=dict)
    noise: NoiseBySample = field(default_factory=NoiseBySample)

    def feeds(self, samples: Any) -> Iterator[dict[str, Array]]:
        """The feeds of samples, their names taken down."""
        sample: Sample
        for sample in samples:
            self.names.append(sample.name)
            yield sample.feed

    def add(self, feed: Any, reference: Outputs, outputs: Outputs) -> None:
        """Take in one sample."""
        number = len(self.sqnr)
        shown = {n: a for n, a in reference.items() if _shows(a, outputs[n])}
        curves = [_curve(n, a, outputs[n]) for n, a in shown.items()]
        self.noise.add(shown, outputs)
        lowest = min((c.sqnr_db for c in curves), default=math.inf)
        self.sqnr.append(lowest)
        if number < KEPT:
            self.kept[number] = self._shot(number, lowest, feed, reference, outputs, curves)

    def worst(self) -> list[Worst]:
        """Of every sample the worst slice."""
        return self.noise.worst()

    def shots(self) -> tuple[Shot, ...]:
        """The samples with the worst slices, then those in the middle."""
        worst = self.worst()
        order = sorted(self.kept, key=lambda i: (worst[i].sqnr_db, self.sqnr[i], i))
        middle = order[WORST:][max(0, len(order) // 2 - WORST) :][:MEDIAN]
        chosen = [*order[:WORST], *middle]
        return tuple(
            replace(
                self.kept[i],
                worst_sqnr_db=worst[i].sqnr_db,
                worst_output=worst[i].output if worst[i].is_sliced else "",
            )
            for i in chosen
        )

    def _shot(
        self, number: int, lowest: float, feed: Any, reference: Outputs, outputs: Outputs, curves: list[Curve]
    ) -> Shot:
        pictures = (picture_of(n, x, self.preprocessing, self.preprocessing.channel_order) for n, x in feed.items())
        picture = next((p for p in pictures if p is not None), None)
        wave = next((x for x in feed.values() if x.dtype.kind == "f" and x.size > POINTS), None)
        drawn: tuple[str, ...] = ()
        if picture is not None and self.draw is not None:
            drawn = tuple(as_uri(self.draw(picture, one), LARGE) for one in (reference, outputs))
        return Shot(
            self.names[number] if number < len(self.names) else f"sample {number + 1}",
            number,
            lowest,
            as_uri(picture, SMALL) if picture is not None else "",
            drawn,
            _thinned(wave) if picture is None and wave is not None else (),
            tuple(sorted(curves, key=lambda c: c.sqnr_db)[:OUTPUTS]),
        )


def _shows(a: Any, b: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size > 0 and np.shape(a) == np.shape(b)


def _curve(name: str, a: Array, b: Array) -> Curve:
    at = _places(a)
    return Curve(name, _short(a.reshape(-1)[at]), _short(b.reshape(-1)[at]), sqnr_db(a, b))


def _places(values: Array) -> NDArray[np.int64]:
    """Of every stretch the element that is farthest from the mean."""
    flat = values.reshape(-1).astype(np.float64)
    flat = np.where(np.isfinite(flat), flat, 0.0)
    flat = np.abs(flat - flat.mean())
    if flat.size <= POINTS:
        return np.arange(flat.size)
    ends = np.linspace(0, flat.size, POINTS + 1).astype(int)
    return np.array([s + int(flat[s:e].argmax()) for s, e in pairwise(ends.tolist())])


def _thinned(values: Array) -> tuple[float, ...]:
    return _short(values.reshape(-1)[_places(values)])


def _short(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{float(v):.4g}") for v in values)

"""Cosine, SQNR (whole and by slice), MSE, largest error: pure NumPy, and streaming over samples.

Every figure compares a reference with an approximation ``x`` of the same shape; noise is ``reference - x``. Integers
and bools count as real numbers. Sums are float64. Where both hold the same NaN or infinity there is no noise; a NaN or
infinity on one side only is infinite noise: SQNR is then ``-inf`` and the cosine 0. Empty arrays are identical.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Doubles = NDArray[np.float64]

SINGLES = 64  # an axis whose slices hold one number a sample is cut only up to this many slices
BLOCK = 1 << 13  # elements taken in at once: they stay in the cache
SIGNAL_FLOOR = 1e-10  # of the strongest slice's variance: what has less says nothing
PART_FLOOR = 1e-2  # the same within one concatenated part: classes that no sample shows are weighed as if they had it
CONSTANT = 1e-9  # of a slice's own power: what varies less is a constant, as float32 rounds it


class Largest(NamedTuple):
    """The largest ``|reference - x|`` and where it is, ``()`` when there is no element."""

    error: float
    at: tuple[int, ...]


NO_ERROR = Largest(0.0, ())


class Parts(NamedTuple):
    """Where a Concat joined an output: the axis and the sizes of its inputs along it."""

    axis: int
    sizes: tuple[int, ...]


class Slice(NamedTuple):
    """One cut of an output, ``[start, stop)`` along ``axis``; axis -1 is the whole output, uncut.

    ``sqnr_db`` is the slice's variance over its noise, ``signal`` that variance summed over its numbers. ``varies``: it
    had signal; a constant slice has nothing to lose that could be told in dB.
    """

    axis: int
    start: int
    stop: int
    sqnr_db: float
    varies: bool = True
    signal: float = 0.0


def decibel(signal: float, noise: float) -> float:
    """``10 * log10(signal / noise)``: ``inf`` without noise, else ``-inf`` without signal or with infinite noise."""
    if noise == 0.0:
        return math.inf
    if signal == 0.0 or not math.isfinite(noise):
        return -math.inf
    return 10.0 * (math.log10(signal) - math.log10(noise))


def sqnr_db(reference: Array, x: Array) -> float:
    """Signal to quantization noise ``10 * log10(sum(reference ** 2) / sum((reference - x) ** 2))`` in dB."""
    if np.shape(reference) != np.shape(x):
        raise ValueError(f"cannot compare shapes {np.shape(reference)} and {np.shape(x)}")
    damage = Damage()
    damage.add(reference, x)
    return damage.sqnr_db


def cut_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes along which an output of ``shape`` (batch first) is cut: channels (axis 1) and the last axis.

    Of three axes only the shorter is channels, the other one positions: ``[1, 84, 8400]`` is cut along 1 and
    ``[1, 25200, 85]`` along 2. Of a square map, ``[1, 255, 20, 20]``, the last axis is positions too. An axis of one
    slice says nothing, and many slices of a single number (the logits of 1000 classes) say only which number was near
    zero: both are left whole.
    """
    axes = {axis for axis in (1, len(shape) - 1) if 0 < axis < len(shape) and shape[axis] > 1}
    if len(shape) == 3 and len(axes) == 2:
        axes = {1 if shape[1] <= shape[2] else 2}
    if len(shape) > 3 and shape[-1] == shape[-2]:
        axes.discard(len(shape) - 1)
    positions = {axis: math.prod(shape[1:]) // shape[axis] for axis in axes}
    return tuple(sorted(axis for axis in axes if positions[axis] > 1 or shape[axis] <= SINGLES))


@dataclass(slots=True)
class Damage:
    """Sums over samples from which every whole-tensor figure follows; no array is kept.

    ``largest.at`` starts with the sample's number. ``mismatched`` counts samples whose shapes differed (outputs of
    data-dependent size): they have no other part in the figures. ``nonfinite`` counts NaN and infinities that one side
    alone has.
    """

    samples: int = 0
    count: int = 0
    signal: float = 0.0
    noise: float = 0.0
    power: float = 0.0
    product: float = 0.0
    largest: Largest = NO_ERROR
    nonfinite: int = 0
    mismatched: int = 0

    def add(self, reference: Array, x: Array) -> None:
        """Take in one sample's pair."""
        self.samples += 1
        if np.shape(reference) != np.shape(x):
            self.mismatched += 1
            return
        a, b = np.ravel(reference), np.ravel(x)
        most, at = -1.0, 0
        for start in range(0, a.size, BLOCK):
            found, where = self._add_block(_doubles(a[start : start + BLOCK]), _doubles(b[start : start + BLOCK]))
            if found > most:
                most, at = found, start + where
        self.count += a.size
        if most > self.largest.error or (a.size and not self.largest.at):
            index = tuple(int(i) for i in np.unravel_index(at, np.shape(reference)))
            self.largest = Largest(most, (self.samples - 1, *index))

    def merge(self, other: Damage) -> None:
        """Take in what another measured on the samples that follow this one's."""
        if other.largest.error > self.largest.error or not self.largest.at:
            at = other.largest.at
            shifted = (at[0] + self.samples, *at[1:]) if at else ()
            self.largest = Largest(other.largest.error, shifted)
        self.samples += other.samples
        self.count += other.count
        self.signal += other.signal
        self.noise += other.noise
        self.power += other.power
        self.product += other.product
        self.nonfinite += other.nonfinite
        self.mismatched += other.mismatched

    @property
    def sqnr_db(self) -> float:
        """Over all samples together; ``-inf`` as soon as one sample's shape differed."""
        return -math.inf if self.mismatched else decibel(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        """Of all samples laid end to end; 0 as soon as one sample's shape differed."""
        if self.mismatched or not math.isfinite(self.noise):
            return 0.0
        if self.noise == 0.0:
            return 1.0
        norm = math.sqrt(self.signal) * math.sqrt(self.power)
        return max(-1.0, min(1.0, self.product / norm)) if norm else 0.0

    @property
    def mse(self) -> float:
        """Mean over every element of every sample."""
        return self.noise / self.count if self.count else 0.0

    @property
    def euclidean(self) -> float:
        """Distance a sample: the root of the mean over samples of the squared distance."""
        return math.sqrt(self.noise / max(1, self.samples - self.mismatched))

    @property
    def normalized_euclidean(self) -> float:
        """``|reference - x| / |reference|``; ``inf`` where there is noise and no signal."""
        if self.noise == 0.0:
            return 0.0
        return math.sqrt(self.noise / self.signal) if self.signal else math.inf

    @property
    def identical(self) -> bool:
        """Whether no element of any sample differed."""
        return self.noise == 0.0 and self.mismatched == 0 and self.largest.error == 0.0

    def _add_block(self, a: Doubles, b: Doubles) -> tuple[float, int]:
        """Sums of one block; gives the largest error and where it is in the block."""
        signal, power = _dot(a, a), _dot(b, b)
        if math.isfinite(signal) and math.isfinite(power):
            noise = a - b
        else:
            noise = _noise(a, b)
            self.nonfinite += int(np.isinf(noise).sum())
            a, b = _finite(a), _finite(b)
            signal, power = _dot(a, a), _dot(b, b)
        self.signal += signal
        self.power += power
        self.product += _dot(a, b)
        self.noise += _dot(noise, noise)
        at = int(np.abs(noise).argmax())
        return float(abs(noise[at])), at


@dataclass(slots=True)
class SliceDamage:
    """Sums over samples from which the SQNR of the whole and of every slice follows; see ``cut_axes``.

    The axes are chosen by the first sample's shape. An axis whose size later differs is dropped (data-dependent size).
    ``parts`` are cut besides the single slices. ``whole`` and, by axis, ``sums`` hold rows of numbers: the reference's
    square, the noise's square, the reference itself, and how many.
    """

    parts: Parts | None = None
    whole: Doubles = field(default_factory=lambda: np.zeros(4))
    single: tuple[int, ...] | None = None
    sums: dict[int, Doubles] = field(default_factory=dict)
    mismatched: int = 0

    def add(self, reference: Array, x: Array) -> None:
        """Take in one sample's pair; a pair of differing shapes is only counted."""
        if np.shape(reference) != np.shape(x):
            self.mismatched += 1
            return
        a = _doubles(reference)
        finite, noise = _finite(a), _noise(a, _doubles(x))
        terms = (np.square(finite), np.square(noise), finite)
        self.whole = self.whole + np.array([*(t.sum() for t in terms), a.size])
        if self.single is None:
            self.single = cut_axes(a.shape)
            if not self._has_parts(a.shape):
                self.parts = None
            axes = {*self.single, self.parts.axis} if self.parts else self.single
            self.sums = {axis: np.zeros((4, a.shape[axis])) for axis in axes}
        self.sums = {
            axis: total + _along(axis, terms)
            for axis, total in self.sums.items()
            if axis < a.ndim and a.shape[axis] == total.shape[1]
        }

    def merge(self, other: SliceDamage) -> None:
        """Take in what another measured on further samples of the same output."""
        self.mismatched += other.mismatched
        if other.single is None:
            return
        if self.single is None:
            self.whole, self.single, self.sums = other.whole, other.single, dict(other.sums)
            return
        self.whole = self.whole + other.whole
        pairs = {axis: (total, other.sums.get(axis)) for axis, total in self.sums.items()}
        self.sums = {axis: a + b for axis, (a, b) in pairs.items() if b is not None and a.shape == b.shape}

    @property
    def sqnr_db(self) -> float:
        """Of the whole, as ``Damage`` says it."""
        return -math.inf if self.mismatched else decibel(float(self.whole[0]), float(self.whole[1]))

    def slices(self) -> list[Slice]:
        """Every slice, in the order of axes and indices, concatenated parts first."""
        found: list[Slice] = []
        axes = sorted(set(self.single or ()) & set(self.sums))
        if self.parts is not None and self.parts.axis in self.sums:
            bounds = np.cumsum([0, *self.parts.sizes])
            found += _slices(self.parts.axis, bounds, np.add.reduceat(self.sums[self.parts.axis], bounds[:-1], axis=1))
        for axis in axes:
            inside = self.parts.sizes if self.parts is not None and self.parts.axis == axis else ()
            found += _slices(axis, np.arange(self.sums[axis].shape[1] + 1), self.sums[axis], inside)
        return found

    def worst(self) -> Slice:
        """The slice that varies with the least SQNR, the first among equals; the whole (axis -1) if it has still less.

        So it does where nothing is cut, and where the noise lies in constant slices.
        """
        whole = Slice(-1, 0, 1, self.sqnr_db, signal=float(self.whole[0]))
        return min([*(one for one in self.slices() if one.varies), whole], key=lambda one: one.sqnr_db)

    def _has_parts(self, shape: tuple[int, ...]) -> bool:
        parts = self.parts
        return parts is not None and 0 <= parts.axis < len(shape) and sum(parts.sizes) == shape[parts.axis]


@dataclass(slots=True)
class CenteredDamage:
    """Sums over samples from which the *centered* SQNR of an output follows: noise against what varies over samples.

    With ``mean[j]`` the reference's mean of element j over the samples::

        centered = 10 log10(sum over samples and j of (reference[j] - mean[j]) ** 2 / sum of (reference - x) ** 2)

    It is ``-10 log10(1 - R2)`` of the variance-weighted coefficient of determination (scikit-learn's
    ``r2_score(multioutput="variance_weighted")``). What an output says of every sample alike, such as the mean face of
    a landmark model, counts for nothing. ``first`` is the first sample: sums are of differences from it.
    """

    first: Doubles | None = None
    moved: Doubles = field(default_factory=lambda: np.zeros(0))
    square: float = 0.0
    power: float = 0.0
    noise: float = 0.0
    samples: int = 0
    mismatched: int = 0

    def add(self, reference: Array, x: Array) -> None:
        """Take in one sample's pair; one of another shape than the first is only counted."""
        a = _finite(_doubles(reference))
        if np.shape(reference) != np.shape(x) or (self.first is not None and self.first.shape != a.shape):
            self.mismatched += 1
            return
        if self.first is None:
            self.first, self.moved = a, np.zeros(a.shape)
        difference = a - self.first
        self.moved = self.moved + difference
        self.square += float(np.square(difference).sum())
        self.power += float(np.square(a).sum())
        self.noise += float(np.square(_noise(_doubles(reference), _doubles(x))).sum())
        self.samples += 1

    @property
    def sqnr_db(self) -> float | None:
        """In dB; None for fewer than two samples, outputs of varying shape, and those that are the same for all."""
        return None if self._varying is None else decibel(self._varying, self.noise)

    @property
    def share_db(self) -> float | None:
        """How far the centered SQNR is from that of the whole, in dB: what varies over all power, of the reference."""
        return None if self._varying is None else decibel(self._varying, self.power)

    @property
    def _varying(self) -> float | None:
        signal = self.square - float(np.square(self.moved).sum()) / max(self.samples, 1)
        return None if self.samples < 2 or self.mismatched or signal <= CONSTANT * self.power else signal


def _along(axis: int, terms: Sequence[Doubles]) -> Doubles:
    """Sums of each term over all other axes, and how many numbers they are of: shape (terms + 1, size)."""
    others = tuple(i for i in range(terms[0].ndim) if i != axis)
    size = terms[0].shape[axis]
    return np.stack([*(t.sum(others) for t in terms), np.full(size, terms[0].size / max(size, 1))])


def _slices(axis: int, bounds: NDArray[np.int64], sums: Doubles, parts: Sequence[int] = ()) -> list[Slice]:
    """Slices between ``bounds`` from their sums, shape (4, slices); ``parts`` are floored each by its strongest."""
    square, noise, total, count = sums
    count = np.maximum(count, 1.0)
    variance = np.maximum(square - total**2 / count, 0.0)
    varies = variance > np.maximum(SIGNAL_FLOOR * variance.max(initial=0.0), CONSTANT * square)
    signal = np.maximum(variance, SIGNAL_FLOOR * variance.max(initial=0.0))
    for start, stop in pairwise(np.cumsum([0, *parts])):
        signal[start:stop] = np.maximum(signal[start:stop], PART_FLOOR * signal[start:stop].max(initial=0.0))
    rows = zip(pairwise(bounds.tolist()), signal.tolist(), noise.tolist(), varies.tolist(), strict=True)
    return [Slice(axis, start, stop, decibel(s, n), v, s) for (start, stop), s, n, v in rows]


def _doubles(x: Array) -> Doubles:
    return np.asarray(x).astype(np.float64)


def _dot(a: Doubles, b: Doubles) -> float:
    """``sum(a * b)``, not by BLAS: its threads wait actively, which on a busy machine costs far more than the sum."""
    return float(np.einsum("i,i->", a, b))


def _finite(a: Doubles) -> Doubles:
    """``a`` with zero where there is no number."""
    return a if np.isfinite(a).all() else np.where(np.isfinite(a), a, 0.0)


def _noise(a: Doubles, b: Doubles) -> Doubles:
    """``a - b`` with NaN and infinities settled: zero where both are the same, infinite where they are not."""
    with np.errstate(invalid="ignore"):
        noise: Doubles = np.asarray(a - b)
    if np.isfinite(noise).all():
        return noise
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    noise[~np.isfinite(noise)] = np.inf
    noise[same] = 0.0
    return noise

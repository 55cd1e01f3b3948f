"""Running figures of what enters one input: ranges and sums by channel, extremes by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hybridq.dataset.spec import Array, InputSpec

MOST_CHANNELS = 16  # above it an axis holds features, and one row says enough


Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the summary. ``channel`` is None where the row speaks of the whole input."""

    input: str
    channel: int | None
    min: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True)
class SampleName:
    """A sample as a message names it."""

    file: str
    line: int

    def __str__(self) -> str:
        return repr(self.file)

    @property
    def located(self) -> str:
        """The file with its line, where it has one."""
        return f"{self} (line {self.line})" if self.line else str(self)


@dataclass
class InputFigures:
    """Running figures of one input; per-channel arrays have the shape [channels]."""

    spec: InputSpec
    low: Float64 = field(default_factory=lambda: np.zeros(0))
    high: Float64 = field(default_factory=lambda: np.zeros(0))
    totals: list[Float64] = field(default_factory=list)  # sums by channel, a sample each
    elements: int = 0  # a channel
    extremes: list[tuple[float, float]] = field(default_factory=list)  # one pair a sample
    places: list[SampleName] = field(default_factory=list)
    not_finite: list[tuple[SampleName, str]] = field(default_factory=list)
    infinite: list[tuple[SampleName, str]] = field(default_factory=list)
    constant: list[tuple[SampleName, float]] = field(default_factory=list)
    images: int = 0

    def add(self, values: Array, place: SampleName, image: bool) -> Float64:
        """Take one sample in; gives [3, channels]: its min, max and sum."""
        figures = channel_figures(values, self.spec)
        finite = bool(np.isfinite(figures[:2]).all())
        if not finite and not np.isnan(figures[:2]).any():
            self.infinite.append((place, _count_not_finite(values)))
            figures = channel_figures(np.where(np.isinf(values), values.dtype.type(0), values), self.spec)
            finite = bool(np.isfinite(figures[:2]).all())
        if not figures.size or not finite:
            if figures.size:
                self.not_finite.append((place, _count_not_finite(values)))
            return figures
        low, high, total = figures
        if not self.elements:
            self.low, self.high = low, high
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.totals.append(total)
        self.elements += values.size // len(low)
        self.images += image
        least, most = float(low.min()), float(high.max())
        self.extremes.append((least, most))
        self.places.append(place)
        if least == most and values.size > 1:
            self.constant.append((place, least))
        return figures

    def merge(self, later: InputFigures) -> None:
        """Take in what was seen of samples that follow."""
        if later.elements:
            self.low = np.minimum(self.low, later.low) if self.elements else later.low
            self.high = np.maximum(self.high, later.high) if self.elements else later.high
        self.elements += later.elements
        self.images += later.images
        for name in ("totals", "extremes", "places", "not_finite", "infinite", "constant"):
            getattr(self, name).extend(getattr(later, name))

    @property
    def magnitudes(self) -> list[float]:
        """The largest absolute value of each sample."""
        return [max(-low, high) for low, high in self.extremes]

    @property
    def rows(self) -> list[AuditRow]:
        """The summary, a row a channel."""
        if not self.elements:
            return []
        mean = [math.fsum(channel) / self.elements for channel in zip(*self.totals, strict=True)]
        name, single = self.spec.name, len(mean) == 1
        figures = zip(self.low.tolist(), self.high.tolist(), mean, strict=True)
        return [AuditRow(name, None if single else c, *each) for c, each in enumerate(figures)]


def channel_figures(values: Array, spec: InputSpec) -> Float64:
    """[3, channels]: min, max and sum of each channel; one column where the input has none or too many."""
    axis = spec.channel_axis
    if not values.size:
        return np.zeros((3, 0))
    if axis is None or axis >= values.ndim or not 1 < values.shape[axis] <= MOST_CHANNELS:
        parts = [values.reshape(-1)]
    else:
        parts = [values[(slice(None),) * axis + (channel,)] for channel in range(values.shape[axis])]
    with np.errstate(invalid="ignore", over="ignore"):
        return np.array([[p.min() for p in parts], [p.max() for p in parts], [_sum(p) for p in parts]], np.float64)


def _sum(values: Array) -> float:
    # float32 adds pairwise and is three times as fast as a float64 accumulator; the mean is only printed
    return float(values.sum(dtype=np.float32 if values.dtype == np.float32 else np.float64))


def _count_not_finite(values: Array) -> str:
    nan, inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    return " and ".join(f"{count} {what}" for count, what in ((nan, "NaN"), (inf, "Inf")) if count)

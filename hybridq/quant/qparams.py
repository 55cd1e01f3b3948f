"""``Range`` and ``QParams``, and the one way from a range to its scale, zero point and headroom.

Both are frozen and checked on construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.dtypes import Precision, Scheme, Storage

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Range:
    """A closed real interval ``[min, max]``, finite, ``min <= max``."""

    min: float
    max: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min) and math.isfinite(self.max)):
            raise ValueError(f"a range must be finite, got [{self.min}, {self.max}]")
        if self.min > self.max:
            raise ValueError(f"a range needs min <= max, got [{self.min}, {self.max}]")

    def with_zero(self) -> Range:
        """The smallest range that contains this one and zero, which every quantizer must hit exactly."""
        return Range(min(self.min, 0.0), max(self.max, 0.0))

    def union(self, other: Range) -> Range:
        """The smallest range that contains both."""
        return Range(min(self.min, other.min), max(self.max, other.max))

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(abs(self.min), abs(self.max))


@dataclass(frozen=True, slots=True, eq=False)
class QParams:
    """``real = scale * (q - zero_point)``, per tensor or along ``axis``.

    ``scale`` is float32 and ``zero_point`` int32, both of shape ``()`` per tensor or ``(channels,)`` per channel.
    ``axis`` is the channel axis, None per tensor.
    """

    precision: Precision
    scheme: Scheme
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float32))
        object.__setattr__(self, "zero_point", np.asarray(self.zero_point, np.int32))
        if not self.precision.is_integer:
            raise ValueError(f"{self.precision} has no quantization parameters")
        if self.scale.shape != self.zero_point.shape or self.scale.ndim != (self.axis is not None):
            raise ValueError(
                f"scale {self.scale.shape}, zero_point {self.zero_point.shape} do not fit axis {self.axis}"
            )
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError(f"a scale must be finite and above 0, got {self.scale.min()}")
        if self.zero_point.min(initial=0) < min(self.qmin, 0) or self.zero_point.max(initial=0) > self.qmax:
            raise ValueError(f"zero_point {self.zero_point} does not fit {self.precision}")

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        return self.precision.qmin

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return self.precision.qmax

    @property
    def range(self) -> Range:
        """What the integers can say, over all channels."""
        scale = self.scale.astype(np.float64)
        low = scale * (self.qmin - self.zero_point.astype(np.float64))
        high = scale * (self.qmax - self.zero_point.astype(np.float64))
        return Range(float(low.min()), float(high.max()))

    def same_as(self, other: QParams) -> bool:
        """Whether both map every integer to the same real value."""
        return (
            self.precision is other.precision
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


def qparams_of_ranges(
    low: NDArray[np.floating] | float,
    high: NDArray[np.floating] | float,
    precision: Precision,
    scheme: Scheme,
    axis: int | None = None,
) -> QParams:
    """Parameters for the real range ``[low, high]`` (scalars, or one pair a channel), widened to contain zero.

    asymmetric: ``scale = (high - low) / (qmax - qmin)``, ``zero_point = rint(qmin - low / scale)`` (halves to even,
    saturated, in float64; the scale is then stored as float32). symmetric: ``scale = amax / qmax`` with zero point 0
    (the middle, 128, for unsigned integers). dynamic fixed point: symmetric with the scale raised to a power of two.
    An empty range gets the scale 1.
    """
    lo, hi = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise ValueError(f"a range must be finite, got [{lo.min()}, {hi.max()}]")
    lo, hi = np.minimum(lo, 0.0), np.maximum(hi, 0.0)
    qmin, qmax = precision.qmin, precision.qmax
    if scheme is Scheme.ASYMMETRIC:
        scale = (hi - lo) / (qmax - qmin)
        scale = np.where(scale < TINY, 1.0, scale)
        zero_point = rounded_zero_point(qmin - lo / scale, precision)
    else:
        middle = (qmin + qmax + 1) // 2
        scale = np.maximum(-lo, hi) / (qmax - middle)
        scale = np.where(scale < TINY, 1.0, scale)
        if scheme is Scheme.DYNAMIC_FIXED_POINT:
            scale = np.exp2(np.ceil(np.log2(scale)))
        zero_point = np.full(scale.shape, middle)
    return QParams(precision, scheme, scale.astype(np.float32), zero_point.astype(np.int32), axis)


def rounded_zero_point(exact: NDArray[np.float64] | float, precision: Precision) -> NDArray[np.float64]:
    """The zero point nearest to where zero would lie exactly: halves to even, saturated."""
    return np.clip(np.rint(exact), precision.qmin, precision.qmax)


def range_params(r: Range, storage: Storage, *, fixed: bool = False) -> QParams:
    """Parameters of an activation with a range, which is widened by the headroom of how it is stored.

    Nothing leaves a ``fixed`` range (a Sigmoid's), and a power-of-two scale is wide already: these need no headroom.
    """
    if storage.scheme is None:
        raise ValueError(f"{storage.dtype} has no quantization parameters")
    factor = 1.0 if fixed or storage.scheme is Scheme.DYNAMIC_FIXED_POINT else storage.headroom
    return qparams_of_ranges(r.min * factor, r.max * factor, storage.dtype, storage.scheme)


def fraction_length(scale: float) -> int:
    """``fl`` of dynamic fixed point: ``scale = 2 ** -fl``. Raises ValueError when the scale is no power of two."""
    mantissa, exponent = math.frexp(scale)
    if mantissa != 0.5:
        raise ValueError(f"scale {scale} is no power of two")
    return 1 - exponent

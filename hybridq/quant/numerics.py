"""Quantize, dequantize, range to parameters: pure NumPy.

Formulas follow the ONNX operators QuantizeLinear and DequantizeLinear (https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

import math
import struct
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams

T = TypeVar("T", bound=np.generic)
TINY = float(np.finfo(np.float32).tiny)


_SINGLE = struct.Struct("<f")


def along(values: NDArray[T], axis: int | None, ndim: int) -> NDArray[T]:
    """Per-channel ``values`` of shape (channels,) shaped to broadcast against ``ndim`` axes; scalars pass through."""
    if axis is None:
        return values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


def quantize(x: NDArray[np.floating], p: QParams) -> NDArray[np.integer]:
    """Map real values, any shape, to integers: ``q = saturate(rint(x / scale) + zero_point)``.

    The division is float32 as in ONNX's QuantizeLinear, halves round to the even neighbour, values out of range
    saturate. NaN is not allowed. Returns the stored type of ``p.precision``.
    """
    scale = along(p.scale, p.axis, x.ndim)
    with np.errstate(over="ignore"):  # an infinite quotient saturates as it should
        q = np.asarray(x.astype(np.float32, copy=False) / scale)  # the one copy: weights may be large
    np.rint(q, out=q)
    q += along(p.zero_point, p.axis, x.ndim).astype(np.float32)
    np.clip(q, p.qmin, p.qmax, out=q)
    return q.astype(p.precision.numpy)


def dequantize(q: NDArray[np.integer], p: QParams) -> NDArray[np.float32]:
    """Map integers, any shape, to float32: ``real = scale * (q - zero_point)``."""
    steps = q.astype(np.int32) - along(p.zero_point, p.axis, q.ndim)
    return steps.astype(np.float32) * along(p.scale, p.axis, q.ndim)


def fake_quantize(x: NDArray[np.floating], p: QParams) -> NDArray[np.float32]:
    """What remains of ``x`` after being quantized and dequantized."""
    return dequantize(quantize(x, p), p)


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
        zero_point = np.clip(np.rint(qmin - lo / scale), qmin, qmax)
    else:
        middle = (qmin + qmax + 1) // 2
        scale = np.maximum(-lo, hi) / (qmax - middle)
        scale = np.where(scale < TINY, 1.0, scale)
        if scheme is Scheme.DYNAMIC_FIXED_POINT:
            scale = np.exp2(np.ceil(np.log2(scale)))
        zero_point = np.full(scale.shape, middle)
    return QParams(precision, scheme, scale.astype(np.float32), zero_point.astype(np.int32), axis)


def fraction_length(scale: float) -> int:
    """``fl`` of dynamic fixed point: ``scale = 2 ** -fl``. Raises ValueError when the scale is no power of two."""
    mantissa, exponent = math.frexp(scale)
    if mantissa != 0.5:
        raise ValueError(f"scale {scale} is no power of two")
    return 1 - exponent


def float32_text(value: float) -> str:
    """The shortest decimal that reads back to the same float32, always with a point or an exponent and a point."""
    text = np.format_float_positional(np.float32(value), unique=True, trim="0")
    if len(text) <= 16:
        return text
    mantissa, _, exponent = np.format_float_scientific(np.float32(value), unique=True, trim="0").partition("e")
    return f"{mantissa}e{int(exponent):+03d}"


def single(value: float) -> float:
    """``value`` rounded to float32; infinite beyond it."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded

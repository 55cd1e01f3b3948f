"""Quantize and dequantize: pure NumPy.

Formulas follow the ONNX operators QuantizeLinear and DequantizeLinear (https://onnx.ai/onnx/operators).
"""

from __future__ import annotations

import struct
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hybridq.quant.qparams import QParams

T = TypeVar("T", bound=np.generic)
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

"""What ONNX Runtime's integer kernels compute, in NumPy and bit for bit: the oracle for single 8-bit layers.

Every kernel sums ``(x - x_zero_point) * (w - w_zero_point)`` exactly, adds the int32 bias, and requantizes::

    y = saturate(rint(float32(sum) * float32(x_scale * w_scale / y_scale)) + y_zero_point)

with halves to the even neighbour and every product and quotient rounded to float32, left to right. Without an output
quantizer the result is ``float32(sum) * float32(x_scale * w_scale)``. An activation folded into the layer is the
saturation itself: Relu where ``y_zero_point == qmin``. Operators: https://onnx.ai/onnx/operators (QLinearConv,
QLinearMatMul) and ``com.microsoft.QGemm``, ``MatMulIntegerToFloat``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hybridq.quant.numerics import along
from hybridq.quant.qparams import QParams

Accumulator = NDArray[np.int64]
INT32 = np.iinfo(np.int32)


def qlinear_conv(
    x: NDArray[np.integer],
    x_params: QParams,
    w: NDArray[np.integer],
    w_params: QParams,
    bias: NDArray[np.integer] | None,
    y_params: QParams,
    *,
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
) -> NDArray[np.integer]:
    """QLinearConv: ``x`` (N, C, spatial...), ``w`` (O, C / group, kernel...), ``bias`` int32 (O,) -> (N, O, out...).

    ``pads`` are ONNX's: all begins, then all ends; padding is real zero, so it adds nothing to the sum. Weights are
    quantized per tensor or along axis 0. Raises OverflowError where a sum leaves int32.
    """
    rank = w.ndim - 2
    strides, dilations = list(strides) or [1] * rank, list(dilations) or [1] * rank
    pads = list(pads) or [0] * (2 * rank)
    steps = np.pad(_steps(x, x_params), [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    windows = _windows(steps, w.shape[2:], strides, dilations)
    weights = _steps(w, w_params)
    parts = [
        np.tensordot(values, filters, axes=([1, *range(2 + rank, 2 + 2 * rank)], [1, *range(2, 2 + rank)]))
        for values, filters in zip(np.split(windows, group, axis=1), np.split(weights, group, axis=0), strict=True)
    ]
    sums = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return _finish(sums, bias, x_params, w_params, y_params, axis=1)


def qgemm(
    a: NDArray[np.integer],
    a_params: QParams,
    b: NDArray[np.integer],
    b_params: QParams,
    bias: NDArray[np.integer] | None,
    y_params: QParams | None,
    *,
    trans_b: bool = False,
) -> NDArray[Any]:
    """QGemm: ``a`` (M, K), ``b`` (K, N) or, with ``trans_b``, (N, K), ``bias`` int32 (N,) -> (M, N).

    Weights are quantized per tensor or by output column. ``y_params`` None gives float32.
    """
    steps = _steps(b, b_params)
    return _finish(_steps(a, a_params) @ (steps.T if trans_b else steps), bias, a_params, b_params, y_params, axis=1)


def qlinear_matmul(
    a: NDArray[np.integer],
    a_params: QParams,
    b: NDArray[np.integer],
    b_params: QParams,
    y_params: QParams | None,
) -> NDArray[Any]:
    """QLinearMatMul, or MatMulIntegerToFloat where ``y_params`` is None: NumPy's ``matmul`` with its broadcasting.

    ``b`` is quantized per tensor or, when it has two axes, by output column.
    """
    sums = np.matmul(_steps(a, a_params), _steps(b, b_params))
    return _finish(sums, None, a_params, b_params, y_params, axis=sums.ndim - 1)


def _steps(q: NDArray[np.integer], p: QParams) -> Accumulator:
    """Integers relative to their zero point: multiples of the scale."""
    return q.astype(np.int64) - along(p.zero_point, p.axis, q.ndim)


def _windows(
    x: Accumulator, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> NDArray[np.int64]:
    """Every kernel position of padded ``x`` (N, C, spatial...): (N, C, out..., kernel...), a view."""
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = sliding_window_view(x, extent, axis=tuple(range(2, x.ndim)))
    steps = [slice(None, None, s) for s in (1, 1, *strides, *dilations)]
    found: NDArray[np.int64] = view[tuple(steps)]
    return found


def _finish(
    sums: Accumulator,
    bias: NDArray[np.integer] | None,
    x_params: QParams,
    w_params: QParams,
    y_params: QParams | None,
    axis: int,
) -> NDArray[Any]:
    """Bias, then float32 or requantized; ``axis`` is the output-channel axis of ``sums``."""
    if bias is not None:
        sums = sums + along(bias.astype(np.int64), axis, sums.ndim)
    if sums.size and (sums.min() < INT32.min or sums.max() > INT32.max):
        raise OverflowError(f"a sum of {sums.min()}..{sums.max()} leaves the int32 accumulator")
    scale = x_params.scale * w_params.scale
    if y_params is None:
        return sums.astype(np.float32) * along(scale, _axis(scale, axis), sums.ndim)
    scaled = sums.astype(np.float32) * along(scale / y_params.scale, _axis(scale, axis), sums.ndim)
    q = np.rint(scaled).astype(np.int64) + y_params.zero_point
    y: NDArray[np.integer] = np.clip(q, y_params.qmin, y_params.qmax).astype(y_params.precision.numpy)
    return y


def _axis(scale: NDArray[np.float32], axis: int) -> int | None:
    return axis if scale.ndim else None

"""What follows from how an operator's weights lie: the axis of output channels, multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.operators.columns import Layout

Shape = tuple[int | str, ...]


def weight_axis(layout: Layout, attributes: Mapping[str, Any], index: int, rank: int) -> int | None:
    """The output-channel axis of input ``index``, None where per-channel parameters make no sense.

    Conv: 0. ConvTranspose: 1, unless grouped (its axis 1 counts channels of one group). Gemm: 0 with transB, else 1.
    MatMul: the last axis of a right operand, the last but one of a left operand. LSTM, GRU, RNN: 1, the gates' rows.
    Gather: 0, the rows of the table.
    """
    if layout is Layout.RECURRENT:
        return 1 if rank == 3 else None
    if layout in (Layout.CONV, Layout.TABLE):
        return 0
    if layout is Layout.CONV_TRANSPOSE:
        return 1 if attributes.get("group", 1) == 1 else None
    if layout is Layout.GEMM and index == 1:
        return 0 if attributes.get("transB", 0) else 1
    if layout is Layout.MATMUL and rank >= 2:
        return rank - 1 if index == 1 else rank - 2
    return None


def by_output_channel(layout: Layout, attributes: Mapping[str, Any], index: int, values: NDArray[Any]) -> NDArray[Any]:
    """The weights of input ``index`` as (output channels, weights of each), whatever the layout; one row without any.

    A grouped ConvTranspose has (inputs, outputs of a group, ...): output channel ``g * outputs + j`` is made by column
    j of group g.
    """
    groups = int(attributes.get("group", 1))
    if layout is Layout.CONV_TRANSPOSE and groups > 1:
        inputs, outputs = values.shape[0] // groups, values.shape[1]
        parts = values.reshape(groups, inputs, outputs, -1)
        return np.moveaxis(parts, 2, 1).reshape(groups * outputs, -1)
    axis = weight_axis(layout, attributes, index, values.ndim)
    return values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def is_unscaled(attributes: Mapping[str, Any]) -> bool:
    """Whether a product and its bias stay as they are: a Gemm's ``alpha`` and ``beta`` are 1."""
    return all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))


def macs(
    layout: Layout, attributes: Mapping[str, Any], left: Shape | None, weight: Shape | None, out: Shape | None
) -> int:
    """Multiply-accumulates; the number of output elements for operators without any. Dynamic axes count as 1.

    ``left`` and ``weight`` are the shapes of the first two inputs, ``out`` that of the output; None where unknown.
    """
    elements = _size(out)
    if layout is Layout.CONV and weight is not None:
        return elements * _size(weight[1:])
    if layout is Layout.CONV_TRANSPOSE and weight is not None:
        return _size(left) * _size(weight[1:])
    if layout in (Layout.GEMM, Layout.MATMUL) and left:
        inner = left[0 if layout is Layout.GEMM and attributes.get("transA", 0) else -1]
        return elements * _size((inner,))
    return elements


def _size(shape: Shape | None) -> int:
    return math.prod(d if isinstance(d, int) else 1 for d in shape or ())


def is_depthwise(layout: Layout, attributes: Mapping[str, Any], weight: Shape | None) -> bool:
    """Whether each filter of a convolution reads one channel."""
    groups = attributes.get("group", 1)
    return layout is Layout.CONV and groups != 1 and weight is not None and len(weight) > 1 and weight[1] == 1


def reads_one_channel(layout: Layout, attributes: Mapping[str, Any], weight: Shape | None) -> bool:
    """Whether each channel of a convolution's result comes from one channel alone: depthwise, or one to one."""
    alone = weight is not None and tuple(weight[:2]) == (1, 1)
    return is_depthwise(layout, attributes, weight) or (layout is Layout.CONV and alone)


def averages_windows(attributes: Mapping[str, Any], shape: Shape | None) -> bool:
    """Whether an AveragePool of an input of ``shape`` divides every sum by the same number: it is a convolution then.

    Padding must count, windows must lie within it, and the convolution needs the number of channels.
    """
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return False
    counted = not any(attributes.get("pads", ())) or attributes.get("count_include_pad", 0) == 1
    placed = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not attributes.get("ceil_mode", 0)
    return counted and placed

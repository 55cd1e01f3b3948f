"""Weights and biases as the plan stores them, and the nodes that give their real values back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from hybridq.build.writer import Writer
from hybridq.plan.layer_weights import BiasPlan, WeightPlan, integers
from hybridq.plan.quant_plan import Padding
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams
from hybridq.storage.weights import Weights

Array = NDArray[Any]


def weight(writer: Writer, planned: WeightPlan, padding: Padding | None, weights: Weights) -> str:
    """A weight in its stored form, with as many more input channels of zeros as the layer's input has."""
    p, channels = planned.qparams, padding.channels if padding else 0
    if planned.precision is Precision.FLOAT32:
        return planned.tensor
    numbers = (p.scale.tobytes(), p.zero_point.tobytes(), p.axis) if p else ()
    key = ("weight", planned.tensor, planned.rounded, planned.precision, planned.folded, channels, *numbers)
    if p is None:
        return writer.once(key, lambda: _half(writer, planned.tensor, weights[planned.tensor]))
    return writer.once(key, lambda: _integers(writer, planned, p, channels, weights))


def with_axes(writer: Writer, tensor: str, count: int, weights: Weights) -> str:
    """A float constant of as many axes as are wanted: ones in front."""
    values = weights[tensor]
    shape = (1,) * (count - values.ndim) + values.shape
    return writer.once(("axes", tensor, count), lambda: writer.small(f"{tensor}/wide", values.reshape(shape)))


def _half(writer: Writer, name: str, values: Array) -> str:
    stored = writer.constant(f"{name}/float16", np.dtype(np.float16), values.shape, lambda: to_half(values))
    return writer.node("Cast", [stored], writer.fresh(f"{name}/as_float16"), to=TensorProto.FLOAT)


def to_half(values: Array) -> Array:
    """float16, saturated: weights beyond 65504 must not become infinite."""
    limit = float(np.finfo(np.float16).max)
    return np.clip(values, -limit, limit).astype(np.float16)


def _integers(writer: Writer, planned: WeightPlan, p: QParams, channels: int, weights: Weights) -> str:
    name, shape = planned.tensor, list(weights[planned.tensor].shape)
    if channels:
        shape[1] += channels

    def make() -> Array:
        q = integers(planned, weights)
        return np.pad(q, [(0, 0), (0, channels), (0, 0), (0, 0)]) if channels else q

    stored = _once(writer, planned, p, channels, tuple(shape), make)
    result = writer.fresh(f"{name}/as_{p.precision}")
    if planned.folded:
        return _folded(writer, name, stored, p, result, len(shape))
    axis = {} if p.axis is None else {"axis": p.axis}
    return writer.node("DequantizeLinear", [stored, *writer.numbers(p, owner=stored)], result, **axis)


def stored_integers(writer: Writer, planned: WeightPlan, weights: Weights) -> str:
    """The integers of a weight alone, shared with whoever stores the same."""
    assert planned.qparams is not None
    shape = weights[planned.tensor].shape
    return _once(writer, planned, planned.qparams, 0, shape, lambda: integers(planned, weights))


def _once(
    writer: Writer, planned: WeightPlan, p: QParams, channels: int, shape: tuple[int, ...], make: Callable[[], Array]
) -> str:
    key = ("stored", planned.tensor, planned.rounded, p.precision, channels, p.scale.tobytes(), p.zero_point.tobytes())
    name = f"{planned.tensor}/{p.precision}"
    return writer.once((*key, p.axis), lambda: writer.constant(name, p.precision.numpy, shape, make))


def _folded(writer: Writer, name: str, stored: str, p: QParams, result: str, rank: int) -> str:
    """Cast, subtract, multiply: ONNX Runtime folds this once at load, a DequantizeLinear it would run each time."""
    shape = [1] * rank if p.axis is not None else []
    if p.axis is not None:
        shape[p.axis] = -1
    wide = writer.node("Cast", [stored], writer.fresh(f"{name}/integers"), to=TensorProto.FLOAT)
    if p.zero_point.any():
        zero = writer.small(f"{name}/zero_point", p.zero_point.astype(np.float32).reshape(shape))
        wide = writer.node("Sub", [wide, zero], writer.fresh(f"{name}/centred"))
    return writer.node("Mul", [wide, writer.small(f"{name}/scale", p.scale.reshape(shape))], result)


def bias(writer: Writer, planned: BiasPlan) -> str:
    """A bias as float32, or as int32 behind a DequantizeLinear: ``q = rint(bias / scale)``, saturated."""
    name, scale = planned.tensor, planned.scale
    if scale is None:
        return writer.small(f"{name}/repaired", planned.values)
    steps = np.rint(planned.values.reshape(-1).astype(np.float64) / scale)
    q = np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)

    def make() -> str:
        inputs = [writer.small(f"{name}/int32", q), writer.small(f"{name}/scale", scale)]
        axis = {"axis": 0} if scale.ndim else {}
        return writer.node("DequantizeLinear", inputs, writer.fresh(f"{name}/as_int32"), **axis)

    return writer.once(("bias", name, q.tobytes(), scale.tobytes()), make)

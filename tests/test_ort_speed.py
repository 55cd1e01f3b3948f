"""The speed rules behind the builder's choices, with generous margins: process time, one thread, medians of pairs."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
import pytest
from qdq_graphs import Array, Graph, symmetric, uint8

from hybridq.graph import runtime
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import quantize
from hybridq.quant.qparams import qparams_of_ranges

pytestmark = [pytest.mark.slow, pytest.mark.speed]
IN, OUT = uint8(-4, 4), uint8(-30, 30)


def faster(slow: Any, fast: Any, shape: tuple[int, ...], pairs: int = 25, repeats: int = 5) -> float:
    """The median of time(slow) / time(fast)."""
    feed = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    sessions = [runtime.session(m, threads=1) for m in (slow, fast)]

    def seconds(one: runtime.Session) -> float:
        start = time.process_time()
        for _ in range(repeats):
            one.run(None, feed)
        return time.process_time() - start

    for one in sessions:
        seconds(one)
    return median(seconds(sessions[0]) / seconds(sessions[1]) for _ in range(pairs))


def filters(*shape: int) -> Array:
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def conv(graph: Graph, x: str, values: Array, **attributes: Any) -> str:
    p = symmetric(values, axis=0)
    k = values.shape[2]
    w = graph.dequantize(graph.const(quantize(values, p)), p)
    return graph.op("Conv", x, w, kernel_shape=[k, k], pads=[k // 2] * 4, **attributes)


def test_integer_convolution_beats_float() -> None:
    shape, values = (1, 64, 56, 56), filters(64, 64, 3, 3)
    slow, fast = Graph({"x": shape}), Graph({"x": shape})
    float_model = slow.model(slow.op("Conv", "x", slow.const(values), pads=[1] * 4))
    assert faster(float_model, fast.model(fast.stored(conv(fast, fast.stored("x", IN), values), OUT)), shape) > 1.3


def test_first_convolution_with_four_channels_beats_three() -> None:
    shape, values = (1, 3, 224, 224), filters(64, 3, 3, 3)
    slow, fast = Graph({"x": shape}), Graph({"x": shape})
    three = slow.model(slow.stored(conv(slow, slow.stored("x", IN), values, strides=[2, 2]), OUT))
    zero = fast.const(IN.zero_point.astype(np.uint8))
    wide = fast.op("Pad", fast.quantize("x", IN), fast.const(np.array([0, 0, 0, 0, 0, 1, 0, 0])), zero)
    padded = np.pad(values, [(0, 0), (0, 1), (0, 0), (0, 0)])
    four = fast.model(fast.stored(conv(fast, fast.dequantize(wide, IN), padded, strides=[2, 2]), OUT))
    assert faster(three, four, shape) > 1.1


def test_maxpool_stays_float_after_a_float_convolution() -> None:
    shape, values = (1, 16, 112, 112), filters(64, 16, 3, 3)
    models = []
    for kept in (False, True):
        graph = Graph({"x": shape})
        y = graph.op("Relu", graph.op("Conv", "x", graph.const(values), pads=[1] * 4))
        y = graph.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
        y = graph.op("LeakyRelu", y, alpha=1.0) if kept else y
        models.append(graph.model(graph.stored(y, OUT)))
    assert faster(*models, shape, pairs=11) > 1.5


def test_folded_weights_beat_dequantized_ones() -> None:
    shape, values = (1, 96, 28, 28), filters(96, 1, 3, 3)
    p, models = symmetric(values, axis=0), []
    for folded in (False, True):
        graph = Graph({"x": shape})
        q = quantize(values, p)
        w = graph.folded(q, p) if folded else graph.dequantize(graph.const(q), p)
        models.append(graph.model(graph.op("Conv", "x", w, group=96, pads=[1] * 4)))
    assert faster(*models, shape) > 1.3


def test_average_pool_as_depthwise_convolution() -> None:
    shape = (1, 48, 44, 44)
    models = []
    for pool in (True, False):
        graph = Graph({"x": shape})
        x = graph.stored("x", IN)
        ones = np.full((48, 1, 3, 3), 1 / 9, np.float32)
        y = graph.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1) if pool else None
        models.append(graph.model(graph.stored(y or conv(graph, x, ones, group=48), IN)))
    assert faster(*models, shape) > 1.5


def test_int8_activations_with_two_readers_are_slow() -> None:
    """Why int8 tensors are written as uint8 with a shifted zero point."""

    shape, values = (1, 64, 28, 28), filters(64, 64, 3, 3)
    models = []
    for into in (qparams_of_ranges(-4, 4, Precision.INT8, Scheme.ASYMMETRIC), IN):
        graph = Graph({"x": shape})
        x = graph.stored("x", into)
        models.append(graph.model(*(graph.stored(conv(graph, x, values), OUT) for _ in range(2))))
    assert faster(*models, shape) > 1.3

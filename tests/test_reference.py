"""The integer reference equals ONNX Runtime's kernels bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_graphs import Array, Graph, executed, run
from reference import qgemm, qlinear_conv, qlinear_matmul

from hybridq.graph.saturation import saturates
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import dequantize
from hybridq.quant.qparams import QParams

EIGHT = st.sampled_from([Precision.UINT8, Precision.INT8])
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60, deadline=None)


def activations(random: np.random.Generator, precision: Precision, spread: float) -> QParams:
    zero_point = random.integers(precision.qmin, precision.qmax + 1)
    return QParams(precision, Scheme.ASYMMETRIC, np.float32(spread * random.uniform(0.5, 2)), np.int32(zero_point))


def weights(random: np.random.Generator, channels: int, axis: int | None) -> QParams:
    scale = random.uniform(1e-4, 1e-2, channels if axis is not None else ()).astype(np.float32)
    return QParams(Precision.INT8, Scheme.SYMMETRIC, scale, np.zeros(scale.shape, np.int32), axis)


def integers(random: np.random.Generator, p: QParams, shape: tuple[int, ...]) -> Array:
    low = -127 if p.scheme is Scheme.SYMMETRIC else p.qmin
    return random.integers(low, p.qmax + 1, shape).astype(p.precision.numpy)


def output_params(random: np.random.Generator, precision: Precision, sums: float, relu: bool) -> QParams:
    """Parameters that let most results inside and saturate some."""
    p = activations(random, precision, sums / 100)
    return QParams(p.precision, p.scheme, p.scale, np.int32(precision.qmin)) if relu else p


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 2))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    dilations = draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, e - 1)) for e in extent * 2]
    return {
        "batch": draw(st.integers(1, 2)),
        "group": draw(st.sampled_from([1, 1, 2, 3, 16])),
        "channels": (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        "kernel": kernel,
        "size": [e + draw(st.integers(0, 6)) for e in extent],
        "attributes": {
            "strides": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
            "pads": pads,
            "dilations": dilations,
        },
    }


@quick
@given(convolutions(), SEEDS, st.tuples(EIGHT, EIGHT), st.booleans(), st.booleans(), st.booleans())
def test_conv(
    c: dict[str, Any], seed: int, kinds: tuple[Precision, Precision], per_channel: bool, bias: bool, relu: bool
) -> None:
    random, group = np.random.default_rng(seed), c["group"]
    cin, cout = (n * group for n in c["channels"])
    px, pw = activations(random, kinds[0], 0.02), weights(random, cout, 0 if per_channel else None)
    x = integers(random, px, (c["batch"], cin, *c["size"]))
    w = integers(random, pw, (cout, cin // group, *c["kernel"]))
    spread = float(px.scale * pw.scale.mean()) * 6000 * np.sqrt(w[0].size)
    py = output_params(random, kinds[1], spread, relu)
    b = random.integers(-20000, 20000, cout).astype(np.int32) if bias else None
    graph = Graph({"x": x.shape})
    inputs = [graph.stored("x", px), graph.dequantize(graph.const(w), pw)]
    if b is not None:
        inputs.append(int32_bias(graph, b, px, pw))
    y = graph.op("Conv", *inputs, group=group, kernel_shape=c["kernel"], **c["attributes"])
    model = graph.model(graph.stored(graph.op("Relu", y) if relu else y, py))
    expected = qlinear_conv(x, px, w, pw, b, py, group=group, **c["attributes"])
    assert executed(model)["QLinearConv"] == 1
    np.testing.assert_array_equal(run(model, {"x": dequantize(x, px)}), dequantize(expected, py))


@quick
@given(st.tuples(*[st.integers(1, 40)] * 3), SEEDS, EIGHT, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_gemm(
    mkn: tuple[int, int, int], seed: int, kind: Precision, per_channel: bool, bias: bool, stored: bool, trans_b: bool
) -> None:
    random, (m, k, n) = np.random.default_rng(seed), mkn
    axis = (0 if trans_b else 1) if per_channel else None
    pa, pb = activations(random, kind, 0.02), weights(random, n, axis)
    a, b = integers(random, pa, (m, k)), integers(random, pb, (n, k) if trans_b else (k, n))
    py = output_params(random, kind, float(pa.scale * pb.scale.mean()) * 6000 * np.sqrt(k), relu=False)
    c = random.integers(-20000, 20000, n).astype(np.int32) if bias else None
    graph = Graph({"a": a.shape}, dtype=kind.onnx)
    inputs = [graph.dequantize("a", pa), graph.dequantize(graph.const(b), pb)]
    if c is not None:
        inputs.append(int32_bias(graph, c, pa, pb))
    y = graph.op("Gemm", *inputs, transB=int(trans_b))
    model = graph.model(graph.quantize(y, py), dtype=kind.onnx) if stored else graph.model(y)
    expected = qgemm(a, pa, b, pb, c, py if stored else None, trans_b=trans_b)
    assert saturates() or executed(model)["QGemm"] == 1
    np.testing.assert_array_equal(run(model, {"a": a}), expected)


@quick
@given(st.tuples(*[st.integers(1, 24)] * 3), st.sampled_from([(), (2,), (2, 3)]), SEEDS, st.booleans(), st.booleans())
def test_matmul(mkn: tuple[int, int, int], batch: tuple[int, ...], seed: int, stored: bool, constant: bool) -> None:
    random, (m, k, n) = np.random.default_rng(seed), mkn
    pa = activations(random, Precision.UINT8, 0.02)
    pb = weights(random, n, 1) if constant else activations(random, Precision.UINT8, 0.005)
    a, b = integers(random, pa, (*batch, m, k)), integers(random, pb, (k, n) if constant else (*batch, k, n))
    py = output_params(random, Precision.UINT8, float(pa.scale * pb.scale.mean()) * 12000 * np.sqrt(k), relu=False)
    graph = Graph({"a": a.shape} if constant else {"a": a.shape, "b": b.shape}, dtype=Precision.UINT8.onnx)
    right = graph.dequantize(graph.const(b) if constant else "b", pb)
    y = graph.op("MatMul", graph.dequantize("a", pa), right)
    model = graph.model(graph.quantize(y, py), dtype=Precision.UINT8.onnx) if stored else graph.model(y)
    expected = qlinear_matmul(a, pa, b, pb, py if stored else None)
    assert executed(model)["QLinearMatMul" if stored else "MatMulIntegerToFloat"] == 1
    np.testing.assert_array_equal(run(model, {"a": a} if constant else {"a": a, "b": b}), expected)


def test_a_sum_beyond_int32_is_an_error() -> None:
    one = QParams(Precision.UINT8, Scheme.ASYMMETRIC, np.float32(1), np.int32(0))
    big = np.array([2**31 - 1], np.int32)
    with pytest.raises(OverflowError, match="int32"):
        qgemm(np.ones((1, 1), np.uint8), one, np.ones((1, 1), np.uint8), one, big, one)


def int32_bias(graph: Graph, values: Array, x: QParams, w: QParams) -> str:
    """A bias of scale ``s_x * s_w`` given in steps."""
    scale = np.broadcast_to(x.scale * w.scale, values.shape)
    return graph.op("DequantizeLinear", graph.const(values), graph.const(np.ascontiguousarray(scale)), axis=0)

"""Samples of different shapes, several inputs with axes of their own, no batch axis."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

W = {"w": (4, 3, 3, 3)}

CASES: dict[str, Situation] = {
    "two-lengths": written(
        """(float[1, T, 8] x, float[1, S, 8] z) => (float[1, T, 8] y) { q = MatMul(x, w)  k = MatMul(z, v)
        t = Transpose<perm = [0, 2, 1]>(k)  a = MatMul(q, t)  s = Softmax(a)  y = MatMul(s, z) }""",
        {"w": (8, 8), "v": (8, 8)},
        x=[(1, 4, 8), (1, 7, 8), (1, 2, 8)],
        z=[(1, 6, 8), (1, 3, 8), (1, 9, 8)],
    ),
    "halves-of-an-axis-that-only-a-run-tells": written(
        """(float[1, T, 16] x) => (float[1, T, 4, D] y) { m = MatMul(x, w)  s = Shape(x)  t = Slice(s, none, two)
        u = Concat<axis = 0>(t, heads)  r = Reshape(m, u)  a = Slice(r, two, four, last)  b = Slice(r, none, two, last)
        n = Neg(a)  c = Concat<axis = -1>(n, b)  p = Mul(c, sines)  q = Mul(r, cosines)  y = Add(p, q) }""",
        {
            "w": (16, 16),
            "heads": int64(4, -1),
            "none": int64(0),
            "two": int64(2),
            "four": int64(4),
            "last": int64(-1),
            "sines": np.sin(np.arange(4, dtype=np.float32)),
            "cosines": np.cos(np.arange(4, dtype=np.float32)),
        },
        x=[(1, 3, 16), (1, 5, 16)],
    ),
    "batch-of-any-size": written(
        """(float[N, 3, 8, 8] x) => (float[N, 5] y) { c = Conv(x, w)  r = Relu(c)  g = GlobalAveragePool(r)
            f = Flatten(g)  y = Gemm(f, v) }""",
        {**W, "v": (4, 5)},
        x=[(1, 3, 8, 8), (3, 3, 8, 8), (2, 3, 8, 8)],
    ),
    "speech-without-batch": written(
        "(float[T, 16] x) => (float[T, 6] y) { m = MatMul(x, w)  r = Relu(m)  n = MatMul(r, v)  y = LogSoftmax(n) }",
        {"w": (16, 8), "v": (8, 6)},
        uint8=15,
        x=[(20, 16), (7, 16), (33, 16)],
    ),
    "pictures-of-any-size": written(
        """(float[1, 3, H, W] x)
            => (float[1, 4, P, Q] y, float[1, 4] z) { c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w)
            r = Relu(c)
        s = Shape(x)  t = Slice(s, two, four)  a = Concat<axis = 0>(head, t)  y = Resize<mode = "linear">(r, , , a)
        g = GlobalAveragePool(r)  z = Flatten(g) }""",
        {**W, "two": int64(2), "four": int64(4), "head": int64(1, 4)},
        x=[(1, 3, 8, 8), (1, 3, 12, 6), (1, 3, 9, 7)],
    ),
    "text-lines": written(
        """(float[1, 3, 8, W] x) => (float[1, T, 5] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)
            p = MaxPool<kernel_shape = [8, 2], strides = [8, 2]>(c)
        s = Squeeze(p, two)  t = Transpose<perm = [0, 2, 1]>(s)  m = MatMul(t, v)  y = Softmax(m) }""",
        {**W, "two": int64(2), "v": (4, 5)},
        x=[(1, 3, 8, 12), (1, 3, 8, 20), (1, 3, 8, 6)],
    ),
    "one-dimensional-convolution": written(
        """(float[1, 4, T] x)
            => (float[1, 4, U] y) { c = Conv<kernel_shape = [3], dilations = [2], pads = [2, 2]>(x, w)
            t = Tanh(c)  y = ConvTranspose<strides = [2]>(t, v) }""",
        {"w": (6, 4, 3), "v": (6, 4, 4)},
        x=[(1, 4, 10), (1, 4, 17)],
    ),
    "everything-dynamic": written(
        """(float[A, B, C, D] x) => (float[E, F, G, H] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)
            y = Conv(r, v) }""",
        {**W, "v": (2, 4, 1, 1)},
        x=[(1, 3, 8, 8), (2, 3, 5, 9)],
    ),
    "lengths-and-states": written(
        """(float[T, 1, 8] x, float[1, 1, 6] h)
            => (float[T, 1, 1, 6] y, float[1, 1, 6] n) { y, n = GRU<hidden_size = 6>(x, w, r, b, , h) }""",
        {"w": (1, 18, 8), "r": (1, 18, 6), "b": (1, 36)},
        x=[(5, 1, 8), (1, 1, 8)],
        h=(1, 1, 6),
    ),
    "shape-becomes-a-number": written(
        """(float[1, T, 8] x) => (float[1, T, 8] y) { m = MatMul(x, w)  s = Shape<start = 1, end = 2>(x)
            f = Cast<to = 1>(s)  r = Sqrt(f)  y = Div(m, r) }""",
        {"w": (8, 8)},
        x=[(1, 4, 8), (1, 9, 8)],
    ),
    "mask-of-a-batch": written(
        """(int64[N, T] i, int64[N, T] m) => (float[N, T, 8] y) { e = Gather(table, i)  q = MatMul(e, w)
            t = Transpose<perm = [0, 2, 1]>(e)
        a = MatMul(q, t)  f = Cast<to = 1>(m)  u = Unsqueeze(f, one)  n = Sub(unit, u)  l = Mul(n, low)  b = Add(a, l)
        s = Softmax(b)  y = MatMul(s, e) }""",
        {"table": (10, 8), "w": (8, 8), "one": int64(1), "unit": np.float32(1), "low": np.float32(-3.4028235e38)},
        i=[np.arange(8).reshape(2, 4), np.arange(6).reshape(1, 6)],
        m=[int64([1, 1, 1, 0], [1, 1, 0, 0]), int64([1, 1, 1, 1, 1, 0])],
    ),
    "patches-unfolded": written(
        """(float[1, 3, H, W] x) => (float[1, N, 5] y) { c = Conv<strides = [4, 4]>(x, w)  s = Shape(c)
            a = Slice(s, zero, two)
        z = Concat<axis = 0>(a, rest)  r = Reshape(c, z)  t = Transpose<perm = [0, 2, 1]>(r)
            n = LayerNormalization(t, gain)  y = MatMul(n, v) }""",
        {"w": (6, 3, 4, 4), "zero": int64(0), "two": int64(2), "rest": int64(-1), "gain": (6,), "v": (6, 5)},
        x=[(1, 3, 8, 8), (1, 3, 12, 16)],
    ),
}

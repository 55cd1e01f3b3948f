"""Tensors without an element: in one sample, in all, among the constants."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

ROWS = [np.array([0.1, 0.9, 0.8, 0.2], np.float32), np.zeros(4, np.float32), np.ones(4, np.float32)]

CASES: dict[str, Situation] = {
    "rows-found": written(
        """(float[4, 8] x, float[4] s) => (float[N, 8] y, float[1, 8] z) {
        b = Greater(s, half)  i = NonZero(b)  j = Squeeze(i, zero)  g = Gather(x, j)  y = MatMul(g, w)
        r = Relu(y)  z = ReduceSum(r, zero) }""",
        {"w": (8, 8), "half": np.float32(0.5), "zero": int64(0)},
        x=(4, 8),
        s=ROWS,
    ),
    "never-found": written(
        """(float[4, 8] x) => (float[N, 8] y, float[4, 8] z) {
        b = Greater(x, much)  c = Cast<to = 1>(b)  t = ReduceMax<axes = [1], keepdims = 0>(c)  k = Cast<to = 9>(t)
        g = Compress<axis = 0>(x, k)  y = MatMul(g, w)  z = MatMul(x, w) }""",
        {"w": (8, 8), "much": np.float32(1e6)},
        x=(4, 8),
    ),
    "nothing-suppressed-nor-kept": written(
        """(float[1, 4, 4] b, float[1, 1, 4] s) => (float[1, K, 4] y) {
        m = MatMul(b, w)  i = NonMaxSuppression(b, s, most, over, least)  j = Slice(i, two, three, one)
            k = Squeeze(j, one)
        y = Gather<axis = 1>(m, k) }""",
        {
            "w": (4, 4),
            "most": int64(3),
            "over": np.float32([0.5]),
            "least": np.float32([0.5]),
            "two": int64(2),
            "three": int64(3),
            "one": int64(1),
        },
        b=np.array([[[0, 0, 2, 2], [0, 0.1, 2, 2], [3, 3, 5, 5], [6, 6, 8, 8]]], np.float32),
        s=[r[None, None] for r in ROWS],
    ),
    "empty-past": written(
        """(float[1, 1, 8] x, float[1, P, 8] past) => (float[1, 1, 8] y, float[1, Q, 8] now) {
        k = MatMul(x, w)  now = Concat<axis = 1>(past, k)  q = MatMul(x, v)  t = Transpose<perm = [0, 2, 1]>(now)
        a = MatMul(q, t)  s = Softmax(a)  y = MatMul(s, now) }""",
        {"w": (8, 8), "v": (8, 8)},
        x=(1, 1, 8),
        past=[(1, 0, 8), (1, 1, 8), (1, 5, 8)],
    ),
    "only-empty-past": written(
        """(float[1, 1, 8] x, float[1, P, 8] past) => (float[1, 1, 8] y, float[1, Q, 8] now) {
        k = MatMul(x, w)  now = Concat<axis = 1>(past, k)  r = Relu(past)  m = ReduceSum(r, one)
        y = Add(k, m) }""",
        {"w": (8, 8), "one": int64(1)},
        x=(1, 1, 8),
        past=(1, 0, 8),
    ),
    "empty-constant": written(
        "(float[2, 8] x) => (float[2, 8] y) { m = MatMul(x, w)  c = Concat<axis = 0>(none, m)  y = Relu(c) }",
        {"w": (8, 8), "none": np.zeros((0, 8), np.float32)},
        x=(2, 8),
    ),
    "empty-region": written(
        """(float[1, 3, 8, 8] x) => (float[1, 4, 16, 16] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)
        y = Resize<mode = "linear">(c, none, r) }""",
        {"w": (4, 3, 3, 3), "none": np.zeros(0, np.float32), "r": np.float32([1, 1, 2, 2])},
        x=(1, 3, 8, 8),
    ),
    "empty-scales": written(
        """(float[1, 3, 8, 8] x) => (float[1, 4, 16, 16] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)
        y = Resize<mode = "nearest">(c, none, none, z) }""",
        {"w": (4, 3, 3, 3), "none": np.zeros(0, np.float32), "z": int64(1, 4, 16, 16)},
        x=(1, 3, 8, 8),
    ),
    "empty-slice": written(
        """(float[1, 6, 8] x, int64[1] n) => (float[1, P, 8] y, float[1, Q, 8] z) { m = MatMul(x, w)
            a = Slice(m, zero, n, one)
        y = Relu(a)  b = Slice(m, n, end, one)  z = Sigmoid(b) }""",
        {"w": (8, 8), "zero": int64(0), "one": int64(1), "end": int64(99)},
        x=(1, 6, 8),
        n=[int64(0), int64(2), int64(6)],
    ),
    "empty-split": written(
        "(float[1, 6, 8] x) => (float[1, 6, 8] y, float[1, 0, 8] z) { m = MatMul(x, w)  y, z = Split<axis = 1>(m, n) }",
        {"w": (8, 8), "n": int64(6, 0)},
        x=(1, 6, 8),
    ),
    "top-none": written(
        """(float[1, 6] x, int64[1] k) => (float[1, K] y, float[1, 6] z) { m = MatMul(x, w)  v, i = TopK(m, k)
        y = Relu(v)  z = Sigmoid(m) }""",
        {"w": (6, 6)},
        uint8=-99,
        int16=40,
        x=(1, 6),
        k=[int64(0), int64(2)],
    ),
    "loop-of-no-turns": written(
        """(float[1, 8] x, int64 n) => (float[1, 8] y, float[N, 1, 8] z) { m = MatMul(x, w)
        y, z = Loop(n, , m) <body = step (int64 i, bool k, float[1, 8] a) => (bool l, float[1, 8] b, float[1, 8] c) {
            l = Identity(k)  d = MatMul(a, v)  b = Tanh(d)  c = Relu(b) }> }""",
        {"w": (8, 8), "v": (8, 8)},
        x=(1, 8),
        n=[np.int64(0), np.int64(3)],
    ),
    "empty-batch": written(
        "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = Relu(c) }",
        {"w": (4, 3, 3, 3)},
        x=[(0, 3, 8, 8), (2, 3, 8, 8)],
    ),
    "no-rows-at-all": written(
        """(float[N, 8] x, float[2, 8] z) => (float[N, 8] y, float[2, 8] u) { m = Gemm(x, w)  y = Relu(m)
            u = Gemm(z, w) }""",
        {"w": (8, 8)},
        x=(0, 8),
        z=(2, 8),
    ),
    "largest-of-none": written(
        """(float[4, 8] x, float[4] s) => (float[1, 8] y) { b = Greater(s, half)  g = Compress<axis = 0>(x, b)
            m = MatMul(g, w)
        c = Concat<axis = 0>(m, floor)  y = ReduceMax<axes = [0]>(c) }""",
        {"w": (8, 8), "half": np.float32(0.5), "floor": np.full((1, 8), -1, np.float32)},
        x=(4, 8),
        s=ROWS,
    ),
}

"""Infinities that are meant, and numbers that stand for them."""

from __future__ import annotations

import numpy as np

from situations.common import LOWEST, Situation, float32, int64, written

CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w)"
W = {"w": (4, 3, 3, 3)}
QKV = {"w": (8, 8), "v": (8, 8), "scale": np.float32(0.35)}
SCORES = (
    """q = MatMul(x, w)  k = MatMul(x, v)  t = Transpose<perm = [0, 2, 1]>(k)  p = MatMul(q, t)  a = Mul(p, scale)"""
)
MIX = "r = Softmax(s)  y = MatMul(r, x)"
CAUSAL = np.triu(np.full((6, 6), -np.inf, np.float32), 1)
KEEP = np.tril(np.ones((6, 6), bool))
INF = np.float32(np.inf)


def attention(masked: str, **held: object) -> Situation:
    """Softmax(x w (x v)') x, with ``masked`` between the scores ``a`` and the masked ones ``s``."""
    inputs = {n: v for n, v in held.items() if n in ("m", "n")}
    kinds = {"m": "float[A, B] m", "n": "bool[6, 6] n"}
    head = ", ".join(["float[1, 6, 8] x", *(kinds[n] for n in inputs)])
    constants = {n: v for n, v in held.items() if n not in inputs}
    return written(
        f"({head}) => (float[1, 6, 8] y) {{ {SCORES} {masked} {MIX} }}", {**QKV, **constants}, x=(1, 6, 8), **inputs
    )


CASES: dict[str, Situation] = {
    "logarithm-of-a-mask": attention("l = Log(m)  s = Add(a, l)", m=[KEEP.astype(np.float32)]),
    "logarithm-of-zero": attention("l = Log(keep)  s = Add(a, l)", keep=KEEP.astype(np.float32)),
    "where-infinite": attention("s = Where(n, a, low)", low=-INF, n=[KEEP]),
    "where-lowest": attention("s = Where(n, a, low)", low=np.float32(LOWEST), n=[KEEP]),
    "where-lowest-half": attention("s = Where(n, a, low)", low=np.float32(-65504), n=[KEEP]),
    "where-billion": attention("s = Where(n, a, low)", low=np.float32(-1e9), n=[KEEP]),
    "where-ten-thousand": attention("s = Where(n, a, low)", low=np.float32(-1e4), n=[KEEP]),
    "trilu-infinite": attention(
        "t2 = Trilu<upper = 1>(full, one)  s = Add(a, t2)", full=np.full((6, 6), LOWEST, np.float32), one=np.int64(1)
    ),
    "filled-and-cut": attention(
        "z = ConstantOfShape<value = float[1] {-3.4e38}>(six)  t2 = Trilu<upper = 1>(z, one)  s = Add(a, t2)",
        six=int64(6, 6),
        one=np.int64(1),
    ),
    "one-minus-mask": attention(
        "i = Sub(one, m)  l = Mul(i, low)  s = Add(a, l)",
        one=np.float32(1),
        low=np.float32(-1e4),
        m=[KEEP.astype(np.float32)],
    ),
    "one-minus-mask-lowest": attention(
        "i = Sub(one, m)  l = Mul(i, low)  s = Add(a, l)",
        one=np.float32(1),
        low=np.float32(LOWEST),
        m=[KEEP.astype(np.float32)],
    ),
    "mask-sliced": attention(
        "l = Slice(whole, zero, six)  s = Add(a, l)",
        whole=np.pad(CAUSAL, ((0, 2), (0, 0))),
        zero=int64(0),
        six=int64(6),
    ),
    "mask-of-a-length": attention(
        """sh = Shape<start = 1, end = 2>(x)  z = Concat<axis = 0>(sh, sh)  l = Expand(low, z)
            t2 = Trilu<upper = 1>(l, one)  s = Add(a, t2)""",
        low=np.float32(LOWEST),
        one=np.int64(1),
    ),
    "mask-and-bias": attention("b = Add(a, bias)  s = Add(b, m)", bias=(6, 6), m=[CAUSAL]),
    "two-masks": attention(
        "b = Add(a, m)  s = Add(b, other)",
        other=np.where(KEEP[::-1], 0, -1e9).astype(np.float32).T,
        m=[np.where(KEEP, 0, -1e9).astype(np.float32)],
    ),
    "mask-kept-by-maximum": attention("b = Add(a, m)  s = Max(b, low)", low=np.float32(LOWEST), m=[CAUSAL]),
    "mask-to-a-bool": attention("b = IsInf(m)  k2 = Not(b)  s = Where(k2, a, low)", low=-INF, m=[CAUSAL]),
    "mask-of-two-softmaxes": written(
        f"""(float[1, 6, 8] x, float[6, 6] m) => (float[1, 6, 8] y) {{ {SCORES}
        s = Add(a, m)  r = Softmax(s)  o = MatMul(r, x)  b = MatMul(o, w)  k2 = Transpose<perm = [0, 2, 1]>(b)
        a2 = MatMul(o, k2)  s2 = Add(a2, m)  r2 = Softmax(s2)  y = MatMul(r2, o) }}""",
        QKV,
        x=(1, 6, 8),
        m=CAUSAL,
    ),
    "log-softmax": written(
        f"""(float[1, 6, 8] x, bool[6, 6] n) => (float[1, 6, 6] y) {{ {SCORES} s = Where(n, a, low)
            l = LogSoftmax(s)  y = Exp(l) }}""",
        {**QKV, "low": -INF},
        x=(1, 6, 8),
        n=KEEP,
    ),
    "attention-operator": written(
        """(float[1, 6, 8] x, float[6, 6] m) => (float[1, 6, 8] y) { q = MatMul(x, w)  k = MatMul(x, v)
        y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, x, m) }""",
        {"w": (8, 8), "v": (8, 8)},
        opset=23,
        x=(1, 6, 8),
        m=CAUSAL,
    ),
    "fully-masked-rows": attention(
        "b = Where(n, a, low)  r1 = Softmax(b)  nan = IsNaN(r1)  s = Where(nan, zero, r1)",
        low=np.float32(-1e9),
        zero=np.float32(0),
        n=[KEEP & (np.arange(6) > 0)],
    ),
    "pad-then-relu-and-pool": written(
        f"""(float[1, 3, 8, 8] x) => (float[1, 4, 4, 4] y) {{ {CONV} p = Pad(c, pads, low)  r = Relu(p)
            y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(r) }}""",
        {**W, "pads": int64(0, 0, 0, 0, 0, 0, 1, 1), "low": -INF},
        x=(1, 3, 8, 8),
    ),
    "pad-then-two-pools": written(
        f"""(float[1, 3, 8, 8] x) => (float[1, 8, 8, 8] y) {{ {CONV} p = Pad(c, pads, low)
        a = MaxPool<kernel_shape = [3, 3]>(p)  b = MaxPool<kernel_shape = [3, 3]>(p)  n = Neg(b)
            y = Concat<axis = 1>(a, n) }}""",
        {**W, "pads": int64(0, 0, 1, 1, 0, 0, 1, 1), "low": np.float32(-1e30)},
        x=(1, 3, 8, 8),
    ),
    "pad-read-by-others": written(
        f"""(float[1, 3, 8, 8] x) => (float[1, 8, 10, 10] y) {{ {CONV} p = Pad(c, pads, low)
        a = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(p)  f = Clip(p, minus, one)
            y = Concat<axis = 1>(a, f) }}""",
        {**W, "pads": int64(0, 0, 1, 1, 0, 0, 1, 1), "low": -INF, "minus": np.float32(-1), "one": np.float32(1)},
        x=(1, 3, 8, 8),
    ),
    "largest-of-masked": written(
        """(float[1, 6, 8] x, bool[1, 6, 1] n) => (float[1, 8] y) { a = MatMul(x, w)  m = Where(n, a, low)
            y = ReduceMax<axes = [1], keepdims = 0>(m) }""",
        {"w": (8, 8), "low": -INF},
        x=(1, 6, 8),
        n=(np.arange(6) < 4)[None, :, None],
    ),
    "least-of-masked": written(
        """(float[1, 6, 8] x, bool[1, 6, 1] n) => (float[1, 8] y) { a = MatMul(x, w)  m = Where(n, a, top)
            y = ReduceMin<axes = [1], keepdims = 0>(m) }""",
        {"w": (8, 8), "top": INF},
        x=(1, 6, 8),
        n=(np.arange(6) < 4)[None, :, None],
    ),
    "best-of-masked": written(
        """(float[1, 6, 8] x, bool[8] n) => (float[1, 6, 3] y, int64[1, 6, 1] i) { a = MatMul(x, w)
            m = Where(n, a, low)
        y, j = TopK(m, three)  i = ArgMax<axis = 2>(m) }""",
        {"w": (8, 8), "low": -INF, "three": int64(3)},
        uint8=-99,
        int16=-99,
        x=(1, 6, 8),
        n=np.arange(8) < 5,
    ),
    "bounds-without-end": written(
        f"""(float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) {{ {CONV} a = Min(c, top)  b = Max(a, low)
            y = Clip(b, low, half) }}""",
        {**W, "top": INF, "low": -INF, "half": np.float32(0.5)},
        x=(1, 3, 8, 8),
    ),
    "quotient-by-zero": written(
        """(float[1, 6, 8] x, float[1, 6, 1] n) => (float[1, 6, 8] y) { a = MatMul(x, w)  r = Reciprocal(n)
            b = Greater(n, zero)
        k = Where(b, r, zero)  y = Mul(a, k) }""",
        {"w": (8, 8), "zero": np.float32(0)},
        x=(1, 6, 8),
        n=float32([0], [1], [2], [4], [3], [5])[None],
    ),
    "exponential-of-infinity": written(
        "(float[1, 6, 8] x, float[1, 6, 1] m) => (float[1, 6, 8] y) { a = MatMul(x, w)  e = Exp(m)  y = Mul(a, e) }",
        {"w": (8, 8)},
        x=(1, 6, 8),
        m=np.array([0, 0, 0, -np.inf, -np.inf, 0], np.float32)[None, :, None],
    ),
    "infinite-scores-leave": written(
        f"""(float[1, 6, 8] x, bool[6, 6] n)
            => (float[1, 6, 6] s, float[1, 6, 8] y) {{ {SCORES} s = Where(n, a, low)  {MIX} }}""",
        {**QKV, "low": -INF},
        x=(1, 6, 8),
        n=KEEP,
    ),
    "scores-before-softmax-leave": written(
        "(float[1, 6, 8] x, float[1, 1, 8] m) => (float[1, 6, 8] y) { a = MatMul(x, w)  y = Add(a, m) }",
        {"w": (8, 8)},
        uint8=-99,
        int16=-99,
        x=(1, 6, 8),
        m=np.array([0, 0, 0, -np.inf, 0, 0, 0, -np.inf], np.float32)[None, None],
    ),
}

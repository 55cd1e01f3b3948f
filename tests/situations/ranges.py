"""Ranges that are known but not tight."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

X = "(float[2, 16] x)"
TIES = {"uint8": -99, "int16": -99}  # what rounding decides is no matter of accuracy


def after(text: str, size: int = 16, least: float = 20, **tensors: object) -> Situation:
    """A Gemm, then ``text`` from ``m`` to ``y``."""
    return written(
        f"{X} => (float[2, {size}] y) {{ m = Gemm(x, w)  {text} }}",
        {"w": (16, size), **tensors},
        uint8=least,
        x=(2, 16),
    )


CASES: dict[str, Situation] = {
    "softmax-of-thousand": after("y = Softmax(m)", 1000, 15),
    "softmax-picked": after(
        "s = Softmax(m)  y = Slice(s, zero, many, one)", 600, 15, zero=int64(0), many=int64(600), one=int64(1)
    ),
    "sigmoid-low": after("b = Sub(m, six)  y = Sigmoid(b)", six=np.float32(6)),
    "sigmoid-high": after("b = Add(m, nine)  y = Sigmoid(b)", nine=np.float32(9)),
    "tanh-near-zero": after("b = Mul(m, small)  y = Tanh(b)", small=np.float32(0.01)),
    "erf-near-zero": after("b = Mul(m, small)  y = Erf(b)", small=np.float32(0.01)),
    "sine-near-zero": after("b = Mul(m, small)  y = Sin(b)", small=np.float32(0.01)),
    "softsign-near-zero": after("b = Mul(m, small)  y = Softsign(b)", small=np.float32(0.01)),
    "hard-sigmoid-low": after("b = Sub(m, two)  y = HardSigmoid(b)", two=np.float32(2)),
    "relu-of-six-near-zero": after(
        "b = Mul(m, small)  y = Clip(b, zero, six)", small=np.float32(0.01), zero=np.float32(0), six=np.float32(6)
    ),
    "sigmoids-joined": written(
        f"""{X} => (float[4, 16] y) {{ m = Gemm(x, w)  b = Sub(m, six)  p = Sigmoid(b)  q = Sigmoid(m)
        y = Concat<axis = 0>(p, q) }}""",
        {"w": (16, 16), "six": np.float32(6)},
        x=(2, 16),
    ),
    "softmax-of-attention": written(
        """(float[1, 200, 8] x) => (float[1, 200, 8] y) { m = MatMul(x, w)  t = Transpose<perm = [0, 2, 1]>(m)
            a = MatMul(m, t)
        b = Mul(a, small)  s = Softmax(b)  y = MatMul(s, x) }""",
        {"w": (8, 8), "small": np.float32(0.1)},
        uint8=15,
        x=(1, 200, 8),
    ),
    "hardmax": written(
        f"{X} => (float[2, 16] y) {{ m = Gemm(x, w)  y = Hardmax(m) }}", {"w": (16, 16)}, **TIES, x=(2, 16)
    ),
    "log-softmax": after("y = LogSoftmax(m)", 300),
    "squares": after("b = Mul(m, small)  q = Mul(b, b)  y = Sqrt(q)", small=np.float32(0.01)),
}

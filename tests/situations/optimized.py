"""Models that ONNX Runtime saved after its own optimizations, at every level."""

from __future__ import annotations

from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from hybridq.graph import runtime
from situations.common import Situation, written

PICTURES = written(
    """(float[1, 3, 16, 16] x) => (float[1, 8] y) { a = Conv<pads = [1, 1, 1, 1]>(x, w, b)  n = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(n, v)  d = Add(c, n)  e = Relu(d)  f = Conv(e, u)  g = LeakyRelu<alpha = 0.1>(f)
        i = Conv(g, t)  j = Clip(i, low, high)  p = GlobalAveragePool(j)  q = Flatten(p)  r = Gemm(q, l)
        y = Relu(r) }""",
    {
        "w": (16, 3, 3, 3),
        "b": (16,),
        "v": (16, 16, 3, 3),
        "u": (16, 16, 1, 1),
        "t": (16, 16, 1, 1),
        "l": (16, 8),
        "low": np.float32(0),
        "high": np.float32(6),
    },
    x=(1, 3, 16, 16),
)
TOKENS = written(
    """(float[1, 6, 8] x) => (float[1, 6, 8] y) { q = MatMul(x, w)  k = MatMul(x, v)
        kt = Transpose<perm = [0, 2, 1]>(k)  s = MatMul(q, kt)  d = Div(s, root)  p = Softmax<axis = -1>(d)
        o = MatMul(p, x)  r = Add(o, x)  n = LayerNormalization(r, g, b)  h = MatMul(n, u)  i = Add(h, c)
        z = Div(i, two)  e = Erf(z)  f = Add(e, one)  l = Mul(i, f)  m = Mul(l, half)  y = MatMul(m, t) }""",
    {
        **dict.fromkeys("wv", (8, 8)),
        **dict.fromkeys("gb", (8,)),
        "u": (8, 16),
        "c": (16,),
        "t": (16, 8),
        **{name: np.float32(n) for name, n in (("root", 8**0.5), ("two", 2**0.5), ("one", 1), ("half", 0.5))},
    },
    x=(1, 6, 8),
)


def optimized(situation: Situation, level: str) -> Situation:
    """The same with the model as ONNX Runtime saves it."""
    with TemporaryDirectory() as folder:
        options = runtime.options(threads=1, level=level)
        options.optimized_model_filepath = f"{folder}/saved.onnx"
        runtime.session(situation.model, session_options=options)
        return replace(situation, model=onnx.load(f"{folder}/saved.onnx"))


CASES: dict[str, Situation] = {
    f"{name}-{level}": optimized(held, level)
    for name, held in (("pictures", PICTURES), ("tokens", TOKENS))
    for level in ("basic", "extended", "all")
}

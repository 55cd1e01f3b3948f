"""Outputs of every type and in every place."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w)"
W = {"w": (4, 3, 3, 3)}
PICTURE = "(float[1, 3, 8, 8] x)"

CASES: dict[str, Situation] = {
    "classes-and-flags": written(
        f"""{PICTURE} => (int64[1, 1, 8, 8] k, bool[1, 4, 8, 8] b, uint8[1, 4, 8, 8] u, float[1, 4, 8, 8] y) {{
        {CONV} k = ArgMax<axis = 1>(c)  b = Greater(c, far)  s = Sigmoid(c)  g = Sub(s, s)  u = Cast<to = 2>(g)
        y = Relu(c) }}""",
        {**W, "far": np.float32(50)},
        x=(1, 3, 8, 8),
    ),
    "wrong-shape-declared": written(f"{PICTURE} => (float[1, 5, 8, 8] y) {{ {CONV} y = Relu(c) }}", W, x=(1, 3, 8, 8)),
    "wrong-rank-declared": written(f"{PICTURE} => (float[1, 4] y) {{ {CONV} y = Relu(c) }}", W, x=(1, 3, 8, 8)),
    "wrong-shape-inside": written(
        f"{PICTURE} => (float[1, 4, 8, 8] y) <float[1, 7, 8, 8] c> {{ {CONV} y = Relu(c) }}", W, x=(1, 3, 8, 8)
    ),
    "one-number": written(
        f"""{PICTURE} => (float s, float[1] t) {{ {CONV} s = ReduceMean<keepdims = 0>(c)  n = Reshape(s, one)
            t = Sigmoid(n) }}""",
        {**W, "one": int64(1)},
        uint8=10,
        int16=40,
        x=(1, 3, 8, 8),
    ),
    "two-names-of-one": written(
        f"""{PICTURE} => (float[1, 4, 8, 8] y, float[1, 4, 8, 8] z, float[1, 4, 8,
            8] c) {{ {CONV} y = Identity(c)  z = Identity(y) }}""",
        W,
        x=(1, 3, 8, 8),
    ),
    "inner-and-last": written(
        f"""{PICTURE} => (float[1, 4, 8, 8] c, float[1, 4, 8, 8] r, float[1, 256] y) {{ {CONV} r = Relu(c)
            y = Flatten(r) }}""",
        W,
        x=(1, 3, 8, 8),
    ),
    "input-among-the-outputs": written(
        f"""(float[1, 3, 8, 8] x, int64[2] n)
            => (float[1, 4, 8, 8] c, float[192] v, int64[2] m, float[1, 3, 8, 8] o) {{ {CONV} v = Reshape(x,
            flat)  m = Identity(n)  o = Identity(x) }}""",
        {**W, "flat": int64(-1)},
        x=(1, 3, 8, 8),
        n=int64(1, 2),
    ),
    "constants": written(
        f"""{PICTURE} => (float[1, 4, 8, 8] c, float[2, 2] p, int64[4] s,
            float[2] q) {{ {CONV} p = Identity(prior)  s = Shape(c)
            q = Constant<value = float[2] {{1.5, 2.5}}>() }}""",
        {**W, "prior": np.eye(2, dtype=np.float32)},
        x=(1, 3, 8, 8),
    ),
    "no-shape-declared": written(
        f"(float[1, 3, 8, 8] x, int64[n] s) => (float y) {{ {CONV} y = Reshape(c, s) }}".replace(
            "float y", "float[] y"
        ),
        W,
        x=(1, 3, 8, 8),
        s=[int64(4, 64), int64(2, 128)],
    ),
    "sequence": written(
        f"""{PICTURE} => (seq(float[1, 2, 8, 8]) y, float[1, 4, 8,
            8] z) {{ {CONV} y = SplitToSequence<axis = 1>(c, two)  z = Relu(c) }}""",
        {**W, "two": np.int64(2)},
        x=(1, 3, 8, 8),
    ),
    "sequence-inside": written(
        f"""{PICTURE} => (float[1, 4, 8, 8] z) {{ {CONV} s = SplitToSequence<axis = 1>(c, two)
            a = SequenceAt(s, one)  b = SequenceAt(s, zero)  t = SequenceConstruct(a, b)
            d = ConcatFromSequence<axis = 1>(t)  z = Relu(d) }}""",
        {**W, "two": np.int64(2), "one": np.int64(1), "zero": np.int64(0)},
        x=(1, 3, 8, 8),
    ),
    "optional": written(
        f"""{PICTURE} => (optional(float[1, 4, 8, 8]) o, float[1, 4, 8, 8] z,
            bool h) {{ {CONV} o = Optional(c)  h = OptionalHasElement(o)  z = Relu(c) }}""",
        W,
        opset=18,
        x=(1, 3, 8, 8),
    ),
    "last-state-alone": written(
        """(float[5, 1, 8] x)
            => (float[1, 1, 6] h, float[1, 1, 6] k) { _, h, k = LSTM<hidden_size = 6>(x, w, r, b) }""".replace(
            "_, h", " , h"
        ),
        {"w": (1, 24, 8), "r": (1, 24, 6), "b": (1, 48)},
        x=(5, 1, 8),
    ),
    "gru-both-ways-state": written(
        """(float[T, 1, 8] x)
            => (float[2, 1, 6] h) { , h = GRU<hidden_size = 6, direction = "bidirectional",
            linear_before_reset = 1>(x, w, r, b) }""",
        {"w": (2, 18, 8), "r": (2, 18, 6), "b": (2, 36)},
        x=[(5, 1, 8), (7, 1, 8)],
    ),
    "only-integers": written(
        f"{PICTURE} => (int64[1, 1, 8, 8] k) {{ {CONV} k = ArgMax<axis = 1>(c) }}",
        W,
        uint8=-99,
        int16=-99,
        x=(1, 3, 8, 8),
    ),
    "only-a-flag": written(
        f"{PICTURE} => (bool b) {{ {CONV} m = ReduceMax<keepdims = 0>(c)  b = Greater(m, zero) }}",
        {**W, "zero": np.float32(0)},
        x=(1, 3, 8, 8),
    ),
    "double": written(
        "(double[1, 8] x) => (double[1, 4] y) { f = Cast<to = 1>(x)  m = MatMul(f, w)  y = Cast<to = 11>(m) }",
        {"w": (8, 4)},
        x=[np.linspace(-1, 1, 8)[None], np.linspace(1, -2, 8)[None]],
    ),
    "double-throughout": written(
        "(double[1, 8] x) => (double[1, 4] y) { m = MatMul(x, w)  y = Relu(m) }",
        {"w": np.linspace(-1, 1, 32).reshape(8, 4)},
        x=[np.linspace(-1, 1, 8)[None], np.linspace(1, -2, 8)[None]],
    ),
    "half": written(
        """(float16[1, 8] x) => (float16[1, 4] y, int64[1] k) { m = MatMul(x, w)  y = Relu(m)
            k = ArgMax<axis = 1, keepdims = 0>(m) }""",
        {"w": np.linspace(-1, 1, 32).reshape(8, 4).astype(np.float16)},
        x=[np.linspace(-1, 1, 8)[None].astype(np.float16), np.linspace(1, -2, 8)[None].astype(np.float16)],
    ),
    "half-through": written(
        """(float16[1, 8] x, float16[8] b) => (float16[1, 8] y, float16[1, 8] z, float16[1, 8] k, float16[8, 8] w)
            { a = Add(x, b)  y = Relu(a)  m = MatMul(y, w)  z = Sigmoid(m)  k = Identity(x) }""",
        {"w": np.linspace(-1, 1, 64).reshape(8, 8).astype(np.float16)},
        x=[np.linspace(-1, 1, 8)[None].astype(np.float16), np.linspace(1, -2, 8)[None].astype(np.float16)],
        b=np.linspace(0, 1, 8).astype(np.float16),
    ),
    "half-attention": written(
        """(float16[1, 2, 4, 8] q, float16[1, 2, 6, 8] k, float16[1, 2, 6, 8] v) => (float16[1, 2, 4, 8] y)
            { m = MatMul(k, w)  a = Attention(q, m, v)  y = MatMul(a, w) }""",
        {"w": np.linspace(-1, 1, 64).reshape(8, 8).astype(np.float16)},
        opset=23,
        q=[np.linspace(-1, 1, 64).reshape(1, 2, 4, 8).astype(np.float16)],
        k=[np.linspace(1, -2, 96).reshape(1, 2, 6, 8).astype(np.float16)],
        v=[np.sin(np.arange(96)).reshape(1, 2, 6, 8).astype(np.float16)],
    ),
    "batch-statistics": written(
        """(float[4, 3, 5] x, float[3] s, float[3] b, float[3] m, float[3] v)
            => (float[4, 3, 5] y, float[3] p, float[3] q) { c = Relu(x)
            y, p, q = BatchNormalization<training_mode = 1>(c, s, b, m, v) }""",
        x=(4, 3, 5),
        s=np.float32([1, 2, 3]),
        b=np.float32([0, 1, -1]),
        m=np.float32([0, 0.5, 1]),
        v=np.float32([1, 2, 3]),
    ),
    "bytes-in": written(
        """(uint8[1, 8, 8, 3] x) => (float[1, 4, 8, 8] y) { f = Cast<to = 1>(x)  d = Div(f, full)
            t = Transpose<perm = [0, 3, 1, 2]>(d)  y = Conv<pads = [1, 1, 1, 1]>(t, w) }""",
        {**W, "full": np.float32(255)},
        x=[
            np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3),
            np.arange(192, dtype=np.uint8)[::-1].reshape(1, 8, 8, 3).copy(),
        ],
    ),
    "unused-input": written(
        f"(float[1, 3, 8, 8] x, float[2] unused) => (float[1, 4, 8, 8] c) {{ {CONV} }}", W, x=(1, 3, 8, 8), unused=(2,)
    ),
    "unused-layer": written(
        f"{PICTURE} => (float[1, 4, 8, 8] c) {{ {CONV} d = Conv(c, v)  e = Relu(d) }}",
        {**W, "v": (2, 4, 1, 1)},
        x=(1, 3, 8, 8),
    ),
    "embedding": written(
        """(int64[1, T] i) => (float[1, T, 4] y) { e = Gather(table, i)  n = LayerNormalization(e, gain)
            y = MatMul(n, w) }""",
        {"table": (10, 8), "gain": (8,), "w": (8, 4)},
        i=[np.arange(5)[None], np.arange(3)[None] * 3],
    ),
    "indices-leave": written(
        f"""{PICTURE} => (float[1, 4, 4, 4] y, int64[1, 4, 4, 4] i) {{ {CONV} y, i = MaxPool<kernel_shape = [2,
            2], strides = [2, 2]>(c) }}""",
        W,
        uint8=-99,
        int16=-99,
        x=(1, 3, 8, 8),
    ),
    "masked-dropout": written(
        "(float[1, 4] x) => (float[1, 4] y, bool[1, 4] k) { m = MatMul(x, w)  y, k = Dropout(m) }",
        {"w": (4, 4)},
        x=(1, 4),
    ),
    "unique": written(
        "(float[6] x) => (float[N] y, int64[6] i) { r = Round(x)  y, , i = Unique(r) }",
        {},
        uint8=-99,
        int16=-99,
        x=[np.float32([1, 2, 2, 3, 1, 0]), np.float32([5, 5, 5, 5, 5, 5])],
    ),
    "nothing-but-constants": written(
        f"{PICTURE} => (int64[4] s, float[1, 4, 8, 8] y) {{ {CONV} s = Shape(x)  z = Sub(c, c)  y = Relu(z) }}",
        W,
        x=(1, 3, 8, 8),
    ),
}

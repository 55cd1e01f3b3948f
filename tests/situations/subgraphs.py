"""If, Loop and Scan, nested, with captures and weights inside; random numbers; functions."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

M = "m = MatMul(x, w)"
W = {"w": (8, 8), "v": (8, 8)}
X = "(float[1, 6, 8] x)"

CASES: dict[str, Situation] = {
    "if-with-weights": written(
        f"""(float[1, 6, 8] x, bool f) => (float[1, 6, 8] y) {{ {M}
        r = If(f) <then_branch = a () => (float[1, 6, 8] p) {{ p = MatMul(m, v) }}, else_branch = b ()
            => (float[1, 6, 8] q) {{ q = Relu(m) }}>
        y = MatMul(r, w) }}""",
        W,
        x=(1, 6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "if-in-loop": written(
        f"""(float[1, 6, 8] x, int64 n) => (float[1, 6, 8] y, float[N, 1, 6, 8] z) {{ {M}
        y, z = Loop(n, , m) <body = step (int64 i, bool k, float[1, 6, 8] a)
            => (bool l, float[1, 6, 8] b, float[1, 6, 8] c) {{
            l = Identity(k)  first = Equal(i, none)
            b = If(first) <then_branch = t ()
                => (float[1, 6, 8] p) {{ p = MatMul(a, v) }}, else_branch = e ()
                => (float[1, 6, 8] q) {{ q = Add(a, x) }}>
            c = Sigmoid(b) }}> }}""",
        {**W, "none": np.int64(0)},
        x=(1, 6, 8),
        n=[np.int64(2), np.int64(4)],
    ),
    "scan-with-weights": written(
        f"""(float[6, 8] x, float[8] h) => (float[8] s, float[6, 8] y) {{ {M}
        s, y = Scan<num_scan_inputs = 1, body = step (float[8] a, float[8] e) => (float[8] b, float[8] o) {{
            r = MatMul(a, v)  t = Add(r, e)  b = Tanh(t)  o = Identity(b) }}>(h, m) }}""",
        W,
        x=(6, 8),
        h=(8,),
    ),
    "scan-in-if": written(
        f"""(float[6, 8] x, bool f) => (float[6, 8] y) {{ {M}
            zero = Constant<value = float[8] {{0, 0, 0, 0, 0, 0, 0, 0}}>()
        y = If(f) <then_branch = a () => (float[6, 8] p) {{
            s, p = Scan<num_scan_inputs = 1, body = step (float[8] c, float[8] e)
                => (float[8] b, float[8] o) {{ b = Add(c, e)  o = Relu(b) }}>(zero, m) }},
            else_branch = b () => (float[6, 8] q) {{ q = Neg(m) }}> }}""",
        W,
        x=(6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "loop-until": written(
        f"""{X} => (float[1, 6, 8] y, int64 n) {{ {M}  go = Constant<value = bool {{1}}>()
        n, y = Loop(, go, zero, m) <body = step (int64 i, bool k, int64 c, float[1, 6, 8] a)
            => (bool l, int64 d, float[1, 6, 8] b) {{
            b = Mul(a, half)  t = ReduceMax<keepdims = 0>(b)  l = Greater(t, least)  d = Add(c, one) }}> }}""",
        {"w": (8, 8), "zero": np.int64(0), "one": np.int64(1), "half": np.float32(0.5), "least": np.float32(0.1)},
        uint8=-99,
        int16=-99,
        x=(1, 6, 8),
    ),
    "if-reads-what-is-moved": written(
        f"""(float[1, 6, 8] x, bool f) => (float[1, 8, 6] y) {{ {M}  t = Transpose<perm = [0, 2, 1]>(m)
            u = Reshape(t, shape)
        r = If(f) <then_branch = a () => (float[1, 8, 6] p) {{ p = Identity(u) }}, else_branch = b ()
            => (float[1, 8, 6] q) {{ q = Neg(u) }}>
        y = Add(r, u) }}""",
        {"w": (8, 8), "shape": int64(1, 8, 6)},
        x=(1, 6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "if-of-constants": written(
        f"""(float[1, 6, 8] x, bool f) => (float[1, 6, 8] y) {{ {M}
        k = If(f) <then_branch = a ()
            => (float p) {{ p = Constant<value = float {{2}}>() }}, else_branch = b ()
            => (float q) {{ q = Constant<value = float {{0.5}}>() }}>
        y = Mul(m, k) }}""",
        {"w": (8, 8)},
        x=(1, 6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "if-gives-a-scale": written(
        """(float[1, 4, 8, 8] x, bool f) => (float[1, 4, P, Q] y) { c = Conv(x, w)
        k = If(f) <then_branch = a ()
            => (float[4] p) { p = Constant<value = float[4] {1, 1, 2, 2}>() }, else_branch = b ()
            => (float[4] q) { q = Identity(near) }>
        y = Resize<mode = "nearest">(c, , k) }""",
        {"w": (4, 4, 1, 1), "near": np.float32([1, 1, 0.5, 0.5])},
        x=(1, 4, 8, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "nested-loops": written(
        f"""{X} => (float[1, 6, 8] y) {{ {M}
        y = Loop(two, , m) <body = outer (int64 i, bool k, float[1, 6, 8] a)
            => (bool l, float[1, 6, 8] b) {{ l = Identity(k)
            b = Loop(two, , a) <body = inner (int64 j, bool o, float[1, 6, 8] c)
                => (bool p, float[1, 6, 8] d) {{ p = Identity(o)
                e = MatMul(c, v)  d = Add(e, m) }}> }}> }}""",
        {**W, "two": np.int64(2)},
        x=(1, 6, 8),
    ),
    "random-dropout": written(
        f"""{X} => (float[1, 6, 8] y) {{ {M}  r = RandomUniformLike<seed = 7.0>(m)  d = Sub(r, r)
            e = Add(m, d)  y = Relu(e) }}""",
        {"w": (8, 8)},
        x=(1, 6, 8),
    ),
    "random-inside-if": written(
        f"""(float[1, 6, 8] x, bool f) => (float[1, 6, 8] y) {{ {M}
        y = If(f) <then_branch = a () => (float[1, 6, 8] p) {{ r = RandomNormalLike(m)  z = Mul(r, none)
            p = Add(m, z) }}, else_branch = b () => (float[1, 6, 8] q) {{ q = Relu(m) }}> }}""",
        {"w": (8, 8), "none": np.float32(0)},
        x=(1, 6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "multinomial": written(
        f"""{X} => (float[1, 6, 8] y, int32[6, 1] k) {{ {M}  y = Relu(m)  f = Reshape(m, flat)
            z = Mul(f, none)  b = Add(z, sure)  k = Multinomial(b) }}""",
        {"w": (8, 8), "flat": int64(6, 8), "none": np.float32(0), "sure": np.float32([0] + [-1e4] * 7)},
        x=(1, 6, 8),
    ),
    "sequence-map": written(
        f"""{X} => (float[1, 6, 8] y) {{ {M}  s = SplitToSequence<axis = 1>(m, two)
        t = SequenceMap(s) <body = each (float[1, 2, 8] a) => (float[1, 2, 8] b) {{ b = Relu(a) }}>
            y = ConcatFromSequence<axis = 1>(t) }}""",
        {"w": (8, 8), "two": np.int64(2)},
        x=(1, 6, 8),
    ),
    "captured-input-and-weight": written(
        f"""(float[1, 6, 8] x, float[1, 6, 8] z, bool f) => (float[1, 6, 8] y) {{ {M}
        y = If(f) <then_branch = a () => (float[1, 6, 8] p) {{ s = MatMul(z, w)
            p = Add(s, m) }}, else_branch = b () => (float[1, 6, 8] q) {{ q = Sub(m, z) }}> }}""",
        {"w": (8, 8)},
        x=(1, 6, 8),
        z=(1, 6, 8),
        f=[np.bool_(True), np.bool_(False)],
    ),
    "scan-of-a-batch": written(
        """(float[N, 2] s, float[N, T, 3] x, float[N, T, 3] u) => (float[N, 2] y, float[N, T, 2] z) { c = MatMul(x, w)
        y, z = Scan <num_scan_inputs = 2, directions = [0, 1], body = b (float[2] h, float[3] e, float[3] f)
            => (float[2] t, float[2] o) { g = Add(e, f)  i = Unsqueeze<axes = [0]>(g)  j = MatMul(i, v)
            k = Squeeze<axes = [0]>(j)  t = Add(h, k)  o = Relu(t) }> (, s, c, u) }""",
        {"w": (3, 3), "v": (3, 2)},
        opset=8,
        s=(2, 2),
        x=(2, 5, 3),
        u=(2, 5, 3),
    ),
}

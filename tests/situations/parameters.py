"""Parameters that are computed in the graph: sizes, scales, exponents, places, counts, angles."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, float32, int64, written

CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w)"
W = {"w": (4, 3, 3, 3)}
PICTURE = "(float[1, 3, 8, 8] x)"
BOXES = float32([0, 0, 4, 4], [1, 1, 6, 7], [2, 0, 7, 5])

CASES: dict[str, Situation] = {
    "resize-twice-a-shape": written(
        """(float[1, 3, H, W] x) => (float[1, 4, P, Q] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)  s = Shape(c)  n = Slice(s, two, four)  m = Mul(n, twos)
        a = Slice(s, zero, two)  z = Concat<axis = 0>(a, m)  y = Resize<mode = "linear">(c, , , z) }""",
        {**W, "zero": int64(0), "two": int64(2), "four": int64(4), "twos": int64(2, 2)},
        x=[(1, 3, 8, 8), (1, 3, 6, 10)],
    ),
    "resize-to-another": written(
        """(float[1, 3, 8, 8] x, float[1, 4, H, W] z) => (float[1, 4, P, Q] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)  s = Shape(z)  f = Cast<to = 1>(s)  t = Shape(c)  g = Cast<to = 1>(t)
        r = Div(f, g)  u = Resize<mode = "nearest">(c, , r)  y = Add(u, z) }""",
        W,
        x=(1, 3, 8, 8),
        z=[(1, 4, 16, 16), (1, 4, 12, 9)],
    ),
    "resize-region": written(
        f"""(float[1, 3, 8, 8] x, float[4] corner) => (float[1, 4, 5, 5] y) {{
        {CONV}  start = Mul(corner, half)  end = Sub(ones, start)  roi = Concat<axis = 0>(start, end)
        y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">(c, roi, , z) }}""",
        {**W, "half": float32(0.5), "ones": float32(1, 1, 1, 1), "z": int64(1, 4, 5, 5)},
        x=(1, 3, 8, 8),
        corner=[float32(0, 0, 0.1, 0.3), float32(0, 0, 0.4, 0.2)],
    ),
    "upsample-scales": written(
        f"""(float[1, 3, 8, 8] x, float[4] factor) => (float[1, 4, P, Q] y) {{
        {CONV}  r = Mul(factor, two)  y = Upsample<mode = "linear">(c, r) }}""",
        {**W, "two": float32(2)},
        opset=9,
        x=(1, 3, 8, 8),
        factor=float32(0.5, 0.5, 1, 0.75),
    ),
    "exponent-of-the-mean": written(
        f"""(float[1, 3, 8, 8] x, float[1] e) => (float[1, 4, 8, 8] y) {{
        {CONV}  f = Add(e, one)  y = Pow(c, f) }}""",
        {**W, "one": float32(1)},
        uint8=10,
        x=(1, 3, 8, 8),
        e=float32(2),
    ),
    "gamma-mapping": written(
        f"""{PICTURE} => (float[1, 4, 8, 8] y) {{
        {CONV}  a = Abs(c)  b = Add(a, one)  m = ReduceMean<keepdims = 0>(x)  n = Abs(m)  k = Add(n, one)
        y = Pow(b, k) }}""",
        {**W, "one": float32(1)},
        x=(1, 3, 8, 8),
    ),
    "top-k-by-share": written(
        f"""(float[1, 3, 8, 8] x, float share) => (float[1, 4, 8, K] y, int64[1, 4, 8, K] i) {{
        {CONV}  n = Mul(share, eight)  f = Floor(n)  g = Cast<to = 7>(f)  k = Reshape(g, one)  y, i = TopK(c, k) }}""",
        {**W, "eight": np.float32(8), "one": int64(1)},
        uint8=-99,
        int16=40,
        x=(1, 3, 8, 8),
        share=[np.float32(0.5), np.float32(0.4)],
    ),
    "tile-by-quotient": written(
        """(float[1, 4, W] x, float[3] wide) => (float[A, B, C] y) {
        l = Mul(x, g)  n = Div(wide, three)  f = Ceil(n)  r = Cast<to = 7>(f)  y = Tile(l, r) }""",
        {"g": (1, 4, 1), "three": float32(3)},
        x=[(1, 4, 5), (1, 4, 7)],
        wide=float32(3, 2, 7),
    ),
    "slice-from-float": written(
        """(float[1, 10, 4] x, float[1] begin) => (float[1, T, 4] y) {
        m = MatMul(x, w)  b = Mul(begin, ten)  f = Round(b)  s = Cast<to = 7>(f)  e = Add(s, five)
            y = Slice(m, s, e, axis) }""",
        {"w": (4, 4), "ten": float32(10), "five": int64(5), "axis": int64(1)},
        x=(1, 10, 4),
        begin=[float32(0.1), float32(0.32)],
    ),
    "scatter-by-coordinates": written(
        """(float[3, 2] p, float[3, 4] v) => (float[6, 6, 4] y) {
        u = MatMul(v, w)  q = Mul(p, six)  f = Floor(q)  i = Cast<to = 7>(f)
            y = ScatterND<reduction = "add">(grid, i, u) }""",
        {"w": (4, 4), "six": float32(6), "grid": np.zeros((6, 6, 4), np.float32)},
        p=[float32([0.1, 0.2], [0.5, 0.99], [0.3, 0.34]), float32([0.17, 0.83], [0.5, 0.5], [0.01, 0.9])],
        v=(3, 4),
    ),
    "gather-nd-by-coordinates": written(
        """(float[1, 3, 8, 8] x, float[5, 2] p) => (float[5, 4] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)  t = Transpose<perm = [0, 2, 3, 1]>(c)  s = Squeeze(t, zero)
        q = Mul(p, seven)  f = Round(q)  i = Cast<to = 7>(f)  y = GatherND(s, i) }""",
        {**W, "zero": int64(0), "seven": float32(7)},
        x=(1, 3, 8, 8),
        p=[
            np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2),
            np.linspace(0.9, 0.1, 10, dtype=np.float32).reshape(5, 2),
        ],
    ),
    "range-of-a-length": written(
        """(float[1, T, 4] x, float seconds) => (float[T] y) {
        end = Mul(seconds, rate)  r = Range(zero, end, step)  m = ReduceMean<axes = [0, 2], keepdims = 0>(x)
            p = Mul(r, hundredth)
        s = Sin(p)  y = Add(s, m) }""",
        {"rate": np.float32(10), "zero": np.float32(0), "step": np.float32(0.5), "hundredth": np.float32(0.1)},
        x=[(1, 12, 4), (1, 20, 4)],
        seconds=[np.float32(0.6), np.float32(1.0)],
    ),
    "one-hot-of-floats": written(
        """(float[5] c, float depth, float[1] high) => (float[5, 4] y) {
        v = Concat<axis = 0>(low, high)  d = Ceil(depth)  o = OneHot(c, d, v)  y = MatMul(o, w) }""",
        {"low": float32(-0.5), "w": (6, 4)},
        c=[float32(0, 2, 5, 1, 3), float32(4, 2, 5, 5, 3)],
        depth=np.float32(5.5),
        high=float32(1),
    ),
    "cumulative-sum": written(
        """(float[2, 6, 4] x, int32 axis) => (float[2, 6, 4] y) { m = MatMul(x, w)
            y = CumSum<exclusive = 1>(m, axis) }""",
        {"w": (4, 4)},
        x=(2, 6, 4),
        axis=np.int32(1),
    ),
    "grid-in-a-loop": written(
        f"""(float[1, 3, 8, 8] x, float[1, 8, 8, 2] g) => (float[1, 4, 8, 8] y) {{
        {CONV}
        h, y = Loop(three, , g, c) <body = step (int64 i, bool k, float[1, 8, 8, 2] a, float[1, 4, 8, 8] v)
            => (bool l, float[1, 8, 8, 2] b, float[1, 4, 8, 8] u) {{
            l = Identity(k)  b = Mul(a, shrink)  u = GridSample(v, b) }}> }}""",
        {**W, "three": np.int64(3), "shrink": np.float32(0.9)},
        opset=17,
        x=(1, 3, 8, 8),
        g=np.stack(np.meshgrid(*[np.linspace(-1, 1, 8, dtype=np.float32)] * 2), -1)[None],
    ),
    "affine-grid": written(
        f"""(float[1, 3, 8, 8] x, float[1, 2, 3] t) => (float[1, 4, 8, 8] y) {{
        {CONV}  s = Shape(c)  u = Mul(t, near)  g = AffineGrid(u, s)  y = GridSample(c, g) }}""",
        {**W, "near": np.float32(0.8)},
        opset=20,
        x=(1, 3, 8, 8),
        t=[float32([[1, 0.1, 0], [0, 1, 0.2]]), float32([[0.9, 0, 0.1], [0.1, 0.8, 0]])],
    ),
    "boxes-of-top-scores": written(
        f"""(float[1, 3, 8, 8] x, float[3, 4] b, float[3] s) => (float[2, 4, 2, 2] y) {{
        {CONV}  v, i = TopK(s, two)  p = Gather(b, i)  q = Mul(p, half)
        y = RoiAlign<output_height = 2, output_width = 2>(c, q, zeros) }}""",
        {**W, "two": int64(2), "half": np.float32(0.5), "zeros": int64(0, 0)},
        x=(1, 3, 8, 8),
        b=BOXES,
        s=[float32(0.1, 0.5, 0.9), float32(0.7, 0.2, 0.3)],
    ),
    "suppression-thresholds": written(
        """(float[1, 6, 4] b, float[1, 1, 6] s, float[1] t) => (int64[K, 3] y, float[1, 6, 4] z) {
        m = MatMul(b, w)  z = Relu(m)  u = Mul(t, half)  y = NonMaxSuppression(b, s, most, u, t) }""",
        {"w": (4, 4), "half": float32(0.5), "most": int64(3)},
        b=np.repeat(np.array([[[0, 0, 2, 2], [0, 0.1, 2, 2], [3, 3, 5, 5]]], np.float32), 2, 1),
        s=[np.linspace(0, 1, 6, dtype=np.float32)[None, None], np.linspace(0.8, 0.2, 6, dtype=np.float32)[None, None]],
        t=float32(0.3),
    ),
    "triangle": written(
        """(float[1, 6, 6] x, float k) => (float[1, 6, 6] y) { m = MatMul(x, w)  f = Floor(k)  i = Cast<to = 7>(f)
        t = Trilu<upper = 0>(m, i)  y = Mul(t, gain) }""",
        {"w": (6, 6), "gain": (6,)},
        x=(1, 6, 6),
        k=[np.float32(0.7), np.float32(-1.5)],
    ),
    "fourier": written(
        """(float[1, 32, 1] x) => (float[1, 17] y) { f = DFT<axis = 1, onesided = 1>(x)
            r = ReduceL2<axes = [2], keepdims = 0>(f)
        y = Mul(r, gain) }""",
        {"gain": (17,)},
        x=(1, 32, 1),
    ),
    "spectrogram": written(
        """(float[1, 64] x) => (float[1, T, 8] y) { h = HannWindow(size)  s = STFT(x, hop, h, size)
        p = ReduceSumSquare<axes = [3], keepdims = 0>(s)  mel = MelWeightMatrix(bins, size, rate, low, high)
        m = MatMul(p, mel)  n = Add(m, little)  y = Log(n) }""",
        {
            "size": np.int64(16),
            "hop": np.int64(4),
            "bins": np.int64(8),
            "rate": np.int64(16000),
            "low": np.float32(20),
            "high": np.float32(8000),
            "little": np.float32(1e-6),
        },
        uint8=-3,  # the logarithm of what is nearly nothing: 8 bits have to get through, and cannot be good
        int16=0,
        x=(1, 64),
    ),
    "mel-edges-fed": written(
        """(float[1, 9] x, float low, float high) => (float[1, 8] y) {
        l = Mul(low, kilo)  h = Mul(high, kilo)  mel = MelWeightMatrix(bins, size, rate, l, h)  y = MatMul(x, mel) }""",
        {"size": np.int64(16), "bins": np.int64(8), "rate": np.int64(16000), "kilo": np.float32(1000)},
        x=(1, 9),
        low=np.float32(0.02),
        high=np.float32(7.5),
    ),
    "rotary": written(
        """(float[1, T, 8] x, int64[T] p) => (float[1, T, 8] y) {
        m = MatMul(x, w)  f = Cast<to = 1>(p)  u = Unsqueeze(f, one)  t = MatMul(u, freq)  a = Concat<axis = -1>(t, t)
        c = Cos(a)  s = Sin(a)  h, k = Split<axis = -1>(m)  n = Neg(k)  r = Concat<axis = -1>(n, h)
        b = Mul(m, c)  d = Mul(r, s)  y = Add(b, d) }""",
        {"w": (8, 8), "one": int64(1), "freq": float32([1, 0.1, 0.01, 0.001])},
        x=[(1, 5, 8), (1, 9, 8)],
        p=[np.arange(5) + 1000, np.arange(9) + 3000],
    ),
    "rotary-einsum": written(
        """(float[1, 6, 8] x, float[6] p) => (float[1, 6, 8] y) {
        m = MatMul(x, w)  t = Einsum<equation = "i,j->ij">(p, freq)  c = Cos(t)  s = Sin(t)
        a = Concat<axis = -1>(c, s)  y = Mul(m, a) }""",
        {"w": (8, 8), "freq": float32(1, 0.1, 0.01, 0.001)},
        x=(1, 6, 8),
        p=[np.arange(6, dtype=np.float32) + 500, np.arange(6, dtype=np.float32) + 2000],
    ),
    "rotary-operator": written(
        """(float[1, 2, 6, 8] x, int64[1, 6] p) => (float[1, 2, 6, 8] y) {
        m = MatMul(x, w)  a = Gather(angles, p)  c = Cos(a)  s = Sin(a)  y = RotaryEmbedding(m, c, s) }""",
        {"w": (8, 8), "angles": np.outer(np.arange(64), [1, 0.1, 0.01, 0.001]).astype(np.float32)},
        opset=23,
        x=(1, 2, 6, 8),
        p=[np.arange(6)[None], np.arange(6)[None] + 40],
    ),
    "sinusoidal-positions": written(
        """(float[1, 6, 8] x) => (float[1, 6, 8] y) {
        n = Shape<start = 1, end = 2>(x)  k = Squeeze(n, zero)  r = Range(o, k, i)  f = Cast<to = 1>(r)
            g = Mul(f, large)
        u = Unsqueeze(g, one)  t = Mul(u, freq)  s = Sin(t)  c = Cos(t)  e = Concat<axis = -1>(s, c)
        a = Add(x, e)  y = MatMul(a, w) }""",
        {
            "w": (8, 8),
            "zero": int64(0),
            "o": np.int64(0),
            "i": np.int64(1),
            "one": int64(1),
            "large": np.float32(37),
            "freq": float32([1, 0.1, 0.01, 0.001]),
        },
        x=(1, 6, 8),
    ),
    "center-crop": written(
        f"""(float[1, 3, 8, 8] x, float[2] size) => (float[1, 4, P, Q] y) {{
        {CONV}  f = Floor(size)  s = Cast<to = 7>(f)  y = CenterCropPad<axes = [2, 3]>(c, s) }}""",
        W,
        opset=18,
        x=(1, 3, 8, 8),
        size=[float32(6.5, 10.2), float32(9, 3)],
    ),
    "columns-to-image": written(
        """(float[1, 4, 9] x) => (float[1, 1, 4, 4] y) { m = Mul(x, gain)  y = Col2Im(m, size, block) }""",
        {"gain": (1, 4, 1), "size": int64(4, 4), "block": int64(2, 2)},
        opset=18,
        x=(1, 4, 9),
    ),
    "clip-computed": written(
        f"""(float[1, 3, 8, 8] x, float t) => (float[1, 4, 8, 8] y) {{
        {CONV}  n = Neg(t)  k = Clip(c, n, t)  y = Conv(k, v) }}""",
        {**W, "v": (4, 4, 1, 1)},
        x=(1, 3, 8, 8),
        t=[np.float32(0.8), np.float32(0.5)],
    ),
    "pad-computed": written(
        f"""(float[1, 3, 8, 8] x, float[1] n, float v) => (float[1, 4, P, Q] y) {{
        {CONV}  f = Ceil(n)  i = Cast<to = 7>(f)  p = Concat<axis = 0>(zeros, i, i, zeros, i, zero)  u = Neg(v)
        y = Pad(c, p, u) }}""",
        {**W, "zeros": int64(0, 0), "zero": int64(0)},
        x=(1, 3, 8, 8),
        n=[float32(0.5), float32(1.7)],
        v=np.float32(0.3),
    ),
    "expand-to-float": written(
        """(float[1, 4] x, float[2] n) => (float[A, B] y) { m = MatMul(x, w)  c = Ceil(n)  s = Cast<to = 7>(c)
            y = Expand(m, s) }""",
        {"w": (4, 4)},
        x=(1, 4),
        n=[float32(2.5, 4), float32(0.5, 1)],
    ),
    "fill-of-a-size": written(
        """(float[1, 4] x, float[1] n) => (float[A, 4] y) { c = Round(n)  s = Cast<to = 7>(c)
            t = Concat<axis = 0>(s, one)
        z = ConstantOfShape<value = float[1] {0.5}>(t)  m = MatMul(x, w)  y = Add(z, m) }""",
        {"w": (4, 4), "one": int64(1)},
        x=(1, 4),
        n=[float32(2.4), float32(4.6)],
    ),
    "modulo-positions": written(
        """(float[6] p, float[1, 8, 4] x) => (float[1, 6, 4] y) { m = Mod<fmod = 1>(p, eight)  i = Cast<to = 7>(m)
        g = Gather<axis = 1>(x, i)  y = MatMul(g, w) }""",
        {"w": (4, 4), "eight": np.float32(8)},
        p=[np.arange(6, dtype=np.float32) * 3, np.arange(6, dtype=np.float32) * 7 + 1],
        x=(1, 8, 4),
    ),
    "compare-positions": written(
        """(float[1, 6, 4] x, float[6] p, float n) => (float[1, 6, 4] y) {
        b = Less(p, n)  u = Unsqueeze(b, one)  m = MatMul(x, w)  y = Where(u, m, zero) }""",
        {"w": (4, 4), "one": int64(1), "zero": np.float32(0)},
        x=(1, 6, 4),
        p=np.arange(6, dtype=np.float32) * 0.01,
        n=[np.float32(0.0201), np.float32(0.0399)],
    ),
    "length-mask": written(
        """(float[2, 6, 4] x, int64[2] n) => (float[2, 6, 4] y) {
        r = Range(o, six, i)  u = Unsqueeze(n, one)  b = Less(r, u)  f = Cast<to = 1>(b)  g = Unsqueeze(f, two)
        m = MatMul(x, w)  y = Mul(m, g) }""",
        {"w": (4, 4), "one": int64(1), "two": int64(2), "o": np.int64(0), "six": np.int64(6), "i": np.int64(1)},
        x=(2, 6, 4),
        n=[int64(3, 6), int64(1, 4)],
    ),
    "deformed": written(
        """(float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y) {
        o = Conv<pads = [1, 1, 1, 1]>(x, v)  m = Sigmoid(o)  a, b, k = Split<axis = 1>(o, parts)
            d = Concat<axis = 1>(a, b)
        y = DeformConv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, d, bias) }""",
        {**W, "v": (27, 3, 3, 3), "parts": int64(9, 9, 9), "bias": (4,)},
        opset=19,
        uint8=15,
        x=(1, 3, 8, 8),
    ),
    "warp-by-flow": written(
        """(float[1, 3, 8, 8] x, float[1, 8, 8, 2] g) => (float[1, 3, 8, 8] y) {
        f = Conv<pads = [1, 1, 1, 1]>(x, w)  t = Transpose<perm = [0, 2, 3, 1]>(f)  d = Mul(t, small)  n = Add(g, d)
        y = GridSample<padding_mode = "border">(x, n) }""",
        {"w": (2, 3, 3, 3), "small": np.float32(0.1)},
        opset=20,
        x=(1, 3, 8, 8),
        g=np.stack(np.meshgrid(*[np.linspace(-1, 1, 8, dtype=np.float32)] * 2), -1)[None],
    ),
    "dropout-ratio": written(
        """(float[1, 4] x, float r) => (float[1, 4] y) { m = MatMul(x, w)  h = Mul(r, half)  y = Dropout(m, h) }""",
        {"w": (4, 4), "half": np.float32(0.5)},
        x=(1, 4),
        r=np.float32(0.4),
    ),
    "batch-statistics-fed": written(
        """(float[1, 3, 8, 8] x, float[4] s) => (float[1, 4, 8, 8] y) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w)  v = Mul(s, s)  y = BatchNormalization(c, s, zeros, zeros, v) }""",
        {**W, "zeros": float32(0, 0, 0, 0)},
        x=(1, 3, 8, 8),
        s=float32(1, 2, 0.5, 1.5),
    ),
}

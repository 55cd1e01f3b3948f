"""Operators at the edges of their attributes, in every opset that ONNX Runtime loads."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, int64, written

PICTURE = "(float[1, 4, 9, 9] x)"
W = {"w": (4, 4, 3, 3), "v": (8, 4, 1, 1)}
BEFORE = "c = Conv<pads = [1, 1, 1, 1]>(x, w)"


def window(text: str, out: str = "A, B, C, D", opset: int = 19, uint8: float = 20, **tensors: object) -> Situation:
    """A Conv, then ``text`` from ``c`` to ``y``, both pictures."""
    return written(
        f"{PICTURE} => (float[{out}] y) {{ {BEFORE} {text} }}",
        {"w": W["w"], **tensors},
        opset=opset,
        uint8=uint8,
        x=(1, 4, 9, 9),
    )


def gemm(attributes: str, a: tuple[int, int], b: tuple[int, int], c: tuple[int, ...] | None) -> Situation:
    """A Gemm of a weight with some broadcast of ``C``."""
    third, held = (", k", {"k": c}) if c is not None else ("", {})
    text = f"(float[A, B] x) => (float[C, D] y) {{ y = Gemm<{attributes}>(x, w{third}) }}"
    return written(text, {"w": b, **held}, x=a)


def recurrent(op: str, gates: int, way: str, attributes: str, extra: str = "") -> Situation:
    """A recurrent layer of six units."""
    ways = 2 if way == "bidirectional" else 1
    text = f"""(float[5, 2, 8] x) => (float[5, {ways}, 2, 6] y) {{
        y = {op}<hidden_size = 6, direction = "{way}"{attributes}>(x, w, r, b{extra}) }}"""
    held = {
        "w": (ways, gates * 6, 8),
        "r": (ways, gates * 6, 6),
        "b": (ways, 2 * gates * 6),
        "n": np.array([5, 3], np.int32),
    }
    return written(text, {k: v for k, v in held.items() if k != "n" or " n" in extra}, x=(5, 2, 8))


def old_and_new(opset: int) -> Situation:
    """What every opset can say: convolution, BatchNorm, pools, Gemm, Softmax."""
    text = f"""{PICTURE} => (float[1, 5] y) {{ {BEFORE} b = BatchNormalization(c, s, o, o, s)  r = Relu(b)
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)  g = GlobalAveragePool(p)  f = Flatten(g)
            m = Gemm(f, k, z)
        y = Softmax<axis = 1>(m) }}"""
    held = {"w": W["w"], "s": np.float32([1, 2, 0.5, 1.5]), "o": (4,), "k": (4, 5), "z": (5,)}
    return written(text, held, opset=opset, uint8=15, x=(1, 4, 9, 9))


POOLS = {
    "average-ceil": "AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>",
    "average-ceil-padded": "AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>",
    "average-counting-pads": "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>",
    "average-counting-pads-ceil": """AveragePool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 0, 0],
        count_include_pad = 1, ceil_mode = 1>""",
    "average-same": 'AveragePool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">',
    "average-dilated": "AveragePool<kernel_shape = [2, 2], dilations = [2, 2]>",
    "max-ceil": "MaxPool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>",
    "max-dilated": "MaxPool<kernel_shape = [2, 2], dilations = [3, 2]>",
    "max-same-lower": 'MaxPool<kernel_shape = [3, 3], auto_pad = "SAME_LOWER">',
    "max-column-major": "MaxPool<kernel_shape = [2, 2], storage_order = 1>",
    "lp": "LpPool<kernel_shape = [2, 2], p = 1>",
    "global-max": "GlobalMaxPool",
    "global-lp": "GlobalLpPool<p = 3>",
}
REDUCTIONS = {
    "mean-negative-axes": "ReduceMean<axes = [-1, -2], keepdims = 0>",
    "mean-of-the-batch": "ReduceMean<axes = [0]>",
    "sum-of-all": "ReduceSum<keepdims = 0>",
    "max-all": "ReduceMax",
    "l2": "ReduceL2<axes = [1]>",
    "log-sum-exp": "ReduceLogSumExp<axes = [1], keepdims = 0>",
    "product": "ReduceProd<axes = [1]>",
    "min": "ReduceMin<axes = [-3], keepdims = 0>",
}
CASES: dict[str, Situation] = {
    **{f"pool-{n}": window(f"y = {op}(c)") for n, op in POOLS.items()},
    **{
        f"reduce-{n}": written(
            f"{PICTURE} => (float[] y) {{ {BEFORE} y = {op}(c) }}",
            {"w": W["w"]},
            opset=17,
            uint8=10,
            int16=35,
            x=(1, 4, 9, 9),
        )
        for n, op in REDUCTIONS.items()
    },
    "reduce-no-axes": window("y = ReduceSum<noop_with_empty_axes = 1>(c)"),
    "conv-same": window('y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(c, u)', u=(5, 4, 3, 3)),
    "conv-valid-dilated": window('y = Conv<auto_pad = "VALID", dilations = [2, 3]>(c, u)', u=(5, 4, 3, 2)),
    "conv-groups": window("y = Conv<group = 2, pads = [0, 1, 2, 0]>(c, u)", u=(6, 2, 3, 3)),
    "conv-depthwise-times-two": window("y = Conv<group = 4>(c, u)", u=(8, 1, 3, 3)),
    "conv-computed-weight": window("s = Sigmoid(u)  y = Conv(c, s)", u=(4, 4, 3, 3)),
    "conv-fed-weight": written(
        f"(float[1, 4, 9, 9] x, float[4, 4, 3, 3] u) => (float[1, 4, 7, 7] y) {{ {BEFORE} y = Conv(c, u) }}",
        {"w": W["w"]},
        x=(1, 4, 9, 9),
        u=(4, 4, 3, 3),
    ),
    "conv-shared-weight": window("d = Conv<pads = [1, 1, 1, 1]>(c, w)  y = Conv<pads = [1, 1, 1, 1]>(d, w)"),
    "conv-bias-computed": window("k = Mul(o, o)  y = Conv(c, u, k)", u=(4, 4, 1, 1), o=(4,)),
    "conv-three-dimensions": written(
        """(float[1, 2, 5, 6, 7] x)
            => (float[1, 3, P, Q, R] y) { c = Conv<pads = [1, 0, 1, 1, 0, 1], strides = [1, 2, 1]>(x, w)
            p = MaxPool<kernel_shape = [2, 2, 2]>(c)  y = Conv(p, v) }""",
        {"w": (4, 2, 3, 3, 3), "v": (3, 4, 1, 1, 1)},
        x=(1, 2, 5, 6, 7),
    ),
    "transposed-groups-padded": window(
        "y = ConvTranspose<group = 2, strides = [2, 2], output_padding = [1, 1], pads = [1, 1, 1, 1]>(c, u, k)",
        u=(4, 3, 3, 3),
        k=(6,),
    ),
    "transposed-output-shape": window(
        "y = ConvTranspose<strides = [2, 2], output_shape = [18, 18]>(c, u)", u=(4, 3, 3, 3)
    ),
    "transposed-same": window('y = ConvTranspose<strides = [2, 2], auto_pad = "SAME_UPPER">(c, u)', u=(4, 3, 3, 3)),
    "transposed-three-dimensions": written(
        "(float[1, 2, 3, 4, 3] x) => (float[1, 3, P, Q, R] y) { y = ConvTranspose<strides = [2, 1, 2]>(x, w) }",
        {"w": (2, 3, 2, 2, 2)},
        x=(1, 2, 3, 4, 3),
    ),
    "batch-norm-apart": written(
        f"""{PICTURE} => (float[1, 4, 9, 9] y) {{ b = BatchNormalization(x, s, o, o, s)  r = Relu(b)
            c = Conv<pads = [1, 1, 1, 1]>(r, w)  a = Add(c, x)  y = BatchNormalization(a, s, o, o, s) }}""",
        {"w": W["w"], "s": np.float32([1, 2, 0.5, 1.5]), "o": (4,)},
        x=(1, 4, 9, 9),
    ),
    "batch-norm-of-rows": written(
        "(float[6, 8] x) => (float[6, 8] y) { m = Gemm(x, w)  y = BatchNormalization(m, s, o, o, s) }",
        {"w": (8, 8), "s": np.ones(8, np.float32), "o": (8,)},
        x=(6, 8),
    ),
    "instance-norm": window("y = InstanceNormalization(c, s, s)", s=(4,)),
    "group-norm": window("y = GroupNormalization<num_groups = 2>(c, s, s)", opset=21, s=(4,)),
    "layer-norm-inner-axis": window("y = LayerNormalization<axis = 1>(c, s)", s=(4, 9, 9)),
    "lp-norm": window("y = LpNormalization<axis = 1, p = 1>(c)"),
    "local-response": window("y = LRN<size = 3>(c)"),
    "softmax-channels": window("y = Softmax<axis = 1>(c)"),
    "softmax-old-axis": written(
        f"{PICTURE} => (float[1, 4, 9, 9] y) {{ {BEFORE} y = Softmax<axis = 1>(c) }}",
        {"w": W["w"]},
        opset=11,
        uint8=5,
        x=(1, 4, 9, 9),
    ),
    "softmax-old-axis-inside": written(
        f"{PICTURE} => (float[1, 4, 9, 9] y) {{ {BEFORE} s = Softmax<axis = 1>(c)  y = Mul(s, c) }}",
        {"w": W["w"]},
        opset=11,
        uint8=5,
        x=(1, 4, 9, 9),
    ),
    "softmax-old-axis-of-ones": written(
        f"{PICTURE} => (float[1, 4, 1, 1] y) {{ {BEFORE} p = GlobalAveragePool(c)  y = Softmax<axis = 1>(p) }}",
        {"w": W["w"]},
        opset=11,
        x=(1, 4, 9, 9),
    ),
    "softmax-old-axis-of-any-size": written(
        "(float[N, C, H] x) => (float[N, C, H] y) { r = Relu(x)  y = Softmax<axis = 1>(r) }",
        opset=11,
        x=[(2, 4, 3), (1, 4, 1)],
    ),
    "leaps": written(
        f"""{PICTURE} => (float[1, 4, 9, 9] y) {{ r = Round(x)  f = Floor(x)  t = ThresholdedRelu<alpha = 0.5>(x)
            s = Shrink<lambd = 0.1>(x)  a = Sum(r, f, t, s)  y = Conv<pads = [1, 1, 1, 1]>(a, w) }}""",
        {"w": W["w"]},
        x=(1, 4, 9, 9),
    ),
    "softmax-negative-axis": window("y = Softmax<axis = -2>(c)"),
    "prelu-channels": window("y = PRelu(c, s)", s=(4, 1, 1)),
    "prelu-one": window("y = PRelu(c, s)", s=(1,)),
    "leaky-negative": window("y = LeakyRelu<alpha = -0.5>(c)"),
    "elu-family": window(
        "a = Elu<alpha = 0.5>(c)  b = Selu(a)  d = Celu<alpha = 2.0>(b)  y = ThresholdedRelu<alpha = 0.1>(d)"
    ),
    "hard-sigmoid-steep": window("y = HardSigmoid<alpha = 0.6, beta = 0.1>(c)"),
    "hard-swish-mish": window("a = HardSwish(c)  y = Mish(a)"),
    "gelu-tanh": window('y = Gelu<approximate = "tanh">(c)', opset=20),
    "swish-beta": window("y = Swish<alpha = 1.5>(c)", opset=24),
    "depth-to-space-crd": window('y = DepthToSpace<blocksize = 2, mode = "CRD">(c)'),
    "space-to-depth": window("p = Pad(c, one)  y = SpaceToDepth<blocksize = 2>(p)", one=int64(0, 0, 0, 0, 0, 0, 1, 1)),
    "pad-reflect": window('y = Pad<mode = "reflect">(c, n)', n=int64(0, 0, 2, 2, 0, 0, 1, 1)),
    "pad-wrap": window('y = Pad<mode = "wrap">(c, n)', n=int64(0, 0, 2, 2, 0, 0, 1, 1)),
    "pad-negative": window("y = Pad(c, n)", n=int64(0, 0, -2, 1, 0, 0, 0, -3)),
    "pad-value-outside": window(
        "p = Pad(c, n, k)  y = Conv(p, u)", n=int64(0, 0, 1, 1, 0, 0, 1, 1), k=np.float32(5), u=(2, 4, 1, 1)
    ),
    "slice-backwards": window("y = Slice(c, a, b, d, s)", a=int64(-1), b=int64(-100), d=int64(3), s=int64(-2)),
    "gather-negative": window("y = Gather<axis = 2>(c, i)", i=int64(-1, 0, -3)),
    "gather-scalar": window("y = Gather<axis = 1>(c, i)", "1, 9, 9", i=np.int64(-1)),
    "split-uneven": window("a, b = Split<axis = 1>(c, n)  d = Relu(b)  y = Concat<axis = -3>(d, a)", n=int64(1, 3)),
    "split-number": window("a, b, d = Split<axis = 2, num_outputs = 3>(c)  y = Add(a, d)"),
    "einsum-contracting": written(
        '(float[2, 3, 8] x) => (float[2, 5, 3] y) { m = MatMul(x, w)  y = Einsum<equation = "bij,kj->bki">(m, v) }',
        {"w": (8, 8), "v": (5, 8)},
        x=(2, 3, 8),
    ),
    "einsum-diagonal": written(
        '(float[2, 8, 8] x) => (float[2] y) { m = MatMul(x, w)  y = Einsum<equation = "bii->b">(m) }',
        {"w": (8, 8)},
        uint8=10,
        x=(2, 8, 8),
    ),
    "matmul-vector": written("(float[3, 8] x) => (float[3] y) { y = MatMul(x, w) }", {"w": (8,)}, x=(3, 8)),
    "matmul-left-weight": written(
        "(float[2, 8, 4] x) => (float[2, 3, 4] y) { y = MatMul(w, x) }", {"w": (3, 8)}, x=(2, 8, 4)
    ),
    "matmul-batched-weight": written(
        "(float[2, 3, 8] x) => (float[2, 3, 4] y) { y = MatMul(x, w) }", {"w": (2, 8, 4)}, x=(2, 3, 8)
    ),
    "matmul-of-a-vector-fed": written("(float[8] x) => (float[4] y) { y = MatMul(x, w) }", {"w": (8, 4)}, x=(8,)),
    "gemm-plain": gemm("alpha = 1.0", (3, 8), (8, 4), None),
    "gemm-scaled": gemm("alpha = 0.5, beta = 2.0", (3, 8), (8, 4), (4,)),
    "gemm-beta-zero": gemm("beta = 0.0", (3, 8), (8, 4), (4,)),
    "gemm-transposed-both": gemm("transA = 1, transB = 1", (8, 3), (4, 8), (3, 1)),
    "gemm-transposed-left": gemm("transA = 1", (8, 3), (8, 4), (3, 4)),
    "gemm-scalar-c": gemm("transB = 1, alpha = -1.0", (3, 8), (4, 8), ()),
    "gemm-matrix-c": gemm("transA = 0", (3, 8), (8, 4), (1, 4)),
    "gemm-fed-c": written(
        "(float[3, 8] x, float[3, 4] k) => (float[3, 4] y) { y = Gemm<beta = 0.5>(x, w, k) }",
        {"w": (8, 4)},
        x=(3, 8),
        k=(3, 4),
    ),
    "gemm-fed-both": written(
        "(float[3, 8] x, float[4, 8] z) => (float[3, 4] y) { a = Relu(x)  y = Gemm<transB = 1>(a, z) }",
        {},
        x=(3, 8),
        z=(4, 8),
    ),
    **{f"lstm-{way}": recurrent("LSTM", 4, way, "") for way in ("forward", "reverse", "bidirectional")},
    "lstm-lengths": recurrent("LSTM", 4, "forward", "", ", n"),
    "lstm-coupled-clipped": recurrent("LSTM", 4, "forward", ", input_forget = 1, clip = 0.5"),
    **{f"gru-{way}": recurrent("GRU", 3, way, "") for way in ("forward", "reverse", "bidirectional")},
    "gru-linear-before-reset": recurrent("GRU", 3, "forward", ", linear_before_reset = 1"),
    **{f"rnn-{way}": recurrent("RNN", 1, way, "") for way in ("forward", "bidirectional")},
    "rnn-relu": recurrent("RNN", 1, "forward", ', activations = ["Relu"]'),
    "stft-of-no-sides": written(
        """(float[1, 256] x) => (float[1, 12, 5] y) { e = Unsqueeze(x, m)  s = STFT(e, step, window, size)
        p = Mul(s, s)  q = ReduceSum<keepdims = 0>(p, m)  y = MatMul(q, k) }""",
        {
            "m": int64(-1),
            "step": np.int64(20),
            "window": np.float32(np.hanning(32)),
            "size": np.int64(32),
            "k": (17, 5),
        },
        x=(1, 256),
    ),
    "pad-axes-between": window(
        """r = Relu(c)  p = Pad<mode = "reflect">(r, edge, , sides)  q = Conv(p, w)  s = Relu(q)
        t = Pad(s, corner, , last)  u = Conv(t, w)  y = Relu(u)""",
        edge=int64(2, 1, 1, 2),
        sides=int64(3, -2),
        corner=int64(1, 2),
        last=int64(-1),
    ),
    "resize-axes-between": window(
        """r = Relu(c)
        a = Resize<mode = "linear", axes = [2, 3], coordinate_transformation_mode = "tf_crop_and_resize">(r, f, , z)
        n = Resize<mode = "nearest", nearest_mode = "floor", axes = [-1, 2]>(a, , k)
        p = Conv<pads = [1, 1, 1, 1]>(n, w)  q = Relu(p)
        m = Resize<mode = "linear", axes = [2, 3]>(q, , , z)  y = Conv<pads = [1, 1, 1, 1]>(m, w)""",
        f=np.float32([0.1, 0.1, 0.9, 0.9]),
        z=int64(6, 7),
        k=np.float32([2, 3]),
    ),
    "some-axes-between": window(
        """r = Relu(c)  a = CenterCropPad<axes = [-2, -1]>(r, v)  p = Conv(a, w)  q = Relu(p)
        d = Resize<mode = "cubic", axes = [3, 2]>(q, , , z)  k = Resize<mode = "linear", axes = [2, 3],
        keep_aspect_ratio_policy = "not_larger">(d, , , g)  s = Conv(k, w)  y = Relu(s)""",
        v=int64(6, 10),
        z=int64(12, 6),
        g=int64(12, 30),
    ),
    "open-axes-between": written(
        """(float[1, 4, H, W] x) => (float[1, 4, P, Q] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)
        a = CenterCropPad<axes = [2]>(r, six)  p = Conv(a, w)  q = Relu(p)
        half = Shape<start = 2>(r)  z = Mul(half, two)  b = Resize<mode = "linear", axes = [2, 3]>(q, , , z)
        k = Conv(b, w)  s = Relu(k)  odd = Mod(half, two)  sides = Concat<axis = 0>(none, odd)
        t = Pad<mode = "edge">(s, sides, , last)  u = Conv(t, w)  y = Relu(u) }""",
        {"w": W["w"], "six": int64(6), "two": int64(2), "none": int64(0, 0), "last": int64(-2, -1)},
        opset=18,
        x=[(1, 4, 9 + n, 7) for n in range(3)],
    ),
    "resize-cubic": window('y = Resize<mode = "cubic", antialias = 1>(c, , s)', s=np.float32([1, 1, 0.5, 0.5])),
    "resize-keeping-shape": window(
        'y = Resize<mode = "linear", axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(c, , , z)', z=int64(12, 20)
    ),
    "resize-nearest-ceil": window(
        'y = Resize<mode = "nearest", nearest_mode = "ceil", coordinate_transformation_mode = "asymmetric">(c, , s)',
        s=np.float32([1, 1, 1.5, 2]),
    ),
    "where-broadcast": window("b = Greater(c, z)  y = Where(b, c, s)", uint8=10, z=np.float32(0), s=(4, 1, 1)),
    "max-of-three": window("y = Max(c, x, s)", s=(4, 1, 1)),
    "mean-of-three": window("a = Relu(c)  y = Mean(c, x, a)"),
    "sum-of-one": window("y = Sum(c)"),
    "squeeze-all": written(
        "(float[1, 4, 1, 1] x) => (float[4] y) { c = Conv(x, w)  y = Squeeze(c) }", {"w": (4, 4, 1, 1)}, x=(1, 4, 1, 1)
    ),
    "flatten-zero": window("y = Flatten<axis = 0>(c)", "A, B"),
    "reshape-zeros": window("y = Reshape(c, n)", n=int64(0, 2, -1, 9)),
    "cast-chain": window(
        "i = Cast<to = 7>(f)  f = Floor(c)  g = Cast<to = 1>(i)  y = Add(g, x)".replace(
            "i = Cast<to = 7>(f)  f = Floor(c)", "f = Floor(x)  i = Cast<to = 7>(f)"
        )
    ),
    "half-inside": window("h = Cast<to = 10>(c)  r = Relu(h)  g = Cast<to = 1>(r)  y = Conv(g, u)", u=(2, 4, 1, 1)),
    "scale-and-shift": window(
        "a = Mul(c, s)  b = Add(a, s)  d = Div(b, s)  y = Sub(d, s)", s=np.float32([1, 2, 0.5, 3]).reshape(4, 1, 1)
    ),
    "constant-chain": window("k = Cast<to = 1>(i)  a = Mul(c, k)  y = Relu(a)", i=np.int64(3)),
    **{f"opset-{v}": old_and_new(v) for v in (7, 8, 9, 10, 11, 12, 13, 15, 18, 20, 22, 24, 25, 26, 27)},
}

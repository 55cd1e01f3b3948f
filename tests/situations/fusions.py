"""What ONNX Runtime's own tools leave behind: operators of com.microsoft."""

from __future__ import annotations

import numpy as np

from situations.common import Situation, written

X = "(float[1, 6, 8] x)"
NORM = {"g": (8,), "b": (8,)}

CASES: dict[str, Situation] = {
    "gelu": written(
        f"{X} => (float[1, 6, 8] y) {{ m = MatMul(x, w)  n = com.microsoft.Gelu(m)  y = MatMul(n, v) }}",
        {"w": (8, 8), "v": (8, 8)},
        x=(1, 6, 8),
    ),
    "bias-gelu": written(
        f"{X} => (float[1, 6, 8] y) {{ m = MatMul(x, w)  n = com.microsoft.BiasGelu(m, b)  y = MatMul(n, v) }}",
        {"w": (8, 8), "v": (8, 8), "b": (8,)},
        x=(1, 6, 8),
    ),
    "fast-gelu": written(
        f"{X} => (float[1, 6, 8] y) {{ m = MatMul(x, w)  y = com.microsoft.FastGelu(m, b) }}",
        {"w": (8, 8), "b": (8,)},
        x=(1, 6, 8),
    ),
    "quick-gelu": written(
        f"{X} => (float[1, 6, 8] y) {{ m = MatMul(x, w)  y = com.microsoft.QuickGelu<alpha = 1.702>(m) }}",
        {"w": (8, 8)},
        x=(1, 6, 8),
    ),
    "fused-product": written(
        f"""{X} => (float[1, 6, 6] y) {{ m = MatMul(x, w)
            y = com.microsoft.FusedMatMul<alpha = 0.5, transB = 1>(m, x) }}""",
        {"w": (8, 8)},
        x=(1, 6, 8),
    ),
    "fused-convolution": written(
        """(float[1, 3, 8, 8] x)
            => (float[1, 4, 8, 8] y) { c = com.microsoft.FusedConv<activation = "Relu", pads = [1, 1, 1, 1],
            kernel_shape = [3, 3]>(x, w, b)  y = Conv(c, v) }""",
        {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4, 1, 1)},
        x=(1, 3, 8, 8),
    ),
    "fused-gemm": written(
        """(float[2, 8] x) => (float[2, 4] y) { m = com.microsoft.FusedGemm<activation = "Relu">(x, w, b)
            y = Gemm(m, v) }""",
        {"w": (8, 8), "b": (8,), "v": (8, 4)},
        x=(2, 8),
    ),
    "skip-normalization": written(
        f"""{X} => (float[1, 6, 8] y) {{ m = MatMul(x, w)
            n = com.microsoft.SkipLayerNormalization(m, x, g, b)  y = MatMul(n, w) }}""",
        {"w": (8, 8), **NORM},
        x=(1, 6, 8),
    ),
    "attention": written(
        f"{X} => (float[1, 6, 8] y) {{ a = com.microsoft.Attention<num_heads = 2>(x, w, b)  y = MatMul(a, v) }}",
        {"w": (8, 24), "b": (24,), "v": (8, 8)},
        x=(1, 6, 8),
    ),
    "heads": written(
        f"""{X} => (float[1, 6, 8] y) {{ q = MatMul(x, w)  k = MatMul(x, v)
            a = com.microsoft.MultiHeadAttention<num_heads = 2>(q, k, x)  y = MatMul(a, w) }}""",
        {"w": (8, 8), "v": (8, 8)},
        x=(1, 6, 8),
    ),
    "embedding": written(
        """(int32[1, 6] i, int32[1, 6] k)
            => (float[1, 6, 8] y) { e, n = com.microsoft.EmbedLayerNormalization(i, k, a, p, s, g, b)
            y = MatMul(e, w) }""",
        {"a": (10, 8), "p": (8, 8), "s": (2, 8), "w": (8, 8), **NORM},
        i=[np.arange(6, dtype=np.int32)[None], np.arange(6, dtype=np.int32)[::-1][None].copy()],
        k=np.zeros((1, 6), np.int32),
    ),
    "inverse": written(
        "(float[1, 3, 3] x) => (float[1, 3, 3] y) { m = MatMul(x, w)  n = Add(m, far)  y = com.microsoft.Inverse(n) }",
        {"w": (3, 3), "far": 5 * np.eye(3, dtype=np.float32)},
        uint8=15,
        x=(1, 3, 3),
    ),
    "rotary": written(
        """(float[1, 6, 8] x, int64[1, 6] p) => (float[1, 6, 8] y) { m = MatMul(x, w)
            y = com.microsoft.RotaryEmbedding<num_heads = 1>(m, p, c, s) }""",
        {
            "w": (8, 8),
            "c": np.cos(np.outer(np.arange(16), [1, 0.1, 0.01, 0.001])).astype(np.float32),
            "s": np.sin(np.outer(np.arange(16), [1, 0.1, 0.01, 0.001])).astype(np.float32),
        },
        x=(1, 6, 8),
        p=[np.arange(6)[None], np.arange(6)[None] + 8],
    ),
}

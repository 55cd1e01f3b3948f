"""RKNN's words for precisions and schemes, and ours: the one table."""

from __future__ import annotations

from hybridq.quant.dtypes import Precision, Scheme

# RKNN-Toolkit 1.x, layer types: what they ask for.
WORDS: dict[str, tuple[Precision, Scheme | None]] = {
    "asymmetric_affine-u8": (Precision.UINT8, Scheme.ASYMMETRIC),
    "asymmetric_quantized-u8": (Precision.UINT8, Scheme.ASYMMETRIC),  # its older spelling
    "dynamic_fixed_point-i8": (Precision.INT8, Scheme.DYNAMIC_FIXED_POINT),
    "dynamic_fixed_point-i16": (Precision.INT16, Scheme.DYNAMIC_FIXED_POINT),
    "float32": (Precision.FLOAT32, None),
}

# The same words, for writing.
LAYER_WORDS: dict[Precision, str] = {
    Precision.UINT8: "asymmetric_affine-u8",
    Precision.INT8: "dynamic_fixed_point-i8",
    Precision.INT16: "dynamic_fixed_point-i16",
    Precision.FLOAT32: "float32",
}

# Stored types of entries, which RKNN-Toolkit 1.x calls `qtype` and RKNN-Toolkit2 `dtype`.
TYPES: dict[str, Precision] = {
    "u8": Precision.UINT8,
    "i8": Precision.INT8,
    "i16": Precision.INT16,
    "fp16": Precision.FLOAT16,
    "fp32": Precision.FLOAT32,
    **{str(p): p for p in Precision},
}


def precision_of(word: str) -> tuple[Precision, Scheme | None] | None:
    """What a value of ``customized_quantize_layers`` asks for, in our words or RKNN's; None if it is neither."""
    if word in WORDS:
        return WORDS[word]
    return (Precision(word), None) if word in list(Precision) else None

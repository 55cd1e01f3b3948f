"""What every ONNX operator of opset 21 means for quantization: one visible table.

Columns of a row: how the operator behaves (``Kind``), whether ONNX Runtime has an integer kernel for it between
DequantizeLinear and QuantizeLinear (``Kernel``), and a remark. Operators that are not in the table stay float32.
See https://onnx.ai/onnx/operators for the operators themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """How an operator behaves."""

    COMPUTE = "computes with weights"
    ELEMENTWISE = "computes on activations"
    MOVES = "value-preserving"
    FLOAT = "float only"
    SUBGRAPH = "runs a subgraph"
    OTHER = "no float result"


class Kernel(StrEnum):
    """ONNX Runtime's integer kernel for the CPU."""

    FAST = "fast"
    SLOW = "slower than float32"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Operator:
    """One row. ``note`` says why a float-only operator is one."""

    kind: Kind
    kernel: Kernel
    note: str = ""


def _rows(kind: Kind, kernel: Kernel, names: str, note: str = "") -> dict[str, Operator]:
    return {name: Operator(kind, kernel, note) for name in names.split()}


TABLE: dict[str, Operator] = {
    **_rows(Kind.COMPUTE, Kernel.FAST, "Conv Gemm MatMul"),
    **_rows(Kind.COMPUTE, Kernel.NONE, "ConvTranspose"),
    **_rows(Kind.ELEMENTWISE, Kernel.FAST, "Add Mul GlobalAveragePool Sigmoid LeakyRelu Where"),
    **_rows(Kind.ELEMENTWISE, Kernel.SLOW, "AveragePool Softmax"),
    **_rows(
        Kind.ELEMENTWISE,
        Kernel.NONE,
        """Sub Div Relu Clip PRelu Elu Selu Celu Gelu Mish HardSwish HardSigmoid Tanh Softplus Softsign Erf
        ThresholdedRelu Abs Neg Exp Log Sqrt Reciprocal Pow Sin Cos Tan Sum Mean Max Min Floor Ceil Round Shrink
        LogSoftmax ReduceMean ReduceSum ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ReduceLogSum ReduceLogSumExp CumSum
        LayerNormalization InstanceNormalization GroupNormalization BatchNormalization MeanVarianceNormalization
        LpNormalization LRN LpPool GlobalLpPool GridSample RoiAlign Einsum""",
    ),
    **_rows(
        Kind.MOVES,
        Kernel.FAST,
        "Reshape Transpose Flatten Squeeze Unsqueeze Slice Split Gather Concat DepthToSpace SpaceToDepth Resize "
        "Identity",
    ),
    **_rows(Kind.MOVES, Kernel.SLOW, "MaxPool"),
    **_rows(
        Kind.MOVES,
        Kernel.NONE,
        "Expand Tile Pad ReduceMax ReduceMin GlobalMaxPool GatherElements GatherND ReverseSequence CenterCropPad "
        "Dropout",
    ),
    **_rows(Kind.FLOAT, Kernel.NONE, "LSTM GRU RNN", "a recurrent operator has no 8-bit form between Q and DQ"),
    **_rows(
        Kind.FLOAT,
        Kernel.NONE,
        """Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Sign Mod Hardmax Det Trilu BlackmanWindow HammingWindow HannWindow
        MelWeightMatrix STFT DFT""",
        "its result depends on more than 8 bits can say",
    ),
    **_rows(
        Kind.FLOAT,
        Kernel.NONE,
        """Cast CastLike Constant ConstantOfShape EyeLike Range RandomNormal RandomNormalLike RandomUniform
        RandomUniformLike Bernoulli Multinomial OneHot""",
        "it makes values rather than computing with activations",
    ),
    **_rows(
        Kind.FLOAT,
        Kernel.NONE,
        """TopK NonMaxSuppression MaxRoiPool MaxUnpool DeformConv AffineGrid Col2Im Compress ScatterElements ScatterND
        Unique TfIdfVectorizer NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss ImageDecoder""",
        "no toolchain runs it in 8 bits",
    ),
    **_rows(
        Kind.FLOAT,
        Kernel.NONE,
        """QuantizeLinear DequantizeLinear DynamicQuantizeLinear ConvInteger MatMulInteger QLinearConv QLinearMatMul""",
        "the operator is quantized already",
    ),
    **_rows(Kind.SUBGRAPH, Kernel.NONE, "If Loop Scan SequenceMap", "a subgraph stays float32"),
    **_rows(
        Kind.OTHER,
        Kernel.NONE,
        """Shape Size ArgMax ArgMin NonZero And Or Not Xor Equal Greater GreaterOrEqual Less LessOrEqual IsInf IsNaN
        BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor ConcatFromSequence SplitToSequence SequenceAt
        SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Optional
        OptionalGetElement OptionalHasElement RegexFullMatch StringConcat StringNormalizer StringSplit""",
    ),
}

UNKNOWN = Operator(Kind.FLOAT, Kernel.NONE, "hybridq does not know the operator")

# Ranges known without measuring.
FIXED_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Erf": (-1.0, 1.0),
}

ABSORBED = ("Relu", "Clip")  # activations that a layer takes in
BIAS_INDEX = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
CONSTANT_OPERANDS = ("Add", "Mul")  # elementwise operators whose constants are quantized with them

FLOAT_RESULT = ("Gemm", "MatMul")  # their integer kernels can give a float result

# Value-preserving operators move input 0, or every input.
MOVES_ALL_INPUTS = ("Concat",)


def lookup(op_type: str, domain: str = "") -> Operator:
    """The row of an operator; ``UNKNOWN`` for what is not in the table."""
    if domain not in ("", "ai.onnx"):
        return Operator(Kind.FLOAT, Kernel.NONE, f"hybridq does not know operators of the domain {domain}")
    return TABLE.get(op_type, UNKNOWN)


def weight_axis(op_type: str, attributes: dict[str, int], index: int, rank: int) -> int | None:
    """The output-channel axis of a weight, None where per-channel parameters make no sense.

    Conv: 0. ConvTranspose: 1, unless grouped (its axis 1 counts channels of one group). Gemm: 0 with transB, else 1.
    MatMul: the last axis of a right operand, the last but one of a left operand.
    """
    if op_type == "Conv":
        return 0
    if op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else None
    if op_type == "Gemm" and index == 1:
        return 0 if attributes.get("transB", 0) else 1
    if op_type == "MatMul" and rank >= 2:
        return rank - 1 if index == 1 else rank - 2
    return None


def averages_windows(attributes: Mapping[str, Any], shape: tuple[int | str, ...] | None) -> bool:
    """Whether an AveragePool of an input of ``shape`` divides every sum by the same number: it is a convolution then.

    Padding must count, windows must lie within it, and the convolution needs the number of channels.
    """
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return False
    counted = not any(attributes.get("pads", ())) or attributes.get("count_include_pad", 0) == 1
    placed = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not attributes.get("ceil_mode", 0)
    return counted and placed

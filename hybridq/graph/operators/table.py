"""The rows: a family of operators says every column once, an operator what is different about it.

Operators that are not in the table stay float32. ``tests/test_operators.py`` holds every operator of the newest opset
that the onnx package knows against this table, and tries what the columns say.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from onnx import NodeProto

from hybridq.graph.operators.columns import (
    BatchRows,
    DataFree,
    Inputs,
    Interval,
    Kernel,
    Kind,
    Layout,
    Movement,
    Operator,
    Ties,
)

PLAIN = Operator(  # the base of the families: computes on activations, and nothing more is known
    kind=Kind.ELEMENTWISE,
    kernel=Kernel.NONE,
    note="",
    inputs=Inputs.of("data"),
    movement=Movement.NONE,
    layout=Layout.NONE,
    range=None,
    slope=None,
    steep=False,
    pointwise=False,
    keeps_unit=False,
    absorbed=False,
    float_result=False,
    channel_axis=None,
    rows=BatchRows.MIXED,
    axis=None,
    counts=False,
    draws=False,
    retypes=False,
    saves=0.0,
    interval=Interval.MEASURED,
    data_free=DataFree.GUESS,
    ties=Ties.FIXED,
)


def _like(family: Operator, names: str, **different: Any) -> dict[str, Operator]:
    """BatchRows of operators that differ from a family alike; ``inputs`` may be given in words."""
    if isinstance(different.get("inputs"), str):
        different["inputs"] = Inputs.of(different["inputs"])
    return {name: replace(family, **different) for name in names.split()}


def _family(**different: Any) -> Operator:
    """A family as it differs from ``PLAIN``."""
    return _like(PLAIN, "family", **different)["family"]


POSITIVE = (0.0, math.inf)
UNIT = (0.0, 1.0)
BOTH_SIDES = (-1.0, 1.0)

COMPUTES = _family(
    kind=Kind.COMPUTE,
    kernel=Kernel.FAST,
    interval=Interval.CHANNELS,
    data_free=DataFree.LINEAR,
    ties=Ties.ABSORBED,
    rows=BatchRows.APART,
)
MAPS = _family(rows=BatchRows.APART, pointwise=True)  # y[i] = f(x[i])
COMBINES = _family(inputs="data data", rows=BatchRows.BROADCAST, pointwise=True)  # y[i] = f(a[i], b[i])
POOLS = _family(rows=BatchRows.APART, ties=Ties.HOMOGENEOUS, data_free=DataFree.CHANNELS)
REDUCES = _family(inputs="data other", rows=BatchRows.REDUCE)
NORMALIZES = _family(inputs="data weight weight", rows=BatchRows.APART)
MOVES = _family(
    kind=Kind.MOVEMENT,
    kernel=Kernel.FAST,
    movement=Movement.FIRST,
    rows=BatchRows.APART,
    interval=Interval.PICKED,
    data_free=DataFree.MIXED,
    ties=Ties.MOVED,
)
PICKS = _family(kind=Kind.MOVEMENT, movement=Movement.FIRST, interval=Interval.HULL)
RECURRENT = _family(kind=Kind.FLOAT, note="a recurrent operator has no 8-bit form between Q and DQ")
DELICATE = _family(kind=Kind.FLOAT, note="its result depends on more than 8 bits can say")
LEAPS = _family(kind=Kind.FLOAT, rows=BatchRows.APART, note="its result leaps where its input barely moves")
MAKES = _family(kind=Kind.FLOAT, note="it makes values rather than computing with activations")
UNUSUAL = _family(kind=Kind.FLOAT, note="no toolchain runs it in 8 bits")
QUANTIZED = _family(kind=Kind.FLOAT, note="the operator is quantized already")
SUBGRAPHS = _family(kind=Kind.SUBGRAPH, note="a subgraph stays float32")
OTHERS = _family(kind=Kind.OTHER)
COMPARES = replace(OTHERS, inputs=Inputs.of("data data"), rows=BatchRows.BROADCAST)

UNKNOWN = _family(kind=Kind.FLOAT, note="hybridq does not know the operator", inputs="data...")

TABLE: dict[str, Operator] = {
    # layers with weights
    **_like(COMPUTES, "Conv", inputs="data weight bias", layout=Layout.CONV, channel_axis=1),
    **_like(
        COMPUTES,
        "ConvTranspose",
        inputs="data weight bias",
        layout=Layout.CONV_TRANSPOSE,
        channel_axis=1,
        kernel=Kernel.NONE,
        data_free=DataFree.GUESS,
    ),
    **_like(
        COMPUTES,
        "Gemm",
        inputs="operand operand bias",
        layout=Layout.GEMM,
        channel_axis=-1,
        float_result=True,
        rows=BatchRows.GEMM,
    ),
    **_like(
        COMPUTES,
        "MatMul",
        inputs="operand operand",
        layout=Layout.MATMUL,
        channel_axis=-1,
        float_result=True,
        rows=BatchRows.MATMUL,
    ),
    # one number makes one number
    **_like(
        MAPS,
        "Relu",
        range=POSITIVE,
        absorbed=True,
        interval=Interval.RELU,
        data_free=DataFree.RELU,
        ties=Ties.HOMOGENEOUS,
    ),
    **_like(
        MAPS,
        "Clip",
        inputs="data parameter:minimum parameter:maximum",
        absorbed=True,
        interval=Interval.CLIP,
        data_free=DataFree.CLIP,
        ties=Ties.CLIP,
    ),
    **_like(MAPS, "LeakyRelu", kernel=Kernel.FAST, saves=0.06, data_free=DataFree.LEAKY, ties=Ties.HOMOGENEOUS),
    **_like(MAPS, "PRelu", inputs="data weight", rows=BatchRows.BROADCAST, ties=Ties.HOMOGENEOUS),
    **_like(MAPS, "Sigmoid", range=UNIT, slope=0.25, kernel=Kernel.FAST, data_free=DataFree.SIGMOID),
    **_like(MAPS, "HardSigmoid", range=UNIT, slope=0.2, data_free=DataFree.HARD_SIGMOID),
    **_like(MAPS, "Tanh", range=BOTH_SIDES, data_free=DataFree.TANH),
    **_like(MAPS, "Softsign Erf", range=BOTH_SIDES),
    **_like(MAPS, "Abs Exp Softplus", range=POSITIVE),
    **_like(MAPS, "Sqrt", range=POSITIVE, keeps_unit=True, steep=True),
    **_like(MAPS, "Neg", interval=Interval.NEGATIVE),
    **_like(MAPS, "Elu Selu Celu Gelu Mish HardSwish Swish"),
    **_like(MAPS, "Log Reciprocal", steep=True),
    **_like(MAPS, "Sin Cos", inputs="position:angle", range=BOTH_SIDES),
    **_like(MAPS, "Tan", inputs="position:angle"),
    # several numbers make one number
    **_like(
        COMBINES,
        "Add",
        inputs="operand operand",
        kernel=Kernel.FAST,
        saves=0.01,
        interval=Interval.SUM,
        data_free=DataFree.SUM,
        ties=Ties.SUM,
    ),
    **_like(COMBINES, "Sub", interval=Interval.DIFFERENCE, data_free=DataFree.DIFFERENCE, ties=Ties.SUM),
    **_like(
        COMBINES,
        "Mul",
        inputs="operand operand",
        kernel=Kernel.FAST,
        saves=0.10,
        keeps_unit=True,
        interval=Interval.PRODUCT,
        data_free=DataFree.PRODUCT,
        ties=Ties.PRODUCT,
    ),
    **_like(COMBINES, "Div", interval=Interval.QUOTIENT, ties=Ties.PRODUCT),
    **_like(COMBINES, "Pow", inputs="data parameter:exponent", keeps_unit=True),
    **_like(
        COMBINES,
        "Where",
        inputs="other data data",
        kernel=Kernel.FAST,
        interval=Interval.CHOICE,
        data_free=DataFree.CHOICE,
    ),
    **_like(COMBINES, "Max Min", inputs="data...", keeps_unit=True),
    **_like(COMBINES, "Sum Mean", inputs="data..."),
    **_like(COMBINES, "SwiGLU"),
    # windows and axes
    **_like(POOLS, "GlobalAveragePool", kernel=Kernel.FAST, saves=-0.10),
    **_like(POOLS, "AveragePool", kernel=Kernel.AVERAGE),
    **_like(POOLS, "LpPool GlobalLpPool", range=POSITIVE, data_free=DataFree.GUESS, ties=Ties.FIXED),
    **_like(REDUCES, "ReduceMean", data_free=DataFree.MIXED, ties=Ties.REDUCED),
    **_like(REDUCES, "ReduceSum", ties=Ties.REDUCED),
    **_like(REDUCES, "ReduceL1 ReduceL2 ReduceSumSquare", range=POSITIVE),
    **_like(REDUCES, "ReduceProd ReduceLogSum ReduceLogSumExp"),
    **_like(REDUCES, "CumSum CumProd", rows=BatchRows.MIXED),
    **_like(
        MAPS,
        "Softmax",
        range=UNIT,
        slope=0.25,
        pointwise=False,
        kernel=Kernel.SLOW,
        rows=BatchRows.AXIS,
        axis=-1,
        data_free=DataFree.FIXED,
    ),
    **_like(MAPS, "LogSoftmax", pointwise=False, range=(-math.inf, 0.0), rows=BatchRows.AXIS, axis=-1),
    **_like(NORMALIZES, "LayerNormalization", rows=BatchRows.AXIS, axis=-1),
    **_like(NORMALIZES, "RMSNormalization", inputs="data weight", rows=BatchRows.AXIS, axis=-1),
    **_like(NORMALIZES, "LpNormalization", inputs="data", rows=BatchRows.AXIS, axis=-1),
    **_like(NORMALIZES, "InstanceNormalization GroupNormalization"),
    **_like(NORMALIZES, "LRN", inputs="data"),
    **_like(NORMALIZES, "MeanVarianceNormalization", inputs="data", rows=BatchRows.MIXED),
    **_like(
        NORMALIZES,
        "BatchNormalization",
        inputs="data parameter:scale parameter:offset parameter:mean parameter:var",
    ),
    # places in a picture, products of any kind
    **_like(PLAIN, "GridSample", inputs="data parameter:grid", rows=BatchRows.PAIRED),
    **_like(PLAIN, "RoiAlign", inputs="data parameter:boxes other"),
    **_like(PLAIN, "Einsum", inputs="data..."),
    **_like(PLAIN, "RotaryEmbedding", inputs="data parameter:cosines parameter:sines other"),
    # data movement
    **_like(MOVES, "Identity", interval=Interval.SAME, data_free=DataFree.CHANNELS, ties=Ties.HOMOGENEOUS),
    **_like(
        MOVES,
        "Dropout",
        inputs="data parameter:ratio other",
        kernel=Kernel.NONE,
        interval=Interval.SAME,
        data_free=DataFree.CHANNELS,
        ties=Ties.FIXED,
    ),
    **_like(MOVES, "Reshape", inputs="data other", rows=BatchRows.RESHAPE, interval=Interval.RESHAPED),
    **_like(MOVES, "Flatten", rows=BatchRows.FLATTEN, interval=Interval.RESHAPED),
    **_like(MOVES, "Squeeze", inputs="data other", rows=BatchRows.SQUEEZE, interval=Interval.RESHAPED),
    **_like(MOVES, "Unsqueeze", inputs="data other", rows=BatchRows.UNSQUEEZE, interval=Interval.RESHAPED),
    **_like(MOVES, "Transpose", rows=BatchRows.TRANSPOSE, interval=Interval.TRANSPOSED),
    **_like(MOVES, "Slice", inputs="data other other other other", rows=BatchRows.SLICE),
    **_like(MOVES, "Split", inputs="data other", rows=BatchRows.AXIS, axis=0),
    **_like(MOVES, "Gather", inputs="data other", rows=BatchRows.GATHER),
    **_like(
        MOVES,
        "Concat",
        inputs="data...",
        movement=Movement.ALL,
        rows=BatchRows.CONCAT,
        interval=Interval.JOINED,
        data_free=DataFree.JOINED,
    ),
    **_like(MOVES, "DepthToSpace SpaceToDepth"),
    **_like(MOVES, "Expand", inputs="data other", kernel=Kernel.NONE, rows=BatchRows.EXPAND),
    **_like(MOVES, "Tile", inputs="data other", kernel=Kernel.NONE, rows=BatchRows.TILE, ties=Ties.FIXED),
    **_like(
        MOVES,
        "Resize",
        inputs="data parameter:region parameter:scales other",
        movement=Movement.NEAREST,
        rows=BatchRows.RESIZE,
        interval=Interval.HULL,
        data_free=DataFree.CHANNELS,
        ties=Ties.SPATIAL,
    ),
    **_like(
        MOVES,
        "Pad",
        inputs="data other parameter:value other",
        kernel=Kernel.NONE,
        movement=Movement.PADDED,
        rows=BatchRows.PAD,
        data_free=DataFree.CHANNELS,
        ties=Ties.SPATIAL,
    ),
    **_like(
        MOVES,
        "MaxPool",
        kernel=Kernel.SLOW,
        movement=Movement.LARGEST,
        interval=Interval.HULL,
        data_free=DataFree.CHANNELS,
        ties=Ties.HOMOGENEOUS,
    ),
    **_like(
        PICKS,
        "GlobalMaxPool",
        movement=Movement.LARGEST,
        rows=BatchRows.APART,
        data_free=DataFree.CHANNELS,
        ties=Ties.HOMOGENEOUS,
    ),
    **_like(
        PICKS,
        "ReduceMax",
        inputs="data other",
        movement=Movement.LARGEST,
        rows=BatchRows.REDUCE,
        data_free=DataFree.MIXED,
        ties=Ties.REDUCED,
    ),
    **_like(
        PICKS, "ReduceMin", inputs="data other", rows=BatchRows.REDUCE, data_free=DataFree.MIXED, ties=Ties.REDUCED
    ),
    **_like(PICKS, "GatherElements GatherND ReverseSequence CenterCropPad", inputs="data other"),
    # float only
    **_like(RECURRENT, "LSTM", layout=Layout.RECURRENT, inputs="data weight weight bias other data data weight"),
    **_like(RECURRENT, "GRU RNN", layout=Layout.RECURRENT, inputs="data weight weight bias other data"),
    **_like(RECURRENT, "CausalConvWithState", inputs="data weight bias data"),
    **_like(RECURRENT, "LinearAttention", inputs="data data data data data data"),
    **_like(LEAPS, "Floor Ceil Round Shrink"),
    **_like(LEAPS, "ThresholdedRelu", range=POSITIVE),
    **_like(DELICATE, "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Det"),
    **_like(LEAPS, "Sign", range=BOTH_SIDES),
    **_like(LEAPS, "Mod", inputs="data data", rows=BatchRows.BROADCAST),
    **_like(LEAPS, "Hardmax", range=UNIT, rows=BatchRows.AXIS, axis=-1),
    **_like(DELICATE, "Trilu", inputs="data other"),
    **_like(DELICATE, "DFT", inputs="data other other"),
    **_like(DELICATE, "STFT", inputs="data other weight other"),
    **_like(DELICATE, "BlackmanWindow HammingWindow HannWindow", inputs="other"),
    **_like(DELICATE, "MelWeightMatrix", inputs="other other other parameter:lower-edge parameter:upper-edge"),
    **_like(MAKES, "Cast", inputs="position:index", rows=BatchRows.APART, retypes=True),
    **_like(MAKES, "CastLike", inputs="data shape", retypes=True),
    **_like(MAKES, "Constant", inputs=""),
    **_like(MAKES, "RandomNormal RandomUniform", inputs="", draws=True),
    **_like(MAKES, "ConstantOfShape", inputs="other"),
    **_like(MAKES, "EyeLike", inputs="shape"),
    **_like(MAKES, "RandomNormalLike RandomUniformLike", inputs="shape", draws=True),
    **_like(MAKES, "BitCast"),
    **_like(MAKES, "Bernoulli Multinomial", draws=True),
    **_like(MAKES, "Range", inputs="parameter:start parameter:limit parameter:step"),
    **_like(MAKES, "OneHot", inputs="parameter:index parameter:depth parameter:values"),
    **_like(UNUSUAL, "Attention", inputs="data data data data data data other"),
    **_like(UNUSUAL, "TopK", inputs="data other", rows=BatchRows.AXIS, axis=-1),
    **_like(UNUSUAL, "NonMaxSuppression", inputs="data data other parameter:overlap parameter:threshold", counts=True),
    **_like(UNUSUAL, "MaxRoiPool", inputs="data parameter:boxes"),
    **_like(UNUSUAL, "AffineGrid", inputs="parameter:transformation other"),
    **_like(UNUSUAL, "DeformConv", inputs="data weight parameter:offsets bias data"),
    **_like(UNUSUAL, "MaxUnpool Col2Im", inputs="data other other"),
    **_like(UNUSUAL, "Compress", inputs="data other", counts=True),
    **_like(UNUSUAL, "ScatterElements ScatterND", inputs="data other data"),
    **_like(UNUSUAL, "TensorScatter", inputs="data data other"),
    **_like(UNUSUAL, "Unique", counts=True),
    **_like(UNUSUAL, "TfIdfVectorizer ImageDecoder", inputs="other"),
    **_like(UNUSUAL, "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", inputs="data other weight"),
    **_like(QUANTIZED, "QuantizeLinear", inputs="data parameter other"),
    **_like(QUANTIZED, "DequantizeLinear", inputs="other parameter other"),
    **_like(QUANTIZED, "DynamicQuantizeLinear"),
    **_like(QUANTIZED, "ConvInteger MatMulInteger", inputs="other other other other"),
    **_like(QUANTIZED, "QLinearConv", inputs="other parameter other other parameter other parameter other other"),
    **_like(QUANTIZED, "QLinearMatMul", inputs="other parameter other other parameter other parameter other"),
    **_like(SUBGRAPHS, "If", inputs="other"),
    **_like(SUBGRAPHS, "Loop", inputs="other other data..."),
    **_like(SUBGRAPHS, "Scan", inputs="data..."),
    **_like(SUBGRAPHS, "SequenceMap", inputs="data data..."),
    # no float result
    **_like(OTHERS, "Shape Size SequenceLength OptionalHasElement", inputs="shape"),
    **_like(OTHERS, "ArgMax ArgMin", rows=BatchRows.AXIS, axis=0),
    **_like(OTHERS, "NonZero", counts=True),
    **_like(OTHERS, "IsInf IsNaN", rows=BatchRows.APART),
    **_like(OTHERS, "Not", inputs="other", rows=BatchRows.APART),
    **_like(COMPARES, "Greater GreaterOrEqual Less LessOrEqual"),
    **_like(COMPARES, "Equal", inputs="position:index position:index"),
    **_like(COMPARES, "And Or Xor", inputs="other other"),
    **_like(OTHERS, "BitShift BitwiseAnd BitwiseOr BitwiseXor StringConcat", inputs="other other"),
    **_like(OTHERS, "BitwiseNot RegexFullMatch StringNormalizer StringSplit", inputs="other"),
    **_like(OTHERS, "ConcatFromSequence Optional OptionalGetElement"),
    **_like(OTHERS, "SplitToSequence SequenceAt SequenceErase", inputs="data other"),
    **_like(OTHERS, "SequenceInsert", inputs="data data other"),
    **_like(OTHERS, "SequenceConstruct", inputs="data..."),
    **_like(OTHERS, "SequenceEmpty", inputs=""),
}


def lookup(op_type: str, domain: str = "") -> Operator:
    """The row of an operator; ``UNKNOWN`` for what is not in the table."""
    if domain not in ("", "ai.onnx"):
        return replace(UNKNOWN, note=f"hybridq does not know operators of the domain {domain}")
    return TABLE.get(op_type, UNKNOWN)


def row_of(node: NodeProto) -> Operator:
    """The row of a node's operator."""
    return lookup(node.op_type, node.domain)

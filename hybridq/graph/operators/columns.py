"""The columns of the operator table: what each may say, and in which words. No column has a default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How an operator behaves."""

    COMPUTE = "computes with weights"
    ELEMENTWISE = "computes on activations"
    MOVEMENT = "moves data, values stay what they are"
    FLOAT = "float only"
    SUBGRAPH = "runs a subgraph"
    OTHER = "no float result"


class Kernel(StrEnum):
    """ONNX Runtime's integer kernel for the CPU, between DequantizeLinear and QuantizeLinear."""

    FAST = "fast"
    SLOW = "slower than float32"
    AVERAGE = "slower than float32, but a fast convolution where all windows divide by the same number"
    NONE = "none"


class Role(StrEnum):
    """What one input is to an operator."""

    DATA = "data"
    OPERAND = "operand"  # data, or a constant that is quantized with the layer
    WEIGHT = "weight"  # a constant; computed, it is data
    BIAS = "bias"
    PARAMETER = "parameter"  # steers the operator: a scale, a place, an exponent; never quantized
    POSITION = "position"  # an angle or an index: a parameter unless a layer with weights computes it
    SHAPE = "shape"  # only its shape or type matters
    OTHER = "other"  # never a float


@dataclass(frozen=True, slots=True)
class Inputs:
    """The role of every input; ``more``: the last stands for any number of inputs; ``words`` name the parameters."""

    roles: tuple[Role, ...]
    more: bool
    words: tuple[str, ...]

    @staticmethod
    def of(text: str) -> Inputs:
        """From ``"data weight bias"``, ``"data parameter:exponent"`` or, for any number of inputs, ``"data..."``."""
        pairs = [word.removesuffix("...").partition(":") for word in text.split()]
        roles = tuple(Role(role) for role, _, _ in pairs)
        return Inputs(roles, text.endswith("..."), tuple(word or role for role, _, word in pairs))

    def __getitem__(self, index: int) -> Role:
        if index < len(self.roles):
            return self.roles[index]
        return self.roles[-1] if self.more and self.roles else Role.OTHER

    def word(self, index: int) -> str:
        """What a parameter is called."""
        return self.words[min(index, len(self.words) - 1)]

    def find(self, role: Role) -> int:
        """The index of the first input with a role, -1 where there is none."""
        return self.roles.index(role) if role in self.roles else -1


class Movement(StrEnum):
    """Which inputs' values a data movement operator carries to its output, so that both share parameters."""

    NONE = "it computes"
    FIRST = "those of the first input"
    ALL = "those of every input"
    NEAREST = "those of the first input, in the mode nearest"
    PADDED = "those of the first input, where it pads with what changes no range"
    LARGEST = "the largest of the first input"


class Layout(StrEnum):
    """How weights lie; the axis of output channels and the multiply-accumulates follow.

    Operators without a layout count the elements of their output.
    """

    CONV = "outputs, inputs of a group, window"
    CONV_TRANSPOSE = "inputs, outputs of a group, window"
    GEMM = "inputs, outputs; with transB the other way round"
    MATMUL = "..., inputs, outputs"
    RECURRENT = "directions, rows of the gates, inputs"
    TABLE = "rows that are picked, numbers of a row"
    NONE = "no weights"


class BatchRows(StrEnum):
    """How an operator treats the rows of a batch, so that many variants of a model can share one run."""

    APART = "each row of the first input gives a row"
    PAIRED = "each row of all inputs gives a row"
    BROADCAST = "each row gives a row; other operands broadcast"
    AXIS = "apart unless it works along the batch axis"
    REDUCE = "apart unless it reduces the batch axis"
    CONCAT = "apart unless it joins along the batch axis; constants are repeated"
    RESHAPE = "apart with the batch in the shape"
    FLATTEN = "apart unless the batch is flattened"
    TRANSPOSE = "apart while axis 0 stays"
    SQUEEZE = "apart unless the axis is the batch"
    UNSQUEEZE = "apart unless an axis comes before the batch"
    SLICE = "apart unless the batch is sliced"
    GATHER = "apart along another axis, or as indices into a constant"
    RESIZE = "apart unless the batch is resized"
    PAD = "apart unless the batch is padded"
    MATMUL = "apart where the batch is no axis of the product"
    GEMM = "apart unless the first operand is transposed"
    EXPAND = "apart unless the batch is expanded"
    TILE = "apart unless the batch is repeated"
    MIXED = "rows may meet, or nothing is known"


class Interval(StrEnum):
    """What the ranges of inputs, element by element, say of the output's."""

    MEASURED = "nothing: the measured range holds for all elements"
    CHANNELS = "channels reach as far as their weights and bias"
    SUM = "a + b"
    DIFFERENCE = "a - b"
    PRODUCT = "a * b"
    QUOTIENT = "a / b"
    NEGATIVE = "-a"
    RELU = "max(a, 0)"
    CLIP = "min(max(a, low), high)"
    CHOICE = "a or b by a constant mask"
    JOINED = "side by side"
    TRANSPOSED = "axes change places"
    SAME = "nothing changes"
    RESHAPED = "the same elements in the same order"
    PICKED = "some of the elements"
    HULL = "one range for all elements"


class DataFree(StrEnum):
    """How a range, mean and deviation follow from the inputs' where there are no samples."""

    LINEAR = "products of independent channels"
    SUM = "a + b"
    DIFFERENCE = "a - b"
    PRODUCT = "a * b"
    RELU = "max(a, 0)"
    CLIP = "min(max(a, low), high)"
    LEAKY = "a, or alpha * a"
    SIGMOID = "1 / (1 + exp(-a))"
    HARD_SIGMOID = "a / 6 + 1/2 within 0..1"
    TANH = "tanh(a)"
    FIXED = "even over the range that the operator always has"
    CHOICE = "the finite ones of a and b"
    CHANNELS = "channel by channel as before"
    MIXED = "as before, channels mixed"
    JOINED = "side by side"
    GUESS = "nothing: guessed to lie where its inputs lie"


class Ties(StrEnum):
    """Which channels of inputs and outputs must be scaled alike for the model to compute the same."""

    ABSORBED = "none: weights take any scale in and out"
    HOMOGENEOUS = "f(s x) = s f(x) for s > 0"
    POOLED = "homogeneous where elements of a window share a scale"
    CLIP = "homogeneous where it is a Relu"
    REDUCED = "along the axes that stay"
    MOVED = "as the operator moves them"
    SPATIAL = "along the axes whose size stays"
    SUM = "both operands and the result"
    PRODUCT = "one operand and the result, the other keeps its scale"
    NORMALIZED = "none along its axis: what it scales and shifts by takes any scale out"
    FIXED = "nothing may be scaled"


Ends = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One row.

    Parameters
    ----------
    kind, kernel, note
        How it behaves, what ONNX Runtime computes it with, and why a float-only operator is one.
    inputs, movement, layout
        The role of each input; what moves; how weights lie.
    range
        Ends that hold for any input, infinite where there is none; None: nothing is known.
    slope
        The steepest slope of an operator that squashes to 0..1 (an attribute ``alpha`` wins), else None.
    steep
        Its slope has no end near zero: what 8 bits make a zero there, it makes anything.
    pointwise
        Every number of the result comes from one number of each operand.
    keeps_unit
        Of values within 0..1 it makes values within 0..1.
    absorbed
        A layer takes it in as its activation.
    float_result
        Its integer kernel can give a float result.
    channel_axis
        The axis of the result that output channels run along; None without weights.
    rows, axis
        How it treats rows; the axis it works along where no attribute says so.
    counts
        How many elements it gives depends on the values that it reads: perhaps none.
    draws
        It draws random numbers.
    retypes
        It gives the first input's values in another type.
    saves
        Nanoseconds that float32 saves an element against its integer kernel, measured on x64; 0: not measured.
    interval, data_free, ties
        What follows for ranges of elements, for ranges without samples, for scales of channels.
    """

    kind: Kind
    kernel: Kernel
    note: str
    inputs: Inputs
    movement: Movement
    layout: Layout
    range: Ends | None
    slope: float | None
    steep: bool
    pointwise: bool
    keeps_unit: bool
    absorbed: bool
    float_result: bool
    channel_axis: int | None
    rows: BatchRows
    axis: int | None
    counts: bool
    draws: bool
    retypes: bool
    saves: float
    interval: Interval
    data_free: DataFree
    ties: Ties

    @property
    def fixed_range(self) -> Ends | None:
        """The range, where both ends are known."""
        return self.range if self.range is not None and all(map(math.isfinite, self.range)) else None

    @property
    def makes_scores(self) -> bool:
        """Whether its results are probabilities or gates: within 0..1 whatever it reads."""
        return self.range == (0.0, 1.0)

    @property
    def moves_all(self) -> bool:
        """Whether the values of every input reach the output unchanged."""
        return self.movement is Movement.ALL

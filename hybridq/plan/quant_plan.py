"""``QuantPlan`` and its parts: everything that is decided about a hybrid model, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hybridq.graph.model import Layer
from hybridq.plan.layer_weights import BiasPlan, WeightPlan
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams

FLOAT = Precision.FLOAT32
SHIFTED = "uint8 with zero points 128 higher: the same values, for which ONNX Runtime has fast kernels on x64"


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor is stored: float32, float16, or integers with parameters."""

    precision: Precision
    qparams: QParams | None = None

    @property
    def is_float(self) -> bool:
        """Whether the tensor stays as the operators computed it."""
        return self.precision is FLOAT


class BarrierKind(StrEnum):
    """Where the LeakyRelu of a barrier stands."""

    OWN_NODE = "a LeakyRelu of slope 1 before the quantizer"
    ACTIVATION = "the activation as a LeakyRelu of slope 0"


@dataclass(frozen=True, slots=True)
class Barrier:
    """A LeakyRelu before a quantizer: it changes no value, but what ONNX Runtime makes of the layer."""

    kind: BarrierKind
    why: str


@dataclass(frozen=True, slots=True)
class Rounding:
    """A tensor that takes its stored form where it is made; ``instead_of`` one before it, which then does not."""

    stored: Stored
    why: str
    barrier: Barrier | None = None
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Boundary:
    """An edge whose ends differ in precision: ``layer`` computes in ``wanted`` and reads ``tensor``, held in ``held``.

    ``conversion`` is the form made for it, shared by all who want it; None where the layer reads the tensor as it is.
    """

    tensor: str
    layer: str
    held: Precision
    wanted: Precision
    conversion: Stored | None
    barrier: Barrier | None
    why: str


@dataclass(frozen=True, slots=True)
class Padding:
    """Zero channels appended to a layer's first input and to its weights."""

    channels: int
    why: str


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The operator ``op`` that takes the place of a pool."""

    op: str
    why: str


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """``precision`` is what the group's layers ended with; ``conversions`` serve readers that take another form.

    ``float_only``: why no integer may hold the group, or empty.
    """

    name: str
    precision: Precision
    stored: Stored
    conversions: Mapping[Precision, Stored]
    float_only: str = ""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What was asked, what is done, and why the two differ (or why the layer is not at the default).

    ``native``: ONNX Runtime computes with integers. ``rewritable``: it must not, but would if a quantizer read the
    result. ``operand_axes``: how many axes its constant gets, by ones in front, where that is not 0 (``plan.sums``).
    """

    name: str
    asked: Precision
    done: Precision
    why: str
    weights: tuple[WeightPlan, ...]
    bias: BiasPlan | None
    native: bool
    rewritable: bool
    weight_only: Precision | None = None
    padding: Padding | None = None
    pool: PoolPlan | None = None
    operand_axes: int = 0


@dataclass(frozen=True)
class QuantPlan:
    """Every decision. ``roundings`` by tensor, ``boundaries`` by layer and the tensor that it reads.

    ``portable``: nothing in it serves ONNX Runtime alone. ``shifted``: int8 tensors stand in the file as uint8, with
    zero points 128 higher, which are the same real values (``docs/adr/0017-shifted.md``).
    """

    target: str
    portable: bool
    layers: Mapping[str, LayerPlan]
    groups: Mapping[str, GroupPlan]
    roundings: Mapping[str, Rounding]
    boundaries: Mapping[tuple[str, str], Boundary]
    shifted: bool

    def read(self, group: str, layer: str) -> Stored:
        """The form in which a layer reads a tensor of a group."""
        return read(self.groups[group], self.layers[layer].done)

    def written(self, stored: Stored) -> Stored:
        """How a stored form stands in the file."""
        p = stored.qparams
        if not self.shifted or p is None or p.precision is not Precision.INT8:
            return stored
        uint8 = Precision.UINT8
        return Stored(uint8, QParams(uint8, p.scheme, p.scale, p.zero_point + (uint8.qmin - p.qmin), p.axis))

    def boundaries_of(self, layer: Layer) -> list[Boundary]:
        """The boundaries on what a layer reads."""
        edges = ((layer.name, tensor) for tensor in layer.inputs)
        return [self.boundaries[edge] for edge in edges if edge in self.boundaries]

    def barrier(self, layer: str) -> Barrier | None:
        """What stands between a layer's result and its quantizer."""
        rounding = self.roundings.get(layer)
        return rounding.barrier if rounding else None


def read(group: GroupPlan, precision: Precision) -> Stored:
    """The form in which a layer of some precision reads a tensor of a group."""
    return group.conversions.get(precision, group.stored)

"""What step1 decides and the user may edit: one ``Entry`` a tensor, and what calibration knows behind it.

An entry's key is a group's name (activations) or ``"LAYER:weight"`` (a layer's weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range

WEIGHT_SUFFIX = ":weight"
UNBOUNDED = "its results hold infinities or what stands for them, a mask, or NaN: no integer can say them"
FIELDS = ("dtype", "qtype", "qmethod", "algorithm", "min", "max", "scale", "zero_point", "fl")

Numbers = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of ``quantize_parameters``. None: the field does not apply or is not shown.

    ``min``/``max`` are the chosen range before it is rounded to the zero point. Per-channel numbers are tuples.
    ``qmethod`` is ``"layer"`` (per tensor) or ``"channel"``.
    """

    dtype: Precision
    qtype: Scheme | None = None
    qmethod: str = "layer"
    algorithm: str | None = None
    min: Numbers | None = None
    max: Numbers | None = None
    scale: Numbers | None = None
    zero_point: int | tuple[int, ...] | None = None
    fl: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What calibration knows of one group: the true range, and each algorithm's choice by bits.

    ``ranges["mmse"][8]`` is the range mmse chose for 8 bits. ``fixed`` groups (Sigmoid, ...) never leave their range,
    which is the same by every algorithm. ``unbounded``: some values were infinite or stood for it, which no integer can
    say; ``range`` has the others.
    """

    range: Range
    ranges: Mapping[str, Mapping[int, Range]] = field(default_factory=dict)
    fixed: bool = False
    unbounded: bool = False

    def chosen(self, algorithm: str | None, precision: Precision) -> Range:
        """The range that an algorithm chose for the bits of an integer precision, and for floats what it chose for 8.

        Raises ValueError for an algorithm that was not recorded: only a fixed range is known without one.
        """
        if self.fixed:
            return self.range
        if algorithm is None or algorithm not in self.ranges:
            raise ValueError(f"no range by '{algorithm}' was recorded, only by {', '.join(sorted(self.ranges))}")
        return self.ranges[algorithm][precision.bits if precision.is_integer else 8]


@dataclass(frozen=True, slots=True)
class LayerDefault:
    """The precision a layer has unless the cfg says otherwise; ``why`` is empty for the ordinary one.

    ``weight_only``: float activations, weights in this precision. ``bias`` is ``"float32"`` where it stays so.
    """

    precision: Precision
    why: str = ""
    weight_only: Precision | None = None
    bias: str = ""


@dataclass(frozen=True)
class Calibrated:
    """Everything step1 decided: the entries as written to the cfg, and what was measured behind them.

    ``rounded`` are the layers whose weights step1 rounded together, for which a person may ask for ``gptq``.
    ``layers`` has each layer's own default precision, which is ``default`` but for layers that cannot have it or, where
    step1 was left free to choose, would be slower and less exact with it. ``equalized`` are the layers whose float
    weights or bias step1 changed, for a model that computes the same. ``as_given``: the model arrived quantized.
    ``apart`` has what was measured of the parts into which groups fall where Concats are separate, ``separate`` the
    results of those that are, ``written`` the entries that a cfg shows where others are.
    """

    target: str
    default: Precision
    algorithm: str
    weights_per: str
    entries: Mapping[str, Entry]
    measured: Mapping[str, Measured]
    layers: Mapping[str, LayerDefault] = field(default_factory=dict)
    rounded: tuple[str, ...] = ()
    equalized: tuple[str, ...] = ()
    as_given: bool = False
    apart: Mapping[str, Measured] = field(default_factory=dict)
    separate: tuple[str, ...] = ()
    written: tuple[tuple[str, Entry], ...] = ()

    def default_of(self, layer: str) -> Precision:
        """The precision of a layer that the cfg does not mention."""
        return self.layers[layer].precision if layer in self.layers else self.default

    def weight_only_of(self, layer: str) -> Precision | None:
        """The precision in which a layer that the cfg does not mention stores its weights alone, if it does."""
        return self.layers[layer].weight_only if layer in self.layers else None


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """What the cfg asks of one layer. ``weight_only``: float activations, weights stored in this precision."""

    precision: Precision
    weight_only: Precision | None = None
    selector: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Edit:
    """One difference between the cfg and what step1 wrote, in words and values."""

    key: str
    field: str
    before: str
    after: str
    line: int = 0


@dataclass(frozen=True)
class QuantConfig:
    """The cfg, checked and resolved to layers and entries; the only thing ``plan`` reads of it.

    ``choices`` has every layer that the cfg gives a precision other than by default (an edited ``dtype`` of its
    entry included). ``entries`` has every entry with the edits merged in; ``edited`` says which fields of which keys
    a person changed: those win, the others are recomputed.
    """

    target: str
    choices: Mapping[str, LayerChoice]
    entries: Mapping[str, Entry]
    edited: Mapping[str, frozenset[str]]
    edits: tuple[Edit, ...] = ()

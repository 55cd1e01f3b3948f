"""What a search decides, and what it measures of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

from hybridq.quant.dtypes import Precision
from hybridq.quant.entry_params import TOGETHER
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated
from hybridq.storage.weights import Weights

Rounding = Literal["mmse", "gptq"]  # scales of least squared error; each weight's error made up for by the next ones


@dataclass(frozen=True)
class Tuning:
    """What costs no bits: a range algorithm by group, how a layer's weights are rounded, whose bias is corrected.

    What is done to weights and biases counts while the layer has 8 bits.
    """

    ranges: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, Rounding] = field(default_factory=dict)
    biases: frozenset[str] = frozenset()

    @property
    def together(self) -> list[str]:
        """Layers whose weights are rounded together."""
        return [n for n, how in self.weights.items() if how == TOGETHER]


@dataclass(frozen=True)
class Choice:
    """What a search decides: precisions of layers, and what costs no bits."""

    layers: Mapping[str, Precision] = field(default_factory=dict)
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def key(self) -> str:
        """A text that is the same for the same choice."""
        tuning = self.tuning
        pairs = (self.layers, tuning.ranges, tuning.weights)
        return "|".join([*(_listed(f"{k}={v}" for k, v in x.items()) for x in pairs), _listed(tuning.biases)])

    def with_layers(self, layers: Mapping[str, Precision]) -> Choice:
        """The same tuning with these layers raised."""
        return replace(self, layers=layers)


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


class Figures(NamedTuple):
    """What a choice measures: damage, share of MACs above 8 bits, two SQNRs in dB by output, the user's metric.

    ``sqnr_db`` is of the whole output, signal power over noise power; ``worst_sqnr_db`` of its worst slice, that
    slice's variance over its noise. ``changed``: of outputs that are classifications, the expected share of answers
    that differ from float's; ``passed``: of outputs that hold scores, that of decisions by a threshold. ``halves``: the
    damage of every other sample and of the rest, which must agree on what is better before a change is believed that
    many others were tried beside.
    """

    damage: float
    high: float
    sqnr_db: dict[str, float]
    worst_sqnr_db: dict[str, float]
    metric: float | None = None
    changed: Mapping[str, float] = MappingProxyType({})
    halves: tuple[float, float] = (0.0, 0.0)
    passed: Mapping[str, float] = MappingProxyType({})

    def clearly_better(self, other: Figures, share: float) -> bool:
        """Whether the damage is below a share of another's, and below it in both halves of the samples."""
        halves = all(mine < theirs for mine, theirs in zip(self.halves, other.halves, strict=True) if theirs > 0)
        return self.damage < share * other.damage and halves

    @property
    def doubt(self) -> float:
        """How many of float's answers are expected to change, the mean over all outputs that answer; 0 without such."""
        answers = [*self.changed.values(), *self.passed.values()]
        return sum(answers) / len(answers) if answers else 0.0

    @property
    def least(self) -> float:
        """``sqnr_db`` of the worst output."""
        return min(self.sqnr_db.values(), default=200.0)

    @property
    def least_worst(self) -> float:
        """``worst_sqnr_db`` of the worst output."""
        return min(self.worst_sqnr_db.values(), default=200.0)


def rounding(how: str) -> Rounding:
    """The rounding of that name."""
    return "gptq" if how == TOGETHER else "mmse"


def as_recorded(calibrated: Calibrated, weights: Weights, layers: Iterable[str]) -> Tuning:
    """What step1 did to weights and biases by itself, as a tuning."""
    entries = {n: calibrated.entries.get(n + WEIGHT_SUFFIX) for n in layers}
    rounded = {n for n, e in entries.items() if e is not None and e.algorithm == TOGETHER}
    return Tuning({}, dict.fromkeys(sorted(rounded & set(weights.rounded)), "gptq"), frozenset(weights.biases))


def unrepaired(calibrated: Calibrated) -> Calibrated:
    """The record with every layer's weights rounded one by one."""
    entries = calibrated.entries
    apart = {k: replace(e, algorithm="normal") for k, e in entries.items() if e.algorithm == TOGETHER}
    return replace(calibrated, entries={**entries, **apart}, rounded=())

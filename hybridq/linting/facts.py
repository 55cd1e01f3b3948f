"""``Finding`` and ``Facts``: what a rule says, and what it may look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.statistics import Histogram, TensorStatistics
from hybridq.graph import edit
from hybridq.graph.model import Group, Layer, Model, Weight
from hybridq.graph.operators import Kind, by_output_channel, lookup, row_of
from hybridq.graph.scores import is_score
from hybridq.graph.shared_qparams import moved
from hybridq.plan.lost import counted
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import QParams, Range, range_params
from hybridq.quant.records import Calibrated
from hybridq.report.commands import set_command
from hybridq.storage.weights import Weights
from hybridq.targets import Target

SHOWN = 4  # names in a sentence before the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """What will go wrong in 8 bits, and what to set.

    ``layer`` is where to look and ``layers`` all that the remedy is about, ``precision`` what it sets. ``severity`` is
    ``"warning"`` (accuracy is lost) or ``"note"`` (it may be, or time is, or it would be elsewhere).
    """

    layer: str
    code: str
    message: str
    remedy: str
    severity: str = "warning"
    layers: tuple[str, ...] = ()
    precision: Precision | None = None

    def command(self, directory: str) -> str:
        """The line that sets it; empty where the remedy is none of precision."""
        if self.precision is None or not self.layers:
            return ""
        return set_command(directory, self.layers, str(self.precision))


@dataclass(frozen=True)
class Facts:
    """Everything step1 knows. ``stats`` has the statistics of the sources that were measured, by tensor.

    ``least`` is the narrowest precision that remedies set.
    """

    model: Model
    weights: Weights
    calibrated: Calibrated
    target: Target
    plan: QuantPlan
    stats: Mapping[str, TensorStatistics]
    least: Precision | None = None

    @property
    def raised(self) -> Precision:
        """What a layer is raised to: float32 where the model runs on ONNX Runtime, else the target's next precision."""
        return Precision.FLOAT32 if self.target.latency_aware else self.wider[0]

    def by_channel(self, layer: Layer, weight: Weight) -> NDArray[np.float64]:
        """A layer's weights as (output channels, weights of each)."""
        node, values = self.model.nodes[layer.node], np.asarray(self.weights[weight.tensor], np.float64)
        return by_output_channel(row_of(node).layout, edit.attributes(node), weight.index, values)

    def histogram(self, group: Group) -> Histogram | None:
        """What was counted of a group's values."""
        return counted(group, self.stats)

    def qparams(self, tensor: str) -> QParams | None:
        """How an activation is stored where that is in 8 bits, else None."""
        group = self.model.group_of.get(tensor)
        found = self.plan.groups[group.name].stored.qparams if group else None
        return found if found is not None and found.precision.bits == 8 else None

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """The real range of every tensor that has one: its own where it was measured, not its group's."""
        found: dict[str, Range] = {}
        for name in self.model.inputs:
            self._own(name, found)
        for node in self.model.proto.graph.node:
            moves = row_of(node).kind is Kind.MOVEMENT
            parts = [found[i] for i in moved(node) if i in found]
            for out in node.output:
                if moves and parts and out not in self.stats:
                    found[out] = Range(min(p.min for p in parts), max(p.max for p in parts))
                else:
                    self._own(out, found, row_of(node).fixed_range)
        return found

    def _own(self, tensor: str, found: dict[str, Range], fixed: tuple[float, float] | None = None) -> None:
        stats, group = self.stats.get(tensor), self.model.group_of.get(tensor)
        if fixed is not None:
            found[tensor] = Range(*fixed)
        elif stats is not None:
            found[tensor] = Range(stats.min, stats.max)
        elif group is not None:
            found[tensor] = self.calibrated.measured[group.name].range

    def is_score(self, tensor: str) -> bool:
        """Whether a tensor holds nothing but probabilities."""
        return is_score(tensor, self.model)

    def keeping(self, group: Group) -> list[str]:
        """Layers in 8 bits that must rise with a group, else what it gains is rounded away where they read it.

        These are its readers; what only computes elementwise on one of its values hands the demand on to its own.
        """
        found: dict[str, None] = {}
        waiting, seen = [group.name], {group.name}
        while waiting:
            for layer in self.model.readers.get(waiting.pop(0), ()):
                if self.plan.layers[layer.name].done.bits == 8:
                    found[layer.name] = None
                alone = len(set(layer.inputs)) == 1 and lookup(layer.op).kind is Kind.ELEMENTWISE
                if alone and layer.group not in seen:
                    seen.add(layer.group)
                    waiting.append(layer.group)
        return [n for n in found if n not in group.layers]

    def called(self, tensor: str) -> str:
        """A tensor in a sentence: the layers whose values it holds, as commands name them."""
        return names(self._written_by(tensor))

    def _written_by(self, tensor: str) -> tuple[str, ...]:
        """Through what only moves values; of no layer, as an input, its own name."""
        node = self.model.producers.get(tensor)
        if tensor in self.model.layer or node is None or row_of(node).kind is not Kind.MOVEMENT:
            return (tensor,)
        read = node.input if row_of(node).moves_all else node.input[:1]
        behind = (n for i in read if i in self.model.group_of or i in self.model.producers for n in self._written_by(i))
        return tuple(dict.fromkeys(behind)) or (tensor,)

    def whole(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Layers with all that share parameters with one of them: one must not rise without the others."""
        model = self.model
        found = {n for name in layers for n in (name, *model.group[model.layer[name].group].layers)}
        return tuple(sorted(found, key=lambda name: model.places[model.layer[name].node]))

    def outward(self, tensor: str) -> str:
        """The model output that a tensor becomes by being moved around, else the tensor."""
        name = tensor
        while name not in self.model.outputs:
            readers = self.model.consumers.get(name, ())
            if len(readers) != 1 or row_of(readers[0]).kind is not Kind.MOVEMENT:
                return tensor
            if len(readers[0].output) != 1 or row_of(readers[0]).moves_all:
                return tensor
            name = readers[0].output[0]
        return name

    @property
    def low(self) -> Precision:
        """The 8-bit precision that the target would use."""
        return next((p for p in self.target.precisions if p.bits == 8), Precision.UINT8)

    def high(self, r: Range, enough: float) -> Precision:
        """The least of the wider precisions whose step over ``r`` is ``enough`` or finer.

        On ONNX Runtime 16 bits compute in float anyway, so there it is float32.
        """
        if self.target.latency_aware:
            return Precision.FLOAT32
        return next((p for p in self.wider if self.step(r, p) <= enough), self.wider[-1])

    @property
    def wider(self) -> list[Precision]:
        """The precisions of the target above 8 bits, from ``least`` on."""
        found = sorted((p for p in self.target.precisions if p.bits > 8), key=lambda p: (p.bits, not p.is_integer))
        return found[found.index(self.least) :] if self.least is not None else found

    def step(self, r: Range, precision: Precision) -> float:
        """The step of a range at an integer precision of the target; 0 for float."""
        return float(self.joint(r, precision).scale) if precision.is_integer else 0.0

    def joint(self, r: Range, precision: Precision) -> QParams:
        """The parameters of a range at an integer precision of the target."""
        return range_params(r.with_zero(), self.target.activation(precision))


def span(r: Range) -> str:
    """A range as people read it; an end that is next to nothing beside the other is 0."""
    low, high = (0.0 if abs(end) < 1e-3 * r.amax else end for end in (r.min, r.max))
    return f"{number(low)}..{number(high)}"


def number(value: float) -> str:
    """Three digits at most before the exponent."""
    return f"{value + 0.0:.0f}" if 100 <= abs(value) < 1e6 else f"{value + 0.0:.3g}"


def names(found: list[str] | tuple[str, ...]) -> str:
    """Names in a sentence; beyond a few the rest is counted."""
    shown = ", ".join(f"'{n}'" for n in found[:SHOWN])
    return shown if len(found) <= SHOWN else f"{shown} and {len(found) - SHOWN} more"


def setting(layers: list[str] | tuple[str, ...], precision: Precision) -> str:
    """Lines of ``customized_quantize_layers``."""
    return ", ".join(f'"{n}": {precision}' for n in layers)

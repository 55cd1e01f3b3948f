"""One neutral view of a result: what every tensor, weight, bias and layer became. Every writer reads it alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hybridq.graph.model import Group, Layer, Model
from hybridq.plan.layer_weights import WeightPlan, integers
from hybridq.plan.quant_plan import QuantPlan, Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import dequantize, quantize
from hybridq.quant.qparams import QParams, Range, qparams_of_ranges
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.state import State
from hybridq.storage.weights import Weights

FLOAT32 = Precision.FLOAT32


@dataclass(frozen=True, slots=True)
class TensorView:
    """One activation tensor: a model input, what a layer writes, or what was moved there unchanged.

    ``layer`` writes it (empty for inputs and moved tensors), ``before`` is the same value before the layer's absorbed
    activation (empty where there is none), ``aliases`` are names that the given model has for it. ``range`` is the real
    range behind the parameters, ``observed`` what calibration saw.
    """

    name: str
    layer: str
    before: str
    group: str
    aliases: tuple[str, ...]
    shape: tuple[int | str, ...] | None
    stored: Stored
    range: Range
    observed: Range
    is_input: bool
    is_output: bool


@dataclass(frozen=True, slots=True)
class WeightView:
    """One weight of a layer; ``qparams`` is None for float. ``together``: its integers are not the nearest ones."""

    tensor: str
    layer: str
    shape: tuple[int, ...]
    axis: int | None
    precision: Precision
    qparams: QParams | None
    together: bool = False


@dataclass(frozen=True, slots=True)
class BiasView:
    """A layer's bias, int32 with ``scale`` (None: float32). ``repaired``: not the given model's numbers."""

    tensor: str
    layer: str
    values: NDArray[np.float32]
    scale: NDArray[np.float32] | None
    repaired: bool


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer: the precision it computes in, the tensors it reads and writes, and who shares its parameters."""

    name: str
    op: str
    node: str
    activation: str
    precision: Precision
    weight_only: Precision | None
    inputs: tuple[str, ...]
    group: str
    members: tuple[str, ...]
    aliases: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class View:
    """A result as other tools see it.

    ``tensors``, ``parameters`` (weights), ``biases`` and ``layers`` are what formats of parameters say; ``model``,
    ``weights``, ``calibrated``, ``config`` and ``plan`` are there for those that hold a model or more.
    """

    model: Model
    target: str
    weights: Weights
    calibrated: Calibrated
    config: QuantConfig
    plan: QuantPlan
    tensors: tuple[TensorView, ...]
    parameters: tuple[WeightView, ...]
    biases: tuple[BiasView, ...]
    layers: tuple[LayerView, ...]

    @cached_property
    def tensor(self) -> dict[str, TensorView]:
        """Tensors by name."""
        return {t.name: t for t in self.tensors}

    @cached_property
    def bias(self) -> dict[str, BiasView]:
        """Biases by layer."""
        return {b.layer: b for b in self.biases}

    @cached_property
    def weights_of(self) -> dict[str, tuple[WeightView, ...]]:
        """Weights by layer."""
        found: dict[str, list[WeightView]] = {}
        for weight in self.parameters:
            found.setdefault(weight.layer, []).append(weight)
        return {k: tuple(v) for k, v in found.items()}

    @property
    def asked(self) -> dict[str, str]:
        """What the cfg asks of layers, by the selector that decided, in the order of the cfg's lines."""
        named = sorted((c for c in self.config.choices.values() if c.selector), key=lambda c: c.line)
        return {c.selector: f"weight_only:{c.weight_only}" if c.weight_only else str(c.precision) for c in named}

    def nodes_of(self, layer: LayerView) -> list[str]:
        """A layer's node and that of the activation it absorbs: other tools know operators apart."""
        activation = self.model.layer[layer.name].activation
        return [layer.node, activation] if activation else [layer.node]

    def values(self, weight: WeightView) -> NDArray[np.float32]:
        """A weight as the float model has it."""
        return np.asarray(self.weights[weight.tensor], np.float32)

    def kept(self, weight: WeightView) -> NDArray[np.float32]:
        """What a layer computes with: the weight's integers, dequantized; the float values where there are none."""
        if weight.qparams is None:
            return self.values(weight)
        found = next(w for w in self.plan.layers[weight.layer].weights if w.tensor == weight.tensor)
        if found.rounded and found.qparams is not None and found.qparams.same_as(weight.qparams):
            return dequantize(integers(found, self.weights), found.qparams)
        return dequantize(quantize(self.values(weight), weight.qparams), weight.qparams)


def make_view(state: State, plan: QuantPlan, config: QuantConfig) -> View:
    """The view of a plan made from ``state`` and ``config``."""
    model = state.model
    return View(
        model=model,
        target=plan.target,
        weights=state.weights,
        calibrated=state.calibrated,
        config=config,
        plan=plan,
        tensors=tuple(_tensors(model, plan, state.calibrated, config)),
        parameters=tuple(w for x in model.layers for w in _weights(x, plan, state.weights)),
        biases=tuple(b for x in model.layers for b in _bias(x, plan, state.weights)),
        layers=tuple(_layer(x, model, plan) for x in model.layers),
    )


def _tensors(model: Model, plan: QuantPlan, calibrated: Calibrated, config: QuantConfig) -> Iterator[TensorView]:
    writers = {x.name: x for x in model.layers}
    for group in model.groups:
        for name in group.tensors:
            writer = writers.get(name)
            first = model.nodes[writer.node].output[0] if writer else ""
            stored = plan.groups[group.name].stored
            yield TensorView(
                name=name,
                layer=writer.name if writer else "",
                before=first if first != name else "",
                group=group.name,
                aliases=writer.aliases if writer else (),
                shape=model.tensors[name].shape,
                stored=stored,
                range=_range(group, stored, calibrated, config),
                observed=calibrated.measured[group.name].range,
                is_input=name in model.inputs,
                is_output=name in model.outputs,
            )


def _range(group: Group, stored: Stored, calibrated: Calibrated, config: QuantConfig) -> Range:
    """The real range behind a tensor's parameters: the one that gives them, else what the integers can say."""
    candidates = list(_candidates(group, stored.precision, calibrated, config))
    p = stored.qparams
    if p is None:
        return candidates[0]
    for r in candidates:
        if qparams_of_ranges(r.min, r.max, p.precision, p.scheme).same_as(p):
            return r
    return p.range


def _candidates(group: Group, precision: Precision, calibrated: Calibrated, config: QuantConfig) -> Iterator[Range]:
    entry, measured = config.entries[group.name], calibrated.measured[group.name]
    if isinstance(entry.min, float | int) and isinstance(entry.max, float | int) and entry.min <= entry.max:
        yield Range(float(entry.min), float(entry.max))
    algorithm = entry.algorithm or calibrated.algorithm
    yield measured.chosen(algorithm, precision)
    yield from measured.ranges.get(algorithm, {}).values()
    yield measured.range


def _weights(layer: Layer, plan: QuantPlan, weights: Weights) -> Iterator[WeightView]:
    axes = {w.tensor: w.axis for w in layer.weights}
    for found in plan.layers[layer.name].weights:
        shape = tuple(weights[found.tensor].shape)
        together = _together(found)
        yield WeightView(found.tensor, layer.name, shape, axes[found.tensor], found.precision, found.qparams, together)


def _together(found: WeightPlan) -> bool:
    return bool(found.rounded)


def _bias(layer: Layer, plan: QuantPlan, weights: Weights) -> Iterator[BiasView]:
    if not layer.bias:
        return
    found, given = plan.layers[layer.name].bias, np.asarray(weights[layer.bias], np.float32)
    if found is None:
        yield BiasView(layer.bias, layer.name, given, None, repaired=False)
    else:
        yield BiasView(layer.bias, layer.name, found.values, found.scale, found.repaired)


def _layer(layer: Layer, model: Model, plan: QuantPlan) -> LayerView:
    done = plan.layers[layer.name]
    return LayerView(
        name=layer.name,
        op=layer.op,
        node=layer.node,
        activation=layer.activation_op,
        precision=done.done,
        weight_only=done.weight_only,
        inputs=layer.inputs,
        group=layer.group,
        members=model.group[layer.group].layers,
        aliases=layer.aliases,
        why=done.why,
    )

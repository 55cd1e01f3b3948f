"""What the page tells of every layer, and how the layers hang together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hybridq.graph.model import Layer, Model
from hybridq.plan.quant_plan import LayerPlan
from hybridq.quant.records import QuantConfig
from hybridq.report.words import few_digits
from hybridq.steps.explain import ground_of
from hybridq.storage.state import State

CHANNELS = 64  # of a weight, evenly spaced
LAYERS = 1500  # of a model: beyond it the page tells figures alone
DIGITS = 6
LEFT_OUT = ("name", "op", "alone_db", "inside_db", "blamed_below_db")  # the report itself has these


def details_of(folder: Path, state: State, config: QuantConfig) -> dict[str, Mapping[str, Any]]:
    """Each layer as ``explain`` tells it, with the ends of its weights channel by channel."""
    if len(state.model.layers) > LAYERS:
        return {}
    ground = ground_of(folder, state, config, {})
    found: dict[str, Mapping[str, Any]] = {}
    for layer in state.model.layers:
        told = ground.explain(layer).to_json()
        kept = {k: v for k, v in told.items() if k not in LEFT_OUT}
        found[layer.name] = few_digits({**kept, "channels": _channels(state, ground.plan.layers[layer.name])}, DIGITS)
    return found


def words_of(state: State, config: QuantConfig) -> tuple[dict[str, str], dict[str, str]]:
    """By layer what the cfg asks for, as it would be written, and what the layer has without."""
    asked = {
        n: f"{{weight_only: {c.weight_only}}}" if c.weight_only else str(c.precision) for n, c in config.choices.items()
    }
    return asked, {layer.name: str(state.calibrated.default_of(layer.name)) for layer in state.model.layers}


def edges_of(model: Model) -> list[tuple[str, str]]:
    """Pairs of layers, one of which reads what the other writes; what only moves values is passed through."""
    return [(source, layer.name) for layer in model.layers for source in dict.fromkeys(_sources(model, layer))]


def _sources(model: Model, layer: Layer) -> Iterator[str]:
    todo, seen = list(layer.inputs), set()
    while todo:
        tensor = todo.pop()
        node = model.producers.get(tensor)
        if tensor in seen or node is None:
            continue
        seen.add(tensor)
        owner = model.owner_of.get(node.name)
        if owner is not None:
            yield owner.name
        else:
            todo += [i for i in node.input if i]


def _channels(state: State, planned: LayerPlan) -> list[list[float]]:
    """Least and largest weight and the scale (0: none) of a layer's output channels."""
    layer = state.model.layer[planned.name]
    weight = next((w for w in layer.weights if w.axis is not None), None)
    if weight is None or weight.axis is None:
        return []
    values = np.moveaxis(np.asarray(state.weights[weight.tensor]), weight.axis, 0)
    values = values.reshape(len(values), -1)
    plan = next((p for p in planned.weights if p.tensor == weight.tensor), None)
    scale = np.zeros(len(values)) if plan is None or plan.qparams is None else plan.qparams.scale
    scale = np.broadcast_to(scale if scale.size in (1, len(values)) else 0.0, len(values))
    at = np.unique(np.linspace(0, len(values) - 1, min(CHANNELS, len(values))).astype(int))
    return [[float(values[i].min()), float(values[i].max()), float(scale[i])] for i in at]

"""The share of the multiply-accumulates above 8 bits (operators without any count their output elements)."""

from __future__ import annotations

from collections.abc import Iterable

from hybridq.graph.model import Model
from hybridq.plan.quant_plan import QuantPlan


def high_fraction(model: Model, plan: QuantPlan) -> float:
    """Share of the model's multiply-accumulates in layers that end above 8 bits: float32, float16 or int16."""
    return share_of_macs(model, (name for name, layer in plan.layers.items() if layer.done.bits > 8))


def share_of_macs(model: Model, layers: Iterable[str]) -> float:
    """Share of the model's multiply-accumulates in some layers, 0 to 1."""
    return sum(model.layer[name].macs for name in layers) / max(1, model.macs)

"""Statistics and cfg give the ``QuantPlan``: what every tensor and weight becomes. All decisions are made here.

The order of thought: a precision for every layer, lifted to the widest of its group; a stored form for every group of
tensors; what computes each layer, with which weights and bias; where tensors are rounded; what stands where an edge's
ends differ.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridq import targets
from hybridq.graph.model import Model
from hybridq.plan.boundaries import boundaries
from hybridq.plan.chosen import chosen_precisions
from hybridq.plan.context import Context
from hybridq.plan.layers import layer_plans
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.roundings import roundings
from hybridq.plan.stored_forms import group_plans
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.weights import Weights


def done_precisions(
    model: Model, calibrated: Calibrated, config: QuantConfig, weights: Weights
) -> Mapping[str, Precision]:
    """The precision that every layer ends with, without the rest of the plan."""
    return chosen_precisions(Context(model, calibrated, config, weights, targets.load(config.target))).done


def make_plan(
    model: Model, calibrated: Calibrated, config: QuantConfig, weights: Weights, *, portable: bool = False
) -> QuantPlan:
    """Decide everything. ``config`` is checked already, so nothing here can be wrong, only without effect.

    ``portable`` leaves out what only ONNX Runtime needs: barriers, padded channels, other operators in place of pools,
    roundings in other places than where a tensor is computed, int8 written as uint8.
    """
    portable = portable or calibrated.as_given  # a model that arrived quantized is computed as it was
    context = Context(model, calibrated, config, weights, targets.load(config.target), portable)
    chosen = chosen_precisions(context)
    groups = group_plans(context, chosen.done)
    layers = layer_plans(context, chosen, groups)
    return QuantPlan(
        target=config.target,
        portable=portable,
        layers=layers,
        groups=groups,
        roundings=roundings(context, layers, groups),
        boundaries=boundaries(context, layers, groups),
        shifted=not portable,
    )

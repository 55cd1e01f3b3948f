"""What becomes of every layer: integer kernel or float, weights, bias, and what only ONNX Runtime needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hybridq.graph import operators
from hybridq.graph.model import Layer, Model
from hybridq.graph.operators import BatchRows
from hybridq.plan.barriers import is_rewritable
from hybridq.plan.chosen import Chosen
from hybridq.plan.context import Context
from hybridq.plan.defaults import fast_kernel
from hybridq.plan.layer_weights import bias_plan, suits_integers, weight_plans
from hybridq.plan.padding import padding_of
from hybridq.plan.pools import pool_of
from hybridq.plan.quant_plan import FLOAT, GroupPlan, LayerPlan, Stored, read
from hybridq.plan.sums import operand_axes
from hybridq.quant.dtypes import Precision, Scheme, Storage


def layer_plans(context: Context, chosen: Chosen, groups: Mapping[str, GroupPlan]) -> dict[str, LayerPlan]:
    """The plan of every layer, from its precision and the stored forms of what it reads and writes."""
    plans = {layer.name: _layer_plan(context, layer, chosen, groups) for layer in context.model.layers}
    axes = {layer.name: operand_axes(context, layer, plans) for layer in context.model.layers}
    return {name: replace(plan, operand_axes=axes[name]) if axes[name] else plan for name, plan in plans.items()}


def _layer_plan(context: Context, layer: Layer, chosen: Chosen, groups: Mapping[str, GroupPlan]) -> LayerPlan:
    model, choice, done = context.model, context.config.choices.get(layer.name), chosen.done[layer.name]
    held = [model.group_of.get(i) for i in layer.inputs]
    forms = [read(groups[g.name], done) if g else Stored(FLOAT) for g in held]
    out = groups[layer.group].stored
    integer = is_native(model, layer, done, forms, out) and suits_integers(layer, context.weights, model)
    native = integer and has_kernel(context.target.constant(done, channels=True))
    default = context.calibrated.layers.get(layer.name)
    weight_only = choice.weight_only if choice else default.weight_only if default else None
    weights = weight_plans(context, layer, weight_only or done, native)
    bias = bias_plan(context, layer, native, integer, forms[0].qparams if forms else None, weights)
    return LayerPlan(
        name=layer.name,
        asked=chosen.asked[layer.name],
        done=done,
        why=chosen.why[layer.name],
        weights=weights if bias is None else bias.floored,
        bias=bias,
        native=native,
        rewritable=is_rewritable(layer, native, forms),
        weight_only=weight_only,
        padding=padding_of(context, layer, native),
        pool=pool_of(context, layer, native),
    )


def is_native(model: Model, layer: Layer, done: Precision, forms: Sequence[Stored], out: Stored) -> bool:
    """Whether ONNX Runtime computes the layer with integers: 8 bits of one kind on every edge, a fast kernel."""
    if done.bits != 8 or not fast_kernel(model, layer) or not forms or _dies_of_nothing(model, layer):
        return False
    results = (done, FLOAT) if operators.lookup(layer.op).float_result else (done,)
    return all(f.precision is done for f in forms) and out.precision in results


def has_kernel(storage: Storage) -> bool:
    """Whether ONNX Runtime has a kernel for weights stored so: their channels must share one zero point."""
    return not (storage.per_channel and storage.scheme is Scheme.ASYMMETRIC)


def _dies_of_nothing(model: Model, layer: Layer) -> bool:
    """Whether ONNX Runtime's integer kernel ends the process where the result has no element.

    Those of Add and Mul do (1.32, several threads) unless the last axis has a fixed length above 1.
    """
    if layer.name not in model.may_be_empty or operators.lookup(layer.op).rows is not BatchRows.BROADCAST:
        return False
    shape = model.tensors[layer.name].shape
    return not shape or not isinstance(shape[-1], int) or shape[-1] <= 1

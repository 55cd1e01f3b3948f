"""Where tensors take their stored form: where they are computed, but for a few places that ONNX Runtime makes slow."""

from __future__ import annotations

from collections.abc import Mapping

from hybridq.graph import edit
from hybridq.graph.model import Layer
from hybridq.graph.operators import Interval, Kernel, Movement, lookup, row_of
from hybridq.plan.barriers import BEHIND_POOL, BETWEEN_INTEGERS, before_rounding
from hybridq.plan.context import Context
from hybridq.plan.fused import unrounded
from hybridq.plan.quant_plan import GroupPlan, LayerPlan, Rounding, Stored

INPUT = "an input of the model"
COMPUTED = "computed here"
MOVED = "8-bit values that are only moved: said again, ONNX Runtime moves integers"
INSIDE = "a subgraph reads what was moved: ONNX Runtime ends the process unless the values are rounded once more"
BEFORE_RELU = "ONNX Runtime takes a Relu into an integer layer only where the integers begin at zero"
POOLED = "behind the MaxPool, which ONNX Runtime would run on integers, and slowly"


def roundings(
    context: Context, layers: Mapping[str, LayerPlan], groups: Mapping[str, GroupPlan]
) -> dict[str, Rounding]:
    """The tensors that are rounded where they are made, by name; the others hold what they are made from."""
    found = {}
    done = {name: plan.done for name, plan in layers.items()}
    fused = unrounded(context.model, context.target, done)
    for group in context.model.groups:
        stored = groups[group.name].stored
        if not stored.is_float and group.name not in fused:
            for tensor in group.tensors:
                rounding = _rounding(context, tensor, stored, layers)
                if rounding is not None:
                    found[tensor] = rounding
    if not context.portable:
        for layer in context.model.layers:
            plan, stored = layers[layer.name], groups[layer.group].stored
            _round_before_relu(context, layer, plan, stored, found)
            _round_behind_pool(context, layer, plan, stored, found)
    return found


def _rounding(context: Context, tensor: str, stored: Stored, layers: Mapping[str, LayerPlan]) -> Rounding | None:
    """How a tensor of a group is rounded where it is made, None where it is not."""
    node = context.model.producers.get(tensor)
    if node is None:
        return Rounding(stored, INPUT)
    layer = context.model.owner_of.get(node.name)
    if layer is not None:
        return Rounding(stored, COMPUTED, before_rounding(context, layer, layers[layer.name], stored))
    if any(tensor in edit.outer_reads(reader) for reader in context.model.consumers.get(tensor, ())):
        return Rounding(stored, INSIDE)
    return Rounding(stored, MOVED) if stored.precision.bits == 8 else None


def _round_before_relu(
    context: Context, layer: Layer, plan: LayerPlan, stored: Stored, found: dict[str, Rounding]
) -> None:
    """Round what goes into a Relu, too, where its integers reach below zero: the Relu is cut between integers then."""
    p, fuses = stored.qparams, plan.native and plan.weights and lookup(layer.activation_op).interval is Interval.RELU
    if fuses and p is not None and int(p.zero_point) != p.qmin:
        found[context.model.nodes[layer.node].output[0]] = Rounding(stored, BEFORE_RELU)
        found[layer.name] = Rounding(stored, COMPUTED, BETWEEN_INTEGERS)


def _round_behind_pool(
    context: Context, layer: Layer, plan: LayerPlan, stored: Stored, found: dict[str, Rounding]
) -> None:
    """Round a float result that only a MaxPool reads behind it."""
    pool = _lone_pool(context, layer)
    in_float = all(w.folded or w.qparams is None for w in plan.weights)
    if pool and in_float and stored.qparams is not None:
        del found[layer.name]
        found[pool] = Rounding(stored, POOLED, BEHIND_POOL, layer.name)


def _lone_pool(context: Context, layer: Layer) -> str:
    """The result of the MaxPool that alone reads a layer, empty where something else does."""
    model = context.model
    readers = model.consumers.get(layer.name, ())
    rows = [row_of(r) for r in readers]
    pools = [r.movement is Movement.LARGEST and r.kernel is Kernel.SLOW for r in rows]
    if pools != [True] or layer.name in model.outputs:
        return ""
    pool = str(readers[0].output[0])
    return pool if model.group_of.get(pool) is model.group[layer.group] else ""

"""Boundaries: edges whose ends differ in precision, and the conversions that stand on them."""

from __future__ import annotations

from collections.abc import Mapping

from hybridq.plan.barriers import before_conversion
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import Boundary, GroupPlan, LayerPlan, read

CONVERTED = "the layer computes with fewer bits: one conversion, shared by all that want it"
OTHER_KIND = "one is float16 and the other integers: the target converts what the layer reads"
ENDLESS = "it holds infinities or what stands for them: saturated, a mask would no longer lose"
AS_IT_IS = "the layer computes with more bits, which need no conversion"


def boundaries(
    context: Context, layers: Mapping[str, LayerPlan], groups: Mapping[str, GroupPlan]
) -> dict[tuple[str, str], Boundary]:
    """Every boundary, by the layer that reads and the tensor that it reads."""
    model = context.model
    found = {}
    for layer in model.layers:
        for tensor in (i for i in layer.inputs if i in model.group_of):
            boundary = _boundary(context, layers, groups[model.group_of[tensor].name], layer.name, tensor)
            if boundary is not None:
                found[layer.name, tensor] = boundary
    return found


def _boundary(
    context: Context, layers: Mapping[str, LayerPlan], group: GroupPlan, layer: str, tensor: str
) -> Boundary | None:
    """The boundary between a tensor of a group and a layer that reads it, None where both have one precision."""
    held, wanted = group.stored.precision, layers[layer].done
    if held is wanted:
        return None
    form = read(group, wanted)
    if form is group.stored:
        endless = context.calibrated.measured[group.name].unbounded
        return Boundary(tensor, layer, held, wanted, None, None, ENDLESS if endless else AS_IT_IS)
    why = CONVERTED if wanted.bits < held.bits else OTHER_KIND
    makers = [layers[n] for n in context.model.group[group.name].layers]
    return Boundary(tensor, layer, held, wanted, form, before_conversion(context, group, makers, form), why)

"""Layers that were raised alone: their result is still rounded for those who read it, which a person must be told."""

from __future__ import annotations

from hybridq.errors import Problem
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.records import QuantConfig

NAMED = 4  # readers that a remedy names


def narrowed(model: Model, plan: QuantPlan, config: QuantConfig) -> list[Problem]:
    """A note for each layer that was asked more bits than its result keeps, and who reads it in fewer.

    A tensor gains only where both its producer and its readers are raised.
    """
    found = []
    for name, choice in config.choices.items():
        layer = model.layer.get(name)
        stored = plan.groups[layer.group].stored.precision if layer else choice.precision
        if layer is None or plan.layers[name].done.bits <= stored.bits:
            continue
        done = plan.layers[name].done
        readers = [x for x in model.readers.get(layer.group, ()) if plan.layers[x.name].done.bits < done.bits]
        shown = ", ".join(f"'{x.name}'" for x in readers[:NAMED])
        more = f" and {len(readers) - NAMED} more" if len(readers) > NAMED else ""
        message = f"'{name}' is {done}, but its result is still rounded to {stored} for {shown}{more}"
        hint = f"Raise its readers too, {shown}: else only the layer's own arithmetic and weights gain."
        found.append(Problem(message, line=choice.line, hint=hint, severity="note", code="narrowed"))
    return found

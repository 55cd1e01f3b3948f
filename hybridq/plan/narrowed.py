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
        if layer is None:
            continue
        done, stored = plan.layers[name].done, plan.groups[layer.group].stored.precision
        every = model.readers.get(layer.group, ())
        readers = [x for x in every if plan.layers[x.name].done.bits < done.bits]
        kept = any(t in model.outputs for t in model.group[layer.group].tensors) or len(readers) < len(every)
        if not readers or (stored.bits >= done.bits and kept):
            continue
        stored = min(stored, *(plan.layers[x.name].done for x in readers), key=lambda p: p.bits)
        shown = ", ".join(f"'{x.name}'" for x in readers[:NAMED])
        more = f" and {len(readers) - NAMED} more" if len(readers) > NAMED else ""
        message = f"'{name}' is {done}, but its result is still rounded to {stored} for {shown}{more}"
        hint = f"Raise its readers too, {shown}: else only the layer's own arithmetic and weights gain."
        found.append(Problem(message, line=choice.line, hint=hint, severity="note", code="narrowed"))
    return found

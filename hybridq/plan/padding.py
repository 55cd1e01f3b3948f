"""Zero channels that make a small first convolution fast; they change no bit (``docs/adr/0008-four-channels.md``)."""

from __future__ import annotations

import math

from hybridq.graph import edit, operators
from hybridq.graph.model import Layer, Model
from hybridq.graph.operators import Kind, Layout
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import Padding

FAST_CHANNELS = 4  # ONNX Runtime's fast 8-bit convolution wants input channels in fours
PADDED_OUTPUTS = 16  # fewer output channels gain nothing from it
GROWTH, SMALL = 0.02, 4096  # of the model's weights, and weights: more zeros than both are not worth their place
WHY = "ONNX Runtime's fast 8-bit convolution reads channels in fours"


def padding_of(context: Context, layer: Layer, native: bool) -> Padding | None:
    """The channels to append to the input of an integer convolution, None where it gains nothing."""
    if context.portable or operators.lookup(layer.op).layout is not Layout.CONV or not native:
        return None
    shape = layer.weights[0].shape
    plain = edit.attribute(context.model.nodes[layer.node], "group", 1) == 1
    if not plain or len(shape) != 4 or shape[0] < PADDED_OUTPUTS or shape[1] >= FAST_CHANNELS:
        return None
    padding = Padding(-shape[1] % FAST_CHANNELS, WHY)
    grows = shape[0] * padding.channels * math.prod(shape[2:])
    total = sum(math.prod(w.shape) for x in context.model.layers for w in x.weights)
    return padding if grows <= max(GROWTH * total, SMALL) and is_stem(context.model, layer) else None


def is_stem(model: Model, layer: Layer) -> bool:
    """Whether a layer reads the model's inputs, moved or scaled, and nothing that weights were multiplied with."""
    waiting, seen = list(layer.inputs[:1]), set[str]()
    while waiting:
        node = model.producers.get(waiting.pop())
        if node is not None and node.name not in seen:
            seen.add(node.name)
            if operators.row_of(node).kind is Kind.COMPUTE:
                return False
            waiting.extend(edit.reads(node))
    return True

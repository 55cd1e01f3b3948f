"""Zero channels that make a small first convolution fast; they change no bit (``docs/adr/0008-four-channels.md``)."""

from __future__ import annotations

from hybridq.graph import edit, operators
from hybridq.graph.model import Layer
from hybridq.graph.operators import Layout
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import Padding

FAST_CHANNELS = 4  # ONNX Runtime's fast 8-bit convolution wants input channels in fours
PADDED_OUTPUTS = 16  # fewer output channels gain nothing from it
WHY = "ONNX Runtime's fast 8-bit convolution reads channels in fours"


def padding_of(context: Context, layer: Layer, native: bool) -> Padding | None:
    """The channels to append to the input of an integer convolution, None where it gains nothing."""
    if context.portable or operators.lookup(layer.op).layout is not Layout.CONV or not native:
        return None
    shape = layer.weights[0].shape
    plain = edit.attribute(context.model.nodes[layer.node], "group", 1) == 1
    if not plain or len(shape) != 4 or shape[0] < PADDED_OUTPUTS or shape[1] >= FAST_CHANNELS:
        return None
    return Padding(-shape[1] % FAST_CHANNELS, WHY)

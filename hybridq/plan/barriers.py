"""What keeps ONNX Runtime from making something else of a layer: float layers stay float, integer layers fuse.

ONNX Runtime turns a float Conv, ConvTranspose or Gemm between DequantizeLinear and QuantizeLinear into an integer one
with weights of its own; a LeakyRelu before the quantizer hides the layer from it (``docs/adr/0004-barriers.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hybridq.graph import operators
from hybridq.graph.analysis import clip_bounds
from hybridq.graph.model import Layer
from hybridq.graph.operators import Interval, Kernel, Kind, Layout
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import Barrier, BarrierKind, GroupPlan, LayerPlan, Stored

REWRITES = "ONNX Runtime would make a float layer between integers an integer one, with weights of its own"
BEHIND_POOL = Barrier(BarrierKind.OWN_NODE, f"{REWRITES}; it sees through a MaxPool")
BETWEEN_INTEGERS = Barrier(BarrierKind.ACTIVATION, "between integers ONNX Runtime looks a LeakyRelu up, but no Relu")


def is_rewritable(layer: Layer, native: bool, forms: Sequence[Stored]) -> bool:
    """Whether ONNX Runtime would turn this float computation into an integer one behind our back.

    ``forms`` are those in which the layer reads its inputs.
    """
    row = operators.lookup(layer.op)
    product = row.layout is Layout.MATMUL and not layer.weights  # two activations: nothing to rewrite
    could = (row.kernel is not Kernel.NONE or row.kind is Kind.COMPUTE) and not product
    return could and not native and any(f.qparams is not None for f in forms)


def before_rounding(context: Context, layer: Layer, plan: LayerPlan, stored: Stored) -> Barrier | None:
    """The barrier between a layer's result and the quantizer that stores it."""
    if context.portable or stored.qparams is None or not plan.rewritable:
        return None
    cut = operators.lookup(layer.activation_op).interval
    cuts = cut is Interval.RELU or (cut is Interval.CLIP and _saturates(context, layer, stored))
    return Barrier(BarrierKind.ACTIVATION if cuts else BarrierKind.OWN_NODE, REWRITES)


def before_conversion(context: Context, group: GroupPlan, plans: Sequence[LayerPlan], form: Stored) -> Barrier | None:
    """The barrier before the quantizer of a conversion, ``form``, of a group that stays float; ``plans`` write it."""
    exposed = group.stored.is_float and form.qparams is not None and any(p.rewritable for p in plans)
    return Barrier(BarrierKind.OWN_NODE, REWRITES) if exposed and not context.portable else None


def _saturates(context: Context, layer: Layer, stored: Stored) -> bool:
    """Whether the integers of ``stored`` end where the layer's Clip from zero does."""
    clip = context.model.nodes[layer.activation]
    low, high = clip_bounds(clip, context.model.initializers) or (0.0, -math.inf)
    reach = stored.qparams.range if stored.qparams else None
    return low == 0.0 and reach is not None and reach.min >= 0.0 and reach.max <= high

"""AveragePools in 8 bits become what ONNX Runtime computes fast and exactly (``docs/onnxruntime.md``)."""

from __future__ import annotations

from hybridq.graph import edit, operators
from hybridq.graph.model import Layer
from hybridq.graph.operators import Kernel
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import PoolPlan

WHOLE_MAP = "its window is the whole map, and ONNX Runtime's GlobalAveragePool is fast and exact"
WINDOWS = "ONNX Runtime's integer AveragePool is slow and inexact, a depthwise convolution of ones is neither"


def pool_of(context: Context, layer: Layer, native: bool) -> PoolPlan | None:
    """The operator that takes the place of an AveragePool, None where the layer stays what it is."""
    if context.portable or operators.lookup(layer.op).kernel is not Kernel.AVERAGE or not native:
        return None
    node = context.model.nodes[layer.node]
    shape = context.model.tensors[layer.inputs[0]].shape or ()
    whole = tuple(shape[2:]) == tuple(edit.attribute(node, "kernel_shape"))
    if whole and not any(edit.attribute(node, "pads", ())):
        return PoolPlan("GlobalAveragePool", WHOLE_MAP)
    return PoolPlan("Conv", WINDOWS)

"""Float sums behind integer matrix products: ONNX Runtime would take both for one float product.

Of a MatMul of more than two axes and the Add of a vector it makes a Gemm, whose weights it then restores to float32 in
every run: a classifier of tokens took twice the time. A vector with axes of one element in front is left alone, and the
MatMul stays ``MatMulIntegerToFloat``.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridq.graph import operators
from hybridq.graph.model import Layer
from hybridq.graph.operators import Interval, Layout
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import FLOAT, LayerPlan


def operand_axes(context: Context, layer: Layer, plans: Mapping[str, LayerPlan]) -> int:
    """The number of axes that a sum's constant is to have; 0 where it stays as it is."""
    model, planned = context.model, plans[layer.name]
    if context.portable or operators.lookup(layer.op).interval is not Interval.SUM or len(layer.inputs) != 1:
        return 0
    maker = model.producers.get(layer.inputs[0])
    product = model.layer_of.get(maker.name) if maker is not None else None
    if product is None or operators.lookup(product.op).layout is not Layout.MATMUL or not plans[product.name].native:
        return 0
    vectors = [w for w in planned.weights if w.precision is FLOAT and context.weights[w.tensor].ndim == 1]
    axes = len(model.tensors[layer.name].shape or ())
    return axes if vectors and axes > 2 else 0

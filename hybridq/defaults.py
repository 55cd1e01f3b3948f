"""The precision each layer gets when nobody asks for another: as few bits as the target likes, where they pay.

On ``onnxruntime`` some layers start in float32 because 8 bits would make them slower and less exact at once (figures
in ``docs/onnxruntime.md``): elementwise layers whose result no integer convolution or matrix product reads, and
products of two activations.
"""

from __future__ import annotations

from hybridq import operators
from hybridq.dtypes import Precision
from hybridq.model import Layer, Model
from hybridq.operators import Kernel, Kind
from hybridq.records import LayerDefault
from hybridq.targets import Target

TAIL = "no integer layer reads its result: float32 is as fast here and exact"
PRODUCT = "a product of two activations is faster in float32"


def default_precisions(
    model: Model, target: Target, precision: Precision, *, literal: bool = False
) -> dict[str, LayerDefault]:
    """The default of every layer. ``literal``: ``precision`` was asked for, so only what cannot have it has not."""
    found = {x.name: LayerDefault(precision) for x in model.layers}
    found.update({x.name: LayerDefault(Precision.FLOAT32, x.float_only) for x in model.layers if x.float_only})
    if target.latency_aware and precision.bits == 8 and not literal:
        useful = _useful(model)
        for group in model.groups:
            reasons = [_float_reason(model, model.layer[name], useful) for name in group.layers]
            if reasons and all(reasons):
                found.update(
                    {n: LayerDefault(Precision.FLOAT32, r) for n, r in zip(group.layers, reasons, strict=True)}
                )
    return found


def _float_reason(model: Model, layer: Layer, useful: set[str]) -> str:
    if layer.float_only:
        return layer.float_only
    if layer.op == "MatMul" and not layer.weights:
        return PRODUCT
    if operators.lookup(layer.op).kind is Kind.ELEMENTWISE and layer.name not in useful:
        return TAIL
    return ""


def _useful(model: Model) -> set[str]:
    """Elementwise layers whose result reaches an integer layer, through others with a fast integer kernel."""
    readers: dict[str, list[Layer]] = {}
    for layer in model.layers:
        for name in layer.inputs:
            readers.setdefault(model.group_of[name].name if name in model.group_of else name, []).append(layer)
    useful: set[str] = set()
    for layer in reversed(model.layers):
        for reader in readers.get(layer.group, []):
            row = operators.lookup(reader.op)
            computes = row.kind is Kind.COMPUTE and bool(reader.weights)
            if computes or (row.kernel is Kernel.FAST and reader.name in useful):
                useful.add(layer.name)
    return useful

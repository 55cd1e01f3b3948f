"""The precision each layer gets when nobody asks for another: as few bits as the target likes, where they pay.

On ``onnxruntime`` some layers start in float32 because 8 bits would make them slower and less exact at once (figures
in ``docs/onnxruntime.md``): elementwise layers without a fast integer kernel, those whose result no integer
convolution or matrix product reads, products of two activations, and, between such, elementwise layers and
convolutions of single channels (``islands``). What such a layer writes is still stored in 8 bits where only integer
layers read it.
"""

from __future__ import annotations

from collections.abc import Collection

from hybridq.graph import edit, operators
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Kernel, Kind, Layout
from hybridq.plan.islands import float_side, one_channel
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerDefault
from hybridq.targets import Target

TAIL = "no integer layer reads its result: float32 is as fast here and exact"
KERNEL = "ONNX Runtime has no fast integer kernel for it: float32 is faster and exact"
PRODUCT = "a product of two activations is faster in float32"
LOST = "8 bits would make zeros of half of what a logarithm or root reads"
ALONE = (
    "each of its filters reads one channel: its integer kernel is slower, and what it reads or what reads it is float32"
)
BETWEEN = "what it reads or what reads it is float32: 8 bits would only round it once more"


def default_precisions(
    model: Model, target: Target, precision: Precision, *, literal: bool = False, lost: Collection[str] = ()
) -> dict[str, LayerDefault]:
    """The default of every layer.

    ``literal``: ``precision`` was asked for, so only what cannot have it has not. ``lost``: groups of which 8 bits
    would leave next to nothing; their layers and those that read them start in float32.
    """
    found = {x.name: LayerDefault(precision) for x in model.layers}
    found.update({x.name: LayerDefault(Precision.FLOAT32, x.float_only) for x in model.layers if x.float_only})
    if target.latency_aware and precision.bits == 8 and not literal:
        for name, reason in _float_reasons(model, lost).items():
            found[name] = LayerDefault(Precision.FLOAT32, reason)
    return found


def _float_reasons(model: Model, lost: Collection[str]) -> dict[str, str]:
    """Layers that float32 serves better on ONNX Runtime, and why: whole groups, since a group has one precision."""
    useful = _useful(model)
    touched = {model.layer[n].group for g in lost for n in model.group[g].layers}
    touched |= {x.group for g in lost for x in model.readers.get(g, ())}
    found = {n: LOST for g in touched for n in model.group[g].layers}
    free = []
    for group in model.groups:
        computes = any(_has_fast_product(model, model.layer[n]) for n in group.layers)
        reasons = {n: _float_reason(model, model.layer[n], useful) for n in group.layers}
        if reasons and all(reasons.values()):
            found.update(reasons)
        elif group.layers and group.name not in touched and not computes:
            free.append(group)
    floats = {model.layer[n].group for n in found}
    between = float_side(model, floats, {g.name for g in free})
    for name in (n for g in free if g.name in between for n in g.layers):
        found[name] = ALONE if one_channel(model, model.layer[name]) else BETWEEN
    return found


def _has_fast_product(model: Model, layer: Layer) -> bool:
    """Whether a layer's multiply-accumulates are what 8 bits make fast."""
    return operators.lookup(layer.op).kind is Kind.COMPUTE and not one_channel(model, layer)


def _float_reason(model: Model, layer: Layer, useful: set[str]) -> str:
    if layer.float_only:
        return layer.float_only
    if operators.lookup(layer.op).layout is Layout.MATMUL and not layer.weights:
        return PRODUCT
    row = operators.lookup(layer.op)
    if row.kind is Kind.ELEMENTWISE:
        return KERNEL if not fast_kernel(model, layer) else TAIL if layer.name not in useful else ""
    return ""


def fast_kernel(model: Model, layer: Layer) -> bool:
    """Whether ONNX Runtime has a fast integer kernel for the layer; some AveragePools have that of a convolution."""
    kernel = operators.lookup(layer.op).kernel
    if kernel is not Kernel.AVERAGE:
        return kernel is Kernel.FAST
    given, shape = edit.attributes(model.nodes[layer.node]), model.tensors[layer.inputs[0]].shape
    return not layer.activation and operators.averages_windows(given, shape)


def _useful(model: Model) -> set[str]:
    """Elementwise layers whose result reaches an integer layer, through others with a fast integer kernel."""
    useful: set[str] = set()
    for layer in reversed(model.layers):
        for reader in model.readers.get(layer.group, ()):
            row = operators.lookup(reader.op)
            computes = row.kind is Kind.COMPUTE and bool(reader.weights)
            if computes or (fast_kernel(model, reader) and reader.name in useful):
                useful.add(layer.name)
    return useful


def needs_ratios(model: Model, group: Group) -> bool:
    """Whether small values count as much as large ones: a logarithm or root reads them, behind one layer of weights.

    Elsewhere what rounds to zero is small beside the rest, and networks live with it.
    """
    waiting, seen = [(group.name, 1)], {group.name}
    while waiting:
        name, weights_left = waiting.pop()
        for reader in model.readers.get(name, ()):
            if operators.lookup(reader.op).steep:
                return True
            left = weights_left - (operators.lookup(reader.op).kind is Kind.COMPUTE and bool(reader.weights))
            if left >= 0 and reader.group not in seen:
                seen.add(reader.group)
                waiting.append((reader.group, left))
    return False

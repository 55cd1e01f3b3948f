"""The precision each layer gets when nobody asks for another: as few bits as the target likes, where they pay.

On ``onnxruntime`` some layers start in float32 because 8 bits would make them slower and less exact at once (figures
in ``docs/onnxruntime.md``): elementwise layers without a fast integer kernel, those whose result no integer
convolution or matrix product reads, products of two activations, and, between such, elementwise layers and
convolutions of single channels (``islands``). Last matrix products that are little of the arithmetic are there for
what they cost otherwise: nothing hides their errors. First convolutions of few channels are, where only float layers
read them: integers save less there than converting costs. What such a layer writes is still stored in 8 bits where only
integer layers read it.

A step of a recurrent model is often so little work that integers save no time at all; then weights alone are stored in
fewer bits (``LoopDefaults``), which costs no time and feeds no error back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

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
LAST = "the last product, and little of the arithmetic: float32 costs next to nothing, and nothing hides its errors"
FIRST = (
    "it reads the model's input, multiplies little, and float32 alone reads its result: "
    "converting there and back costs more than integers save"
)
LOST = "8 bits would make zeros of half of what a logarithm or root reads"
ONE_CHANNEL = (
    "each of its filters reads one channel: its integer kernel is slower, and what it reads or what reads it is float32"
)
BETWEEN = "what it reads or what reads it is float32: 8 bits would only round it once more"
PICKED = "a large table: its numbers are stored in 8 bits, a scale a row, and the rows that are picked are real again"
WEIGHTS_ALONE = "a step is too little work for integers to save time: weights alone are stored in fewer bits"
GAINS_NOTHING = (
    "a step is too little work for integers to save time, and it has no weights: float32 is as fast and exact"
)
STATE = "it makes a state, which 8 bits would round at every step: measured in the loop, float32 keeps more"
WORTH_MACS = 1_000_000  # of a layer, from which on ONNX Runtime's integer kernels save more than conversions cost
WORTH_SHARE = 0.5  # of the multiply-accumulates in such layers
LITTLE = 0.01  # of the multiply-accumulates, and of the weights: last products that may be float32 for nothing
FEW_PRODUCTS = 48  # a number of a convolution's result: below, integers save less than two conversions cost
WORTH_NUMBERS = 256  # of a weight: less saves less than scales and a dequantizer take
WORTH_TABLE = 65_536  # numbers of a table, from which on 8 bits make the file smaller by what one would notice
WORTH_ROW = 16  # numbers of a row: a scale for less is a good part of them


@dataclass(frozen=True, slots=True)
class LoopDefaults:
    """What is different in a recurrent model.

    ``weights``: the precision in which weights alone are stored, of layers that have no integer kernel (LSTM, GRU,
    RNN) or, ``everywhere``, of all. ``float_states``: what makes a state computes in float.
    """

    weights: Precision
    everywhere: bool = False
    float_states: bool = False


def is_little_work(model: Model) -> bool:
    """Whether most of a model's multiply-accumulates are in layers too small for integers to save time."""
    large = sum(x.macs for x in model.layers if x.weights and not x.float_only and x.macs >= WORTH_MACS)
    return large < WORTH_SHARE * model.macs


def default_precisions(
    model: Model,
    target: Target,
    precision: Precision,
    *,
    literal: bool = False,
    lost: Collection[str] = (),
    loop: LoopDefaults | None = None,
) -> dict[str, LayerDefault]:
    """The default of every layer.

    ``literal``: ``precision`` was asked for, so only what cannot have it has not. ``lost``: groups of which 8 bits
    would leave next to nothing; their layers and those that read them start in float32. ``loop``: what is
    different in a recurrent model.
    """
    found = {x.name: LayerDefault(precision) for x in model.layers}
    found.update({x.name: LayerDefault(Precision.FLOAT32, x.float_only) for x in model.layers if x.float_only})
    if target.latency_aware and precision.bits == 8 and not literal:
        for name, reason in _float_reasons(model, lost).items():
            found[name] = LayerDefault(Precision.FLOAT32, reason)
        found.update(_tables(model, target, found))
    return found if loop is None else found | _in_loop(model, loop)


def _tables(model: Model, target: Target, usual: Mapping[str, LayerDefault]) -> dict[str, LayerDefault]:
    """Large tables of which layers pick rows, such as embeddings: their numbers alone are stored in 8 bits.

    A scale a row leaves 40 dB and more, and the rows that are picked are all that is made real again.
    """
    if Precision.INT8 not in target.precisions:
        return {}
    tables = [x for x in model.layers if operators.lookup(x.op).layout is Layout.TABLE and x.numbers >= WORTH_TABLE]
    large = [x for x in tables if math.prod(x.weights[0].shape[1:]) >= WORTH_ROW]
    return {x.name: replace(usual[x.name], why=PICKED, weight_only=Precision.INT8) for x in large}


def _in_loop(model: Model, loop: LoopDefaults) -> dict[str, LayerDefault]:
    """Layers that compute in float, and what becomes of their weights."""
    makers = {n for o in model.states.values() if o in model.group_of for n in model.group_of[o].layers}
    found = {}
    for layer in model.layers:
        if loop.everywhere or layer.float_only or (loop.float_states and layer.name in makers):
            stored = loop.weights if layer.numbers >= WORTH_NUMBERS else None
            usual = STATE if not loop.everywhere else WEIGHTS_ALONE if stored else GAINS_NOTHING
            found[layer.name] = LayerDefault(Precision.FLOAT32, layer.float_only or usual, stored)
    return found


def _float_reasons(model: Model, lost: Collection[str]) -> dict[str, str]:
    """Layers that float32 serves better on ONNX Runtime, and why: whole groups, since a group has one precision."""
    useful = _useful(model)
    touched = {model.layer[n].group for g in lost for n in model.group[g].layers}
    touched |= {x.group for g in lost for x in model.readers.get(g, ())}
    found = {n: LOST for g in touched for n in model.group[g].layers}
    for group in model.groups:
        found.update(_reasons_of(model, group, useful))
    found.update(dict.fromkeys(_last_products(model, found), LAST))
    free = {g.name for g in model.groups if _is_free(model, g, found)}
    between = float_side(model, {model.layer[n].group for n in found}, free)
    for name in (n for g in model.groups if g.name in between for n in g.layers):
        found[name] = ONE_CHANNEL if one_channel(model, model.layer[name]) else BETWEEN
    found.update(dict.fromkeys(_first_convolutions(model, found), FIRST))
    return found


def _first_convolutions(model: Model, floats: Collection[str]) -> list[str]:
    """Convolutions of the model's inputs with few products a number, alone in their groups and read in float alone."""
    return [x.name for x in model.layers if x.name not in floats and _is_first(model, x) and _alone(model, x, floats)]


def _is_first(model: Model, layer: Layer) -> bool:
    if operators.lookup(layer.op).layout is not Layout.CONV or not layer.weights:
        return False
    return layer.inputs[0] in model.inputs and math.prod(layer.weights[0].shape[1:]) <= FEW_PRODUCTS


def _last_products(model: Model, floats: Collection[str]) -> set[str]:
    """Matrix products with weights that no product follows, read in float alone, where all are little of the whole.

    Little of the multiply-accumulates and of the weights: neither speed nor size is given away.
    """
    followed: set[str] = set()
    for layer in reversed(model.layers):
        readers = model.readers.get(layer.group, ())
        if any(x.name in followed or operators.lookup(x.op).kind is Kind.COMPUTE for x in readers):
            followed.add(layer.name)
    open_still = (x for x in model.layers if x.name not in followed and x.name not in floats)
    last = [x for x in open_still if _stands_alone(model, x, floats)]
    little = all(sum(map(of, last)) <= LITTLE * sum(map(of, model.layers)) for of in (_macs, _multiplied))
    return {x.name for x in last} if little else set()


def _macs(layer: Layer) -> int:
    return layer.macs


def _multiplied(layer: Layer) -> int:
    """In the weights that a layer multiplies with, which those of a table are not."""
    return 0 if operators.lookup(layer.op).layout is Layout.TABLE else layer.numbers


def _stands_alone(model: Model, layer: Layer, floats: Collection[str]) -> bool:
    """Whether a layer is a matrix product with weights that can be float without any other layer."""
    product = operators.lookup(layer.op).float_result and bool(layer.weights)
    return product and _alone(model, layer, floats)


def _alone(model: Model, layer: Layer, floats: Collection[str]) -> bool:
    """Whether a layer's group holds no other, and what reads it is float."""
    alone = model.group[layer.group].layers == (layer.name,)
    return alone and all(x.name in floats for x in model.readers.get(layer.group, ()))


def _reasons_of(model: Model, group: Group, useful: set[str]) -> dict[str, str]:
    """Why float32 serves every layer of a group better; nothing where it does not serve one."""
    reasons = {n: _float_reason(model, model.layer[n], useful) for n in group.layers}
    return reasons if all(reasons.values()) else {}


def _is_free(model: Model, group: Group, floats: Collection[str]) -> bool:
    """Whether a group goes to the side of its neighbours."""
    return bool(group.layers) and not any(n in floats or _has_fast_product(model, model.layer[n]) for n in group.layers)


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

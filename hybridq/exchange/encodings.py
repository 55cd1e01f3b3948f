"""AIMET's encodings, of every version: what they share. QNN and SNPE take them by ``--quantization_overrides``.

AIMET counts integers from zero: ``real = scale * (q + offset)`` with q in ``[0, 2^bitwidth)``, so that ``offset =
-(zero_point - qmin)``: 0 for uint8 from zero on, -128 for symmetric int8, ``-(zero_point + 32768)`` for int16.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hybridq.errors import Problem
from hybridq.exchange.losses import computed_otherwise, weights_stay
from hybridq.exchange.mapping import Mapper, parameters
from hybridq.exchange.records import lost
from hybridq.exchange.view import TensorView, View, WeightView
from hybridq.graph.model import Model
from hybridq.plan.quant_plan import Stored
from hybridq.quant.dtypes import Scheme
from hybridq.quant.qparams import QParams


def offsets(p: QParams) -> list[int]:
    """AIMET's offset of every channel."""
    return [-(int(z) - p.qmin) for z in np.atleast_1d(p.zero_point)]


def scales(p: QParams) -> list[float]:
    """The scale of every channel."""
    return [float(s) for s in np.atleast_1d(p.scale)]


# Operators whose output AIMET gives the encoding of their input; aimet-onnx 2.42 has no quantizer there.
PASSED_ON = {
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Expand"),
    *("Slice", "Split", "Gather", "Tile", "DepthToSpace", "SpaceToDepth", "GatherElements", "GatherND"),
}


def encoded(view: View) -> Iterator[TensorView]:
    """The activations that have an encoding: integers, and float16 where it is said; float32 needs none."""
    for t in view.tensors:
        maker = view.model.producers.get(t.name)
        passed_on = maker is not None and not t.layer and maker.op_type in PASSED_ON
        if not passed_on and (t.stored.qparams is not None or t.stored.precision.bits == 16):
            yield t


def encoded_weights(view: View) -> Iterator[WeightView]:
    """The weights that have an encoding."""
    return (w for w in view.parameters if w.qparams is not None or w.precision.bits == 16)


def losses(view: View) -> list[Problem]:
    """What encodings cannot say: layers, conversions, dynamic fixed point, repairs of weights."""
    converted = [
        lost(f'"{name}": readers of {precision} convert it from {group.stored.precision} by themselves')
        for name, group in view.plan.groups.items()
        for precision in group.conversions
    ]
    only = [
        lost(f'"{x.name}": weight_only {x.weight_only} reads as quantized weights alone')
        for x in view.layers
        if x.weight_only is not None
    ]
    return [*_tied(view), *computed_otherwise(view), *weights_stay(view), *converted, *only]


def _tied(view: View) -> list[Problem]:
    """Where AIMET's own simulation would have one encoding for two: of pools it ties what they read and write."""
    pools = [x for x in view.layers if x.op == "AveragePool" and x.name in view.tensor]
    apart = [x.name for x in pools if _source(view, x.name) not in (None, view.tensor[x.name].stored.qparams)]
    if not apart:
        return []
    said = f"AIMET's simulation ties {', '.join(apart[:3])} to what the pool reads, and the last encoding counts"
    return [Problem(said, severity="note", code="tied", hint="Make it within `quantsim._apply_constraints(False)`.")]


def _source(view: View, layer: str) -> QParams | None:
    """The parameters of what a layer reads."""
    first = next(iter(view.model.layer[layer].inputs), "")
    return view.tensor[first].stored.qparams if first in view.tensor else None


def put(
    mapper: Mapper,
    name: str,
    bits: int,
    is_float: bool,
    symmetric: bool,
    scale: list[float],
    unsigned_zero: list[int],
    is_weight: bool,
) -> None:
    """One encoding of a file, told as unsigned zero points; what the target cannot hold becomes a line."""
    if is_weight and bits == 32:
        return  # a bias
    precision = mapper.precision(bits, is_float=is_float)
    if precision is None:
        mapper.problem(name, f"the target {mapper.target.name} has no {bits}-bit {'float' if is_float else 'integers'}")
        return
    if not precision.is_integer:
        if is_weight:
            mapper.weight(name, None, precision)
        else:
            mapper.tensor(name, Stored(precision))
        return
    try:
        if is_weight:
            support = mapper.target.precisions[precision].weight
            axis = weight_axis(mapper.model, name) if len(scale) > 1 else None
            mapper.weight(name, parameters(support.dtype, scale, unsigned_zero, symmetric, axis), precision)
        else:
            mapper.tensor(name, Stored(precision, parameters(precision, scale, unsigned_zero, symmetric)))
    except (ValueError, TypeError) as error:
        mapper.problem(name, str(error))


def weight_axis(model: Model, tensor: str) -> int | None:
    """The channel axis of a weight by its tensor."""
    return next((w.axis for x in model.layers for w in x.weights if w.tensor == tensor), None)


def is_symmetric(p: QParams) -> bool:
    """Whether AIMET would call it symmetric."""
    return p.scheme is not Scheme.ASYMMETRIC

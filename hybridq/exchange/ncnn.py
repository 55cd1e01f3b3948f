"""ncnn's calibration table, which ``ncnn2int8`` takes: scales of each layer that has 8-bit kernels there.

``NODE_param_0 s s ...`` has the scales of a layer's weights, one an output channel (one a group where there are some),
``NODE s`` that of what it reads; ``s = 127 / amax``, so that ``q = round(s * real)``. A layer is a node by its name, as
``onnx2ncnn`` has it. A line behind ``#`` leaves its layer in float. All other operators compute in float there.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from hybridq.errors import ConfigError, Problem
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.mapping import Mapper
from hybridq.exchange.records import Export, ExportOptions, Wanted, lost
from hybridq.exchange.restate import in_terms
from hybridq.exchange.tensorrt import amax_of, take_amax
from hybridq.exchange.view import LayerView, View, WeightView
from hybridq.graph import edit
from hybridq.graph.model import Layer, Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated

KERNELS = ("Conv", "Gemm", "MatMul")  # Convolution, ConvolutionDepthWise, InnerProduct
STEPS = 127
WEIGHTS = "_param_0"
BECOMES = {Precision.UINT8: Precision.INT8, Precision.INT16: Precision.FLOAT32, Precision.FLOAT16: Precision.FLOAT32}
_LINE = re.compile(r"(?P<off>#?)(?P<name>\S+?)(?P<weights>_param_0)?((?: [-+.\deE]+)+) *")


def write(view: View, options: ExportOptions) -> Export:
    """Two lines a layer: weights first, then what they are multiplied with."""
    theirs, problems = in_terms(view, "tensorrt", "ncnn", BECOMES)
    weights, inputs = list[str](), list[str]()
    for layer in theirs.layers:
        found = theirs.weights_of.get(layer.name, ())
        if _has_kernel(layer, theirs) and len(found) == 1:
            off = "" if found[0].qparams is not None and _reads_integers(layer, theirs) else "#"
            scales = " ".join(f"{s:.9g}" for s in _scales(layer, found[0], view))
            weights.append(f"{off}{layer.node}{WEIGHTS} {scales}")
            inputs.append(f"{off}{layer.node} {STEPS / amax_of(theirs.tensor[layer.inputs[0]]):.9g}")
    problems += [lost(f'"{n}": ncnn cannot take this name, it holds a blank') for n in _blank(theirs)]
    text = "\n".join([*weights, *inputs]) + "\n"
    return Export({f"{options.name}.table": text.encode()}, [*problems, *weights_stay(view)])


def _has_kernel(layer: LayerView, view: View) -> bool:
    return layer.op in KERNELS and layer.inputs[:1] != () and layer.inputs[0] in view.tensor


def _reads_integers(layer: LayerView, view: View) -> bool:
    return (
        layer.precision.bits == 8 and not layer.weight_only and view.tensor[layer.inputs[0]].stored.precision.bits == 8
    )


def _scales(layer: LayerView, weight: WeightView, view: View) -> NDArray[np.float64]:
    """``127 / amax`` of each output channel; of a convolution in groups the smallest of each group."""
    values = np.abs(view.kept(weight)).astype(np.float64)
    rows = np.moveaxis(values, weight.axis or 0, 0).reshape(values.shape[weight.axis or 0], -1)
    amax = rows.max(axis=1, initial=0.0)
    groups = int(edit.attributes(view.model.nodes[layer.node]).get("group", 1)) if layer.op == "Conv" else 1
    if groups > 1:
        amax = amax.reshape(groups, -1).max(axis=1)
    return STEPS / np.where(amax > 0, amax, 1.0)


def _blank(view: View) -> list[str]:
    return [x.node for x in view.layers if x.op in KERNELS and re.search(r"\s", x.node)]


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    first = text.split("\n", 1)[0]
    found = _LINE.fullmatch(first)
    return found is not None and found["weights"] is not None


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Which layers stay in float, and the largest magnitude of what the others read. Raises ConfigError."""
    if not recognise(text):
        raise ConfigError(Problem("no calibration table: its first line has no weights", path, 1))
    mapper = Mapper(path, text, model, calibrated)
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if found is None and line.strip():
            said = f"no `name scale ...`: {line[:60]!r}"
            mapper.wanted.problems.append(Problem(said, path, number, severity="warning", code="unmapped"))
        elif found is not None:
            _take(mapper, found, model)
    return mapper.wanted


def _take(mapper: Mapper, found: re.Match[str], model: Model) -> None:
    name, scales = found["name"], found[4].split()
    layer = model.owner_of.get(name)
    if layer is None:
        mapper.unknown(name, "layer", list(model.owner_of))
    elif found["weights"]:
        if found["off"]:
            mapper.layer(layer.name, Precision.FLOAT32)
        mapper.wanted.seen += 1
    elif not found["off"]:
        _take_scale(mapper, layer, scales[0])


def _take_scale(mapper: Mapper, layer: Layer, text: str) -> None:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0) or not layer.inputs:
        mapper.problem(layer.name, f"{text} is no scale")
    elif layer.inputs[0] in mapper.model.group_of:
        take_amax(mapper, layer.inputs[0], STEPS / scale)

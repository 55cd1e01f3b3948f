"""The float model with its repairs: equalized channels, corrected biases, weights on the target's own grid.

For a toolchain that takes only float models. A quantizer on the same grid finds the weights there already and changes
nothing; one on another grid rounds them again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hybridq import __version__
from hybridq.errors import Problem
from hybridq.exchange.records import Export, ExportOptions, lost
from hybridq.exchange.view import View, WeightView
from hybridq.graph import edit
from hybridq.graph.edit import TakenNames
from hybridq.graph.fixed import Fixed, fixed_by, is_open
from hybridq.graph.halves import half_ends, narrow_ends
from hybridq.graph.onnx_file import LazyTensor, OnnxFile
from hybridq.graph.runtime import Feed
from hybridq.storage.state import assemble


def write(view: View, options: ExportOptions) -> Export:
    """One ONNX file in float32."""
    problems = [
        lost(f'"{w.layer}": rounded to {w.precision}, {w.qparams.scheme}; on another grid it is rounded again')
        for w in view.parameters
        if w.qparams is not None and w.together
    ]
    problems.append(lost("ranges and precisions of activations are not in a float model: the toolchain chooses them"))
    return Export({f"{options.name}.onnx": float_file(view).write}, problems)


def float_file(
    view: View, *, opset: int | None = None, ir_version: int | None = None, feed: Feed | None = None
) -> OnnxFile:
    """The canonical model with repaired weights and biases; ``opset`` names an older one where that says the same.

    With ``feed`` the axes that the model leaves open are as long as in this sample.
    """
    kept = {w.tensor: w for w in view.parameters if w.qparams is not None}
    biases = {b.tensor: b.values for b in view.biases}
    proto = onnx.ModelProto()
    proto.CopyFrom(view.model.proto)
    del proto.graph.initializer[:]
    proto.producer_name, proto.producer_version = "hybridq", __version__
    proto.ir_version = ir_version or proto.ir_version
    if opset is not None:
        others = [o for o in proto.opset_import if o.domain not in ("", "ai.onnx")]
        del proto.opset_import[:]
        proto.opset_import.extend([helper.make_opsetid("", opset), *others])
    wide = narrow_ends(proto, half_ends(proto) or (), TakenNames.of(view.model.proto.graph).fresh)
    tensors = []
    for tensor in view.model.proto.graph.initializer:
        values = view.weights[tensor.name]
        held = kept.get(tensor.name)
        if held is not None:
            tensors.append(_rounded(view, held))
        elif tensor.name in biases:
            tensors.append(_as_it_is(tensor.name, np.asarray(biases[tensor.name], np.float32).reshape(values.shape)))
        else:
            tensors.append(_as_it_is(tensor.name, values))
    renamed = [replace(t, name=wide.get(t.name, t.name)) for t in tensors]
    if feed is None or not is_open(view.model):
        return OnnxFile(proto, renamed)
    return OnnxFile(proto, _of_one_shape(proto, renamed, fixed_by(assemble(view.model.proto, view.weights), feed)))


def _of_one_shape(proto: onnx.ModelProto, tensors: list[LazyTensor], fixed: Fixed) -> list[LazyTensor]:
    """Fix the axes of a graph; the tensors that it reads then."""
    fixed.put_into(proto.graph)
    read = {name for n in proto.graph.node for name in edit.reads(n)} | {o.name for o in proto.graph.output}
    made = (_as_it_is(name, values) for name, values in fixed.constants.items())
    return [t for t in (*tensors, *made) if t.name in read]


def shapes_told(view: View, options: ExportOptions) -> list[Problem]:
    """Which shapes a model of open axes got for a toolchain that takes none."""
    if not options.samples or not is_open(view.model):
        return []
    shapes = (f"{n} {'x'.join(map(str, np.shape(options.samples[0][n])))}" for n in view.model.inputs)
    said = f"the model's open axes are as long as in the first sample: {', '.join(shapes)}"
    return [Problem(said, severity="note", code="shapes")]


def _as_it_is(name: str, values: NDArray[Any]) -> LazyTensor:
    return LazyTensor(name, values.dtype, values.shape, lambda: values)


def _rounded(view: View, w: WeightView) -> LazyTensor:
    return LazyTensor(w.tensor, np.dtype(np.float32), w.shape, lambda: view.kept(w))

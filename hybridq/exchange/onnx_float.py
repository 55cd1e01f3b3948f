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
from hybridq.exchange.records import Export, Options, lost
from hybridq.exchange.view import View, WeightView
from hybridq.graph.edit import TakenNames
from hybridq.graph.halves import half_ends, narrow_ends
from hybridq.graph.onnx_file import LazyTensor, OnnxFile


def write(view: View, options: Options) -> Export:
    """One ONNX file in float32."""
    problems = [
        lost(f'"{w.layer}": rounded to {w.precision}, {w.qparams.scheme}; on another grid it is rounded again')
        for w in view.parameters
        if w.qparams is not None and w.together
    ]
    problems.append(lost("ranges and precisions of activations are not in a float model: the toolchain chooses them"))
    return Export({f"{options.name}.onnx": float_file(view).write}, problems)


def float_file(view: View, *, opset: int | None = None, ir_version: int | None = None) -> OnnxFile:
    """The canonical model with repaired weights and biases; ``opset`` names an older one where that says the same."""
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
    return OnnxFile(proto, [replace(t, name=wide.get(t.name, t.name)) for t in tensors])


def _as_it_is(name: str, values: NDArray[Any]) -> LazyTensor:
    return LazyTensor(name, values.dtype, values.shape, lambda: values)


def _rounded(view: View, w: WeightView) -> LazyTensor:
    return LazyTensor(w.tensor, np.dtype(np.float32), w.shape, lambda: view.kept(w))

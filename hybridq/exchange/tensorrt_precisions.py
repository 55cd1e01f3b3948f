"""TensorRT's layer precisions: what ``trtexec --precisionConstraints=obey --layerPrecisions=...`` takes, as JSON.

A layer is an ONNX node by its name. TensorRT has int8, fp16 and fp32; what is int16 here becomes fp16 there.
"""

from __future__ import annotations

from hybridq.exchange.mapping import Mapper, load_json
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped, lost
from hybridq.exchange.tensorrt import BECOMES
from hybridq.exchange.view import LayerView, View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated

TOP, OUTPUTS, FLAGS = "layerPrecisions", "layerOutputTypes", "trtexec"
WORDS = {Precision.INT8: "int8", Precision.FLOAT16: "fp16", Precision.FLOAT32: "fp32"}
PRECISIONS = {"int8": 8, "fp16": 16, "fp32": 32}


def write(view: View, options: ExportOptions) -> Export:
    """A word for every node; output types for the layers above 8 bits, so that nothing is rounded behind them."""
    precisions = {node: _word(layer) for layer in view.layers for node in view.nodes_of(layer)}
    high = {node: word for node, word in precisions.items() if word != "int8"}
    spec = ",".join(f"{node}:{word}" for node, word in high.items())
    data = {
        TOP: precisions,
        OUTPUTS: high,
        FLAGS: f"--int8 --fp16 --precisionConstraints=obey --layerPrecisions={spec} --layerOutputTypes={spec}",
    }
    problems = [
        lost(f'"{x.name}": TensorRT has no {x.precision}; it becomes fp16')
        for x in view.layers
        if x.precision is Precision.INT16
    ]
    odd = [n for n in high if set(n) & set(",:")]
    problems += [lost(f'"{n}": trtexec cannot take this name, it holds a comma or colon') for n in odd]
    problems += [
        lost(f'"{x.name}": weight_only {x.weight_only} becomes plain {_word(x)}') for x in view.layers if x.weight_only
    ]
    return Export({f"{options.name}.precisions.json": dumped(data)}, problems)


def _word(layer: LayerView) -> str:
    return WORDS[BECOMES.get(layer.precision, layer.precision)]


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return f'"{TOP}"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """The precision of every named layer."""
    mapper = Mapper(path, text, model, calibrated)
    found = load_json(text, path).get(TOP)
    for name, word in found.items() if isinstance(found, dict) else ():
        bits = PRECISIONS.get(word) if isinstance(word, str) else None
        precision = mapper.precision(bits, is_float=bits > 8) if bits else None
        if precision is None:
            mapper.problem(name, f"{word!r} is no precision that {mapper.target.name} has")
        elif not (precision.is_integer and all(model.layer[x].float_only for x in mapper.names.layers(name))):
            mapper.layer(name, precision)
    return mapper.wanted

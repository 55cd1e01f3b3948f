"""Pulsar2's build config (Axera): which layers get 8 or 16 bits or float, the JSON of ``pulsar2 build --config``.

Layers are nodes by name. 8 bits are ``U8`` with weights ``S8``, 16 bits ``U16``; it chooses ranges itself, from the
archive of samples that the config names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybridq.exchange.losses import weights_stay
from hybridq.exchange.mapping import Mapper, load_json
from hybridq.exchange.records import Export, ExportOptions, Wanted, dumped, lost
from hybridq.exchange.view import View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated

WORDS = {
    Precision.INT8: "U8",
    Precision.UINT8: "U8",
    Precision.INT16: "U16",
    Precision.FLOAT16: "FP32",
    Precision.FLOAT32: "FP32",
}
BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "FP32": 32}
METHODS = {"normal": "MinMax", "percentile": "Percentile", "mmse": "MSE", "kl_divergence": "KL"}
ARCHIVE = "calibration.tar"  # of .npy, which the user packs


def write(view: View, options: ExportOptions) -> Export:
    """A config with every layer; what it leaves to the user is the archive of samples."""
    layers: dict[str, list[str]] = {}
    for layer in view.layers:
        layers.setdefault(WORDS[layer.precision], []).extend(view.nodes_of(layer))
    data = {
        "input": f"{options.name}.onnx",
        "output_dir": "output",
        "model_type": "ONNX",
        "quant": {
            "input_configs": [
                {"tensor_name": "DEFAULT", "calibration_dataset": ARCHIVE, "calibration_format": "Numpy"}
            ],
            "layer_configs": [{"layer_names": names, "data_type": word} for word, names in layers.items()],
            "calibration_method": METHODS.get(str(view.calibrated.algorithm), "MinMax"),
        },
    }
    return Export({f"{options.name}.pulsar2.json": dumped(data)}, [*_losses(view), *weights_stay(view)])


def _losses(view: View) -> list[Any]:
    problems = [lost("pulsar2 chooses the range of every tensor itself; these stay here")]
    for layer in view.layers:
        if layer.weight_only:
            problems.append(lost(f'"{layer.name}": weight_only {layer.weight_only} becomes {layer.precision}'))
        elif layer.precision is Precision.INT16 and view.weights_of.get(layer.name):
            problems.append(lost(f'"{layer.name}": pulsar2 keeps its weights in S8'))
        elif layer.precision is Precision.FLOAT16:
            problems.append(lost(f'"{layer.name}": pulsar2 has no float16; it becomes FP32'))
    return problems


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return '"layer_configs"' in text


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """The precision of every layer that a config names."""
    mapper = Mapper(path, text, model, calibrated)
    quant = load_json(text, path).get("quant")
    rows = quant.get("layer_configs") if isinstance(quant, Mapping) else None
    for row in rows if isinstance(rows, list) else ():
        word = row.get("data_type") if isinstance(row, Mapping) else None
        for name in _named(row):
            _take(mapper, name, word, model)
    return mapper.wanted


def _named(row: Any) -> list[str]:
    if not isinstance(row, Mapping):
        return []
    many, one = row.get("layer_names"), row.get("layer_name")
    return [n for n in (many if isinstance(many, list) else [one]) if isinstance(n, str)]


def _take(mapper: Mapper, name: str, word: Any, model: Model) -> None:
    bits = BITS.get(word) if isinstance(word, str) else None
    precision = mapper.precision(bits, is_float=bits == 32) if bits else None
    if precision is None:
        mapper.problem(name, f"{word!r} is no precision that {mapper.target.name} has")
    elif not (precision.is_integer and all(model.layer[x].float_only for x in mapper.names.layers(name))):
        mapper.layer(name, precision)

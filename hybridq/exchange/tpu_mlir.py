"""TPU-MLIR's calibration table and qtable, which ``model_deploy --calibration_table --quantize_table`` takes.

The table has a line ``NAME threshold min max`` a tensor, ``threshold = max(|min|, |max|)``; the qtable ``NAME F16`` for
each layer that is not int8. A name is the tensor's with the operator that writes it behind, ``conv1_Conv``, as the
converter of ONNX has it; of a Conv with a Relu the Relu's. Model inputs keep their names.
"""

from __future__ import annotations

import math

from hybridq.errors import ConfigError, Problem
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.mapping import Mapper
from hybridq.exchange.records import Export, ExportOptions, Wanted
from hybridq.exchange.restate import in_terms
from hybridq.exchange.view import TensorView, View
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated

TABLE_HEAD, QTABLE_HEAD = "# op_name    threshold    min    max", "# op_name   quantize_mode"
LEAST = 1e-5  # a threshold, as the toolchain writes it for nothing at all
BECOMES = {Precision.UINT8: Precision.INT8, Precision.INT16: Precision.FLOAT16}
WORDS = {Precision.FLOAT16: "F16", Precision.FLOAT32: "F32"}
BITS = {"INT8": 8, "F16": 16, "BF16": 16, "F32": 32}


def write(view: View, options: ExportOptions) -> Export:
    """The range of every tensor, and a word for each layer above 8 bits."""
    theirs, problems = in_terms(view, "tensorrt", "tpu-mlir", BECOMES)
    tensors = [t for t in view.tensors if t.is_input or t.name in view.model.producers]
    table = [TABLE_HEAD, *(_range(t, view.model) for t in tensors)]
    layers = [x for x in theirs.layers if x.precision in WORDS]
    qtable = [QTABLE_HEAD, *(f"{_name(x.name, view.model)} {WORDS[x.precision]}" for x in layers)]
    files = {
        f"{options.name}_cali_table": ("\n".join(table) + "\n").encode(),
        f"{options.name}_qtable": ("\n".join(qtable) + "\n").encode(),
    }
    return Export(files, [*problems, *weights_stay(view)])


def _range(t: TensorView, model: Model) -> str:
    threshold = max(t.range.amax, LEAST)
    return f"{_name(t.name, model)} {threshold:.7f} {t.range.min:.7f} {t.range.max:.7f}"


def _name(tensor: str, model: Model) -> str:
    node = model.producers.get(tensor)
    return f"{tensor}_{node.op_type}" if node is not None else tensor


def recognise(text: str) -> bool:
    """Whether a text looks like this format: either file."""
    return any(head in text for head in (TABLE_HEAD, QTABLE_HEAD))


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """Ranges of a calibration table, or precisions of a qtable. Raises ConfigError where it is neither."""
    if not recognise(text):
        raise ConfigError(Problem("neither a calibration table nor a qtable: no line of heads", path, 1))
    mapper = Mapper(path, text, model, calibrated)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if TABLE_HEAD in text and len(words) == 4 and (ends := _ends(words)):
            mapper.reach(_ours(words[0], model), ends)
        elif QTABLE_HEAD in text and len(words) == 2 and words[1] in BITS:
            _take_word(mapper, _ours(words[0], model), words[1])
        else:
            said = f"no line of this file's kind: {line[:60]!r}"
            mapper.wanted.problems.append(Problem(said, path, number, severity="warning", code="unmapped"))
    return mapper.wanted


def _ends(words: list[str]) -> Range | None:
    try:
        low, high = float(words[2]), float(words[3])
    except ValueError:
        return None
    return Range(low, high) if math.isfinite(low) and math.isfinite(high) and low <= high else None


def _take_word(mapper: Mapper, name: str, word: str) -> None:
    precision = mapper.precision(BITS[word], is_float=word != "INT8")
    if precision is None:
        mapper.problem(name, f"{word} is no precision that {mapper.target.name} has")
    elif not all(mapper.model.layer[x].float_only for x in mapper.names.layers(name)):
        mapper.layer(name, precision)


def _ours(name: str, model: Model) -> str:
    """The tensor behind a name."""
    base, _, _ = name.rpartition("_")
    return name if name in model.tensors or base not in model.tensors else base

"""RKNN-Toolkit2: a ``convert.py`` that runs the real toolkit, and its ``.quantization.cfg`` for those who have one.

What the toolkit derives it alone knows, so the script edits the cfg that its step 1 wrote. Its model is the float model
with the repairs inside, which the toolkit's quantizer then finds on the grid that it takes itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from hybridq import targets
from hybridq.errors import Problem
from hybridq.exchange import rknn2_convert
from hybridq.exchange.onnx_float import float_file, shapes_told
from hybridq.exchange.records import Content, Export, ExportOptions, double_text, lost
from hybridq.exchange.restate import restated
from hybridq.exchange.rknn_names import toolkit_names
from hybridq.exchange.view import TensorView, View
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import Range

BECOMES = {Precision.UINT8: Precision.INT8, Precision.FLOAT32: Precision.FLOAT16}
WORDS = {Precision.INT8: "int8", Precision.INT16: "int16", Precision.FLOAT16: "float16"}
OPSET, IR_VERSION = 19, 9  # the newest that the toolkit's ONNX reads


def write(view: View, options: ExportOptions) -> Export:
    """The script, its plan, model and samples, and a plain cfg."""
    view, problems = in_rknn2(view)
    if not options.samples:
        problems.append(lost("there is no sample any more: put some into dataset.txt, one .npy or picture a line"))
    model = float_file(view, opset=OPSET, ir_version=IR_VERSION, feed=next(iter(options.samples), None))
    files: dict[str, Content] = {
        "convert.py": Path(rknn2_convert.__file__).read_bytes(),
        "plan.json": (json.dumps(_plan(view, options), indent=1, ensure_ascii=False) + "\n").encode(),
        "model.onnx": model.write,
        f"{options.name}.quantization.cfg": cfg_text(view).encode(),
        **_samples(view, options),
    }
    return Export(files, [*problems, *shapes_told(view, options)])


def in_rknn2(view: View) -> tuple[View, list[Problem]]:
    """The result as RKNN-Toolkit2 stores it; what differs, line by line."""
    return restated(view, targets.load("rknn2"), BECOMES)


def _plan(view: View, options: ExportOptions) -> dict[str, object]:
    """What convert.py reads."""
    plan = replace(
        toolkit_names(view.model, view.calibrated),
        types=layer_types(view),
        ranges={n: [r.min, r.max] for t in view.tensors if (r := _range(view, t)) for n in entry_names(t)},
    )
    return {"plan": asdict(plan), "feed": {"mean": options.mean, "std": options.std}}


def _range(view: View, t: TensorView) -> Range | None:
    """The range of a tensor that some layer reads as integers: its own, or that of what it is converted to."""
    if t.stored.qparams is not None:
        return t.range
    forms = [s.qparams for s in view.plan.groups[t.group].conversions.values() if s.qparams is not None]
    return forms[0].range if forms else None


def _samples(view: View, options: ExportOptions) -> dict[str, Content]:
    """Samples as ``.npy`` files in the layout of the model's inputs, before mean and std, and their list."""
    files: dict[str, Content] = {}
    lines = []
    for number, sample in enumerate(options.samples):
        row = []
        for index, name in enumerate(view.model.inputs):
            path = f"samples/{number:03d}_{index}.npy"
            content = io.BytesIO()
            np.save(content, np.asarray(sample[name]))
            files[path] = content.getvalue()
            row.append(path)
        lines.append(" ".join(row))
    return {"dataset.txt": ("\n".join(lines) + "\n").encode(), **files}


def cfg_text(view: View) -> str:
    """A cfg as the toolkit writes it: layers by every tensor of theirs, activations with their ranges."""
    chosen = layer_types(view)
    lines = [f"    {quoted(name)}: {word}" for name, word in chosen.items()]
    text = "custom_quantize_layers:\n" if lines else "custom_quantize_layers: {}\n"
    text += "".join(f"{line}\n" for line in lines) + "quantize_parameters:\n"
    return text + "".join(_entry(name, t) for t in view.tensors for name in entry_names(t))


def layer_types(view: View) -> dict[str, str]:
    """The tensors to be named with their type: an operator's own, that behind its activation, all that moves them."""
    found: dict[str, str] = {}
    default = targets.load("rknn2").default
    layers = {x.name: x.precision for x in view.layers}
    for t in view.tensors:
        members = [layers[n] for n in view.model.group[t.group].layers]
        precision = layers.get(t.layer) or (members[0] if members else t.stored.precision)
        if precision is not default and precision in WORDS:
            found.update(dict.fromkeys(entry_names(t), WORDS[precision]))
    return found


def entry_names(t: TensorView) -> list[str]:
    """The tensor, and the same before its activation, which the toolkit gives the same range."""
    return [t.before, t.name] if t.before else [t.name]


def quoted(name: str) -> str:
    """A name as YAML reads it as text, whatever it looks like."""
    return "'" + name.replace("'", "''") + "'"


def _entry(name: str, t: TensorView) -> str:
    return f"    {quoted(name)}:\n" + "".join(f"        {line}\n" for line in _fields(t))


def _fields(t: TensorView) -> Iterator[str]:
    p = t.stored.qparams
    yield "qtype: asym"
    yield "qmethod: layer"
    yield f"dtype: {WORDS.get(t.stored.precision, t.stored.precision)}"
    yield from _list("min", double_text(t.range.min))
    yield from _list("max", double_text(t.range.max))
    if p is None:
        yield "scale: []"
        yield "zero_point: []"
    else:
        yield from _list("scale", double_text(float(p.scale)))
        yield from _list("zero_point", str(int(p.zero_point)))
    yield from _list("ori_min", double_text(t.observed.min))
    yield from _list("ori_max", double_text(t.observed.max))


def _list(name: str, value: str) -> Iterator[str]:
    yield f"{name}:"
    yield f"-   {value}"


def recognise(text: str) -> bool:
    """Whether a text looks like this format."""
    return "custom_quantize_layers" in text or "qmethod" in text or "ori_min" in text

"""RKNN-Toolkit2's ``.quantization.cfg``."""

from __future__ import annotations

from collections.abc import Iterator

from hybridq import targets
from hybridq.errors import Problem
from hybridq.exchange.losses import weights_stay
from hybridq.exchange.records import Export, Options, double_text
from hybridq.exchange.restate import restated
from hybridq.exchange.view import TensorView, View
from hybridq.quant.dtypes import Precision

BECOMES = {Precision.UINT8: Precision.INT8, Precision.FLOAT32: Precision.FLOAT16}
WORDS = {Precision.INT8: "int8", Precision.INT16: "int16", Precision.FLOAT16: "float16"}


def write(view: View, options: Options) -> Export:
    """The plain cfg."""
    view, problems = in_rknn2(view)
    return Export({f"{options.name}.quantization.cfg": cfg_text(view).encode()}, problems)


def in_rknn2(view: View) -> tuple[View, list[Problem]]:
    """The result as RKNN-Toolkit2 stores it; what differs, line by line."""
    found, problems = restated(view, targets.load("rknn2"), BECOMES)
    return found, [*problems, *weights_stay(view)]


def cfg_text(view: View) -> str:
    """A cfg as the toolkit writes it: layers by every tensor of theirs, activations with their ranges."""
    chosen = layer_types(view)
    lines = [f"    {quoted(name)}: {word}" for name, word in chosen.items()]
    text = "custom_quantize_layers:\n" if lines else "custom_quantize_layers: {}\n"
    text += "".join(f"{line}\n" for line in lines) + "quantize_parameters:\n"
    return text + "".join(_entry(name, t) for t in view.tensors for name in entry_names(t))


def layer_types(view: View) -> dict[str, str]:
    """The tensors to be named with their type: the operator's own and that behind its activation, all of a group."""
    found: dict[str, str] = {}
    default = targets.load("rknn2").default
    for layer in view.layers:
        if layer.precision is not default and layer.precision in WORDS:
            t = view.tensor.get(layer.name)
            names = entry_names(t) if t is not None else [layer.name]
            found.update(dict.fromkeys(names, WORDS[layer.precision]))
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

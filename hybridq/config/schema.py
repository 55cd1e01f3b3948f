"""The shape of a cfg: which keys there are and what kind of value each takes. ``schemas/cfg-1`` tells it to editors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hybridq.config.write import FORMAT, LAYERS, PARAMETERS
from hybridq.config.yaml.nodes import Mapping, Node, Pair, Scalar, Sequence
from hybridq.config.yaml.text import Place, Source
from hybridq.quant.records import FIELDS
from hybridq.quant.words import join

LAYERS_ALIAS = "custom_quantize_layers"  # RKNN-Toolkit2's spelling
TOP_KEYS = ("format", "model", "target", LAYERS, PARAMETERS)
MODEL_KEYS = ("name", "sha256")
START = Place(1, 1, 2)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_SPECIAL = {".nan": "not a number", ".inf": "infinite", "-.inf": "infinite", "+.inf": "infinite"}
_SPECIAL |= {"nan": "not a number", "inf": "infinite", "-inf": "infinite", "infinity": "infinite"}


@dataclass
class Document:
    """The cfg's parts as they stand, each with its places."""

    model: dict[str, Scalar] = field(default_factory=dict)
    target: Scalar | None = None
    layers: list[Pair] = field(default_factory=list)
    layers_key: Scalar | None = None
    layers_node: Node | None = None
    entries: list[tuple[Scalar, Mapping]] = field(default_factory=list)
    entries_key: Scalar | None = None
    entries_node: Node | None = None


def document(top: Mapping, source: Source) -> Document:
    """The parts of a cfg; keys that do not exist or hold the wrong kind of value are problems."""
    found = Document()
    if not top.pairs:
        if not source.failed:
            source.error("empty", "the file is empty", START, "Write it anew with `hybridq step1 ... --force`.")
        return found
    for pair in top.pairs:
        _TOP.get(pair.key.text, _unknown)(pair, found, source)
    if not source.failed and not any(p.key.text == "format" for p in top.pairs):
        source.error("format", f"`format: {FORMAT}` is missing", START, f"Add the line `format: {FORMAT}`.")
    return found


def _unknown(pair: Pair, found: Document, source: Source) -> None:
    key = pair.key
    hint = source.nearest(key.text, TOP_KEYS)
    if isinstance(pair.value, Scalar) and "Did you" not in hint:
        hint = f"If it is a layer, indent it by 4 spaces below `{LAYERS}:`."
    source.error("unknown-key", f"'{key.text}' is no key of a cfg", key.place, hint or f"Keys: {', '.join(TOP_KEYS)}.")


def _format(pair: Pair, found: Document, source: Source) -> None:
    value = pair.value
    if isinstance(value, Scalar) and value.text == FORMAT:
        return
    place = pair.key.place if isinstance(value, Scalar) and value.is_null else value.place
    hint = f"This version reads {FORMAT}."
    if isinstance(value, Scalar) and value.text.startswith("hybridq.cfg/"):
        hint += " Run step1 again with --merge, or the hybridq that wrote the file."
    shown = f"'{value.text}'" if isinstance(value, Scalar) else "this"
    source.error("format", f"{shown} is no format that this version knows", place, hint)


def _model(pair: Pair, found: Document, source: Source) -> None:
    if not isinstance(pair.value, Mapping):
        source.error(
            "type", "`model` is {name: ..., sha256: ...}", pair.key.place, "Restore the line that step1 wrote."
        )
        return
    for key, value in pair.value.pairs:
        if key.text not in MODEL_KEYS:
            hint = source.nearest(key.text, MODEL_KEYS, "Keys: name, sha256.")
            source.error("unknown-key", f"'{key.text}' is no key of `model`", key.place, hint)
        elif not isinstance(value, Scalar) or value.is_null:
            source.error("type", f"`{key.text}` needs a text", key.place, "Restore the line that step1 wrote.")
        else:
            found.model[key.text] = value


def _target(pair: Pair, found: Document, source: Source) -> None:
    if isinstance(pair.value, Scalar) and not pair.value.is_null:
        found.target = pair.value
    else:
        source.error("type", "`target` needs the name of a target", pair.key.place)


def _layers(pair: Pair, found: Document, source: Source) -> None:
    if found.layers_key and found.layers_key.text == pair.key.text:
        return  # reported as a duplicate key
    if found.layers_key:
        hint = f"Put all layers below `{LAYERS}`, and remove the other key."
        message = f"'{pair.key.text}' means the same as '{found.layers_key.text}' on line {found.layers_key.line}"
        source.error("duplicate-key", message, pair.key.place, hint)
        return
    found.layers_key, found.layers_node = pair.key, pair.value
    if isinstance(pair.value, Mapping):
        found.layers = pair.value.pairs
    elif not _null(pair.value):
        hint = 'Write one `"name": precision` a line below it, indented by 4 spaces, or {} for none.'
        source.error("type", f"`{pair.key.text}` needs layers with their precisions", pair.value.place, hint)


def _parameters(pair: Pair, found: Document, source: Source) -> None:
    found.entries_key, found.entries_node = pair.key, pair.value
    if isinstance(pair.value, Mapping):
        for key, value in pair.value.pairs:
            if isinstance(value, Mapping):
                found.entries.append((key, value))
            else:
                place = key.place if _null(value) else value.place
                hint = "Write {field: value, ...}; fields: " + ", ".join(FIELDS) + "."
                source.error("type", f"'{key.text}' needs fields", place, hint)
    elif not _null(pair.value):
        source.error("type", f"`{PARAMETERS}` needs tensors with their fields", pair.value.place)


_TOP = {
    "format": _format,
    "model": _model,
    "target": _target,
    LAYERS: _layers,
    LAYERS_ALIAS: _layers,
    PARAMETERS: _parameters,
}


def _null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


def number(node: Scalar, name: str, source: Source) -> float | None:
    """A finite float32; anything else is a problem. ``1e-05`` is a number, ``1_0`` and ``0x10`` are not."""
    text = node.text
    if not node.quoted and _NUMBER.fullmatch(text):
        value = float(text)
        if abs(value) < 3.4028235677973366e38:
            return value
        source.error("number", f"{name} {text} is beyond float32", node.place, "The largest float32 is 3.4028235e38.")
        return None
    why = _SPECIAL.get(text.lower(), "no number")
    hint = "Write a decimal number such as 0.0125 or 1.25e-2"
    hint += ", without quotes." if node.quoted else "."
    what = f"{name} is {why}" if text.lower() in _SPECIAL else f"'{text}' is {why}, but {name} must be one"
    source.error("number", what, node.place, hint)
    return None


def integer(node: Scalar, name: str, source: Source) -> int | None:
    """A whole number (``3`` or ``3.0``); anything else is a problem."""
    value = number(node, name, source)
    if value is not None and value != int(value):
        source.error("number", f"{name} {node.text} is no whole number", node.place)
        return None
    return None if value is None else int(value)


def scalars(node: Node, name: str, key: Scalar, source: Source) -> list[Scalar] | None:
    """The scalar, or the scalars of a list; anything else is a problem."""
    items = node.items if isinstance(node, Sequence) else [node]
    found = [x for x in items if isinstance(x, Scalar) and not x.is_null]
    if len(found) == len(items) and items:
        return found
    place = key.place if _null(node) or isinstance(node, Scalar) else node.place
    what = "has no value" if not items or _null(node) else "needs a number, or a list of numbers one for each channel"
    source.error("type", f"{name} {what}", place, "Give it a value, or remove it to have it computed.")
    return None


def word(node: Node, name: str, key: Scalar, choices: list[str], source: Source) -> str | None:
    """One of ``choices``; anything else is a problem."""
    if not isinstance(node, Scalar) or node.is_null:
        source.error(
            "type", f"{name} needs a value", key.place if _null(node) else node.place, f"Choose {join(choices)}."
        )
        return None
    if node.text in choices:
        return node.text
    hint = source.nearest(node.text, choices, f"Choose {join(choices)}." if choices else "")
    source.error(f"unknown-{name}", f"'{node.text}' is no {name}", node.place, hint)
    return None

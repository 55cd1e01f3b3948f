"""What the cfg's schema refuses, in the words of a cfg: each with its place and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybridq.config import rknn
from hybridq.config.document import LAYERS_ALIAS, Document, Path
from hybridq.config.write import FORMAT, LAYERS, PARAMETERS, SEPARATE
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.text import CfgText, TextPlace
from hybridq.quant.records import FIELDS
from hybridq.quant.words import join

START = TextPlace(1, 1, 2)
TOP_KEYS = ("format", "model", "target", SEPARATE, LAYERS, PARAMETERS)
RESTORE = "Restore the line that step1 wrote."
_SPECIAL = {".nan": "not a number", ".inf": "infinite", "-.inf": "infinite", "+.inf": "infinite"}
_SPECIAL |= {"nan": "not a number", "inf": "infinite", "-inf": "infinite", "infinity": "infinite"}


@dataclass(frozen=True, slots=True)
class Wrong:
    """One node that the schema refuses: where it is, the keyword that refuses it, and what that keyword allows."""

    path: Path
    keyword: str
    key: Scalar
    node: Node
    document: Document
    allowed: Any

    @property
    def subject(self) -> Path:
        """What is told of once: a layer with all it asks for, else the node."""
        return self.path[:2] if self.path[:1] in ((LAYERS,), (LAYERS_ALIAS,)) else self.path

    @property
    def place(self) -> TextPlace:
        """The value; its key where it has none."""
        return self.key.place if _null(self.node) else self.node.place


def tell(wrong: Wrong, precisions: list[str], source: CfgText) -> None:
    """Record the problem."""
    path = wrong.path
    if len(path) >= 2 and path[0] in (LAYERS, LAYERS_ALIAS):
        _layer(wrong, precisions, source)
    elif len(path) >= 2 and path[0] == PARAMETERS:
        (_entry if len(path) == 2 else _field)(wrong, source)
    elif path and wrong.keyword != "unknown":
        _TOP[str(path[0])](wrong, source)
    elif len(path) == 2:
        hint = source.nearest(wrong.key.text, wrong.allowed, f"Keys: {', '.join(wrong.allowed)}.")
        source.error("unknown-key", f"'{wrong.key.text}' is no key of `{path[0]}`", wrong.key.place, hint)
    else:
        (_unknown_key if path else _document)(wrong, source)


def _document(wrong: Wrong, source: CfgText) -> None:
    """A key too few, or two keys for one thing."""
    if wrong.keyword == "required":
        if not source.failed:
            source.error("format", f"`format: {FORMAT}` is missing", START, f"Add the line `format: {FORMAT}`.")
        return
    first, second = (p.key for p in wrong.document.top.pairs if p.key.text in (LAYERS, LAYERS_ALIAS))
    hint = f"Put all layers below `{LAYERS}`, and remove the other key."
    message = f"'{second.text}' means the same as '{first.text}' on line {first.line}"
    source.error("duplicate-key", message, second.place, hint)


def _unknown_key(wrong: Wrong, source: CfgText) -> None:
    key = wrong.key
    hint = source.nearest(key.text, TOP_KEYS)
    if isinstance(wrong.node, Scalar) and "Did you" not in hint:
        hint = f"If it is a layer, indent it by 4 spaces below `{LAYERS}:`."
    source.error("unknown-key", f"'{key.text}' is no key of a cfg", key.place, hint or f"Keys: {', '.join(TOP_KEYS)}.")


def _format(wrong: Wrong, source: CfgText) -> None:
    value = wrong.node
    hint = f"This version reads {FORMAT}."
    if isinstance(value, Scalar) and value.text.startswith("hybridq.cfg/"):
        hint += " Run step1 again with --merge, or the hybridq that wrote the file."
    shown = f"'{value.text}'" if isinstance(value, Scalar) else "this"
    source.error("format", f"{shown} is no format that this version knows", wrong.place, hint)


def _model(wrong: Wrong, source: CfgText) -> None:
    if len(wrong.path) == 1:
        source.error("type", "`model` is {name: ..., sha256: ...}", wrong.key.place, RESTORE)
    else:
        quoted = f'Write {wrong.key.text}: "{wrong.node.text}".' if isinstance(wrong.node, Scalar) else RESTORE
        hint = RESTORE if _null(wrong.node) else quoted
        source.error("type", f"`{wrong.key.text}` needs a text", wrong.key.place, hint)


def _target(wrong: Wrong, source: CfgText) -> None:
    source.error("type", "`target` needs the name of a target", wrong.key.place)


def _separate(wrong: Wrong, source: CfgText) -> None:
    place = wrong.key.place if isinstance(wrong.node, Scalar) else wrong.node.place
    source.error("type", f"`{SEPARATE}` needs a list of names", place, f'Write {SEPARATE}: ["name"].')


def _layers(wrong: Wrong, source: CfgText) -> None:
    hint = 'Write one `"name": precision` a line below it, indented by 4 spaces, or {} for none.'
    source.error("type", f"`{wrong.key.text}` needs layers with their precisions", wrong.node.place, hint)


def _parameters(wrong: Wrong, source: CfgText) -> None:
    source.error("type", f"`{PARAMETERS}` needs tensors with their fields", wrong.node.place)


_TOP: dict[str, Callable[[Wrong, CfgText], None]] = {
    "format": _format,
    "model": _model,
    "target": _target,
    SEPARATE: _separate,
    LAYERS: _layers,
    LAYERS_ALIAS: _layers,
    PARAMETERS: _parameters,
}


def _layer(wrong: Wrong, precisions: list[str], source: CfgText) -> None:
    """A value that is no precision."""
    key, node = wrong.document.locate(wrong.path[:2])
    if isinstance(node, Mapping):
        _weight_only(wrong, key, node, source)
        return
    words = join(precisions)
    if not isinstance(node, Scalar) or node.is_null:
        place = key.place if isinstance(node, Scalar) else node.place
        source.error("type", f"'{key.text}' needs a precision", place, f"Choose {words}.")
        return
    hint = source.nearest(node.text, [*precisions, *rknn.WORDS], f"Choose {words}.")
    source.error("unknown-precision", f"'{node.text}' is no precision", node.place, hint)


def _weight_only(wrong: Wrong, key: Scalar, node: Mapping, source: CfgText) -> None:
    if wrong.keyword == "enum" and isinstance(wrong.node, Scalar) and len(node.pairs) == 1:
        hint = source.nearest(wrong.node.text, wrong.allowed, f"Choose {join(wrong.allowed)}.")
        message = f"'{wrong.node.text}' is no weight_only precision"
        source.error("unknown-precision", message, wrong.node.place, hint)
    else:
        source.error("type", f"'{key.text}' needs a precision", node.place, "Write int16, or {weight_only: int8}.")


def _entry(wrong: Wrong, source: CfgText) -> None:
    hint = "Write {field: value, ...}; fields: " + ", ".join(FIELDS) + "."
    source.error("type", f"'{wrong.key.text}' needs fields", wrong.place, hint)


def _field(wrong: Wrong, source: CfgText) -> None:
    """A field that does not exist, or a value that is none."""
    name = str(wrong.path[2])
    if wrong.keyword == "unknown":
        hint = source.nearest(name, FIELDS, f"Fields: {', '.join(FIELDS)}.")
        source.error("unknown-field", f"'{name}' is no field of a tensor", wrong.key.place, hint)
    elif wrong.keyword == "enum":
        _word(wrong, name, source)
    elif name == "algorithm":
        source.error("type", "algorithm needs a name", wrong.key.place)
    elif isinstance(wrong.node, Scalar) and wrong.keyword != "type":
        _size(wrong.node, name, source)
    else:
        _kind(wrong, name, source)


def _word(wrong: Wrong, name: str, source: CfgText) -> None:
    node, words = wrong.node, join(wrong.allowed)
    if not isinstance(node, Scalar) or node.is_null:
        source.error("type", f"{name} needs a value", wrong.place, f"Choose {words}.")
        return
    hint = source.nearest(node.text, wrong.allowed, f"Choose {words}.")
    source.error(f"unknown-{name}", f"'{node.text}' is no {name}", node.place, hint)


def _kind(wrong: Wrong, name: str, source: CfgText) -> None:
    """No number, or no list of numbers."""
    node = wrong.node
    if isinstance(node, Scalar) and not node.is_null:
        _no_number(node, name, source)
    elif name == "fl" and isinstance(node, Sequence) and node.items:
        source.error("type", "fl is one number", node.place)
    else:
        nothing = _null(node) or (isinstance(node, Sequence) and not node.items)
        what = "has no value" if nothing else "needs a number, or a list of numbers one for each channel"
        hint = "Give it a value, or remove it to have it computed."
        source.error("type", f"{name} {what}", wrong.key.place if isinstance(node, Scalar) else node.place, hint)


def _no_number(node: Scalar, name: str, source: CfgText) -> None:
    text = node.text
    try:
        fraction = not node.quoted and "_" not in text and not float(text).is_integer()
    except ValueError:
        fraction = False
    if fraction and text.lower() not in _SPECIAL and name in ("zero_point", "fl"):
        source.error("number", f"{name} {text} is no whole number", node.place)
        return
    why = _SPECIAL.get(text.lower(), "no number")
    hint = "Write a decimal number such as 0.0125 or 1.25e-2"
    hint += ", without quotes." if node.quoted else "."
    what = f"{name} is {why}" if text.lower() in _SPECIAL else f"'{text}' is {why}, but {name} must be one"
    source.error("number", what, node.place, hint)


def _size(node: Scalar, name: str, source: CfgText) -> None:
    """A number out of bounds."""
    value = float(node.text)
    if name == "zero_point":
        hint = "Choose -32768 to 32767, within the type of the tensor."
        source.error("zero-point", f"zero_point {node.text} fits no type", node.place, hint)
    elif name == "fl":
        hint = "scale = 2 ** -fl; choose -126 to 126."
        source.error("fl", f"fl {node.text} gives a scale beyond float32", node.place, hint)
    elif abs(value) > 1:
        hint = "The largest float32 is 3.4028235e38."
        source.error("number", f"{name} {node.text} is beyond float32", node.place, hint)
    else:
        why = f"scale {value:g} is not above 0" if value <= 0 else f"scale {value:g} is too small for float32"
        source.error("scale", why, node.place, "A scale is (max - min) / the number of steps.")


def _null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null

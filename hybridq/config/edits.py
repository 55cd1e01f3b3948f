"""``quantize_parameters``: what a person changed against what step1 wrote."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hybridq.config.names import Names
from hybridq.config.schema import Document, integer, number, scalars, word
from hybridq.config.write import PARAMETERS, value_text
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.text import Place, Source
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated, Edit, Entry

_SINGLE = struct.Struct("<f")
_DTYPES = [str(p) for p in Precision]
_SCHEMES = [str(s) for s in Scheme]
_METHODS = ["layer", "channel"]
_WORDS = {"dtype": _DTYPES, "qtype": _SCHEMES, "qmethod": _METHODS}


@dataclass
class Changed:
    """An entry with the fields that a person changed: their values and places."""

    key: str
    recorded: Entry
    place: Place
    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def edited(self) -> frozenset[str]:
        """The names of the changed fields."""
        return frozenset(self.values)

    @property
    def entry(self) -> Entry:
        """The entry with the changed fields merged in."""
        return replace(self.recorded, **self.values)  # type: ignore[arg-type]

    def edits(self) -> Iterator[Edit]:
        """Each change in words."""
        for name in FIELDS:
            if name in self.values:
                before = getattr(self.recorded, name)
                shown = "none" if before is None else value_text(before)
                yield Edit(self.key, name, shown, value_text(self.values[name]), self.places[name].line)


def changes(document: Document, names: Names, calibrated: Calibrated, source: Source) -> dict[str, Changed]:
    """Every entry with a changed field. Unknown names and fields, and values of a wrong kind, are problems."""
    found: dict[str, Changed] = {}
    seen: dict[str, Scalar] = {}
    for key, value in document.entries:
        name = names.key(key.text)
        if not name:
            message, hint = _unknown(key.text, names, source)
            source.error("unknown-tensor", message, key.place, hint)
            continue
        changed = Changed(name, calibrated.entries[name], key.place)
        if not value.untouched:
            _compare(changed, value, source)
        if name in seen:
            _merge(changed, found, seen[name], key, source)
        elif changed.values:
            found[name] = changed
        seen.setdefault(name, key)
    if not source.failed:
        _missing(document, calibrated, seen, source)
    return found


def _unknown(text: str, names: Names, source: Source) -> tuple[str, str]:
    if text.endswith(":bias"):
        return f"'{text}' cannot be set", "A bias has the scale of the input times that of the weight. Remove the line."
    layer = names.model.names.get(text.removesuffix(WEIGHT_SUFFIX)) if text.endswith(WEIGHT_SUFFIX) else None
    if layer:
        return f"the layer '{layer}' has no weights", "Remove the line."
    hint = source.nearest(text, names.known_keys)
    return f"there is no tensor '{text}'", hint or "Keys are the names that step1 wrote; `hybridq list` shows them."


def _compare(changed: Changed, value: Mapping, source: Source) -> None:
    """Take every field of ``value`` that says something else than step1 did into ``changed``."""
    for label, node in value.pairs:
        given = label.text
        if given not in _FIELD_SET:
            hint = source.nearest(given, FIELDS, f"Fields: {', '.join(FIELDS)}.")
            source.error("unknown-field", f"'{given}' is no field of a tensor", label.place, hint)
            continue
        before = getattr(changed.recorded, given)
        if isinstance(node, Scalar) and _same(given, node, before):
            continue
        after = _value(given, node, label, source)
        if after is None:
            continue
        if isinstance(after, tuple) and len(after) == 1 and not isinstance(before, tuple):
            after = after[0]
        if not _equal(before, after):
            changed.values[given] = _typed(given, after)
            changed.places[given] = node.place if isinstance(node, Scalar | Sequence) else label.place


_FIELD_SET = frozenset(FIELDS)


def _same(name: str, node: Scalar, before: object) -> bool:
    """The usual case, fast: a scalar that says what step1 wrote."""
    if isinstance(before, float):
        try:
            return not node.quoted and "_" not in node.text and single(float(node.text)) == single(before)
        except ValueError:
            return False
    return before is not None and not isinstance(before, tuple) and node.text == str(before) and _plain_ok(name, node)


def _plain_ok(name: str, node: Scalar) -> bool:
    return not node.quoted or name not in ("zero_point", "fl")


def _value(name: str, node: Node, label: Scalar, source: Source) -> object | None:
    """The value of a field, checked for its kind; None after a problem."""
    if name in _WORDS:
        return word(node, name, label, _WORDS[name], source)
    if name == "algorithm":
        if isinstance(node, Scalar) and not node.is_null:
            return node.text
        source.error("type", "algorithm needs a name", label.place)
        return None
    items = scalars(node, name, label, source)
    if items is None:
        return None
    read = integer if name in ("zero_point", "fl") else number
    numbers = [read(x, name, source) for x in items]
    if any(x is None for x in numbers):
        return None
    if name == "fl" and isinstance(node, Sequence) and len(numbers) > 1:
        source.error("type", "fl is one number", node.place)
        return None
    return tuple(numbers) if isinstance(node, Sequence) else numbers[0]


def _typed(name: str, value: object) -> object:
    """``value`` as ``Entry`` holds it."""
    if name == "dtype":
        return Precision(str(value))
    return Scheme(str(value)) if name == "qtype" else value


def _equal(before: object, after: object) -> bool:
    if isinstance(before, tuple) and isinstance(after, tuple):
        return len(before) == len(after) and all(map(_equal, before, after))
    if isinstance(before, float | int) and isinstance(after, float | int):
        return single(before) == single(after)
    return before is not None and type(before) is not tuple and type(after) is not tuple and str(before) == str(after)


def single(value: float) -> float:
    """``value`` rounded to float32; infinite beyond it."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


def _merge(changed: Changed, found: dict[str, Changed], first: Scalar, key: Scalar, source: Source) -> None:
    """Two lines for one entry: their edits add up, unless they differ."""
    other = found.setdefault(changed.key, Changed(changed.key, changed.recorded, first.place))
    for name, value in changed.values.items():
        if name in other.values and other.values[name] != value:
            message = (
                f"{name} of '{key.text}' differs from that of '{first.text}' (line {first.line}), which is the same"
            )
            source.error("two-values", message, changed.places[name], "Keep one of the two lines.")
        other.values[name] = value
        other.places[name] = changed.places[name]
    if not other.values:
        del found[changed.key]


def _missing(document: Document, calibrated: Calibrated, seen: dict[str, Scalar], source: Source) -> None:
    lost = [key for key in calibrated.entries if key not in seen]
    if lost:
        at = document.entries_key.place if document.entries_key else Place(1, 1, 2)
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        where = f"in `{PARAMETERS}` " if document.entries_key else ""
        message = f"{where}no line is left for {', '.join(lost[:3])}{more}: what step1 chose is used"
        source.warning("missing", message, at)

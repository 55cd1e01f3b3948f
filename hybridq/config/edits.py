"""``quantize_parameters``: what a person changed against what step1 wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hybridq.config.document import Document
from hybridq.config.names import Names
from hybridq.config.schema import plain, says_the_same
from hybridq.config.write import PARAMETERS, value_text
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.text import CfgText, TextPlace
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import single
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated, Edit, Entry


@dataclass
class Changed:
    """An entry with the fields that a person changed: their values and places."""

    key: str
    recorded: Entry
    place: TextPlace
    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, TextPlace] = field(default_factory=dict)

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


def changes(document: Document, names: Names, calibrated: Calibrated, source: CfgText) -> dict[str, Changed]:
    """Every entry with a changed field. Unknown names are problems."""
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
            _compare(changed, key, value, document)
        if name in seen:
            _merge(changed, found, seen[name], key, source)
        elif changed.values:
            found[name] = changed
        seen.setdefault(name, key)
    if not source.failed:
        _missing(document, calibrated, seen, source)
    return found


def _unknown(text: str, names: Names, source: CfgText) -> tuple[str, str]:
    if text.endswith(":bias"):
        return f"'{text}' cannot be set", "A bias has the scale of the input times that of the weight. Remove the line."
    layer = names.model.names.get(text.removesuffix(WEIGHT_SUFFIX)) if text.endswith(WEIGHT_SUFFIX) else None
    if layer:
        return f"the layer '{layer}' has no weights", "Remove the line."
    hint = source.nearest(text, names.known_keys)
    return f"there is no tensor '{text}'", hint or "Keys are the names that step1 wrote; `hybridq list` shows them."


def _compare(changed: Changed, label: Scalar, value: Mapping, document: Document) -> None:
    """Take every field of ``value`` that says something else than step1 did into ``changed``."""
    for field_, node in value.pairs:
        name = field_.text
        if document.is_wrong_field(label.text, name) or name in changed.values:
            continue
        before = getattr(changed.recorded, name)
        if says_the_same(name, node, before):
            continue
        after = _value(name, node)
        if isinstance(after, tuple) and len(after) == 1 and not isinstance(before, tuple):
            after = after[0]
        if not _equal(before, after):
            changed.values[name] = _typed(name, after)
            changed.places[name] = node.place if isinstance(node, Scalar | Sequence) else field_.place


def _value(name: str, node: Node) -> object:
    """The value of a field that has the right shape."""
    if name in _NUMBERS:
        found = plain(node)
        read = int if name in ("zero_point", "fl") else float
        return tuple(map(read, found)) if isinstance(found, list) else read(found)
    return node.text if isinstance(node, Scalar) else None


_NUMBERS = frozenset(FIELDS) - {"dtype", "qtype", "qmethod", "algorithm"}


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


def _merge(changed: Changed, found: dict[str, Changed], first: Scalar, key: Scalar, source: CfgText) -> None:
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


def _missing(document: Document, calibrated: Calibrated, seen: dict[str, Scalar], source: CfgText) -> None:
    usual = dict(calibrated.written) or calibrated.entries  # a part of what had one scale need not have a line
    lost = [key for key in calibrated.entries if key in usual and key not in seen]
    if lost:
        at = document.entries_pair.key.place if document.entries_pair else TextPlace(1, 1, 2)
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        where = f"in `{PARAMETERS}` " if document.entries_pair else ""
        message = f"{where}no line is left for {', '.join(lost[:3])}{more}: what step1 chose is used"
        source.warning("missing", message, at)

"""The shape of a cfg: its JSON Schema decides, jsonschema asks it, ``schema_words`` says what is wrong.

Values that stand as step1 wrote them are not asked about again; the schema judges every value by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as MappingLike
from functools import cache
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, cast

from hybridq.config.document import LAYERS_ALIAS, Document, Path
from hybridq.config.schema_words import Wrong, tell
from hybridq.config.write import LAYERS, PARAMETERS
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.text import CfgText
from hybridq.quant.numerics import single
from hybridq.quant.records import Entry

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

SCHEMA = FilePath(__file__).parent.parent / "schemas" / "cfg-1.schema.json"
LONGEST = 100  # digits of a whole number; float32 has 39
_NUMBER = re.compile(r"[-+]?(?:\d+(\.\d*)?|(\.\d+))([eE][-+]?\d+)?", re.ASCII)


def check_shape(
    document: Document, recorded: MappingLike[str, Entry], precisions: Iterable[str], source: CfgText
) -> None:
    """Every node that the schema refuses, as a problem at its place; ``document.wrong`` has their paths.

    ``recorded`` are the entries that step1 wrote, ``precisions`` what the target takes.
    """
    told: set[Path] = set()
    found, alike = _document(document, recorded)
    for error in schema_validator().iter_errors(found):
        for wrong in _wrongs(error, document, alike):
            if wrong.subject not in told:
                tell(wrong, list(precisions), source)
            told.add(wrong.subject)
    document.wrong |= {path[:n] for path in told for n in range(1, len(path) + 1)}


def plain(node: Node) -> Any:
    """A node as JSON holds it: decimal numbers as numbers, nothing as None, all else as the text it is."""
    if isinstance(node, Scalar):
        return _plain(node)
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {pair.key.text: plain(pair.value) for pair in reversed(node.pairs)}  # the first of two alike counts


def says_the_same(name: str, node: Node, before: object) -> bool:
    """Whether a field says what step1 wrote (the usual case, hence fast)."""
    if not isinstance(node, Scalar) or before is None or isinstance(before, tuple):
        return False
    if isinstance(before, float):
        value = None if node.quoted else _plain(node)
        return isinstance(value, int | float) and single(value) == single(before)
    return node.text == str(before) and not (node.quoted and isinstance(before, int))


def _plain(node: Scalar) -> float | str | None:
    if node.quoted:
        return node.text
    number = _NUMBER.fullmatch(node.text)
    if number is None:
        return None if node.is_null else node.text
    return float(node.text) if any(number.groups()) or len(node.text) > LONGEST else int(node.text)


Alike = MappingLike[Path, list[str]]


def _document(document: Document, recorded: MappingLike[str, Entry]) -> tuple[dict[str, Any], Alike]:
    """The cfg without the fields that say what step1 wrote, and without layers and tensors that say what another says.

    The second value has, by the path of a layer or tensor, the names of all that say the same.
    """
    alike: dict[Path, list[str]] = {}
    found = {}
    for name, pair in document.names(document.top).items():
        if name in (LAYERS, LAYERS_ALIAS, PARAMETERS) and isinstance(pair.value, Mapping):
            of = recorded if name == PARAMETERS else {}
            values = {k: _entry(p.value, of.get(k)) for k, p in document.names(pair.value).items()}
            first: dict[str, str] = {}
            for key, value in values.items():
                alike.setdefault((name, first.setdefault(repr(value), key)), []).append(key)
            found[name] = {key: values[key] for key in first.values()}
        else:
            found[name] = plain(pair.value)
    return found, alike


def _entry(node: Node, before: Entry | None) -> Any:
    if not isinstance(node, Mapping) or before is None:
        return plain(node)
    return {
        label.text: plain(value)
        for label, value in reversed(node.pairs)
        if not says_the_same(label.text, value, getattr(before, label.text, None))
    }


@cache
def schema_validator() -> Draft202012Validator:
    """Made once, and only where a cfg is checked: importing jsonschema takes as long as reading a cfg."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _wrongs(error: ValidationError, document: Document, alike: Alike) -> Iterator[Wrong]:
    """What one error says of which nodes: of all that say the same, and of each key that does not exist."""
    path = tuple(error.absolute_path)
    for name in alike.get(path[:2], [""]):
        at = (path[0], name, *path[2:]) if name else path
        key, node = document.locate(at)
        if error.validator != "additionalProperties" or not isinstance(node, Mapping):
            yield Wrong(at, str(error.validator), key, node, document, error.validator_value)
            continue
        known = list(cast("dict[str, Any]", error.schema)["properties"])
        for text, pair in document.names(node).items():
            if text not in known:
                yield Wrong((*at, text), "unknown", pair.key, pair.value, document, known)

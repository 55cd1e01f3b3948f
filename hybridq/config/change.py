"""``set``, ``unset`` and ``list``: edit the cfg's text as a person would, and check what came out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybridq import targets
from hybridq.config import rknn
from hybridq.config.check import examine, known_lines
from hybridq.config.customized_layers import refusal
from hybridq.config.document import Document
from hybridq.config.edit_text import TextEditor
from hybridq.config.names import Names, defaults_of
from hybridq.config.selectors import SelectorError, select
from hybridq.config.write import LAYERS, PARAMETERS, entry_text, quote
from hybridq.config.yaml.nodes import Mapping as MappingNode
from hybridq.config.yaml.nodes import Pair, Scalar
from hybridq.config.yaml.reader import reread
from hybridq.config.yaml.text import CfgText
from hybridq.errors import ConfigError, Problem
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated, Edit, LayerChoice, QuantConfig
from hybridq.quant.words import join, nearest_hint, nearest_some

FORMS = """A selector is a name, a glob (head/*), re:REGEX, op:TYPE, from:A..to:B, group:NAME or boundary,
or several of these with and, or, not. `hybridq list` shows the layers."""
_VALUE = re.compile(r"[\w.+-]+|\[[\w.+\-, ]*\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """A cfg's new text, what it changed, and every remark (no errors) on the new cfg."""

    text: str
    edits: tuple[Edit, ...]
    problems: tuple[Problem, ...]


def set_layers(
    text: str,
    path: str,
    model: Model,
    calibrated: Calibrated,
    selector: str | Sequence[str],
    precision: str | None = None,
    params: Mapping[str, str] | None = None,
    algorithm: str | None = None,
) -> Change:
    """Give the layers of one or several selectors a precision, their entries new fields, or both.

    A selector may also name a model input, a tensor or ``LAYER:weight`` where only fields change. Layers are written
    by name, so a later ``set`` always wins. Raises ConfigError where the cfg is or would be wrong; nothing is lost.
    """
    draft = Draft(text, path, model, calibrated)
    keys, layers = draft.targets(_several(selector), needs_layers=precision is not None)
    if precision is not None:
        draft.ask(layers, _precision_text(precision))
    fields = dict(params or {}) | ({"algorithm": algorithm} if algorithm else {})
    for name, value in fields.items():
        if name not in FIELDS:
            raise ConfigError(f"'{name}' is no field of a tensor", hint=nearest_hint(name, FIELDS) or _one_of(FIELDS))
        if not _VALUE.fullmatch(value):
            raise ConfigError(f"'{value}' is no value for {name}", hint="Give a number, a word, or [a, b, ...].")
    if fields:
        draft.put(draft.measured(keys) if "algorithm" in fields else keys, fields)
    return draft.done()


def unset_layers(text: str, path: str, model: Model, calibrated: Calibrated, selector: str | Sequence[str]) -> Change:
    """Take back every edit of the selected layers, their tensors and weights. Raises ConfigError as ``set_layers``."""
    draft = Draft(text, path, model, calibrated)
    keys, layers = draft.targets(_several(selector), needs_layers=False)
    draft.forget(layers, _several(selector))
    draft.restore([*keys, *(x + WEIGHT_SUFFIX for x in layers)])
    return draft.done()


def list_layers(model: Model, calibrated: Calibrated, config: QuantConfig) -> list[dict[str, object]]:
    """One row a layer, in graph order, for tables and JSON."""
    defaults = defaults_of(model, calibrated)
    rows: list[dict[str, object]] = []
    for layer in model.layers:
        choice = config.choices.get(layer.name)
        alone = choice.weight_only if choice else calibrated.weight_only_of(layer.name)
        entry = config.entries.get(layer.group)
        tensor = model.tensors.get(layer.name)
        rows.append(
            {
                "name": layer.name,
                "op": layer.op,
                "activation": layer.activation_op,
                "shape": list(tensor.shape) if tensor and tensor.shape is not None else None,
                "macs": layer.macs,
                "min": entry.min if entry else None,
                "max": entry.max if entry else None,
                "precision": str(choice.precision if choice else defaults[layer.name]),
                "weight_only": str(alone) if alone else None,
                "edited": choice is not None or layer.group in config.edited,
                "group": layer.group,
                "aliases": list(layer.aliases),
                "float_only": layer.float_only,
            }
        )
    return rows


def _several(selector: str | Sequence[str]) -> tuple[str, ...]:
    return (selector,) if isinstance(selector, str) else tuple(selector)


def is_precision(word: str) -> bool:
    """Whether ``set_layers`` takes a word for a precision."""
    return word.startswith("weight_only:") or rknn.precision_of(word) is not None


def _precision_text(word: str) -> str:
    """A precision as the cfg writes it; ``weight_only:int8`` gives the mapping."""
    kind, _, bits = word.partition(":")
    if kind == "weight_only" and bits in ("int8", "int16"):
        return f"{{weight_only: {bits}}}"
    found = rknn.precision_of(word)
    if found is None:
        words = [*map(str, Precision), "weight_only:int8", "weight_only:int16"]
        raise ConfigError(f"'{word}' is no precision", hint=f"{_one_of(words)} {nearest_hint(word, words)}".strip())
    return str(found[0])


def _one_of(words: Iterable[str]) -> str:
    return f"Choose one of {', '.join(words)}."


class Draft:
    """One change in the making: the cfg as it was, checked, and the text being edited."""

    def __init__(self, text: str, path: str, model: Model, calibrated: Calibrated) -> None:
        self.path, self.model, self.calibrated = path, model, calibrated
        self.known = known_lines(calibrated)
        config, source, document = examine(text, path, model, calibrated, self.known)
        if config is None or document is None:
            raise ConfigError([p for p in source.sorted() if p.severity == "error"])
        self.before: QuantConfig = config
        self.source: CfgText = source
        self.document: Document = document
        self.names = Names(model, calibrated.entries)
        self.editor = TextEditor(text)
        self.notes: list[Problem] = []

    def measured(self, keys: Sequence[str]) -> list[str]:
        """Those whose ranges an algorithm chooses, with a note of the others; all where there is no such one."""
        known = [k for k in keys if k in self.calibrated.measured and self.calibrated.measured[k].fixed]
        if len(known) in (0, len(keys)):
            return list(keys)
        told = f"{join([repr(k) for k in known[:3]])}{f' and {len(known) - 3} more' if len(known) > 3 else ''}"
        self.notes.append(Problem(f"known without measuring, so left: the range of {told}", self.path, severity="note"))
        return [k for k in keys if k not in known]

    def targets(self, selectors: Sequence[str], needs_layers: bool) -> tuple[list[str], list[str]]:
        """The keys of the entries and the layers that selectors mean together, each once."""
        found = [self._targets(one, needs_layers) for one in selectors]
        keys, layers = (list(dict.fromkeys(n for one in found for n in one[which])) for which in (0, 1))
        return keys, layers

    def _targets(self, selector: str, needs_layers: bool) -> tuple[list[str], list[str]]:
        key = self.names.key(selector)
        if key and not self.names.layers(selector):
            if needs_layers:
                hint = (
                    f"Name the layer: '{key.removesuffix(WEIGHT_SUFFIX)}'."
                    if self.names.is_weight(key)
                    else ("It takes the widest precision among the layers that read it; name those.")
                )
                raise ConfigError(f"'{selector}' is no layer, so it has no precision of its own", hint=hint)
            return [key], []
        current = defaults_of(self.model, self.calibrated)
        current |= {name: choice.precision for name, choice in self.before.choices.items()}
        try:
            found = select(selector, self.names, current)
        except SelectorError as error:
            raise ConfigError(str(error), hint=self._how_to_select(error)) from error
        self.notes += [Problem(note, severity="note", code="selector") for note in found.notes]
        keys = dict.fromkeys(self.model.layer[x].group for x in found.layers)
        return [k for k in keys if k in self.calibrated.entries], list(found.layers)

    def _how_to_select(self, error: SelectorError) -> str:
        """The hint on a command line, where a person has no list of names beside it."""
        near = nearest_some(error.word, self.names.known) if error.word else []
        first = f"Did you mean {join(near)}?" if near else "" if error.hint in FORMS else error.hint
        return f"{first}\n{FORMS}".lstrip()

    # -- precisions ---------------------------------------------------------------------------------------------------

    def ask(self, layers: list[str], value: str) -> None:
        """Write ``layer: value`` for each layer, in the place of a line that names it already."""
        able = self._able(layers, value)
        named = self._named()
        new = []
        for layer in able:
            for pair in named.get(layer, []):
                self.editor.value(pair, value)
            if layer not in named:
                new.append(f"{quote(layer)}: {value}")
        self.add(self.document.layers_pair, LAYERS, new)
        self._drop_dtypes(able)

    def ask_selectors(self, values: Mapping[str, str], line: int = 0) -> None:
        """Write ``selector: value`` texts as a person would, in the place of lines with these keys.

        ``line``: where the first stood in another cfg of this model; new lines go there if they can.
        """
        there = {p.key.text: p for p in self.document.layers}
        for selector in there.keys() & values.keys():
            self.editor.value(there[selector], values[selector])
        new = [f"{quote(s)}: {v}" for s, v in values.items() if s not in there]
        pair = self.document.layers_pair
        node = pair.value if pair else None
        if new and pair and isinstance(node, MappingNode) and not node.pairs and line == pair.key.line + 1:
            self.editor.fill(pair.key, node, new, behind_comments=False)
        else:
            self.add(pair, LAYERS, new)

    def _able(self, layers: list[str], value: str) -> list[str]:
        """The layers that can take ``value``; a note names the others. Raises ConfigError where none can."""
        word, target = value.strip("{}").removeprefix("weight_only: "), targets.load(self.calibrated.target)
        choice = LayerChoice(Precision.FLOAT32, Precision(word)) if value[0] == "{" else LayerChoice(Precision(word))
        refused = {x: why for x in layers if (why := refusal(self.model.layer[x], choice, target))}
        if refused:
            name, why = next(iter(refused.items()))
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            if len(refused) == len(layers):
                raise ConfigError(f"'{name}' {why}{more}")
            self.notes.append(Problem(f"left out: '{name}' {why}{more}", severity="note", code="float-only"))
        return [x for x in layers if x not in refused]

    def _named(self) -> dict[str, list[Pair]]:
        """The lines that name a layer exactly, by layer."""
        found: dict[str, list[Pair]] = {}
        for pair in self.document.layers:
            layer = self.model.names.get(pair.key.text)
            if layer:
                found.setdefault(layer, []).append(pair)
        return found

    def _drop_dtypes(self, layers: list[str]) -> None:
        """An edited dtype of an entry gives way to the precision just asked for."""
        for key in dict.fromkeys(self.model.layer[x].group for x in layers):
            if "dtype" in self.before.edited.get(key, ()):
                self.put([key], {"dtype": str(self.calibrated.entries[key].dtype)})

    def forget(self, layers: list[str], selectors: Sequence[str]) -> None:
        """Remove the lines that name these layers, and those whose keys are the selectors themselves."""
        wanted = set(layers)
        gone = [
            p
            for p in self.document.layers
            if p.key.text in selectors or (p.key.text in self.model.names and self.model.names[p.key.text] in wanted)
        ]
        out = set(map(id, gone))
        others = {p.key.text for p in self.document.layers if id(p) not in out}
        kept = [c for x, c in self.before.choices.items() if x in wanted and c.selector in others]
        if kept:
            hint = f"Edit that line, or `hybridq unset DIR '{kept[0].selector}'`."
            message = f"their precision comes from '{kept[0].selector}' on line {kept[0].line}"
            raise ConfigError(message, hint=hint)
        pair = self.document.layers_pair
        if gone and pair and isinstance(pair.value, MappingNode):
            self.editor.remove(pair.value, gone, pair.key)

    # -- entries ------------------------------------------------------------------------------------------------------

    def put(self, keys: list[str], fields: Mapping[str, str]) -> None:
        """Write fields into the lines of entries."""
        lines = self._entry_lines(set(keys))
        for key in keys:
            if key not in lines:
                new = ", ".join(f"{name}: {value}" for name, value in fields.items())
                self.add(self.document.entries_pair, PARAMETERS, [f"{quote(key)}: {{{new}}}"])
                continue
            mapping = lines[key]
            there = {p.key.text: p for p in mapping.pairs}
            for name in fields:
                if name in there:
                    self.editor.value(there[name], fields[name])
            more = [f"{name}: {value}" for name, value in fields.items() if name not in there]
            if more and mapping.pairs:
                self.editor.add(mapping, more)
            elif more:
                self.editor.value(Pair(Scalar("", mapping.line, 1, 1), mapping), "{" + ", ".join(more) + "}")

    def restore(self, keys: list[str]) -> None:
        """Give edited entries the fields that step1 wrote."""
        wanted = self.before.edited.keys() & set(keys)
        for label, mapping in self.document.entries if wanted else ():
            key = self.names.key(label.text)
            if key in wanted:
                self.editor.value(Pair(label, mapping), entry_text(self.calibrated.entries[key]))

    def _entry_lines(self, keys: set[str]) -> dict[str, MappingNode]:
        """The fields of those entries that have a line."""
        found: dict[str, MappingNode] = {}
        for label, mapping in self.document.entries:
            key = self.names.key(label.text)
            if key in keys:
                found.setdefault(key, mapping)
        return {k: reread(m, self.source) if m.untouched else m for k, m in found.items()}

    def add(self, pair: Pair | None, name: str, pairs: list[str]) -> None:
        """Append ``name: value`` texts below a top key, which is made where it is missing."""
        if not pairs:
            return
        if pair is None:
            self._add_key(name, pairs)
        elif isinstance(pair.value, MappingNode) and pair.value.pairs:
            self.editor.add(pair.value, pairs)
        elif isinstance(pair.value, MappingNode | Scalar):
            self.editor.fill(pair.key, pair.value, pairs)

    def _add_key(self, name: str, pairs: list[str]) -> None:
        before = self.document.entries_pair if name == LAYERS else None
        line = before.key.line - 1 if before else len(self.source.lines) - (self.source.lines[-1] == "")
        self.editor.insert_after(line, [f"{name}:", *(f"    {p}" for p in pairs)])

    def done(self) -> Change:
        """The new text, checked. Raises ConfigError where it is wrong."""
        text = self.editor.result()
        after, source, _ = examine(text, self.path, self.model, self.calibrated, self.known)
        if after is None:
            raise ConfigError([p for p in source.sorted() if p.severity == "error"])
        return Change(text, difference(self.before, after), (*self.notes, *source.sorted()))


def difference(before: QuantConfig, after: QuantConfig) -> tuple[Edit, ...]:
    """What one config edits that the other does not."""
    return tuple(_difference(before, after))


def _difference(before: QuantConfig, after: QuantConfig) -> Iterator[Edit]:
    was, now = ({(e.key, e.field): e for e in c.edits} for c in (before, after))
    for key, name in dict.fromkeys([*was, *now]):
        old, new = was.get((key, name)), now.get((key, name))
        first = old.after if old else new.before if new else ""
        last = new.after if new else old.before if old else ""
        if first != last or (old is None) != (new is None):  # a line that asks for the default is an edit too
            yield Edit(key, name, first, last, new.line if new else 0)

"""Selectors: one text that names many layers.

=================  ===================================================================================================
``NAME``           a layer, by any of its names; a tensor that only moves values stands for its group's layers
``head/*``         a glob over names (``*``, ``?``, ``[abc]``)
``re:^head``       a regular expression, found anywhere in a name
``op:Sigmoid``     layers with that operator, or that absorb it as their activation
``from:A..to:B``   every layer on a path from A to B, the layers A and B included; either end may be left out
``group:NAME``     all layers that share the parameters of a tensor
``boundary``       layers whose precision differs from that of a layer beside them
``not``, ``and``, ``or``, ``( )``   combine, in this order of strength, with blanks around each word
=================  ===================================================================================================

A whole text that is a name is that name, whatever characters it has. As keys of the cfg, a layer's name wins over the
name of a tensor that its group shares, this over glob, ``re:``, ``from:``, ``group:`` and combinations, these over
``op:``, this over ``boundary`` (which sees the precisions that all others give). Two of one rank that give a layer
different precisions are an error.
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from onnx import NodeProto

from hybridq.config.names import Names
from hybridq.graph.model import Layer, Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.words import nearest_hint

NESTED_REPEAT = re.compile(r"[*+}][^()]*\)[*+{]")  # (a+)+ may take forever on a name that almost fits
RANGE = re.compile(r"(?:from:(?P<start>.+?))?(?:(?:^|\.\.)to:(?P<end>.+))?")
Suggest = Callable[[str, Iterable[str]], str]
WORD_LIMIT = 100  # bounds the recursion


class Rank(IntEnum):
    """Precedence of a selector as a key; the higher wins."""

    BOUNDARY = 0
    OP = 1
    PATTERN = 2
    TENSOR = 3
    NAME = 4


class SelectorError(ValueError):
    """A selector that cannot be read or matches nothing; ``hint`` says how to go on, ``word`` is the unknown name."""

    def __init__(self, message: str, hint: str = "", word: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.word = word


@dataclass(frozen=True, slots=True)
class Selection:
    """Layers in graph order, the rank of what named them, and remarks on how it was understood."""

    layers: tuple[str, ...]
    rank: Rank
    notes: tuple[str, ...] = ()


def select(
    text: str, names: Names, precisions: Mapping[str, Precision] | None = None, suggest: Suggest = nearest_hint
) -> Selection:
    """The layers a selector names. ``precisions`` (by layer) is for ``boundary``. Raises SelectorError, never empty."""
    exact = names.layers(text)
    if exact:
        rank = Rank.NAME if text in names.model.names else Rank.TENSOR
        return Selection(exact, rank, _exact_notes(text, exact, names))
    if text in names.model.inputs:
        hint = "It takes the widest precision among the layers that read it; name those."
        raise SelectorError(f"'{text}' is a model input, no layer", hint)
    parser = _Parser(text, names, precisions or {}, suggest)
    found = parser.parse()
    if not found:
        raise SelectorError(f"'{text}' matches no layer", "`hybridq list` shows the layers.", text)
    order = tuple(x.name for x in names.model.layers if x.name in found)
    return Selection(order, parser.rank, tuple(parser.notes))


def _exact_notes(text: str, layers: tuple[str, ...], names: Names) -> tuple[str, ...]:
    if text in names.model.names:
        layer = names.model.layer[layers[0]]
        absorbed = text not in (layer.name, layer.node) and text == layer.activation
        return (
            (f"'{text}' is part of the layer '{layer.name}' ({layer.op} + {layer.activation_op})",) if absorbed else ()
        )
    shown = ", ".join(layers[:6]) + (f" and {len(layers) - 6} more" if len(layers) > 6 else "")
    return (f"'{text}' only moves values: its group's layers are meant: {shown}",)


class _Parser:
    """Recursive descent over words; the sets hold layer names."""

    def __init__(self, text: str, names: Names, precisions: Mapping[str, Precision], suggest: Suggest) -> None:
        self.names = names
        self.suggest = suggest
        self.model = names.model
        self.precisions = precisions
        self.words = self._split(text)
        self.at = 0
        self.rank = Rank.BOUNDARY
        self.notes: list[str] = []

    def parse(self) -> set[str]:
        if not self.words:
            raise SelectorError("an empty selector")
        if len(self.words) > WORD_LIMIT:
            raise SelectorError(f"a selector of more than {WORD_LIMIT} words", "Write several lines.")
        found = self._or()
        if self.at < len(self.words):
            raise SelectorError(f"unexpected '{self.words[self.at]}' in the selector", "Combine with and, or, not.")
        return found

    @staticmethod
    def _split(text: str) -> list[str]:
        """Words by blanks; a single term keeps its blanks."""
        words = text.split()
        return words if any(w in ("and", "or", "not", "(", ")") for w in words) else [text.strip()] * bool(words)

    def _or(self) -> set[str]:
        found = self._and()
        while self._take("or"):
            found = found | self._and()
        return found

    def _and(self) -> set[str]:
        found = self._not()
        while self._take("and"):
            found = found & self._not()
        return found

    def _not(self) -> set[str]:
        if self._take("not"):
            self._raise_rank(Rank.PATTERN)
            return set(self.model.layer) - self._not()
        if self._take("("):
            found = self._or()
            if not self._take(")"):
                raise SelectorError("a ( in the selector is never closed", "Put blanks around ( and ).")
            return found
        if self.at >= len(self.words):
            raise SelectorError("the selector ends where a name is expected")
        word = self.words[self.at]
        self.at += 1
        return self._term(word)

    def _take(self, word: str) -> bool:
        taken = self.at < len(self.words) and self.words[self.at] == word
        self.at += taken
        return taken

    def _raise_rank(self, rank: Rank) -> None:
        self.rank = max(self.rank, rank)

    def _term(self, word: str) -> set[str]:
        exact = self.names.layers(word)
        if exact:
            self._raise_rank(Rank.PATTERN)
            return set(exact)
        for prefix, method in _TERMS.items():
            if word.startswith(prefix):
                return method(self, word)
        if word == "boundary":
            return boundary(self.model, self.precisions)
        self._raise_rank(Rank.PATTERN)
        if any(c in word for c in "*?["):
            return self._matching(re.compile(fnmatch.translate(word)).match)
        raise self._unknown(word)

    def _unknown(self, word: str) -> SelectorError:
        if len(self.words) > 1 and (word.startswith("(") or word.endswith(")")):
            return SelectorError(f"there is no layer or tensor '{word}'", "Put blanks around each ( and ) that groups.")
        hint = self.suggest(word, self.names.known) or "`hybridq list` shows the layers."
        return SelectorError(f"there is no layer or tensor '{word}'", hint, word)

    def _matching(self, matches: Callable[[str], object]) -> set[str]:
        return {x.name for x in self.model.layers if any(matches(n) for n in (x.name, *x.aliases))}

    def _regex(self, word: str) -> set[str]:
        self._raise_rank(Rank.PATTERN)
        pattern = word.removeprefix("re:")
        if NESTED_REPEAT.search(pattern):
            raise SelectorError(f"'{pattern}' repeats a repetition", "Simplify it: (a+)+ finds what a+ finds.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return self._matching(re.compile(pattern).search)
        except (re.error, Warning, OverflowError, RecursionError) as error:
            raise SelectorError(f"'{pattern}' is no regular expression: {error}") from error

    def _op(self, word: str) -> set[str]:
        self._raise_rank(Rank.OP)
        op = word.removeprefix("op:").strip()
        own = {x.name for x in self.model.layers if x.op == op}
        absorbed = {x.name for x in self.model.layers if op and x.activation_op == op}
        if absorbed:
            layers = "1 of the layers absorbs" if len(absorbed) == 1 else f"{len(absorbed)} of the layers absorb"
            self.notes.append(f"{layers} the {op}, which has no precision of its own")
        if not own | absorbed:
            ops = dict.fromkeys(o for x in self.model.layers for o in (x.op, x.activation_op) if o)
            hint = self.suggest(op, ops)
            raise SelectorError(
                f"no layer has the operator '{op}'", f"{hint} Operators here: {', '.join(ops)}.".strip()
            )
        return own | absorbed

    def _range(self, word: str) -> set[str]:
        self._raise_rank(Rank.PATTERN)
        match = RANGE.fullmatch(word)
        if not match:
            raise SelectorError(f"'{word}' is no range", "Write from:A..to:B, from:A or to:B.")
        start, end = (self._tensor(match[g]) if match[g] else None for g in ("start", "end"))
        found = between(self.model, start, end)
        if not found:
            back = bool(between(self.model, end, start)) if start and end else False
            raise SelectorError(f"no path leads from {start} to {end}", "It leads the other way." if back else "")
        return found

    def _tensor(self, name: str) -> str:
        name = name.strip()
        if name in self.model.names:
            return self.model.names[name]
        if name in self.model.tensors:
            return name
        raise self._unknown(name)

    def _group(self, word: str) -> set[str]:
        self._raise_rank(Rank.PATTERN)
        name = word.removeprefix("group:").strip()
        layer = self.model.names.get(name)
        group = self.model.group_of.get(name) or self.names.moved.get(name)
        group = self.model.group.get(self.model.layer[layer].group) if layer else group
        if group is None:
            raise self._unknown(name)
        return set(group.layers)


_TERMS: dict[str, Callable[[_Parser, str], set[str]]] = {
    "re:": _Parser._regex,
    "op:": _Parser._op,
    "from:": _Parser._range,
    "to:": _Parser._range,
    "group:": _Parser._group,
}


def between(model: Model, start: str | None, end: str | None) -> set[str]:
    """Layers on a path from tensor ``start`` to tensor ``end``, those that write them included; None: no limit."""
    nodes = model.proto.graph.node
    after = None if start is None else _reached([(n.input, n.output) for n in nodes], start)
    before = None if end is None else _reached([(n.output, n.input) for n in reversed(nodes)], end)
    if before is not None and start is not None and start not in before:
        return set()

    def inside(node: NodeProto) -> bool:
        return all(reached is None or not reached.isdisjoint(node.output) for reached in (after, before))

    owner = {n: x.name for x in model.layers for n in (x.node, x.activation) if n}
    return {owner[n.name] for n in nodes if n.name in owner and inside(n)}


def _reached(steps: Iterable[tuple[Sequence[str], Sequence[str]]], tensor: str) -> set[str]:
    """The tensors on a way from ``tensor``, by steps in order from some tensors to others."""
    found = {tensor}
    for here, there in steps:
        if not found.isdisjoint(here):
            found.update(name for name in there if name)
    return found


def boundary(model: Model, precisions: Mapping[str, Precision]) -> set[str]:
    """Layers whose precision differs from that of a layer that writes one of their inputs or reads their output."""
    found: set[str] = set()
    for layer in model.layers:
        for other in _writers(model, layer):
            if precisions.get(other) != precisions.get(layer.name):
                found |= {other, layer.name}
    return found


def _writers(model: Model, layer: Layer) -> list[str]:
    groups = (model.group_of.get(t) for t in layer.inputs)
    return [name for g in groups if g for name in g.layers if name != layer.name]

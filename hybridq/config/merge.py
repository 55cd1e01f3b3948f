"""A cfg edited by a person, carried over to what a later step1 wrote: the edits stay, the rest is fresh."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hybridq.config.change import Draft
from hybridq.config.check import examine
from hybridq.config.edit_text import last_line
from hybridq.config.names import Names
from hybridq.config.selectors import SelectorError, select
from hybridq.config.write import LAYERS, quote, write_cfg
from hybridq.config.yaml.nodes import Mapping as MappingNode
from hybridq.config.yaml.nodes import Pair, Scalar
from hybridq.config.yaml.text import CfgText
from hybridq.errors import ConfigError, Problem
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated, LayerChoice, QuantConfig

_COMMENT = re.compile(r"[ \t]*#")
_TRAILING = re.compile(r"[ \t]+#.*$")
_KEY = re.compile(r"[^#]*:(?=[ \t]|$)")


@dataclass(frozen=True)
class Proposal:
    """What a search puts into a cfg, by layer; ``earlier`` is what the search before it chose, no edit of a person."""

    choices: Mapping[str, Precision] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, Precision] = field(default_factory=dict)

    def wrote(self, pair: Pair) -> bool:
        """Whether a line of the cfg is the earlier search's."""
        return isinstance(pair.value, Scalar) and self.earlier.get(pair.key.text) == pair.value.text


NOTHING = Proposal()


def is_edited(text: str, model: Model, calibrated: Calibrated) -> bool:
    """Whether a cfg differs from what step1 wrote by anything, comments included; line ends do not count."""
    written = write_cfg(model, calibrated).splitlines()
    return [x.rstrip() for x in text.splitlines()] != written


def merge(
    text: str,
    path: str,
    before: tuple[Model, Calibrated],
    after: tuple[Model, Calibrated],
    proposal: Proposal = NOTHING,
) -> tuple[str, list[Problem]]:
    """The cfg that step1, or a search, writes for ``after``, with the edits that ``text`` made to that of ``before``.

    What a person asked of a layer counts more than a proposal. The problems name, by their lines in ``text``, edits
    whose layer or tensor no longer exists, and whatever the new cfg makes of the others. Raises ConfigError where
    ``text`` has errors.
    """
    config, source, document = examine(text, path, *before)
    if config is None or document is None:
        raise ConfigError([p for p in source.sorted() if p.severity == "error"])
    lost: list[Problem] = []
    asked = [pair for pair in document.layers if not proposal.wrote(pair)]
    work = Draft(_proposed(proposal, config, asked, *after), path, *after)
    names = Names(after[0], after[1].entries)
    above = document.layers_pair
    flow = above is not None and isinstance(above.value, MappingNode) and above.value.flow
    kept = [pair for pair in asked if _exists(pair, names, source, lost)]
    work.add(work.document.layers_pair, LAYERS, list(_lines(kept, flow, source)))
    for key in config.edited:
        edits = [e for e in config.edits if e.key == key and e.field != "precision"]
        if key in after[1].entries:
            work.put([key], {e.field: e.after for e in edits})
        else:
            message = f"'{key}' has no parameters any more; its edits are left out"
            lost.append(_lost(message, edits[0].line, source))
    merged = _comments(source.lines, write_cfg(*before).splitlines(), work.editor.result())
    _, result, _ = examine(merged, path, *after)
    return merged, [*lost, *result.sorted()]


def _proposed(proposal: Proposal, config: QuantConfig, asked: list[Pair], model: Model, calibrated: Calibrated) -> str:
    """The cfg as a search writes it, but for the layers of which a person asked something."""
    lines = {pair.key.line for pair in asked}
    taken = {name for name, choice in config.choices.items() if choice.line in lines}
    free = {name: LayerChoice(p) for name, p in proposal.choices.items() if name not in taken}
    return write_cfg(model, calibrated, free, proposal.reasons)


def _exists(pair: Pair, names: Names, source: CfgText, lost: list[Problem]) -> bool:
    try:
        select(pair.key.text, names, {})
    except SelectorError as error:
        if "boundary" not in pair.key.text.split():
            lost.append(_lost(f"{error}; this line is left out", pair.key.line, source, error.hint))
            return False
    return True


def _lost(message: str, line: int, source: CfgText, hint: str = "") -> Problem:
    shown = source.lines[line - 1] if line else ""
    return Problem(message, source.path, line, 1, len(shown) + 1, hint, shown, "warning", "lost")


def _lines(pairs: list[Pair], flow: bool, source: CfgText) -> Iterator[str]:
    """``name: value`` of each pair; as it stands, comment included, where it has a line of its own."""
    for pair in pairs:
        key, value = pair
        if not flow and last_line(pair) == key.line:
            yield source.lines[key.line - 1][key.column - 1 :].rstrip()
        elif isinstance(value, Scalar):
            yield f"{quote(key.text)}: {value.text}"
        elif isinstance(value, MappingNode) and isinstance(value.pairs[0].value, Scalar):
            yield f"{quote(key.text)}: {{weight_only: {value.pairs[0].value.text}}}"


def _comments(old: list[str], written: list[str], new: str) -> str:
    """``new`` with the comment lines of ``old`` that step1 had not written, each above the key that it stood above."""
    usual = {x.strip() for x in written}
    lines = new.split("\n")
    waiting: list[str] = []
    for line in [*old, ""]:
        if _COMMENT.match(line):
            if line.strip() not in usual:
                waiting.append(line)
        elif waiting and line.strip():
            at = _find(line, lines)
            lines[at:at] = waiting
            waiting = []
    return "\n".join([*lines[:-1], *waiting, ""])


def _find(line: str, lines: list[str]) -> int:
    """The index of the line that has the same key; that of the last (empty) one where there is none."""
    match = _KEY.match(line)
    start = match.group() if match else line
    return next((i for i, x in enumerate(lines) if x.startswith(start)), len(lines) - 1)

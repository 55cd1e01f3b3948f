"""Many lines that say the same of different layers, summed up: one line a kind, with a count and an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from hybridq.errors import Problem

T = TypeVar("T")
FEW = 3  # lines of a kind that are all shown
MANY = 10  # errors of a kind that are all shown: each is one place to mend
OWN = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]|[-+]?\d[\d.,e%]*")  # names, lists and numbers: not of the kind
LIST = re.compile(r"'(?:,? (?:and )?')+")


def groups(items: Iterable[T], kind: Callable[[T], Hashable]) -> list[list[T]]:
    """The items by kind, the kinds in the order of their first."""
    found: dict[Hashable, list[T]] = {}
    for one in items:
        found.setdefault(kind(one), []).append(one)
    return list(found.values())


def and_more(name: str, count: int) -> str:
    """A name that stands for ``count`` of its kind."""
    return name if count == 1 else f"{name} and {count - 1} more"


def summed(problems: Sequence[Problem]) -> list[Problem]:
    """The first of each kind of which there are more than ``FEW``, and so many errors that one remedy is for all."""
    found: list[Problem] = []
    for same in groups(problems, lambda p: (p.severity, p.code, _kind(p.message), _kind(p.hint))):
        most = MANY if same[0].severity == "error" else FEW
        shown, rest = (same, []) if len(same) <= most else (same[:1], same[1:])
        found += [replace(shown[0], hint="\n".join(filter(None, [shown[0].hint, _rest(rest)]))), *shown[1:]]
    return found


def _rest(problems: Sequence[Problem]) -> str:
    if not problems:
        return ""
    lines = sorted({p.line for p in problems if p.line})
    where = f", in lines {lines[0]} to {lines[-1]}" if len(lines) > 1 else ""
    return f"and {len(problems)} more of this kind{where} (--verbose has all)"


def _kind(text: str) -> str:
    """What a sentence says, whatever it says it of."""
    return LIST.sub("'", OWN.sub("'", text))

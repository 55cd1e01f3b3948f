"""Many lines that say the same of different layers, summed up: one line a kind, with a count and an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from hybridq.errors import Problem

T = TypeVar("T")
FEW = 3  # lines of a kind that are all shown
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
    """Errors as they are; of warnings and notes the first of each kind of which there are more than ``FEW``."""
    found: list[Problem] = []
    for same in groups(problems, lambda p: (p.severity, p.code, _kind(p.message), _kind(p.hint))):
        if len(same) <= FEW or same[0].severity == "error":
            found += same
            continue
        rest = f"and {len(same) - 1} more of this kind (--verbose has all)"
        found.append(replace(same[0], hint="\n".join(filter(None, [same[0].hint, rest]))))
    return found


def _kind(text: str) -> str:
    """What a sentence says, whatever it says it of."""
    return LIST.sub("'", OWN.sub("'", text))

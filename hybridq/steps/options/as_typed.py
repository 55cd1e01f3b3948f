"""Options as a person would write them, for commands that are advised: what was given once is given again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hybridq.steps.options.validation import Checked, Extent, Flag, Option, SeveralNames, SeveralWords, Values, asked

PLACES = ("workers", "cluster", "threads")  # say where work is done, and nothing of what is measured
ONCE = ("force", "merge", "data_free")  # hold for one run


def said(options: Checked, leave: Collection[str] = ()) -> tuple[str, ...]:
    """The words for every option that is not at its default, but those to ``leave`` and those of one run or machine."""
    found = (one for one in asked(type(options)) if one.name not in {*PLACES, *ONCE, *leave})
    return tuple(word for one in found for word in _words(one, getattr(options, one.name)))


def _words(one: Option, value: Any) -> Iterator[str]:
    if value is None or value == one.default or value in ((), ""):
        return
    flag = f"--{one.name.replace('_', '-')}"
    if isinstance(one.kind, Flag):
        yield flag
        return
    for text in _texts(one, value):
        yield from (flag, text)


def _texts(one: Option, value: Any) -> Iterator[str]:
    """The values that stand behind an option, each of which needs the option's name again."""
    if isinstance(one.kind, Extent):
        yield f"{value[0]}x{value[1]}"
    elif isinstance(one.kind, (SeveralNames, SeveralWords)):
        yield ",".join(map(str, value))
    elif isinstance(one.kind, Values):
        yield from map(_number, _several(value))
    else:
        yield _number(value)


def _several(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [f"{name}={_number(one)}" for name, one in value.items()]
    return value if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Words that people write: an option's word as its enum, the nearest of several words, lists of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from hybridq.errors import OptionError

Word = TypeVar("Word", bound=StrEnum)


def word_of(enum: type[Word], given: object, option: str) -> Word:
    """The member of ``enum`` that ``given`` names. Raises OptionError with the choices and the nearest of them."""
    if isinstance(given, str) and given in list(enum):
        return enum(given)
    raise no_such_word(given, list(enum), option)


def no_such_word(given: object, choices: Iterable[str], option: str) -> OptionError:
    """The error that says which words an option takes and which of them ``given`` resembles."""
    words = [str(c) for c in choices]
    near = nearest_hint(given, words) if isinstance(given, str) else ""
    return OptionError(f"{option} {given!r} does not exist", hint=f"Choose {join(words)}. {near}".strip())


def number_of(
    given: object,
    option: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
) -> float:
    """A finite number from ``low`` (or, with ``above``, above it) to ``high``. Raises OptionError for anything else."""
    kind = "a whole number" if whole else "a number"
    if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)) or not math.isfinite(given):
        raise OptionError(f"{option} is {kind}, not {given!r}")
    if not low <= given <= high or (above and given == low):
        start = f"above {low:g}" if above else f"{low:g} or more" if high == math.inf else f"from {low:g}"
        end = "" if high == math.inf else f" up to {high:g}"
        raise OptionError(f"{option} is {kind} {start}{end}, not {given!r}")
    return given


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice that resembles ``word`` most, or the only one that begins with it; else nothing.

    Case and surrounding blanks count for little.
    """
    folded = {c.casefold(): c for c in choices}
    key = word.strip().casefold()
    if key in folded:
        return folded[key]
    found = difflib.get_close_matches(key, folded, n=1, cutoff=0.6)
    begun = [f for f in folded if len(key) > 1 and f.startswith(key)]
    found = found or (begun if len(begun) == 1 else [])
    return folded[found[0]] if found else ""


def nearest_some(word: str, choices: Iterable[str], most: int = 3) -> list[str]:
    """The choices that resemble ``word`` most, the nearest first, then those that contain it."""
    folded = {c.casefold(): c for c in choices}
    key = word.strip().casefold()
    found = difflib.get_close_matches(key, folded, n=most, cutoff=0.6)
    found += [f for f in folded if len(key) > 2 and key in f and f not in found]
    return [folded[f] for f in found[:most]]


def nearest_hint(word: str, choices: Iterable[str]) -> str:
    """``Did you mean ...?`` where a choice resembles ``word``."""
    found = nearest(word, choices)
    return f"Did you mean {found}?" if found else ""


def join(words: Iterable[str], last: str = "or") -> str:
    """``a, b or c``."""
    items = list(words)
    return f" {last} ".join(x for x in (", ".join(items[:-1]), items[-1]) if x) if items else ""

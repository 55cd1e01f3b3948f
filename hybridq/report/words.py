"""Numbers as every table of the report shows them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from hybridq.compare import OutputReport, SliceReport

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters that show nothing or turn what is around them


def decibels(value: float | None) -> str:
    """``38.4 dB``; ``exact`` where nothing differs, ``lost`` where nothing is left of the signal, ``-`` unknown."""
    if value is None:
        return "-"
    if math.isinf(value) or math.isnan(value):
        return "exact" if value > 0 else "lost"
    return f"{value:.1f} dB"


def quality(output: OutputReport) -> str:
    """An output's SQNR; of integers and booleans the share that is equal: ``98.7 % equal``."""
    if output.equal is None:
        return decibels(output.sqnr_db)
    return f"{100 * output.equal:.2f} % equal" if output.equal < 1 else "equal"


def worst(output: OutputReport) -> str:
    """The worst slice's SQNR: ``12.4 dB at axis 2 [4]``; ``-`` where the output was not cut."""
    found = output.worst
    cut = found.axis >= 0 and output.equal is None
    return f"{decibels(output.worst_sqnr_db)} at {where(output, found)}" if cut else "-"


def where(output: OutputReport, one: SliceReport) -> str:
    """Which slice: ``channel [4]``, ``axis 2 [4]``, ``axis 2 [0:4]`` for a part."""
    name = "channel" if one.axis == 1 and len(output.shape) > 2 else f"axis {one.axis}"
    return f"{name} {place(one)}"


def place(one: SliceReport) -> str:
    """Where a slice is along its axis: ``[4]``, ``[0:4]``."""
    return f"[{one.start}]" if one.stop == one.start + 1 else f"[{one.start}:{one.stop}]"


def size(count: int) -> str:
    """Bytes as B, kB or MB (powers of ten)."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def threads(count: int) -> str:
    """``1 thread``, ``4 threads``, ``all threads``."""
    return f"{count or 'all'} thread{'' if count == 1 else 's'}"


def short(text: str, most: int) -> str:
    """A name of at most ``most`` characters: the middle of a longer one is left out, both ends tell it apart."""
    if len(text) <= most:
        return text
    ahead = (most - 1) // 2
    return f"{text[:ahead]}…{text[len(text) - (most - 1 - ahead) :]}"


def sentence(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def visible(text: str, most: int = 400) -> str:
    """A text that a page can show: control and direction characters as their codes, a long one cut in the middle."""
    safe = "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in UNSEEN and c != "\n" else c for c in short(text, most)
    )
    return short(safe, most)


def few_digits(value: Any, digits: int) -> Any:
    """Plain values as JSON has them, numbers with so many significant digits; dataclasses become objects."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: few_digits(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [few_digits(v, digits) for v in value]
    if is_dataclass(value):
        return {f.name: few_digits(getattr(value, f.name), digits) for f in fields(value)}
    return value


def without(words: Sequence[str], *flags: str) -> tuple[str, ...]:
    """The words but those of some options."""
    kept, keeps = [], True
    for word in words:
        if word.startswith("--"):
            keeps = word not in flags
        if keeps:
            kept.append(word)
    return tuple(kept)

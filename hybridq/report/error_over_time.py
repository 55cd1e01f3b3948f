"""How a recurrent model fares in its loop, in words and as a table: the error over time and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridq.compare import LoopCourse, LoopReport
from hybridq.report.words import decibels, short, visible
from hybridq.report.words import sentence as capital

SAID = {
    "settles": "the error settles",
    "grows": "the error grows with time",
    "explodes": "the error explodes",
    "": "too few steps to say what becomes of the error",
}
RANK = ("explodes", "grows", "settles", "")


def worst_of(loop: LoopReport) -> str:
    """The worst course of an answer; of a state that explodes, too."""
    courses = [c.course for c in loop.courses if not c.state or c.course == "explodes"]
    return min(courses, key=RANK.index, default="")


def sentence(loop: LoopReport) -> str:
    """What goes round, how long, and what becomes of the error."""
    plural = "" if loop.sequences == 1 else "s"
    pairs = ", ".join(f"'{short(a, 30)}' from '{short(b, 30)}'" for a, b in list(loop.states.items())[:3])
    more = f" and {len(loop.states) - 3} more" if len(loop.states) > 3 else ""
    told = f"in the loop ({pairs}{more}), {loop.sequences} sequence{plural} of up to {loop.steps} steps"
    return f"{told}: {SAID[worst_of(loop)]}"


def told(loop: LoopReport) -> tuple[str, ...]:
    """All that is to be said beside the table."""
    return (capital(sentence(loop)),)


def course(one: LoopCourse) -> str:
    """The error over time in one line: SQNR of every stretch."""
    return " ".join(decibels(s.sqnr_db).removesuffix(" dB") for s in one.stretches) + f" dB, {one.course or 'short'}"


def rows(loop: LoopReport) -> Iterator[Sequence[str]]:
    """A head, then a row an output; columns are stretches of time."""
    if not loop.courses:
        return
    longest = max(loop.courses, key=lambda c: len(c.stretches))
    yield "output", "SQNR", *(f"{s.start + 1}..{s.stop}" for s in longest.stretches), "course"
    for one in sorted(loop.courses, key=lambda c: c.state):
        name = visible(one.name, 80) + (" (state)" if one.state else "")
        stretches = [decibels(s.sqnr_db) for s in one.stretches]
        blank = [""] * (len(longest.stretches) - len(stretches))
        yield name, decibels(one.sqnr_db), *stretches, *blank, one.course or "-"

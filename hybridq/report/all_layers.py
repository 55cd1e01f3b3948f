"""Advice that reaches all layers at once: another way to choose their ranges."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from hybridq.compare import ComparisonReport
from hybridq.report.advice import Action
from hybridq.report.again import calibrating, without_options
from hybridq.report.known import Known
from hybridq.report.suspects import is_spread, spread

FORCED = ("--dtype", "--algorithm", "--weights-repair")  # of all layers at once; step1 by itself looks at each
TRIMMED = "trimmed"  # the algorithm that step1 takes unasked


def algorithm(report: ComparisonReport, known: Known, *, found: bool) -> Iterator[Action]:
    """No layer is guilty: another way to choose for all reaches them; not where a finding (``found``) tells more."""
    if not is_spread(report, known):
        return
    forced = blamed(report, known)
    if forced:
        one = " and ".join(forced)
        why = f"calibrate without {one}: step1 then looks at each layer and keeps what needs more bits in float"
        cause = f"{spread(report, known)}; you passed {one}, so step1 did not choose layer by layer"
        yield Action("algorithm", why, (), None, calibrating(without(known, forced)), cause)
    elif not _searches_first(known) and not found:
        yield _other_ranges(report, known)


def blamed(report: ComparisonReport, known: Known) -> tuple[str, ...]:
    """Options that chose for all layers, where all lose; not for a board, where step1 takes 8 bits everywhere, too."""
    given = tuple(flag for flag in FORCED if flag in known.flags)
    return given if is_spread(report, known) and not known.board else ()


def ranges(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Another algorithm, where a search comes before it."""
    if _searches_first(known) and is_spread(report, known) and not blamed(report, known):
        yield _other_ranges(report, known)


def _searches_first(known: Known) -> bool:
    """Whether another algorithm seldom wins: against the default one, and where a board has 8 bits everywhere."""
    return known.algorithm == TRIMMED or bool(known.board)


def _other_ranges(report: ComparisonReport, known: Known) -> Action:
    other = "mmse" if known.algorithm != "mmse" else "percentile"
    why = f"choose the ranges of all layers by {other} (now {known.algorithm or 'unknown'})"
    if other in known.recorded:
        command = f"hybridq set {shlex.quote(known.folder)} '*' --algorithm {other}"
    else:
        command = calibrating(known, "--algorithm", other)
    return Action("algorithm", why, (), None, command, spread(report, known))


def without(known: Known, flags: tuple[str, ...]) -> Known:
    """What is known, but that some options were never given."""
    given, searched = (without_options(words, flags) for words in (known.flags, known.search_flags))
    return replace(known, flags=given, search_flags=searched)

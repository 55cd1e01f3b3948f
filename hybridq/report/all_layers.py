"""Advice that reaches all layers at once: another way to choose their ranges, a metric that counts as the task does."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from hybridq.compare import ComparisonReport
from hybridq.graph.operators import BatchRows, lookup
from hybridq.report.advice import Action
from hybridq.report.again import calibrating, comparing, without_options
from hybridq.report.known import Known
from hybridq.report.suspects import SPREAD, is_spread

FORCED = ("--dtype", "--algorithm", "--weights-repair")  # of all layers at once; step1 by itself looks at each
BEARABLE_DB = 15.0  # of an output's worst slice: some tasks bear it
TRIMMED = "trimmed"  # the algorithm that step1 takes unasked


def algorithm(report: ComparisonReport, known: Known, *, found: bool) -> Iterator[Action]:
    """No layer is guilty: another way to choose for all reaches them; not where a finding (``found``) tells more."""
    if not is_spread(report, known):
        return
    forced = blamed(report, known)
    if forced:
        one = " and ".join(forced)
        why = f"calibrate without {one}: step1 then looks at each layer and keeps what needs more bits in float"
        cause = f"{SPREAD}; you passed {one}, so step1 did not choose layer by layer"
        yield Action("algorithm", why, (), None, calibrating(without(known, forced)), cause)
    elif not _searches_first(known) and not found:
        yield _other_ranges(known)


def blamed(report: ComparisonReport, known: Known) -> tuple[str, ...]:
    """Options that chose for all layers, where all lose; not for a board, where step1 takes 8 bits everywhere, too."""
    given = tuple(flag for flag in FORCED if flag in known.flags)
    return given if is_spread(report, known) and not known.board else ()


def ranges(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Another algorithm, where a search comes before it."""
    if _searches_first(known) and is_spread(report, known) and not blamed(report, known):
        yield _other_ranges(known)


def _searches_first(known: Known) -> bool:
    """Whether another algorithm seldom wins: against the default one, and where a board has 8 bits everywhere."""
    return known.algorithm == TRIMMED or bool(known.board)


def _other_ranges(known: Known) -> Action:
    other = "mmse" if known.algorithm != "mmse" else "percentile"
    why = f"choose the ranges of all layers by {other} (now {known.algorithm or 'unknown'})"
    if other in known.recorded:
        command = f"hybridq set {shlex.quote(known.folder)} '*' --algorithm {other}"
    else:
        command = calibrating(known, "--algorithm", other)
    return Action("algorithm", why, (), None, command, SPREAD)


def metric(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Another measure, where decibels alone have judged."""
    worst = min((o.worst_sqnr_db for o in report.outputs), default=0.0)
    if report.metric is not None or worst < BEARABLE_DB:
        return
    cause, agreement = "decibels cannot say what your task bears", comparing(known, "--metric", "agreement")
    if _of_classes(report):
        why = "judge by what the task counts: how often both models choose the same class"
        yield Action("metric", why, (), None, agreement, cause)
    elif _of_rows(report):
        why = (
            "judge by what the task counts: where these numbers are scores of classes, how often both models choose "
            "the same class; else a function of your own (hybridq step3 -h)"
        )
        yield Action("metric", why, (), None, agreement, cause)
    else:
        why = "judge by what the task counts: step3 --metric takes names and functions of your own (hybridq step3 -h)"
        yield Action("metric", why, (), None, "", cause)


def _of_classes(report: ComparisonReport) -> bool:
    """Whether the one output is of class numbers or of their probabilities: ``agreement`` looks at no second one."""
    if len(report.outputs) != 1:
        return False
    (only,) = report.outputs
    rows = (lookup(x.op) for x in report.layers if x.name == only.name)
    return only.equal is not None or any(row.rows is BatchRows.AXIS and row.range is not None for row in rows)


def _of_rows(report: ComparisonReport) -> bool:
    """Whether the one output is a row of numbers a sample as a fully connected layer gives them: classes, perhaps."""
    if len(report.outputs) != 1:
        return False
    (only,) = report.outputs
    last = next((lookup(x.op) for x in report.layers if x.name == only.name), None)
    return (
        last is not None
        and last.rows in (BatchRows.GEMM, BatchRows.MATMUL)
        and len(only.shape) == 2
        and only.shape[1] > 1
    )


def without(known: Known, flags: tuple[str, ...]) -> Known:
    """What is known, but that some options were never given."""
    given, searched = (without_options(words, flags) for words in (known.flags, known.search_flags))
    return replace(known, flags=given, search_flags=searched)

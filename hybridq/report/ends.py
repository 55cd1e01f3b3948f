"""Where a model had better end: before a Concat of unlike values, before a choice by score."""

from __future__ import annotations

from collections.abc import Iterator

from hybridq.compare import ComparisonReport, OutputReport
from hybridq.report.advice import Action
from hybridq.report.again import calibrating
from hybridq.report.known import Known
from hybridq.report.words import short

HIDDEN_DB = 12.0  # of a slice below its whole output: the output's own figure hides it
SHOWN = 2  # tensors in a sentence before the rest is counted


def cut(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Where a Concat gave one scale to unlike values."""
    worst = _worst(report)
    parts = known.joined.get(worst.name, ()) if worst else ()
    if worst is not None and parts and worst.worst_sqnr_db < worst.sqnr_db - HIDDEN_DB:
        others = [o.name for o in report.outputs if o.name != worst.name]
        why = f"cut here: what is joined into '{short(worst.name, 30)}' as outputs of their own, each with its scale"
        cause = f"what is joined into '{short(worst.name, 30)}' has one scale, too coarse for its smaller parts"
        yield Action("cut", why, parts, None, calibrating(known, "--outputs", ",".join([*parts, *others])), cause)


def listed(report: ComparisonReport, known: Known) -> Iterator[Action]:
    """Where rows were chosen by score: figures row by row say little of such a model, and no bits mend them."""
    worst = _worst(report)
    parts = known.listed.get(worst.name, ()) if worst and report.metric is None else ()
    if worst is not None and parts:
        others = [o.name for o in report.outputs if o.name not in known.listed and o.name not in parts]
        more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
        names = ", ".join(f"'{short(one, 30)}'" for one in parts[:SHOWN]) + more
        why = f"end the model before that, at {names}; or judge what is found by --metric"
        cause = f"'{short(worst.name, 30)}' lists what was chosen by score, and rows of near scores change places"
        yield Action("cut", why, parts, None, calibrating(known, "--outputs", ",".join([*parts, *others])), cause)


def _worst(report: ComparisonReport) -> OutputReport | None:
    return min(report.outputs, key=lambda one: one.worst_sqnr_db, default=None)

"""A build that takes longer than float where it runs: why, and what keeps the time."""

from __future__ import annotations

from hybridq.compare import ComparisonReport
from hybridq.compare.timing import unsteady
from hybridq.report.advice import Action
from hybridq.report.again import searching
from hybridq.report.known import Known

PAYS = "--min-speedup"


def slower(report: ComparisonReport, known: Known) -> Action | None:
    """What to do where three quarters of the pairs of runs took longer than float, where the target is timed."""
    timing = report.timing
    if timing is None or known.board or not known.folder or timing.high >= 1.0 or unsteady(timing):
        return None
    cause = f"this build takes {1 / timing.speedup:.2f} times as long as float here"
    cause += f": {known.slow_kernels or 'rounding to 8 bits costs these layers more than it saves them'}"
    if PAYS in known.search_flags:
        return Action(
            "search", "where time counts, keep the float model: no choice that was tried is faster", cause=cause
        )
    why = "where time counts, keep in 8 bits what pays"
    return Action("search", why, (), None, searching(known, PAYS, "1"), cause)

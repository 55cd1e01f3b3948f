"""What may be asked of a search: its budget, its metric, its precisions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from hybridq.engines.table import ENGINES
from hybridq.errors import OptionError
from hybridq.quant.dtypes import Precision
from hybridq.search.budget import Budget
from hybridq.steps.options.comparison import METRIC
from hybridq.steps.options.validation import AnyText, Checked, Named, Number, SeveralWords, Values

WORST = "worst:"
SQNR = "SQNR of the worst output, whole; worst:DB of its worst slice against that slice's own variance."
TIME = "Seconds after which the best found is taken.  [default: a minute of CPU time, or 1,000 float inferences]"
RUNTIME = "The runtime that min_speedup is timed in.  [default: onnxruntime]"
PROFILE = "Time of each layer on the board: what RKNN's eval_perf or snpe-diagview prints, or trtexec's JSON."


def runtimes() -> list[str]:
    """The words of ``runtime``."""
    return list(ENGINES)


@dataclass(frozen=True, kw_only=True)
class ProposalOptions(Checked):
    """How far a search may go; the same words as ``hybridq auto``. Raises OptionError for what does not exist or fit.

    ``min_sqnr`` is a number of dB, ``"worst:DB"``, or both in a list.
    """

    max_high: Annotated[float | None, Number("Share of the MACs above 8 bits.  [default: 0.15]", 0, 1)] = None
    min_sqnr: Annotated[Any, Values(SQNR, "[worst:]DB")] = None
    max_drop: Annotated[float | None, Number("Most that --metric may drop against float32.", 0)] = None
    min_speedup: Annotated[float | None, Number("Speed against float32.", 0, above=True)] = None
    time: Annotated[float | None, Number(TIME, 0, above=True)] = None
    metric: Annotated[str | None, AnyText(METRIC, "NAME|FILE.py:FUNCTION")] = None
    profile: Annotated[str | None, AnyText(PROFILE, "FILE")] = None
    runtime: Annotated[str | None, Named(RUNTIME, runtimes)] = None
    precisions: Annotated[
        tuple[Precision, ...],
        SeveralWords("Precisions to choose from (uint8,int16,float32).  [default: the target's]", Precision),
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_drop is not None and not self.metric:
            raise OptionError("max_drop needs a metric", hint="Give metric FILE.py:FUNCTION.")
        _decibels(self.min_sqnr)

    @property
    def budget(self) -> Budget:
        """The limits."""
        limits = {k: getattr(self, k) for k in ("max_high", "max_drop", "min_speedup", "time")}
        return Budget(**limits, **_decibels(self.min_sqnr))


def _decibels(given: Any) -> dict[str, float]:
    """``DB``, ``worst:DB``, or several of them, as the limits of a budget."""
    found: dict[str, float] = {}
    for one in given if isinstance(given, Iterable) and not isinstance(given, str) else [given]:
        if one is None:
            continue
        worst = isinstance(one, str) and one.startswith(WORST)
        try:
            value = float(one[len(WORST) :] if worst else one)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            hint = f"Give a number of dB, or {WORST}DB for the worst slice."
            raise OptionError(f"min_sqnr {one!r} is no number of dB", hint=hint)
        found["min_worst_sqnr" if worst else "min_sqnr"] = value
    return found

"""Time per inference of two models, fairly: the same process, threads and input, alternating pairs, warmed up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from hybridq.compare.results import Timing
from hybridq.graph.runtime import Feed

WARM_UP = 3  # runs of each model that are not counted
LEAST_PAIRS, MOST_PAIRS = 7, 200
UNSTEADY = 1.5  # quartiles of the ratio farther apart than this factor say little


class Timeable(Protocol):
    """A session, of ONNX Runtime or another."""

    def run(self, names: None, feed: Any, /) -> Any:
        """All outputs."""


def time_pairs(
    one: Timeable,
    other: Timeable,
    feed: Feed,
    *,
    seconds: float,
    threads: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Alternate float and hybrid, swapping who goes first, for about ``seconds`` and at least ``LEAST_PAIRS`` pairs.

    Where sessions have one thread, ``time.process_time`` as the ``clock`` is deaf to what else the machine does.
    """
    runs = partial(one.run, None, dict(feed)), partial(other.run, None, dict(feed))
    for _ in range(WARM_UP):
        for run in runs:
            run()
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(pairs) < LEAST_PAIRS or (time.perf_counter() < end and len(pairs) < MOST_PAIRS):
        if len(pairs) % 2:
            late, early = _milliseconds(runs[1], clock), _milliseconds(runs[0], clock)
            pairs.append((early, late))
        else:
            pairs.append((_milliseconds(runs[0], clock), _milliseconds(runs[1], clock)))
    ratios = [a / b for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Timing(
        float_ms=statistics.median(a for a, _ in pairs),
        hybrid_ms=statistics.median(b for _, b in pairs),
        speedup=middle,
        low=low,
        high=high,
        pairs=len(pairs),
        threads=threads,
    )


def _milliseconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return max(1e3 * (clock() - start), 1e-6)


def unsteady(timing: Timing) -> str:
    """A warning where the pairs disagree too much for their median to mean much, else empty."""
    if timing.high < UNSTEADY * timing.low:
        return ""
    return f"times not measured steadily ({timing.pairs} pairs): run again while the machine is idle"

"""Calibration: run the float model over samples once and keep ``CalibrationStats``. Measures only, decides nothing.

One pass, constant memory: statistics are computed inside the graph (``instrument``), and what comes out of a batch is
a few numbers a tensor. Samples may be measured anywhere, in any order: the result is the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache, reduce

import onnx

from hybridq.calibration import recurrent
from hybridq.calibration.instrument import Program, instrument
from hybridq.calibration.recorder import Recorder
from hybridq.calibration.statistics import CalibrationStats
from hybridq.calibration.unbounded import softmax_readers
from hybridq.errors import DatasetError
from hybridq.execution.pool import Pool
from hybridq.execution.shared import Shared
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled, begins
from hybridq.graph.runtime import Feed, Session, session
from hybridq.graph.separated import separable, told
from hybridq.graph.states import States

Batch = tuple[int, Feed]  # index of the first sample, feed

PAIRS_ONLY = frozenset({"normal", "moving_average"})  # algorithms that need no histogram
TASK = 16  # batches that an executor's task measures at most


def calibrate(
    model: Model,
    proto: onnx.ModelProto,
    batches: Iterable[Batch],
    *,
    algorithms: AbstractSet[str] = PAIRS_ONLY,
    threads: int = 0,
    batch: int = 1,
    executor: Executor | None = None,
    workers: int = 1,
    count: int | None = None,
) -> CalibrationStats:
    """Measure the sources of every group.

    ``proto`` is the canonical float model with its weights. ``batches`` gives the index of the first sample and the
    feed of every batch; with ``batch`` above 1 the first axis of the first input counts samples. A histogram is kept
    when one of ``algorithms`` needs it. ``executor`` measures shards of the batches on ``workers`` workers; without
    one they are measured here. ``count`` batches are expected (None: any number). Raises DatasetError when there is no
    sample, and where a value is no number (with the tensor and the sample). Infinite values are left out, and told.
    """
    program = prepare(model, proto, histogram=not set(algorithms) <= PAIRS_ONLY)
    if executor is None:
        found = measure_with(program, _session(program, threads), batches, batch)
    else:
        found = _spread(program, batches, batch, Pool(executor, max(workers, 1), threads), count)
    if found.samples == 0:
        raise DatasetError("the dataset has no sample", hint="Calibration needs at least one sample.")
    return found


def prepare(model: Model, proto: onnx.ModelProto, *, histogram: bool) -> Program:
    """The instrumented model that measures the sources of every group, and what a Concat could have apart from it.

    Only the ends where the range is known, and of what Concats give; not even these where what they join tells them.
    """
    sources = [s for group in model.groups for s in group.sources]
    known = frozenset(s for group in model.groups if group.fixed is not None for s in group.sources)
    spared = told(model)
    joins = [name for name in separable(model) if name not in spared]
    ends, tensors = known.union(joins), model.tensors
    program = instrument(proto, tensors, [*sources, *joins], histogram=histogram, ends_only=ends, states=model.states)
    return replace(program, softmax=softmax_readers(model))


def measure(shared: Shared[Program], batches: Iterable[Batch], batch: int, threads: int) -> CalibrationStats:
    """One shard, in any process. The session stays for the next shard of the same program."""
    program = shared.value
    return measure_with(program, _kept_session(program, threads), batches, batch)


def _session(program: Program, threads: int) -> Session:
    return recurrent.looping(program, threads) or session(program.model, threads=threads)


@lru_cache(maxsize=1)
def _kept_session(program: Program, threads: int) -> Session:
    return _session(program, threads)


def measure_with(program: Program, one: Session, batches: Iterable[Batch], batch: int = 1) -> CalibrationStats:
    """One pass over batches with a session of the program's model."""
    recorder = Recorder(program)
    if recurrent.loops(one):
        for start, fed, said in recurrent.blocks(program, one, batches):
            recorder.add_steps(start, fed, said)
        return recorder.finish()
    rolled = Rolled(one, program.states)
    names = [o.name for o in program.outputs]
    for start, given in batches:
        feed = rolled.whole(given)
        count = len(next(iter(feed.values()))) if batch > 1 else 1
        recorder.add(start, count, feed, rolled.run(feed, names) if names else [])
    return recorder.finish()


def _spread(
    program: Program,
    batches: Iterable[Batch],
    batch: int,
    place: Pool,
    count: int | None,
) -> CalibrationStats:
    """Give shards to workers, two each at a time, and merge them as they come back."""
    found = Pile.of(program)
    shared, size = place.share(program), place.portion(count, TASK)
    shards = ((shared, shard, batch, place.threads) for shard in _shards(batches, program.states, size))
    try:
        for part in place.over(measure, shards):
            found.add(part)
        return found.merged()
    finally:
        _kept_session.cache_clear()


class Pile:
    """Statistics of parts on their way to be merged: small ones with small ones, so that it takes n log n in all."""

    def __init__(self, empty: CalibrationStats) -> None:
        self._empty = empty
        self._parts: list[CalibrationStats] = []

    @classmethod
    def of(cls, program: Program) -> Pile:
        """Nothing measured yet."""
        return cls(Recorder(program).finish())

    def add(self, part: CalibrationStats) -> None:
        """Take in one more part."""
        while self._parts and self._parts[-1].samples <= part.samples:
            part = self._parts.pop().merge(part)
        self._parts.append(part)

    def merged(self) -> CalibrationStats:
        """All of them."""
        return reduce(CalibrationStats.merge, reversed(self._parts), self._empty)


def _shards(batches: Iterable[Batch], states: States, size: int) -> Iterator[list[Batch]]:
    """Parts of ``size`` batches; of a recurrent model more, to the end of a sequence."""
    shard: list[Batch] = []
    for one in batches:
        if len(shard) >= size and begins(one[1], states):
            yield shard
            shard = []
        shard.append(one)
    if shard:
        yield shard

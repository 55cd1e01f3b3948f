"""Calibration: run the float model over samples once and keep ``CalibrationStats``. Measures only, decides nothing.

One pass, constant memory: statistics are computed inside the graph (``instrument``), and what comes out of a batch is
a few numbers a tensor. Samples may be measured anywhere, in any order: the result is the same, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.calibration import steps
from hybridq.calibration.instrument import SUBSAMPLE, Output, Program, instrument
from hybridq.calibration.statistics import INFINITE, SIGNLESS, Histogram, TensorStatistics, codes_of
from hybridq.calibration.unbounded import ENDLESS, LOSES, Whole, counting, is_odd, softmax_readers
from hybridq.errors import DatasetError, ModelError
from hybridq.execution.pool import Pool
from hybridq.execution.shared import Shared
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled, begins
from hybridq.graph.runtime import Feed, Session, session
from hybridq.graph.states import States

Batch = tuple[int, Feed]  # index of the first sample, feed

PAIRS_ONLY = frozenset({"normal", "moving_average"})  # algorithms that need no histogram
PENDING = 16  # samples whose codes wait to be counted together
TASK = 16  # batches that an executor's task measures


@dataclass(frozen=True)
class CalibrationStats:
    """What one pass measured. ``left_out`` says why a tensor was not measured."""

    samples: int
    tensors: Mapping[str, TensorStatistics]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def merge(self, other: CalibrationStats) -> CalibrationStats:
        """Samples of both; ValueError when they measured other tensors or share a sample."""
        if self.tensors.keys() != other.tensors.keys():
            raise ValueError("the two measured different tensors")
        tensors = {name: own.merge(other.tensors[name]) for name, own in self.tensors.items()}
        return CalibrationStats(self.samples + other.samples, tensors, self.left_out)


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
) -> CalibrationStats:
    """Measure the sources of every group.

    ``proto`` is the canonical float model with its weights. ``batches`` gives the index of the first sample and the
    feed of every batch; with ``batch`` above 1 the first axis of the first input counts samples. A histogram is kept
    when one of ``algorithms`` needs it. ``executor`` measures shards of the batches on ``workers`` workers; without
    one they are measured here. Raises DatasetError when there is no sample, and where a value is no number (with the
    tensor and the sample). Infinite values are left out, and told.
    """
    program = prepare(model, proto, histogram=not set(algorithms) <= PAIRS_ONLY)
    if executor is None:
        found = measure_with(program, _session(program, threads), batches, batch)
    else:
        found = _spread(program, batches, batch, threads, executor, workers)
    if found.samples == 0:
        raise DatasetError("the dataset has no sample", hint="Calibration needs at least one sample.")
    return found


def prepare(model: Model, proto: onnx.ModelProto, *, histogram: bool) -> Program:
    """The instrumented model that measures the sources of every group; only the ends where the range is known."""
    sources = [s for group in model.groups for s in group.sources]
    known = frozenset(s for group in model.groups if group.fixed is not None for s in group.sources)
    program = instrument(proto, model.tensors, sources, histogram=histogram, ends_only=known, states=model.states)
    return replace(program, softmax=softmax_readers(model))


def measure(shared: Shared[Program], batches: Iterable[Batch], batch: int, threads: int) -> CalibrationStats:
    """One shard, in any process. The session stays for the next shard of the same program."""
    program = shared.value
    return measure_with(program, _kept_session(program, threads), batches, batch)


def _session(program: Program, threads: int) -> Session:
    return steps.fetching(program, threads) if steps.suits(program) else session(program.model, threads=threads)


@lru_cache(maxsize=1)
def _kept_session(program: Program, threads: int) -> Session:
    return _session(program, threads)


def measure_with(program: Program, one: Session, batches: Iterable[Batch], batch: int = 1) -> CalibrationStats:
    """One pass over batches with a session of the program's model."""
    recorder = _Recorder(program)
    if steps.suits(program):
        for start, fed, said in steps.blocks(program, one, batches):
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
    threads: int,
    executor: Executor,
    workers: int,
) -> CalibrationStats:
    """Give shards to an executor, two a worker at a time, and merge them as they come back."""
    found = Pile.of(program)
    place = Pool(executor, max(workers, 1), threads)
    shared = place.share(program)
    shards = ((shared, shard, batch, threads) for shard in _shards(batches, program.states))
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
        return cls(_Recorder(program).finish())

    def add(self, part: CalibrationStats) -> None:
        """Take in one more part."""
        while self._parts and self._parts[-1].samples <= part.samples:
            part = self._parts.pop().merge(part)
        self._parts.append(part)

    def merged(self) -> CalibrationStats:
        """All of them."""
        return reduce(CalibrationStats.merge, reversed(self._parts), self._empty)


def _shards(batches: Iterable[Batch], states: States) -> Iterator[list[Batch]]:
    """Parts of ``TASK`` batches; of a recurrent model more, to the end of a sequence."""
    shard: list[Batch] = []
    for one in batches:
        if len(shard) >= TASK and begins(one[1], states):
            yield shard
            shard = []
        shard.append(one)
    if shard:
        yield shard


class _Recorder:
    """Gathers what the instrumented model says, in memory that grows by eight bytes a sample and tensor."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.place = {name: i for i, name in enumerate(program.tensors)}
        self.samples = 0
        self.index = np.empty(0, np.int64)
        self.pairs = np.empty((0, len(self.place), 2), np.float32)
        self.histograms: dict[str, Histogram] = {}
        self.pending: dict[str, list[tuple[int, NDArray[np.uint16]]]] = {}
        self.counting: dict[str, list[tuple[int, NDArray[np.uint16]]]] = {}  # of tensors that were looked at whole
        self.whole = Whole(program.model)
        self.unbounded: set[str] = set()
        self.waiting = 0

    def add(self, start: int, count: int, feed: Feed, outputs: Sequence[NDArray[Any]]) -> None:
        """Take in one batch of ``count`` samples, the first numbered ``start``."""
        self._grow(count)
        pairs = self.pairs[self.samples : self.samples + count]
        pairs[:] = (np.inf, -np.inf)
        for name in self.program.inputs:
            self._add_input(start, count, name, feed, pairs)
        self._refuse_nan_fed(start, pairs[:, : len(self.program.inputs)])
        for output, values in zip(self.program.outputs, outputs, strict=True):
            self._add_output(start, output, values, feed, pairs)
        for place in (self.place[name] for name in self.program.zeros):
            pairs[pairs[:, place, 1] > -np.inf, place, 0] = 0.0  # -inf: it has no element
        self._settle(start, feed, pairs)
        self.index[self.samples : self.samples + count] = np.arange(start, start + count)
        self.samples += count
        self.waiting += count
        if self.waiting >= PENDING:
            self._count()

    def add_steps(self, start: int, fed: Sequence[Feed], said: Sequence[NDArray[Any]]) -> None:
        """Take in consecutive samples, ``said`` with a row for each; each by itself where one must be looked at."""
        whole = steps.together(self.program, fed)
        ends = [x for o, x in zip(self.program.outputs, said, strict=True) if o.kind != "sample"]
        if all(_is_plain(x, bool(self.program.softmax)) for x in (*ends, *whole.values())):
            self.add(start, len(fed), whole, said)
            return
        for i, feed in enumerate(fed):
            self.add(start + i, 1, feed, [x[i : i + 1] for x in said])

    def _grow(self, count: int) -> None:
        if self.samples + count > len(self.index):
            room = max(2 * len(self.index), self.samples + count, PENDING)
            self.index = np.resize(self.index, room) if len(self.index) else np.zeros(room, np.int64)
            grown = np.zeros((room, *self.pairs.shape[1:]), np.float32)
            grown[: self.samples] = self.pairs[: self.samples]
            self.pairs = grown

    def _add_input(self, start: int, count: int, name: str, feed: Feed, pairs: NDArray[np.float32]) -> None:
        values = np.ascontiguousarray(feed[name], np.float32)
        rows = _rows(values, count)
        pairs[:, self.place[name], 0] = rows.min(axis=1, initial=np.inf)
        pairs[:, self.place[name], 1] = rows.max(axis=1, initial=-np.inf)
        if self.program.histogram:
            self._wait(name, start, _subsample(rows))

    def _add_output(
        self, start: int, output: Output, values: NDArray[np.float32], feed: Feed, pairs: NDArray[np.float32]
    ) -> None:
        if output.kind == "sample":
            self._wait(output.name, start, values.reshape(len(values), math.prod(values.shape[1:])))
            return
        if output.kind == "sum":
            self._check_sums(start, output, values, feed)
            return
        values = values.reshape(len(values), math.prod(values.shape[1:]))
        starts = [c.start for c in output.columns]
        places = [self.place[c.tensor] for c in output.columns]
        side, extreme, least = (1, np.maximum, -np.inf) if output.kind == "max" else (0, np.minimum, np.inf)
        found = extreme.reduceat(values, starts, axis=1)
        pairs[:, places, side] = found if len(found) == len(pairs) else extreme.reduce(found, axis=0, initial=least)

    def _check_sums(self, start: int, output: Output, sums: NDArray[np.float32], feed: Feed) -> None:
        """A maximum may pass over NaN; what reaches an output of the model shows in its sum, as may inf - inf."""
        for row, column in np.argwhere(np.isnan(sums)).tolist():
            name = output.columns[column].tensor
            if np.isnan(self.whole.values(feed, [name])[name]).any():
                raise _not_a_number(self.program, name, start + row)

    def _refuse_nan_fed(self, start: int, pairs: NDArray[np.float32]) -> None:
        for sample, place, _ in np.argwhere(np.isnan(pairs)).tolist():
            raise _not_a_number(self.program, self.program.tensors[place], start + sample)

    def _refuse_nan(self, start: int, feed: Feed, pairs: NDArray[np.float32]) -> None:
        """Refuse NaN that reaches an output; a model may get rid of its own, as attention does of rows all masked."""
        ends = self.whole.values(feed, self.program.ends).values()
        if any(np.isnan(values).any() for values in ends if values.dtype.kind == "f"):
            self._refuse_nan_fed(start, pairs)

    def _settle(self, start: int, feed: Feed, pairs: NDArray[np.float32]) -> None:
        """Look at tensors whose extremes are infinite, no numbers, or no measure of what counts."""
        if np.isnan(pairs).any():
            self._refuse_nan(start, feed, pairs)
        softmax = self.program.softmax
        if not softmax and np.abs(pairs).max(initial=0.0, where=pairs[..., :1] <= pairs[..., 1:]) < ENDLESS:
            return
        odd = [
            name
            for name, place in self.place.items()
            if any(is_odd(low, high, softmax.get(name)) for low, high in pairs[:, place].tolist())
        ]
        names = {name: softmax[name].tensor if name in softmax else name for name in odd}
        values = self.whole.values(feed, list(names.values())) if odd else {}
        for name in odd:
            self._look(start, name, values[names[name]], pairs[:, self.place[name]])

    def _look(self, start: int, name: str, values: NDArray[np.float32], pairs: NDArray[np.float32]) -> None:
        """Measure one tensor by its values, the samples of a batch each by its own where they lie apart."""
        softmax, count = self.program.softmax.get(name), len(pairs)
        parts = np.split(values, count) if values.ndim and len(values) == count else [values] * count
        for i, part in enumerate(parts):
            kept = counting(part, softmax)
            if kept.size < part.size:
                self.unbounded.add(name)
            pairs[i] = kept.min(initial=np.inf), kept.max(initial=-np.inf)
            codes = codes_of(_subsample(kept.reshape(1, -1)))
            self.counting.setdefault(name, []).append((start, codes))

    def _wait(self, name: str, start: int, values: NDArray[np.float32]) -> None:
        self.pending.setdefault(name, []).append((start, np.ascontiguousarray(codes_of(values))))

    def _count(self) -> None:
        """Count what waits: many samples of a tensor at once."""
        for name in self.program.inputs:
            self._count_codes(name, self._left(name, self.pending.get(name, [])))
        for output in self.program.outputs:
            waiting = self.pending.get(output.name, [])
            for c in output.columns if waiting else ():
                last = c.start + c.width if c.width else None
                held = [(start, codes[:, c.start : last]) for start, codes in waiting]
                self._count_codes(c.tensor, self._left(c.tensor, held))
        self.pending.clear()
        self.counting.clear()
        self.waiting = 0

    def _left(self, tensor: str, waiting: list[tuple[int, NDArray[np.uint16]]]) -> list[tuple[int, NDArray[np.uint16]]]:
        """The codes to count: those of values that count where the tensor was looked at whole."""
        counting = self.counting.get(tensor, [])
        starts = {start for start, _ in counting}
        return [*((start, codes) for start, codes in waiting if start not in starts), *counting]

    def _count_codes(self, tensor: str, waiting: list[tuple[int, NDArray[np.uint16]]]) -> None:
        if not waiting:
            return
        codes = np.concatenate([codes.reshape(-1) for _, codes in waiting])
        finite = (codes & SIGNLESS) < INFINITE
        if not finite.all():  # NaN that a maximum passed over, and no output shows
            self.unbounded.add(tensor)
            codes = codes[finite]
        counted = Histogram.of_codes(codes)
        self.histograms[tensor] = self.histograms.get(tensor, Histogram()) + counted

    def finish(self) -> CalibrationStats:
        """Everything taken in so far."""
        self._count()
        order = np.argsort(self.index[: self.samples], kind="stable")
        index, pairs = self.index[: self.samples][order], self.pairs[: self.samples][order]
        empty = Histogram() if self.program.histogram else None
        tensors = {
            name: TensorStatistics(
                index, np.ascontiguousarray(pairs[:, i]), self.histograms.get(name, empty), name in self.unbounded
            )
            for name, i in self.place.items()
        }
        return CalibrationStats(self.samples, tensors, self.program.left_out)


def _is_plain(values: NDArray[Any], softmax: bool) -> bool:
    """Whether no tensor with such values needs to be looked at."""
    reach = float(np.abs(values).max(initial=0.0))  # NaN where one is
    return reach < (LOSES if softmax else ENDLESS)


def _rows(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """A batch as (samples, elements); one row where its first axis does not count the samples."""
    rows = count if values.ndim and len(values) == count else 1
    return values.reshape(rows, values.size // rows)


def _subsample(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every n-th element of each row, so that about ``SUBSAMPLE`` are left."""
    step = -(-rows.shape[1] // SUBSAMPLE)
    return np.ascontiguousarray(rows[:, :: max(step, 1)])


def _not_a_number(program: Program, tensor: str, sample: int) -> NotANumberError:
    if tensor in program.inputs:
        return NotANumberError(f"input '{tensor}' holds NaN", sample, "Look at that sample, and at mean and std.")
    hint = "The float model gives NaN on that sample: look at it before quantizing."
    return NotANumberError(f"tensor '{tensor}' holds NaN", sample, hint)


class NotANumberError(ModelError):
    """A sample on which the float model holds NaN; ``sample`` counts from 0."""

    def __init__(self, said: str, sample: int, hint: str, place: str = "") -> None:
        super().__init__(f"{said} in {place or f'sample {sample}'}", hint=hint)
        self.said, self.sample, self.hint = said, sample, hint

    def at(self, place: str) -> NotANumberError:
        """The same with the sample's file."""
        return NotANumberError(self.said, self.sample, self.hint, place)

    def __reduce__(self) -> tuple[type[NotANumberError], tuple[str, int, str]]:
        return NotANumberError, (self.said, self.sample, self.hint)

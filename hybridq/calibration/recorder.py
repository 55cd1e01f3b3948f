"""What the instrumented model says of samples, gathered to statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.calibration.instrument import SUBSAMPLE, Output, Program
from hybridq.calibration.statistics import INFINITE, SIGNLESS, CalibrationStats, Histogram, TensorStatistics, codes_of
from hybridq.calibration.unbounded import ENDLESS, LOSES, Whole, counting, is_odd
from hybridq.errors import ModelError
from hybridq.graph.runtime import Feed

Batch = tuple[int, Feed]  # index of the first sample, feed


PENDING = 16  # samples whose codes wait to be counted together
HELD = 1 << 21  # numbers of steps that wait at least


class Recorder:
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
        self.waiting = self.held = 0

    def add(self, start: int, count: int, feed: Feed, outputs: Sequence[NDArray[Any]], *, plain: bool = False) -> None:
        """Take in one batch of ``count`` samples, the first numbered ``start``; ``plain``: none needs a look."""
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
        if not plain:
            self._settle(start, feed, pairs)
        self.index[self.samples : self.samples + count] = np.arange(start, start + count)
        self.samples += count
        self.waiting += count
        if self.waiting >= PENDING and (self.held >= HELD or not plain):
            self._count()

    def add_steps(self, start: int, fed: Feed, said: Sequence[NDArray[Any]]) -> None:
        """Take in consecutive samples, ``fed`` and ``said`` with a row for each; one by one where one is to be seen."""
        whole = {name: fed[name] for name in self.program.inputs}
        count = len(next(iter(fed.values())))
        ends = [(o, x) for o, x in zip(self.program.outputs, said, strict=True) if o.kind != "sample"]
        inside = all(_is_plain(x, self._limits(o)) for o, x in ends)
        if inside and all(_is_plain(x, LOSES if n in self.program.softmax else ENDLESS) for n, x in whole.items()):
            self.add(start, count, whole, said, plain=True)
            return
        for i in range(count):
            feed = {name: values[i] for name, values in fed.items()}
            self.add(start + i, 1, feed, [x[i : i + 1] for x in said])

    def _limits(self, output: Output) -> NDArray[np.float64]:
        """The size from which on a value of each column makes its tensor one to be looked at."""
        loses = [c.tensor in self.program.softmax and output.kind != "sum" for c in output.columns]
        return np.repeat(np.where(loses, LOSES, ENDLESS), [c.width for c in output.columns])

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
        self.held += values.size

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
        self.waiting = self.held = 0

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


def _is_plain(values: NDArray[Any], limits: NDArray[np.float64] | float) -> bool:
    """Whether all values are numbers smaller than their limits."""
    return bool((np.abs(values) < limits).all())


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

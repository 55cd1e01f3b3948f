"""``Dataset``: samples as feeds, one at a time or stacked, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hybridq.dataset.arrays import Reader
from hybridq.dataset.preprocessing import Preprocessing
from hybridq.dataset.sequences import Sequenced, zeros
from hybridq.dataset.sources import (
    FileSource,
    Picked,
    Row,
    Source,
)
from hybridq.dataset.spec import Array, InputSpec, Sample
from hybridq.errors import DatasetError, Problem


@dataclass(frozen=True)
class Dataset:
    """Samples of a model's inputs, read lazily and in order; walking through it again reads them again.

    ``start`` and ``stop`` bound the rows of ``source``. ``path`` names the list, folder or file, for messages.
    """

    source: Source
    inputs: tuple[InputSpec, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    start: int = 0
    stop: int | None = None
    sizing: tuple[Problem, ...] = ()

    @property
    def path(self) -> str:
        """The list, folder or file; empty for feeds made in Python."""
        return self.source.path

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What opening found worth saying."""
        return (*self.source.notes, *self.sizing)

    @property
    def count(self) -> int | None:
        """The number of samples, None where only walking tells."""
        if self.source.count is None:
            return None
        return len(range(self.source.count)[self.start : self.stop])

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("this source does not know its number of samples")
        return self.count

    def __bool__(self) -> bool:
        return True

    def part(self, start: int, stop: int | None) -> Dataset:
        """The samples ``[start, stop)`` of this one, for shards."""
        first, last = self.start + start, None if stop is None else self.start + stop
        ends = [end for end in (last, self.stop) if end is not None]
        return replace(self, start=first, stop=min(ends) if ends else None)

    @property
    def recurrent(self) -> bool:
        """Whether samples are steps in order."""
        return any(spec.state for spec in self.inputs)

    @property
    def splits(self) -> bool:
        """Whether parts of it can be read anywhere: its samples lie in files of their own."""
        source = self.source
        while isinstance(source, (Picked, Sequenced)):
            source = source.source
        return isinstance(source, FileSource)

    def shards(self, size: int) -> Iterator[tuple[int, Dataset]]:
        """Parts of ``size`` samples with the number of their first, for other processes in whatever folder they run.

        A sequence is never split: a part ends where the next one begins.
        """
        first, held = 0, list[Row]()
        for row in islice(self.source.rows(), self.start, self.stop):
            if len(held) >= size and (row.begins or not self.recurrent):
                yield first, self._holding(held)
                first, held = first + len(held), []
            held.append(replace(row, values=_absolute(row)))
        if held:
            yield first, self._holding(held)

    def _holding(self, rows: list[Row]) -> Dataset:
        return replace(self, source=FileSource(self.path, tuple(rows)), start=0, stop=None, sizing=())

    def __iter__(self) -> Iterator[Sample]:
        readers = {spec.name: Reader(spec, self.preprocessing) for spec in self.inputs}
        empty = self.start == 0 and self.stop != 0
        for row in islice(self.source.rows(), self.start, self.stop):
            empty = False
            yield self._sample(row, readers)
        if empty:
            raise DatasetError("the dataset is empty", path=self.path, hint="Give at least one sample.")

    def batches(self, size: int = 1, each: Callable[[Sample], object] | None = None) -> Iterator[Sample]:
        """Samples stacked along the model's batch axis, the last one possibly smaller.

        ``each`` is called with every single sample first (an ``Audit.add``). Samples of different shapes are never
        stacked: a new batch begins. Raises DatasetError when ``size`` is above 1 and the model's batch is fixed.
        """
        if size > 1 and self.recurrent:
            hint = "Leave --batch out, or say --state none where samples stand alone."
            raise DatasetError("steps of a recurrent model follow each other, so they cannot be stacked", hint=hint)
        axes = batch_axes(self.inputs) if size > 1 else {}
        if size > 1 and not axes:
            hint = "Leave --batch out, or export the model with a dynamic batch."
            raise DatasetError("the model's batch is fixed, so samples cannot be stacked", hint=hint)
        if size < 1:
            raise DatasetError(f"a batch of {size} samples is none", hint="Give --batch 1 or more.")
        waiting: list[Sample] = []
        for sample in self:
            if each is not None:
                each(sample)
            if waiting and not _stackable(waiting[0], sample, axes):
                yield stacked(waiting, axes)
                waiting = []
            waiting.append(sample)
            if len(waiting) == size:
                yield stacked(waiting, axes)
                waiting = []
        if waiting:
            yield stacked(waiting, axes)

    def _sample(self, row: Row, readers: dict[str, Reader]) -> Sample:
        feed: dict[str, Array] = {}
        problems: list[Problem] = []
        for name, reader in readers.items():
            if reader.spec.state and (not row.begins or name not in row.values):
                continue
            try:
                feed[name] = reader.read(row.values[name])
            except DatasetError as error:
                problems += [self._located(problem, row, name) for problem in error.problems]
        if problems:
            raise DatasetError(problems)
        if row.begins:
            feed.update({s.name: zeros(s, feed, self.inputs) for s in self.inputs if s.state and s.name not in feed})
        return Sample(row.name, row.line, feed, row.files)

    def _located(self, problem: Problem, row: Row, name: str) -> Problem:
        subject = repr(row.files[name]) if name in row.files else f"{row.name}, input {name!r}"
        return replace(problem, message=f"{subject} {problem.message}", path=self.path, line=row.line)


def _absolute(row: Row) -> dict[str, Any]:
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in row.values.items()}


def batch_axes(inputs: Sequence[InputSpec]) -> dict[str, int | None]:
    """The axis of each input that counts samples; empty when the model's batch is fixed.

    It is a dynamic axis 0, or the axis of the same name (a recurrent state ``[2, N, 128]``); None: the input has no
    such axis and must be the same for all samples of a batch.
    """
    first = [spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)]
    if not first:
        return {}
    found: dict[str, int | None] = {}
    for spec in inputs:
        shape = spec.shape or ()
        if shape and isinstance(shape[0], str):
            found[spec.name] = 0
        else:
            found[spec.name] = shape.index(first[0]) if first[0] in shape else None
    return found


def _stackable(one: Sample, other: Sample, axes: dict[str, int | None]) -> bool:
    for name, axis in axes.items():
        a, b = one.feed[name], other.feed[name]
        if axis is None:
            if not np.array_equal(a, b):
                return False
        elif a.ndim != b.ndim or a.shape[:axis] + a.shape[axis + 1 :] != b.shape[:axis] + b.shape[axis + 1 :]:
            return False
    return True


def stacked(samples: Sequence[Sample], axes: dict[str, int | None]) -> Sample:
    """Several samples as one feed, in order."""
    if len(samples) == 1:
        return samples[0]
    feed: dict[str, Array] = {}
    for name, axis in axes.items():
        parts = [sample.feed[name] for sample in samples]
        feed[name] = parts[0] if axis is None else np.concatenate(parts, axis)
    names = f"{samples[0].name} .. {samples[-1].name}"
    return Sample(names, samples[0].line, feed, samples[0].files, sum(sample.count for sample in samples))

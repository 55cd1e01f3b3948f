"""``open_dataset``: samples from any source as feeds, one at a time, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hybridq.dataset.archives import ArchiveSource, read_archive, read_array
from hybridq.dataset.arrays import Reader
from hybridq.dataset.images import SUFFIXES, decode, is_image
from hybridq.dataset.preprocessing import Preprocessing, Resize
from hybridq.dataset.sequences import Follow, Sequenced, starts_of, steps_of, zeros
from hybridq.dataset.sources import (
    FileSource,
    IterableSource,
    Picked,
    Row,
    Source,
    read_folder,
    read_list,
    single_file,
    spread,
)
from hybridq.dataset.spec import Array, InputSpec, Sample, is_dynamic
from hybridq.errors import DatasetError, Problem
from hybridq.files.reading import look_at

DatasetSource: TypeAlias = str | os.PathLike[str] | Iterable[Any] | Callable[[], Iterable[Any]]


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


def open_dataset(
    source: DatasetSource,
    inputs: Sequence[InputSpec],
    preprocessing: Preprocessing | None = None,
    samples: int | None = None,
    sequence: int | None = None,
    follow: Follow | None = None,
) -> Dataset:
    """Open samples; nothing is decoded yet.

    ``source`` is a list such as ``dataset.txt``, a folder of images and ``.npy``, an ``.npz``, one image or ``.npy``;
    or an iterable of feeds (dicts by input name; arrays or paths for a model with one input), or a function returning
    one, which makes a generator re-iterable. ``inputs`` are the model's inputs in order, the columns of a list;
    ``preprocessing`` says how values enter, by default as they are. ``samples``: only so many, spread over the list,
    the folder or the arrays, of an iterator the first, of a recurrent model whole sequences as far as they go.

    Where an input is a state, a new sequence begins after ``sequence`` steps, by default where the samples say so; with
    ``follow``, the float model from a whole feed to the states that the next step takes, too where a sample brings
    states that the model did not make of the sample before. Raises DatasetError with every problem of the list at once:
    missing files, wrong columns, options that do not suit the inputs.
    """
    inputs, preprocessing = tuple(inputs), preprocessing or Preprocessing()
    if samples is not None and samples < 1:
        raise DatasetError(f"{samples} samples asked for", hint="Give --samples 1 or more.")
    if problems := preprocessing.problems(inputs):
        raise DatasetError(problems)
    recurrent = any(spec.state for spec in inputs)
    opened = _opened(source, inputs, None if recurrent else samples)
    preprocessing, notes = _sized(opened, inputs, preprocessing)
    if recurrent:
        opened = _in_order(opened, [Reader(s, preprocessing) for s in inputs], sequence, follow)
    found = Dataset(_picked(opened, samples), inputs, preprocessing, 0, samples, notes)
    if found.count == 0:
        raise DatasetError("the dataset is empty", path=found.path, hint="Give at least one sample.")
    return found


def _picked(source: Source, samples: int | None) -> Source:
    """Some samples of a source that has more."""
    if samples is None or source.count is None or samples >= source.count:
        return source
    return Picked(
        source, source.pick(samples) if isinstance(source, Sequenced) else tuple(spread(source.count, samples))
    )


def _in_order(source: Source, readers: Sequence[Reader], every: int | None, follow: Follow | None) -> Sequenced:
    """The steps of a recurrent model, with where each sequence begins."""
    inputs = [r.spec for r in readers]
    steps = _sequenced(source, inputs, every)
    if follow is not None and every is None and _brings_states(steps.source, inputs):
        return replace(steps, starts=starts_of(steps, readers, follow))
    return steps


def _brings_states(source: Source, inputs: Sequence[InputSpec]) -> bool:
    """Whether samples bring states of their own, and can be looked at without being used up."""
    names = {spec.name for spec in inputs if spec.state}
    if isinstance(source, FileSource):
        return any(names & row.values.keys() for row in source.known[1:])
    if isinstance(source, ArchiveSource):
        return any(source.stacks[n].count is not None for n in names & source.stacks.keys())
    feeds = source.feeds if isinstance(source, IterableSource) else ()
    return isinstance(feeds, Sequence) and any(isinstance(f, dict) and names & f.keys() for f in feeds[1:])


def _sequenced(source: Source, inputs: Sequence[InputSpec], every: int | None) -> Sequenced:
    """The steps of a recurrent model; a line of a list may hold many."""
    if not isinstance(source, FileSource):
        return Sequenced(source, every)
    rows, problems = list[Row](), list[Problem]()
    for row in source.known:
        try:
            rows += steps_of(row, inputs)
        except DatasetError as error:
            problems += [replace(p, path=source.path, line=row.line) for p in error.problems]
    if problems:
        raise DatasetError(problems)
    return Sequenced(replace(source, known=tuple(rows)), every)


def _opened(source: DatasetSource, inputs: tuple[InputSpec, ...], samples: int | None) -> Source:
    if isinstance(source, (str, os.PathLike)):
        return _open_path(Path(source), inputs, samples)
    if not (isinstance(source, Iterable) or callable(source)):
        raise DatasetError(f"{type(source).__name__} is no dataset", hint="Give a path or an iterable of feeds.")
    return _iterable(source, inputs)


def _sized(
    source: Source, inputs: Sequence[InputSpec], preprocessing: Preprocessing
) -> tuple[Preprocessing, tuple[Problem, ...]]:
    """A size for pictures to be fitted into where the model leaves it open: the first picture's, told."""
    fits = preprocessing.resize is not Resize.STRETCH and preprocessing.size is None
    if not fits or not isinstance(source, FileSource):
        return preprocessing, ()
    for spec in inputs:
        first, layout = source.known[0].values.get(spec.name), spec.layout
        if layout is None or not isinstance(first, Path) or not is_image(first):
            continue
        if any(is_dynamic((spec.shape or ())[axis]) for axis in (layout.height, layout.width)):
            picture = decode(first, layout.channels)
            size = picture.height, picture.width
            message = (
                f"--resize {preprocessing.resize} has no size to go by: '{spec.name}' leaves height and width open"
            )
            hint = f"The first picture's is taken, {size[0]}x{size[1]}. Say another with --size HEIGHTxWIDTH."
            told = Problem(message, source.path, hint=hint, severity="note", code="size")
            return replace(preprocessing, size=size), (told,)
    return preprocessing, ()


def _iterable(source: Any, inputs: tuple[InputSpec, ...]) -> IterableSource:
    if isinstance(source, dict):
        source = [source]  # one feed; walking through a dict would give its keys
    return IterableSource(source, inputs)


def _open_path(path: Path, inputs: tuple[InputSpec, ...], samples: int | None) -> Source:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        hint = "A dataset is a list such as dataset.txt, a folder, an .npz, or one image or .npy."
        said = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be opened: {error}"
        raise DatasetError(said, path=str(path), hint=hint) from None
    suffix = path.suffix.lower()
    if path.is_dir():
        return read_folder(path, inputs, samples)
    look_at(path, DatasetError)
    if suffix == ".npz":
        return read_archive(path, inputs)
    if suffix == ".npy":
        return read_array(path, inputs)
    return single_file(path, inputs) if suffix in SUFFIXES else read_list(path, inputs, samples)


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

"""``open_dataset``: a list, a folder, an archive, arrays or an iterator as samples that are read when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from hybridq.dataset.archives import ArchiveSource, read_archive, read_array
from hybridq.dataset.arrays import Reader
from hybridq.dataset.feeds import Dataset
from hybridq.dataset.images import SUFFIXES, decode, is_image
from hybridq.dataset.preprocessing import Preprocessing, Resize
from hybridq.dataset.sequences import Follow, Sequenced, starts_of, steps_of
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
from hybridq.dataset.spec import InputSpec, is_dynamic
from hybridq.errors import DatasetError, Problem
from hybridq.files.reading import look_at

DatasetSource: TypeAlias = str | os.PathLike[str] | Iterable[Any] | Callable[[], Iterable[Any]]


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

"""Arrays that hold many samples: ``.npz`` archives and a stacked ``.npy``, read one sample at a time."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from hybridq.dataset.arrays import NPY_ERRORS, NUMERIC, fit_shape, load_npy, npy_header
from hybridq.dataset.sources import FileSource, Row, single_file, single_input
from hybridq.dataset.spec import Array, InputSpec, shape_fits, show_shape
from hybridq.errors import DatasetError, Problem

BLOCK = 1 << 20  # bytes that are passed over at once
WHOLE = 1 << 30  # bytes of an array that has to be held as a whole
ZIP_ERRORS = (*NPY_ERRORS, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Stack:
    """One array of an archive. ``count`` is None when it is the same for every sample.

    ``batched``: samples are counted along the input's own batch axis, not along one more.
    """

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    count: int | None
    batched: bool


@dataclass(frozen=True)
class ArchiveSource:
    """Samples of an ``.npz``, streamed: no array is held as a whole unless it is the same for every sample."""

    path: str
    stacks: dict[str, Stack]
    notes: tuple[Problem, ...] = ()

    @property
    def count(self) -> int | None:
        """The number of samples."""
        return next((s.count for s in self.stacks.values() if s.count is not None), 1)

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """One row a sample; what lies between the picked ones is passed over."""
        numbers = range(self.count or 0) if picks is None else picks
        with ExitStack() as opened:
            archive = opened.enter_context(zipfile.ZipFile(self.path))
            streams = {name: _values(opened, archive, stack, numbers) for name, stack in self.stacks.items()}
            for number in numbers:
                try:
                    values = {name: next(stream) for name, stream in streams.items()}
                except ZIP_ERRORS as error:
                    raise DatasetError(f"sample {number + 1} is damaged: {error}", path=self.path) from error
                yield Row(f"sample {number + 1}", 0, values)


def read_archive(path: Path, inputs: Sequence[InputSpec]) -> ArchiveSource:
    """An ``.npz`` whose keys are the inputs' names.

    An array counts samples along a leading axis that the input does not have, or along the input's batch axis; one
    without either is the same for every sample. A state may be missing. Raises DatasetError when keys, shapes or
    counts do not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            inputs = [s for s in inputs if not s.state or s.name in members]
            wanted, notes = _match(members, inputs, str(path))
            heads = {name: _head(archive, members[key]) for name, key in wanted.items()}
    except ZIP_ERRORS as error:
        raise DatasetError(f"is no readable .npz: {error}", path=str(path), hint="Write it with np.savez.") from error
    stacks = {s.name: stack_of(members[wanted[s.name]], *heads[s.name], s, str(path)) for s in inputs}
    counts = {name: stack.count for name, stack in stacks.items() if stack.count is not None}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise DatasetError(f"the arrays count different numbers of samples: {said}", path=str(path))
    if 0 in counts.values():
        raise DatasetError("the archive holds no sample", path=str(path))
    return ArchiveSource(str(path), stacks, notes)


def read_array(path: Path, inputs: Sequence[InputSpec]) -> FileSource:
    """A single ``.npy``: one sample, or many along the batch axis or a leading axis of its own."""
    spec = single_input(inputs, str(path), "A single file")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.ndarray):
            raise TypeError("not a single array")
    except NPY_ERRORS:
        values = load_npy(path)  # says what is wrong
    try:
        stack = stack_of(path.name, values.shape, values.dtype, False, spec, str(path))
    except DatasetError:
        return single_file(path, inputs)  # reading it will say that the shape is wrong
    if stack.count is None or (stack.count == 1 and stack.batched):
        return single_file(path, inputs)
    if stack.count == 0:
        raise DatasetError("the array holds no sample", path=str(path))
    rows = (
        Row(f"{path.name}[{n}]", 0, {spec.name: one_of(values, n, stack)}, {spec.name: f"{path.name}[{n}]"})
        for n in range(stack.count)
    )
    return FileSource(str(path), tuple(rows))


def _match(
    members: dict[str, str], inputs: Sequence[InputSpec], path: str
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Input name -> key. By name; the only key for an only input; ``arr_0, arr_1, ...`` in the order of inputs."""
    names = [spec.name for spec in inputs]
    by_place = [f"arr_{n}" for n in range(len(names))]
    if all(name in members for name in names):
        found = dict(zip(names, names, strict=True))
    elif all(name in members for name in by_place) and len(members) == len(names):
        found = dict(zip(names, by_place, strict=True))
    elif len(members) == len(names) == 1:
        found = {names[0]: next(iter(members))}
    else:
        missing = [name for name in names if name not in members]
        hint = f"It holds {', '.join(map(repr, sorted(members))) or 'nothing'}; name the arrays as the inputs."
        raise DatasetError([Problem(f"holds nothing for input {name!r}", path, hint=hint) for name in missing])
    extra = sorted(set(members) - set(found.values()))
    said = f"left out, being no input of the model: {', '.join(extra)}"
    return found, (Problem(said, path, severity="note", code="left-out"),) if extra else ()


def _head(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, type and order of an array. Raises ValueError where the archive does not hold as much as it speaks of."""
    with archive.open(member) as file:
        shape, fortran, dtype = npy_header(file)
    size, there = math.prod(shape) * dtype.itemsize, archive.getinfo(member).file_size
    if size > there:
        raise ValueError(f"the header of {member} speaks of {size} bytes, but the archive holds {there}")
    if fortran and size > WHOLE:
        raise ValueError(f"{member} is in Fortran order, and too large to be held as a whole: np.ascontiguousarray")
    return shape, dtype, fortran


def stack_of(
    member: str, shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool, spec: InputSpec, path: str
) -> Stack:
    """How an array of this shape counts samples. Raises DatasetError when it fits in no way."""
    if dtype.kind not in NUMERIC:
        hint = "Save plain numbers: array.astype(np.float32)."
        raise DatasetError(f"{spec.name!r} holds values of type {dtype}, not real numbers", path=path, hint=hint)
    wanted = spec.shape
    if wanted is None or (shape and shape_fits(shape[1:], wanted)):
        return Stack(member, shape, dtype, fortran, shape[0] if shape else None, False)
    if spec.has_batch_axis and shape and shape_fits(shape[1:], wanted[1:]):
        return Stack(member, shape, dtype, fortran, shape[0], True)
    try:
        fit_shape(np.broadcast_to(np.zeros((), dtype), shape), spec)
    except DatasetError as error:
        said = f"{spec.name!r} {error.problems[0].message}"
        hint = f"Give it a leading axis that counts samples: {show_shape(('samples', *wanted))}."
        raise DatasetError(said, path=path, hint=hint) from None
    return Stack(member, shape, dtype, fortran, None, False)


def _values(opened: ExitStack, archive: zipfile.ZipFile, stack: Stack, picks: Sequence[int]) -> Iterator[Array]:
    """Some samples of one array, in order; always the same one where it is the same for every sample."""
    file = opened.enter_context(archive.open(stack.member))
    if stack.count is None or stack.fortran:  # Fortran order interleaves the samples
        whole: Array = npy.read_array(file, allow_pickle=False)
        yield from (whole if stack.count is None else one_of(whole, number, stack) for number in picks)
        return
    npy_header(file)
    size = int(np.prod(stack.shape[1:], dtype=np.int64)) * stack.dtype.itemsize
    lead, at = (1,) if stack.batched else (), 0
    for number in picks:
        _pass_over(file, (number - at) * size)
        at = number + 1
        data = file.read(size)
        if len(data) < size:
            raise EOFError(f"{stack.member} ends early")
        yield np.frombuffer(data, stack.dtype).reshape(lead + stack.shape[1:])


def _pass_over(file: IO[bytes], size: int) -> None:
    """Read on, and keep nothing of it."""
    while size > 0 and (data := file.read(min(size, BLOCK))):
        size -= len(data)


def one_of(values: Array, number: int, stack: Stack) -> Array:
    """One sample of an array that holds many."""
    one: Array = values[number : number + 1] if stack.batched else values[number]
    return one

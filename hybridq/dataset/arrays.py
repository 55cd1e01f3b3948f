"""``.npy`` files and arrays to what an input takes: type, shape, mean and std."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from hybridq.dataset.images import is_image, read_image
from hybridq.dataset.preprocessing import Numbers, Preprocessing, values_axis
from hybridq.dataset.spec import Array, InputSpec, shape_fits, show_shape
from hybridq.errors import DatasetError
from hybridq.files.reading import look_at

NPY_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    OverflowError,
    MemoryError,  # a damaged header may claim any size
    RecursionError,
    SyntaxError,  # the header is parsed as Python source
    TokenError,
    zipfile.BadZipFile,  # NumPy looks into what begins like an archive
)
NUMERIC = "fiub"
ARCHIVE = b"PK"
MAX_HEADER = 10_000  # bytes; NumPy itself parses no longer one
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns files and arrays into values of one input; made once an input, used for every sample."""

    spec: InputSpec
    preprocessing: Preprocessing

    def read(self, value: Path | Any) -> Array:
        """A file's or an array's values, ready to be fed; raises DatasetError, without a place, if they do not fit."""
        if not isinstance(value, Path):
            return self.take(_as_array(value))
        if is_image(value):
            return self.take(read_image(value, self.spec, self.preprocessing))
        return self.take(load_npy(value, self.spec))

    def take(self, values: Array) -> Array:
        """Check type and shape, add a missing batch axis, normalize. Values that fit are not copied."""
        if values.dtype.kind not in NUMERIC:
            raise not_numbers(values.dtype)
        values = fit_shape(values, self.spec)
        if not self.spec.is_float:
            return fit_integers(values, self.spec)
        return np.require(self.normalize(values), np.dtype(self.spec.dtype), "C")

    def normalize(self, values: Array) -> Array:
        """``(x - mean) / std`` in float32 (float64 for inputs of that type)."""
        name = self.spec.name
        wide = np.dtype(np.float64 if self.spec.dtype == "float64" else np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # the audit names files that hold Inf or NaN
            if self.preprocessing.keeps_values(name):
                return values.astype(self.spec.dtype, copy=False)
            found = values.astype(wide)
            found -= self._along_channels(self.preprocessing.mean_of(name), values).astype(wide)
            found /= self._along_channels(self.preprocessing.std_of(name), values).astype(wide)
            return found.astype(self.spec.dtype, copy=False)

    def _along_channels(self, numbers: Numbers, values: Array) -> Array:
        if len(numbers) == 1:
            return np.array(numbers[0])
        axis = values_axis(self.spec, len(numbers))
        if axis is None or values.shape[axis] != len(numbers):
            raise DatasetError(f"has shape {show_shape(values.shape)}, but mean or std has {len(numbers)} channels")
        shape = [1] * values.ndim
        shape[axis] = len(numbers)
        return np.array(numbers).reshape(shape)


def _as_array(value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors that refuse
        raise DatasetError(f"is no array: {error}") from error


def load_npy(path: Path, spec: InputSpec | None = None) -> Array:
    """A ``.npy`` file, without pickle. Raises DatasetError for anything else.

    With ``spec`` a wrong shape is told from the header, before any value is read.
    """
    try:
        look_at(path, DatasetError)
        with path.open("rb") as file:
            start = file.read(len(npy.MAGIC_PREFIX))
            if start == npy.MAGIC_PREFIX:
                file.seek(0)
                return _numbers(file, path, spec)
        if not start.startswith(ARCHIVE):
            np.load(path, allow_pickle=False)  # says what it is
    except NPY_ERRORS as error:
        raise DatasetError(f"is no readable .npy: {_reason(error)}", hint=_npy_hint(error)) from error
    raise DatasetError("is an .npz archive", hint="Give the .npz itself as the dataset, or one .npy a sample.")


def _numbers(file: BinaryIO, path: Path, spec: InputSpec | None) -> Array:
    """What stands behind a header that is looked at first."""
    shape, fortran, dtype = npy_header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays are pickled")
    if dtype.kind not in NUMERIC:
        raise not_numbers(dtype)
    if spec is not None:
        fit_shape(np.broadcast_to(np.zeros((), dtype), shape), spec)  # takes no memory
    count, there = math.prod(shape), path.stat().st_size - file.tell()
    if count * dtype.itemsize > there:
        raise ValueError(f"its header speaks of {count * dtype.itemsize} bytes of values, but {there} are there")
    values = np.fromfile(file, dtype, count)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def not_numbers(dtype: np.dtype[Any]) -> DatasetError:
    """The error for values that are no real numbers."""
    hint = "Save plain numbers: np.save(path, array.astype(np.float32))."
    return DatasetError(f"holds values of type {dtype}, not real numbers", hint=hint)


def npy_header(file: IO[bytes]) -> Header:
    """Shape, whether in Fortran order, and type, from the first bytes of a ``.npy``."""
    version = npy.read_magic(file)
    length = file.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(length, "little")
    if size > MAX_HEADER:
        raise ValueError(f"its header has {size} bytes")
    return _header(version, length + file.read(size))


@lru_cache(maxsize=64)
def _header(version: tuple[int, int], text: bytes) -> Header:
    """A header, read once for all the samples that have the same."""
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(io.BytesIO(text))
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def _npy_hint(error: Exception) -> str:
    if "pickle" in str(error).lower():
        return "Pickled data may run code and is not read. Save plain numbers: np.save(path, array.astype(np.float32))."
    return "The file is damaged or of another format; write it with np.save."


def fit_shape(values: Array, spec: InputSpec) -> Array:
    """The values in the input's rank; a missing batch axis of 1 is added. Raises DatasetError for a wrong shape."""
    wanted = spec.shape
    if wanted is None or shape_fits(values.shape, wanted):
        return values
    if spec.has_batch_axis and shape_fits(values.shape, wanted[1:]):
        return values[None]
    if not wanted and values.size == 1:
        return values.reshape(())
    raise DatasetError(
        f"has shape {show_shape(values.shape)}, but input {spec.name!r} is {show_shape(wanted)}",
        hint=_shape_hint(values, spec),
    )


def _shape_hint(values: Array, spec: InputSpec) -> str:
    wanted = spec.shape or ()
    for axes, said in (((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW"), ((2, 0, 1), "HWC"), ((1, 2, 0), "CHW")):
        if values.ndim == len(axes):
            shape = tuple(values.shape[axis] for axis in axes)
            if shape_fits(shape, wanted) or shape_fits((1, *shape), wanted):
                return f"The array looks like {said}: save array.transpose{axes} instead."
    if len(wanted) > 1 and isinstance(wanted[0], int) and values.shape[-len(wanted) + 1 :] == tuple(wanted[1:]):
        whole = f"give .npy files of {show_shape(wanted)}"
        return f"The model takes {wanted[0]} at a time: export it with a batch of 1 or an open one, or {whole}."
    return "An array has the input's full shape; a batch axis of 1 may be missing."


def fit_integers(values: Array, spec: InputSpec) -> Array:
    """Integers or booleans in the input's type. Raises DatasetError when a value would change."""
    wanted = np.dtype(spec.dtype)
    if values.dtype == wanted:
        return np.require(values, wanted, "C")
    if values.dtype.kind == "f":
        hint = f"Save it with array.astype(np.{spec.dtype})."
        raise DatasetError(f"holds {values.dtype}, but input {spec.name!r} is {spec.dtype}", hint=hint)
    low, high = (0, 1) if wanted.kind == "b" else (int(np.iinfo(wanted).min), int(np.iinfo(wanted).max))
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if not low <= least <= most <= high:
        raise DatasetError(f"holds {least}..{most}, but input {spec.name!r} is {spec.dtype} and holds {low}..{high}")
    return np.require(values.astype(wanted), wanted, "C")

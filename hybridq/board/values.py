"""A captured file as an array: ``.npy``, one number a word of text, or raw bytes as ``snpe-net-run`` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridq.board.records import Captured
from hybridq.dataset.arrays import load_npy
from hybridq.errors import BoardError, DatasetError
from hybridq.files.reading import look_at, read_bytes, read_text
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import dequantize
from hybridq.quant.qparams import QParams

MOST_BYTES = 2_000_000_000  # of one tensor's file
NATIVE: dict[Precision, np.dtype[Any]] = {
    Precision.UINT8: np.dtype("u1"),
    Precision.INT8: np.dtype("i1"),
    Precision.INT16: np.dtype("<i2"),
}
DAMAGED = "Copy the file from the device once more."


def load(captured: Captured, count: int, stored: QParams | None) -> NDArray[np.float32]:
    """Real values of one tensor, flat or in the file's shape.

    ``count`` is the number of elements that it must have, ``stored`` how the plan stores it: integers of the device are
    ``scale * (q - zero_point)`` by that. Raises BoardError, located, where the file is damaged or of another size.
    """
    path = captured.path
    if look_at(path, BoardError) > MOST_BYTES:
        raise BoardError(f"has more than {MOST_BYTES} bytes", path=str(path), hint=DAMAGED)
    if path.suffix == ".npy":
        values = _array(captured)
    elif path.suffix in (".raw", ".bin"):
        values = _raw(captured, count, stored)
    else:
        values = _text(captured)
    if values.size != count:
        raise BoardError(f"has {values.size} elements, the model's '{captured.name}' {count}", path=str(path))
    return _real(values, captured, stored)


def _array(captured: Captured) -> NDArray[Any]:
    try:
        return load_npy(captured.path)
    except DatasetError as error:
        raise BoardError(error.problems[0].message, path=str(captured.path), hint=error.problems[0].hint) from error


def _text(captured: Captured) -> NDArray[np.float32]:
    """Numbers between white space. Raises BoardError with the line of the first word that is none."""
    text = read_text(captured.path, BoardError, hint=DAMAGED)
    try:
        return np.array(text.split(), np.float32)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            for word in line.split():
                try:
                    float(word)
                except ValueError:
                    said = f"'{word[:40]}' is no number"
                    raise BoardError(said, path=str(captured.path), line=number, hint=DAMAGED) from None
        raise


def _raw(captured: Captured, count: int, stored: QParams | None) -> NDArray[Any]:
    """Little-endian values; how many bytes an element has tells their type, the plan which integers of that size."""
    data = read_bytes(captured.path, BoardError)
    native = NATIVE[stored.precision] if stored is not None else None
    types: dict[int, np.dtype[Any]] = {4 * count: np.dtype("<f4"), 8 * count: np.dtype("<f8")}
    if native is not None:
        types.setdefault(native.itemsize * count, native)
    types.setdefault(2 * count, np.dtype("<f2"))
    if len(data) not in types:
        said = f"has {len(data)} bytes, '{captured.name}' has {count} elements: {4 * count} bytes in float32"
        raise BoardError(said, path=str(captured.path), hint="Give files of the same model, all of each.")
    found: NDArray[Any] = np.frombuffer(data, types[len(data)])
    return found


def _real(values: NDArray[Any], captured: Captured, stored: QParams | None) -> NDArray[np.float32]:
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if stored is None:
        said = f"holds {values.dtype}, but '{captured.name}' is stored in float: there is no scale for it"
        raise BoardError(said, path=str(captured.path), hint="Dump real values (float32).")
    shift = 128 * ((stored.precision is Precision.INT8) - (stored.precision is Precision.UINT8))
    other = {Precision.INT8: "uint8", Precision.UINT8: "int8"}.get(stored.precision)
    moved = values.astype(np.int32) - (shift if str(values.dtype) == other else 0)
    return dequantize(moved, stored).astype(np.float32)

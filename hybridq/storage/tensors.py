"""``weights.data``: rows of raw little-endian tensors, each aligned to 64 bytes; model.json says where each lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from hybridq.errors import StorageError
from hybridq.files.reading import look_at
from hybridq.files.seal import file_digest
from hybridq.graph import outside
from hybridq.graph.graph_json import dtype_name, elem_type
from hybridq.graph.outside import FilePlace, Mapped
from hybridq.storage.record_json import Json
from hybridq.storage.weights import Tensors

ALIGNMENT = 64


def write_rows(path: Path, rows: Mapping[str, Tensors]) -> tuple[dict[str, Json], str]:
    """Write tensors row after row: the place of each by row and name, and the file's SHA-256."""
    digest, offset, placed = hashlib.sha256(), 0, dict[str, Json]()
    with path.open("wb") as file:
        for row, tensors in rows.items():
            places = placed.setdefault(row, {})
            for name, values in tensors.items():
                padding = b"\0" * (-offset % ALIGNMENT)
                for chunk in (padding, *_chunks(values)):
                    file.write(chunk)
                    digest.update(chunk)
                offset += len(padding)
                dtype = dtype_name(helper.np_dtype_to_tensor_dtype(values.dtype))
                places[name] = {"dtype": dtype, "shape": list(values.shape), "offset": offset, "bytes": values.nbytes}
                offset += values.nbytes
    return placed, digest.hexdigest()


def read_rows(path: Path, rows: Mapping[str, Json], sha256: str, *, verify: bool) -> dict[str, Mapped]:
    """The tensors at these places, mapped, large ones as initializers that lie there; ``verify`` reads all of them.

    Raises StorageError where the file is missing, of another size or, looked at, not the one that was written.
    """
    size = look_at(path, missing="missing: it belongs to model.json", hint="Run step1 again.")
    wanted = max((t["offset"] + t["bytes"] for places in rows.values() for t in places.values()), default=0)
    if size != wanted:
        raise StorageError(f"damaged: {size} bytes, not {wanted}", path=str(path), hint="Run step1 again.")
    if verify and file_digest(path) != sha256:
        raise StorageError(
            "damaged: its checksum is not the one in model.json", path=str(path), hint="Run step1 again."
        )
    raw = np.memmap(path, np.uint8, "r") if wanted else np.zeros(0, np.uint8)
    large = wanted >= outside.LARGE and outside.on_root(path)
    return {row: _mapped(path, raw, places, large=large) for row, places in rows.items()}


def _mapped(path: Path, raw: NDArray[np.uint8], places: Json, *, large: bool) -> Mapped:
    found = {}
    for name, t in places.items():
        dtype = helper.tensor_dtype_to_np_dtype(elem_type(t["dtype"]))
        found[name] = raw[t["offset"] : t["offset"] + t["bytes"]].view(dtype).reshape(t["shape"])
    return Mapped({**found, **(_lying(path, places) if large else {})}, found)


def _lying(path: Path, places: Json) -> dict[str, onnx.TensorProto]:
    """The large tensors of a large file, as initializers that lie there."""
    found = {}
    for name, t in places.items():
        tensor = onnx.TensorProto(name=name, data_type=elem_type(t["dtype"]), dims=t["shape"])
        if outside.may_lie(tensor, t["bytes"]):
            outside.lay(tensor, FilePlace(path.resolve(), t["offset"], t["bytes"]))
            found[name] = tensor
    return found


def _chunks(values: NDArray[Any]) -> Iterator[bytes]:
    flat = np.ascontiguousarray(values).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    step = max(1, (1 << 24) // max(1, flat.itemsize))
    for start in range(0, flat.size, step):
        yield little[start : start + step].tobytes()

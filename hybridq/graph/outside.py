"""Weights that stay in files: an initializer says where its numbers lie, and is mapped when somebody looks at it.

A model with ``LARGE`` bytes of weights or more never has them in memory as a whole. Inside the program the place of an
initializer counts from the root of the file system, so that a graph can be copied and cut wherever its weights are, and
ONNX Runtime is told the root as the model's folder. What maps it anew at every look lets its pages go afterwards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, StringStringEntryProto, TensorProto, helper, numpy_helper

from hybridq.errors import ModelError

Array = NDArray[Any]

LARGE = 1 << 26  # bytes of weights in all from which they stay in their files
LEAST = 1 << 16  # bytes of a tensor that does; smaller ones are looked at by many
PLAIN = frozenset(  # types whose numbers lie one beside the other, as NumPy has them
    getattr(TensorProto, name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "BOOL", *(f"{s}INT{n}" for s in ("", "U") for n in (8, 16, 32, 64)))
)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where numbers lie: a file by its real name, the first byte, and how many bytes."""

    path: Path
    offset: int
    length: int


def root() -> Path:
    """What the places of initializers count from."""
    return Path(Path.cwd().anchor)


def is_outside(tensor: TensorProto) -> bool:
    """Whether a tensor's numbers lie in a file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def any_outside(graph: GraphProto) -> bool:
    """Whether some initializer's numbers lie in a file."""
    return any(map(is_outside, graph.initializer))


def lay(tensor: TensorProto, place: FilePlace) -> None:
    """Let a tensor of ``place``'s size lie there; its own numbers are forgotten."""
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    words = {"location": place.path.relative_to(root()).as_posix(), "offset": place.offset, "length": place.length}
    tensor.external_data.extend(StringStringEntryProto(key=k, value=str(v)) for k, v in words.items())


def place_of(tensor: TensorProto) -> FilePlace:
    """Where ``lay`` put a tensor."""
    words = {e.key: e.value for e in tensor.external_data}
    return FilePlace(root() / words["location"], int(words["offset"]), int(words["length"]))


def values_of(tensor: TensorProto) -> Array:
    """The numbers of an initializer, mapped where they lie in a file. Raises ModelError where they do no more."""
    if not is_outside(tensor):
        return numpy_helper.to_array(tensor)
    return mapped(place_of(tensor), dtype_of(tensor), tuple(tensor.dims))


def mapped(place: FilePlace, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """The numbers of a place, read-only. Raises ModelError where the file is gone or shorter."""
    try:
        return np.memmap(place.path, dtype, "r", place.offset, shape)
    except (OSError, ValueError) as error:
        raise ModelError("its weights changed while they were read", path=str(place.path)) from error


def dtype_of(tensor: TensorProto) -> np.dtype[Any]:
    """NumPy's type of an initializer's numbers."""
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)


def size_of(tensor: TensorProto) -> int:
    """Bytes of an initializer's numbers, whether they are there or not."""
    return math.prod(tensor.dims) * dtype_of(tensor).itemsize


def may_lie(tensor: TensorProto, length: int) -> bool:
    """Whether ``length`` bytes elsewhere can stand for an initializer: large, of a plain type, and of its size."""
    return length >= LEAST and tensor.data_type in PLAIN and length == size_of(tensor)


def on_root(path: Path) -> bool:
    """Whether a place in this file can be told; on Windows other drives cannot."""
    return os.path.splitdrive(path.resolve())[0] == os.path.splitdrive(root())[0]


def bare(tensor: TensorProto) -> TensorProto:
    """Name, type and shape alone."""
    return TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


class Mapped(Mapping[str, Array]):
    """Tensors by name: arrays, and initializers that lie in files and are mapped anew at every look.

    Those are found by path: where a file was replaced since, ``kept`` has what stood in the first one.
    """

    def __init__(self, tensors: Mapping[str, Array | TensorProto], kept: Mapping[str, Array] | None = None) -> None:
        self._tensors, self._kept = tensors, kept or {}
        lying = (place_of(t).path for t in tensors.values() if isinstance(t, TensorProto))
        self._files = {path: _identity(path) for path in set(lying)}

    @classmethod
    def of(cls, tensors: Iterable[TensorProto]) -> Mapped:
        """Those of some initializers."""
        return cls({t.name: t if is_outside(t) else numpy_helper.to_array(t) for t in tensors})

    def __getstate__(self) -> dict[str, Any]:
        """For another process: numbers that lie in files stay there, others come along."""
        held = {n: t if isinstance(t, TensorProto) else np.array(t) for n, t in self._tensors.items()}
        return {"_tensors": held, "_kept": {}, "_files": self._files}

    def __getitem__(self, name: str) -> Array:
        found = self._tensors[name]
        if not isinstance(found, TensorProto):
            return found
        return self._kept[name] if name in self._kept and self.lying(name) is None else values_of(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def only(self, names: Iterable[str]) -> Mapped:
        """Some of them."""
        return Mapped({n: self._tensors[n] for n in names}, self._kept)

    def lying(self, name: str) -> TensorProto | None:
        """The initializer of this name where it lies in a file that is still the same."""
        found = self._tensors.get(name)
        if not isinstance(found, TensorProto):
            return None
        path = place_of(found).path
        return found if _identity(path) == self._files[path] else None


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def spilled(proto: ModelProto, folder: Path) -> ModelProto:
    """A model whose large initializers lie in a new file of ``folder``, one after the other."""
    path = (folder / f"weights-{len(list(folder.iterdir()))}.data").resolve()
    light = without_initializers(proto)
    with path.open("wb") as file:
        light.graph.initializer.extend(_spilled(t, path, file) for t in proto.graph.initializer)
    return light


def _spilled(tensor: TensorProto, path: Path, file: BinaryIO) -> TensorProto:
    if is_outside(tensor) or not may_lie(tensor, size_of(tensor)):
        return tensor
    values = np.ascontiguousarray(numpy_helper.to_array(tensor))
    made = bare(tensor)
    lay(made, FilePlace(path, file.tell(), values.nbytes))
    file.write(values.data)
    return made


def without_initializers(proto: ModelProto) -> ModelProto:
    """A copy of all but the initializers, whose bytes are not copied on the way."""
    made = ModelProto()
    _copy(proto, made, "graph")
    _copy(proto.graph, made.graph, "initializer")
    return made


def without_outside(proto: ModelProto) -> ModelProto:
    """The model itself, or, where initializers lie in files, a copy with their types and shapes alone."""
    if not any_outside(proto.graph):
        return proto
    made = without_initializers(proto)
    made.graph.initializer.extend(bare(t) if is_outside(t) else t for t in proto.graph.initializer)
    return made


def put_outside(made: ModelProto, proto: ModelProto) -> None:
    """Let the initializers of a model that was made of ``without_outside`` lie where those of ``proto`` do."""
    lying = {t.name: t for t in proto.graph.initializer if is_outside(t)}
    for tensor in made.graph.initializer if lying else ():
        if tensor.name in lying:
            tensor.CopyFrom(lying[tensor.name])


def _copy(source: Message, target: Any, without: str) -> None:
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        elif isinstance(value, str | bytes | int | float):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).extend(value)

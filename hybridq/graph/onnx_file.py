"""Writing ONNX models whose weights are made one at a time, so that memory holds one tensor and not the model.

Up to ``EXTERNAL`` bytes the weights lie inside the file, as usual; above, in ``NAME.data`` beside it, since protobuf
ends at 2 GB. The file is plain protobuf (https://protobuf.dev/programming-guides/encoding): a graph field whose length
is known before its initializers are written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from hybridq.graph.wire import GRAPH, INITIALIZER, RAW_DATA, head

EXTERNAL = 2_000_000_000
INLINE = 1024  # bytes up to which a tensor stays in the file in any case
PAGE = 4096


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """An initializer whose values are made when they are written."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    make: Callable[[], NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def values(self) -> NDArray[Any]:
        """The values, contiguous and little-endian."""
        made = np.ascontiguousarray(self.make()).reshape(self.shape)
        return made.astype(self.dtype.newbyteorder("<"), copy=False)

    def header(self) -> TensorProto:
        """The tensor without its values."""
        return TensorProto(name=self.name, dims=self.shape, data_type=helper.np_dtype_to_tensor_dtype(self.dtype))


@dataclass(frozen=True)
class OnnxFile:
    """A model without initializers, and the initializers."""

    proto: onnx.ModelProto
    tensors: list[LazyTensor]

    @property
    def weight_bytes(self) -> int:
        """Size of all initializers in bytes."""
        return sum(t.nbytes for t in self.tensors)

    def assemble(self) -> onnx.ModelProto:
        """The whole model in memory."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.proto)
        whole.graph.initializer.extend(numpy_helper.from_array(t.values(), t.name) for t in self.tensors)
        return whole

    def write(self, path: Path, written: Callable[[], object] = lambda: None) -> list[Path]:
        """Write the model; returns the files written. ``written`` is called after each tensor, to let memory go."""
        if self.weight_bytes <= EXTERNAL:
            with path.open("wb") as file:
                self._write_inline(file, written)
            return [path]
        data = path.with_name(path.name + ".data")
        whole = onnx.ModelProto()
        whole.CopyFrom(self.proto)
        with data.open("wb") as file:
            for tensor in self.tensors:
                if tensor.nbytes <= INLINE:
                    whole.graph.initializer.append(numpy_helper.from_array(tensor.values(), tensor.name))
                else:
                    whole.graph.initializer.append(_external(tensor, file, data.name))
                    written()
        path.write_bytes(whole.SerializeToString())
        return [path, data]

    def _write_inline(self, file: BinaryIO, written: Callable[[], object]) -> None:
        frame = onnx.ModelProto()
        frame.CopyFrom(self.proto)
        frame.ClearField("graph")
        graph = self.proto.graph.SerializeToString()
        headers = [t.header().SerializeToString() for t in self.tensors]
        sizes = [len(h) + _field_size(RAW_DATA, t.nbytes) for h, t in zip(headers, self.tensors, strict=True)]
        total = len(graph) + sum(_field_size(INITIALIZER, s) for s in sizes)
        file.write(frame.SerializeToString())
        file.write(head(GRAPH, total) + graph)
        for tensor, header, size in zip(self.tensors, headers, sizes, strict=True):
            file.write(head(INITIALIZER, size) + header)
            file.write(head(RAW_DATA, tensor.nbytes))
            file.write(tensor.values().data if tensor.nbytes else b"")
            written()


def _external(tensor: LazyTensor, file: BinaryIO, location: str) -> TensorProto:
    file.write(b"\0" * (-file.tell() % PAGE))
    found = tensor.header()
    found.data_location = TensorProto.EXTERNAL
    pairs = {"location": location, "offset": str(file.tell()), "length": str(tensor.nbytes)}
    found.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in pairs.items())
    file.write(tensor.values().data)
    return found


def _field_size(field: int, length: int) -> int:
    return len(head(field, length)) + length

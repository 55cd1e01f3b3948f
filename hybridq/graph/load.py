"""Reading an ONNX file: a small model whole; of a large one the graph, whose weights stay where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from hybridq.errors import ModelError
from hybridq.files.reading import look_at
from hybridq.graph import outside
from hybridq.graph.edit import graphs
from hybridq.graph.outside import FilePlace, lay, may_lie, on_root, place_of, size_of
from hybridq.graph.wire import read_apart


def load(path: Path) -> ModelProto:
    """The model of a file. Raises DecodeError where it is none, ModelError for weights in files beside it, OSError."""
    proto = load_graph(path)
    load_weights(proto, path)
    return proto


def load_graph(path: Path) -> ModelProto:
    """The model of a file without the weights that lie in other files. Raises DecodeError, OSError."""
    if path.stat().st_size < outside.LARGE or not on_root(path):
        return onnx.load(path, load_external_data=False)
    try:
        return read_apart(path)
    except DecodeError:  # whoever reads it whole says more
        return onnx.load(path, load_external_data=False)


def load_weights(proto: ModelProto, path: Path) -> None:
    """Bring in the weights that lie in other files beside ``path``; those of a large model are only found there.

    Raises ModelError for files that are missing or shorter, lie elsewhere, or are links.
    """
    held = [t for t in _tensors(proto) if outside.is_outside(t) and not is_within(t, path)]
    large = sum(map(size_of, held)) >= outside.LARGE and on_root(path)
    initializers = list(proto.graph.initializer) if large else []
    may_stay = set(map(id, initializers))
    try:
        for tensor in held:
            place = _place(tensor, path.parent) if id(tensor) in may_stay else None
            if place is not None:
                lay(tensor, place)
            else:
                load_external_data_for_tensor(tensor, str(path.parent))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
    except Exception as error:
        raise ModelError(
            "its weights lie in another file that cannot be read", path=str(path), hint=str(error)
        ) from error


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    for graph in graphs(proto.graph):
        yield from graph.initializer
    nodes = [n for graph in graphs(proto.graph) for n in graph.node] + [n for f in proto.functions for n in f.node]
    for attribute in (a for n in nodes for a in n.attribute):
        yield from ([attribute.t] if attribute.HasField("t") else [])
        yield from attribute.tensors


def is_within(tensor: TensorProto, path: Path) -> bool:
    """Whether ``read_apart`` left a tensor in the model's own file."""
    words = {e.key for e in tensor.external_data}
    return {"location", "offset", "length"} <= words and place_of(tensor).path == path.resolve()


def _place(tensor: TensorProto, folder: Path) -> FilePlace | None:
    """Where an initializer lies, if it may stay there. Raises ValueError or HybridqError where it lies nowhere."""
    words = {e.key: e.value for e in tensor.external_data}
    offset, length = int(words.get("offset", 0)), int(words.get("length", size_of(tensor)))
    if not may_lie(tensor, length):
        return None
    path = Path(os.path.normpath(folder.resolve() / words["location"]))
    if path.resolve() != path or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"'{words['location']}' leads out of the model's folder")
    if offset < 0 or look_at(path, ModelError) < offset + length:
        raise ValueError(f"'{words['location']}' is shorter than '{tensor.name}' needs")
    return FilePlace(path, offset, length)

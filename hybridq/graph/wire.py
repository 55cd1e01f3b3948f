"""ONNX files field by field, so that the numbers of weights need not pass through memory.

The file is plain protobuf (https://protobuf.dev/programming-guides/encoding): fields of a number and a wire type, of
which a message, a text and bytes tell their length. Initializers become ones whose numbers lie in a file: this one.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from hybridq.graph import outside
from hybridq.graph.outside import FilePlace, lay, may_lie

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # numbers of fields in ModelProto, GraphProto, TensorProto
VARINT, EIGHT_BYTES, LENGTH_DELIMITED, FOUR_BYTES = 0, 1, 2, 5  # wire types


class Field(NamedTuple):
    """A field of a message: where it starts, where its value does, and where both end."""

    number: int
    kind: int
    start: int
    value: int
    end: int


def read_apart(path: Path) -> ModelProto:
    """The model of a file, its large initializers lying in that file.

    Raises DecodeError where it is no protobuf, and OSError.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = (
            _graph(data, f, path.resolve())
            if f.number == GRAPH and f.kind == LENGTH_DELIMITED
            else data[f.start : f.end]
            for f in _fields(data, 0, len(data))
        )
        return ModelProto.FromString(b"".join(parts))


def _graph(data: mmap.mmap, graph: Field, path: Path) -> bytes:
    parts = []
    for field in _fields(data, graph.value, graph.end):
        heavy = field.number == INITIALIZER and field.end - field.value >= outside.LEAST
        tensor = _tensor(data, field, path) if heavy else None
        parts.append(data[field.start : field.end] if tensor is None else _message(INITIALIZER, tensor))
    return _message(GRAPH, b"".join(parts))


def _tensor(data: mmap.mmap, whole: Field, path: Path) -> bytes | None:
    """An initializer that lies in the file; None for one that cannot."""
    fields = list(_fields(data, whole.value, whole.end))
    raw = [f for f in fields if f.number == RAW_DATA and f.kind == LENGTH_DELIMITED]
    if len(raw) != 1:
        return None
    place = FilePlace(path, raw[0].value, raw[0].end - raw[0].value)
    tensor = TensorProto.FromString(b"".join(data[f.start : f.end] for f in fields if f is not raw[0]))
    if not may_lie(tensor, place.length):
        return None
    lay(tensor, place)
    return bytes(tensor.SerializeToString())


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    at = start
    while at < end:
        tag, value = _read_varint(data, at, end)
        stop = _end(data, tag & 7, value, end)
        if stop[1] > end:
            raise DecodeError("a field is longer than what holds it")
        yield Field(tag >> 3, tag & 7, at, *stop)
        at = stop[1]


def _end(data: mmap.mmap, kind: int, value: int, end: int) -> tuple[int, int]:
    """Where a field's own bytes start and end, by its wire type."""
    if kind == VARINT:
        return value, _read_varint(data, value, end)[1]
    if kind == LENGTH_DELIMITED:
        length, start = _read_varint(data, value, end)
        return start, start + length
    if kind in (EIGHT_BYTES, FOUR_BYTES):
        return value, value + (8 if kind == EIGHT_BYTES else 4)
    raise DecodeError(f"wire type {kind}")


def _read_varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """The number that ``varint`` wrote, and where it ends."""
    number = 0
    for place in range(at, min(at + 10, end)):
        number |= (data[place] & 0x7F) << (7 * (place - at))
        if data[place] < 0x80:
            return number, place + 1
    raise DecodeError("a number has no end")


def _message(number: int, data: bytes) -> bytes:
    return head(number, len(data)) + data


def head(number: int, length: int) -> bytes:
    """What stands before ``length`` bytes of field ``number``."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(length)


def varint(value: int) -> bytes:
    """A number of seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

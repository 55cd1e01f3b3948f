"""Where a Concat joined a tensor, seen through what only moves it whole: Identity and Transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto

from hybridq.graph.edit import attribute
from hybridq.graph.operators import Interval, row_of

Shapes = Mapping[str, Sequence[int | str | None] | None]
Joined = tuple[int, list[tuple[str, int]]]


def joined(name: str, producers: Mapping[str, NodeProto], shapes: Shapes) -> Joined | None:
    """The axis of a tensor along which a Concat joined it, and what it joined: names with their sizes there.

    None where no Concat stands behind it, where a size is not known, and where the batch was joined.
    """
    place: list[int] | None = None
    node = producers.get(name)
    while node is not None and row_of(node).interval in (Interval.TRANSPOSED, Interval.SAME):
        if row_of(node).interval is Interval.TRANSPOSED:
            perm = _permutation(node, shapes)
            if perm is None:
                return None
            place = [perm[p] for p in place] if place else perm
        node = producers.get(node.input[0])
    if node is None or row_of(node).interval is not Interval.JOINED:
        return None
    held = [shapes.get(i) for i in node.input]
    if not all(held):
        return None
    axis = int(attribute(node, "axis")) % len(held[0] or ())
    sizes = [(i, (s or ())[axis]) for i, s in zip(node.input, held, strict=True)]
    known = [(i, n) for i, n in sizes if isinstance(n, int) and n > 0]
    outer = place.index(axis) if place else axis
    return (outer, known) if len(known) == len(sizes) and outer > 0 else None


def _permutation(node: NodeProto, shapes: Shapes) -> list[int] | None:
    """Of a Transpose; without ``perm`` it reverses the axes."""
    perm = attribute(node, "perm")
    shape = shapes.get(node.input[0])
    if perm is not None:
        return [int(p) for p in perm]
    return list(range(len(shape)))[::-1] if shape is not None else None

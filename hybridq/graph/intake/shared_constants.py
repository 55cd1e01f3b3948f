"""Large constants that several graphs of a model hold alike: held once, in the outermost graph.

Folding writes down what the branches of an If compute from the same weights, once for each branch: an LSTM for two
sample rates is there twice.
"""

from __future__ import annotations

import hashlib

from onnx import GraphProto, TensorProto, numpy_helper

from hybridq.graph.edit import TakenNames, graphs, subgraphs
from hybridq.graph.outside import is_outside

LEAST = 1024  # bytes: less saves nothing worth a name of its own

Key = tuple[int, tuple[int, ...], bytes]


def share_constants(graph: GraphProto) -> None:
    """Keep one of each large constant that the graphs inside hold alike, under its first name or a free one."""
    places: dict[Key, list[tuple[GraphProto, TensorProto]]] = {}
    for inner in graphs(graph):
        outputs = {o.name for o in inner.output}
        for tensor in inner.initializer:
            if tensor.ByteSize() >= LEAST and not is_outside(tensor) and tensor.name not in outputs:
                places.setdefault(_key(tensor), []).append((inner, tensor))
    names = TakenNames.of(graph)
    for held in places.values():
        inside = [(inner, tensor) for inner, tensor in held if inner is not graph]
        if len(held) > 1 and inside:
            _share(graph, held, inside, names)


def _key(tensor: TensorProto) -> Key:
    values = numpy_helper.to_array(tensor)
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(values.tobytes()).digest()


def _share(
    graph: GraphProto,
    held: list[tuple[GraphProto, TensorProto]],
    inside: list[tuple[GraphProto, TensorProto]],
    names: TakenNames,
) -> None:
    name = next((tensor.name for inner, tensor in held if inner is graph), "")
    if not name:
        name = names.fresh(f"{inside[0][1].name}/shared")
        graph.initializer.add().CopyFrom(inside[0][1])
        graph.initializer[-1].name = name
    for inner, tensor in inside:
        _rename(inner, tensor.name, name)
        inner.initializer.remove(tensor)


def _rename(graph: GraphProto, old: str, new: str) -> None:
    """Let the nodes of a graph, and of those inside that have no such name of their own, read another tensor."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for inner in subgraphs(node):
            own = {t.name for t in inner.initializer} | {o for n in inner.node for o in n.output}
            if old not in own | {v.name for v in inner.input}:
                _rename(inner, old, new)

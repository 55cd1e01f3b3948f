"""The names of the given file: which layer each node and tensor became part of.

Walking back from what a layer writes, every tensor that is no more was folded into it: a BatchNorm and its Conv, a
MatMul and the Add of its bias, the steps of a normalization. What only renamed or moved data is the layer's before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from onnx import GraphProto, NodeProto

from hybridq.graph import edit
from hybridq.graph.operators import Movement, row_of


def aliases(given: GraphProto, homes: Mapping[str, str], kept: Collection[str]) -> dict[str, list[str]]:
    """Names of the given graph's tensors and nodes by layer, in the given order.

    ``homes`` says which layer writes a tensor (before its activation, too), ``kept`` are all tensors that there still
    are. A name that several layers could claim is none's.
    """
    walk = _Walk(given, homes, kept)
    for tensor, layer in homes.items():
        walk.claim(tensor, layer)
    found: dict[str, list[str]] = {}
    nodes = [n for g in edit.graphs(given) for n in g.node]  # in a branch, too: it may have been the only one
    once = Counter(n.name for n in nodes)
    for node in nodes:
        for output in node.output:
            owners = walk.owners.get(output, ())
            if len(owners) == 1:
                (layer,) = owners
                names = [output] + ([node.name] if output == node.output[0] and once[node.name] == 1 else [])
                found.setdefault(layer, []).extend(n for n in names if n and n != layer)
    return found


@dataclass
class _Walk:
    """The given graph with look-ups, and which layers claim each tensor."""

    graph: GraphProto
    homes: Mapping[str, str]
    kept: Collection[str]
    owners: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.producers = edit.producers(n for g in edit.graphs(self.graph) for n in g.node)
        self.constant = {t.name for t in self.graph.initializer} | {""}
        for node in self.graph.node:
            if all(name in self.constant for name in edit.reads(node)):
                self.constant.update(node.output)

    def claim(self, tensor: str, layer: str) -> None:
        """Let a layer have a tensor it writes, and what was folded into it on the way there."""
        todo = [tensor]
        while todo:
            name = todo.pop()
            owners = self.owners.setdefault(name, set())
            node = self.producers.get(name)
            if layer in owners or node is None:
                continue
            owners.add(layer)
            todo += [i for i in edit.reads(node) if self._folded(i)]

    def _folded(self, tensor: str) -> bool:
        """Whether a tensor is no more, and was computed on the way to what reads it."""
        if tensor in self.kept or tensor in self.homes or tensor in self.constant or tensor not in self.producers:
            return False
        source = self._source(tensor)
        if source in self.homes:
            self.owners.setdefault(tensor, set()).add(self.homes[source])
        return source not in self.homes

    def _source(self, tensor: str) -> str:
        """What a tensor is but another name of, or moved data of; itself where it was computed."""
        while tensor not in self.homes and tensor in self.producers and _renames(self.producers[tensor]):
            tensor = self.producers[tensor].input[0]
        return tensor


def _renames(node: NodeProto) -> bool:
    """Whether a node gives what it reads, moved at most."""
    row = row_of(node)
    return (row.movement is not Movement.NONE and not row.moves_all) or row.retypes

"""Operators that draw random numbers: who they are, and the same numbers for all models that are compared."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, helper

from hybridq.graph import edit
from hybridq.graph.operators import row_of

SEED = "seed"


def random_nodes(graph: GraphProto) -> list[str]:
    """Names of the nodes that draw random numbers, in subgraphs too."""
    return [n.name or n.output[0] for n in _drawing(graph)]


def _drawing(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        if row_of(node).draws:
            yield node
        for inner in edit.subgraphs(node):
            yield from _drawing(inner)


def seeded(proto: ModelProto) -> ModelProto:
    """The model with a seed at every random operator, by its place: sessions then draw alike, run by run.

    A model without any is given back as it is.
    """
    if next(_drawing(proto.graph), None) is None:
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for place, node in enumerate(_drawing(copy.graph), start=1):
        kept = [a for a in node.attribute if a.name != SEED]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(SEED, float(place))])
    return copy

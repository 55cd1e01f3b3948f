"""What reading and editing a graph takes: who writes a tensor and who reads it, attributes, subgraphs, free names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnx import GraphProto, NodeProto, ValueInfoProto, helper


def producers(nodes: Iterable[NodeProto]) -> dict[str, NodeProto]:
    """The node that writes each tensor."""
    return {name: node for node in nodes for name in node.output if name}


def consumers(nodes: Iterable[NodeProto]) -> dict[str, tuple[NodeProto, ...]]:
    """The nodes that read each tensor, themselves or in a subgraph, once each, in the given order."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(filter(None, reads(node))):
            found.setdefault(name, []).append(node)
    return {name: tuple(readers) for name, readers in found.items()}


def inputs_of(graph: GraphProto) -> list[ValueInfoProto]:
    """The inputs that a caller gives: those that are no initializer."""
    held = {i.name for i in graph.initializer}
    return [i for i in graph.input if i.name not in held]


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes that a node gives, as Python values (text as bytes)."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of one attribute, or ``default`` where the node does not give it."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node holds: the branches of an If, the body of a Loop."""
    return [g for a in node.attribute for g in [a.g, *a.graphs] if g.node or g.output]


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and every graph inside."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def reads(node: NodeProto) -> Iterator[str]:
    """Every name that a node reads: its inputs (an absent one is ""), then what its subgraphs read from around them."""
    yield from node.input
    yield from outer_reads(node)


def outer_reads(node: NodeProto) -> Iterator[str]:
    """Names that a node's subgraphs read from the graph around them."""
    for graph in subgraphs(node):
        inner = {i.name for i in graph.input} | {i.name for i in graph.initializer}
        inner |= {o for n in graph.node for o in n.output}
        for child in graph.node:
            yield from (name for name in reads(child) if name and name not in inner)
        yield from (o.name for o in graph.output if o.name not in inner)


def with_outer_reads(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """The node with its subgraphs reading other tensors of the graph around them; names of their own stay."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for held in copy.attribute:
        for graph in [held.g, *held.graphs]:
            own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            own |= {o for n in graph.node for o in n.output}
            outer = {old: new for old, new in names.items() if old not in own}
            for child in graph.node:
                child.CopyFrom(with_outer_reads(child, outer))
                child.input[:] = [outer.get(i, i) for i in child.input]
            for output in graph.output:
                output.name = outer.get(output.name, output.name)
    return copy


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors other names wherever they are made or read; the graph's own inputs and outputs keep theirs."""
    for node in graph.node:
        node.input[:] = [names.get(i, i) for i in node.input]
        node.output[:] = [names.get(o, o) for o in node.output]
        for inner in subgraphs(node):
            rename(inner, names)
            for output in inner.output:
                output.name = names.get(output.name, output.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)


def in_order(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """The nodes, each behind those that write what it reads, otherwise as they came."""
    left = list(nodes)
    waiting = {name for node in left for name in node.output if name}
    found: list[NodeProto] = []
    while left:
        ready = next((n for n in left if waiting.isdisjoint(reads(n))), left[0])  # a cycle stays one
        left.remove(ready)
        waiting.difference_update(ready.output)
        found.append(ready)
    return found


def drop_unread_constants(graph: GraphProto) -> None:
    """Take away initializers that nothing reads and that are no outputs."""
    read = {name for n in graph.node for name in reads(n)} | {o.name for o in graph.output}
    kept = [t for t in graph.initializer if t.name in read]
    if len(kept) != len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


class TakenNames:
    """Names that are taken; ``fresh`` gives one that is not yet."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken, self.counts = set(taken), dict[str, int]()  # the last count of each name

    @classmethod
    def of(cls, graph: GraphProto) -> TakenNames:
        """Those of a graph's tensors and of the graphs inside."""
        return cls(_names(graph))

    def fresh(self, name: str) -> str:
        """``name``, or the first free of ``name_2``, ``name_3``, ...; it is taken then."""
        found, count = name, self.counts.get(name, 1)
        while found in self.taken:
            count += 1
            found = f"{name}_{count}"
        self.taken.add(found)
        self.counts[name] = count  # all before it stay taken
        return found


def _names(graph: GraphProto) -> Iterator[str]:
    """Every tensor of a graph and of the graphs inside."""
    yield from (v.name for v in graph.input)
    yield from (t.name for t in graph.initializer)
    for node in graph.node:
        yield from node.output
        for inner in subgraphs(node):
            yield from _names(inner)

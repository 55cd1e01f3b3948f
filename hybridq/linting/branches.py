"""Nets in the form in which they were trained: sums of convolutions of one tensor that are a single convolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import NodeProto

from hybridq.graph import edit
from hybridq.graph.operators import Interval, Layout, row_of
from hybridq.linting.facts import Facts, Finding, names

ALIKE = ("strides", "dilations", "group")  # of convolutions that add up to one


def branches(facts: Facts) -> Iterator[Finding]:
    """Sums of two and more convolutions of the same tensor, as RepVGG and MobileOne are trained."""
    model = facts.model
    makers, readers = edit.producers(model.proto.graph.node), edit.consumers(model.proto.graph.node)
    found: dict[str, int] = {}
    for layer in model.layers:
        node = model.nodes[layer.node]
        if _is_sum(node) and not any(_is_sum(r) for r in readers.get(node.output[0], ())):
            alike = _most_alike(t for t in _terms(node, makers) if facts.weights.keys() >= {*t.input[1:2]})
            found |= {layer.name: alike} if alike > 1 else {}
    if found:
        count = sum(found.values())
        message = (
            f"{count} convolutions are added where {len(found)} would do, in {names(list(found))}: this is the form in "
            "which nets such as RepVGG and MobileOne are trained, slower in float and in 8 bits"
        )
        remedy = "export the deployed form, in which each sum is one convolution (switch_to_deploy, reparameterize)"
        yield Finding(next(iter(found)), "branches", message, remedy, "note", tuple(found))


def _is_sum(node: NodeProto) -> bool:
    return row_of(node).interval is Interval.SUM


def _terms(node: NodeProto, makers: Mapping[str, NodeProto]) -> Iterator[NodeProto]:
    """What makes the terms of a sum, of sums among them theirs."""
    for name in node.input:
        maker = makers.get(name)
        if maker is not None and _is_sum(maker):
            yield from _terms(maker, makers)
        elif maker is not None:
            yield maker


def _most_alike(terms: Iterator[NodeProto]) -> int:
    """How many convolutions of one tensor, which move alike, are among the terms."""
    counts: dict[tuple[str, ...], int] = {}
    for term in terms:
        if row_of(term).layout is Layout.CONV:
            key = (term.input[0], *(str(edit.attribute(term, word)) for word in ALIKE))
            counts[key] = counts.get(key, 0) + 1
    return max(counts.values(), default=0)

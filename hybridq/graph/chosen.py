"""Outputs that list what TopK or NonMaxSuppression chose: where two scores are near, 8 bits swap their rows.

Row by row two such lists may have nothing in common and still be the same detections. What the choice is made among,
and what is looked up by it, are tensors of fixed order: they can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from hybridq.graph.edit import reads
from hybridq.graph.model import Model
from hybridq.graph.operators import Kind, row_of

CHOOSERS = ("TopK", "NonMaxSuppression")
FLOATS = ("float32", "float16", "float64")


def lists(model: Model) -> dict[str, tuple[str, ...]]:
    """Each output that lists what was chosen, with the tensors that a model without the choice ends at.

    What a layer with weights computes of the chosen is no list. Tensors that are inputs of the model are looked up,
    too, but are no end.
    """
    behind = dict[str, frozenset[str]]()  # tensor to the tensors that the choice came from
    weighted = {x.node for x in model.layers if x.weights and model.nodes[x.node].op_type not in CHOOSERS}
    features = _features(model, weighted)
    for node in model.proto.graph.node:
        chosen = [behind[name] for name in reads(node) if name in behind]
        if node.op_type not in CHOOSERS and (not chosen or _computes(node, model)):
            continue
        looked_up = (_whole(name, model) for name in node.input if name not in behind and name in features)
        found = frozenset(looked_up).union(*chosen)
        behind.update((name, found) for name in node.output if name)
    return {name: tuple(sorted(behind[name])) for name in model.outputs if behind.get(name)}


def _computes(node: NodeProto, model: Model) -> bool:
    """Whether a node multiplies with weights: what it gives are features again."""
    layer = model.layer_of.get(node.name)
    return layer is not None and bool(layer.weights) and row_of(node).kind is Kind.COMPUTE


def _features(model: Model, weighted: set[str]) -> set[str]:
    """Float tensors that hang on a layer with weights."""
    found = set[str]()
    for node in model.proto.graph.node:
        if node.name in weighted or any(name in found for name in reads(node)):
            found.update(node.output)
    return {name for name in found if name in model.tensors and model.tensors[name].dtype in FLOATS}


def _whole(name: str, model: Model) -> str:
    """The tensor of which this one is a part, or the same values moved."""
    for node in _back(name, model):
        name = node.input[0]
    return name


def _back(name: str, model: Model) -> Iterator[NodeProto]:
    """What moved a tensor, from the last on, as far as each moved one thing."""
    node = model.producers.get(name)
    while node is not None and row_of(node).kind is Kind.MOVEMENT and not row_of(node).moves_all:
        yield node
        node = model.producers.get(node.input[0])

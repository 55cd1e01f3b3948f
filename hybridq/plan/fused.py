"""Results that a target's toolchain computes in one operator with what reads them: they are never rounded.

Which operators it takes together is the target's ``fuses``. ``Swish`` there stands for ``x * sigmoid(x)``. Reshape and
Transpose between the two are no hindrance where the reader looks at every number alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from hybridq.graph import edit
from hybridq.graph.model import Layer, Model
from hybridq.quant.dtypes import Precision
from hybridq.targets import Target

SWISH = "Swish"
PASSED = ("Reshape", "Transpose")


def unrounded(model: Model, target: Target, done: Mapping[str, Precision]) -> frozenset[str]:
    """Groups that one reader of the same precision takes as they were computed.

    A sum takes one of its terms so, the one that the graph has first.
    """
    found: set[str] = set()
    sums: set[str] = set()
    for layer in model.layers if target.fuses else ():
        reader = _reader(model, layer)
        if reader is None or reader.name in sums or not _together(model, target, layer, reader, done):
            continue
        found.add(layer.group)
        sums |= {reader.name} if reader.op == "Add" else set()
    return frozenset(found)


def _together(model: Model, target: Target, layer: Layer, reader: Layer, done: Mapping[str, Precision]) -> bool:
    """Whether the target computes both in one operator, with integers."""
    kind = SWISH if _is_swish(model, reader) else reader.op
    kinds = {done[x.name] for x in (layer, *model.readers[layer.group])}
    grouped = int(edit.attribute(model.nodes[layer.node], "group", 1)) > 1
    same = len(kinds) == 1 and done[layer.name].is_integer
    return same and kind in target.fuses.get(layer.op, ()) and not grouped


def _reader(model: Model, layer: Layer) -> Layer | None:
    """The layer that alone reads a result, or the product of a Swish that does so; None where more is read."""
    group, (last, passed) = model.group[layer.group], _passed(model, layer.name)
    nodes, readers = model.consumers.get(last, ()), model.readers.get(layer.group, ())
    whole = len(group.tensors) == 1 + passed and len(readers) == len(nodes) and last not in model.outputs
    if layer.activation or not whole or not readers or (passed and len(readers[0].inputs) > 1):
        return None
    product = readers[-1]
    swish = len(readers) == 2 and _is_swish(model, product) and last in product.inputs
    return product if len(readers) == 1 or swish else None


def _passed(model: Model, tensor: str) -> tuple[str, int]:
    """The tensor that a chain of Reshapes and Transposes ends with, and their number."""
    nodes, count = model.consumers.get(tensor, ()), 0
    while len(nodes) == 1 and nodes[0].op_type in PASSED and tensor not in model.outputs:
        tensor, count = nodes[0].output[0], count + 1
        nodes = model.consumers.get(tensor, ())
    return tensor, count


def _is_swish(model: Model, layer: Layer) -> bool:
    """Whether a layer is the product of a tensor and its own Sigmoid."""
    if layer.op != "Mul" or len(layer.inputs) != 2:
        return False
    makers = [model.producers[i] for i in layer.inputs if i in model.producers]
    return any(m.op_type == "Sigmoid" and m.input[0] in layer.inputs for m in makers)

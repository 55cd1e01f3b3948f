"""Parameters are not data: which float tensors steer operators and so are never quantized.

A scale of a Resize, an exponent, a grid, a box, an index computed in float: rounded to 8 or 16 bits it gives another
shape, another pixel, another row. Such a tensor stays float, and with it what only computes it: backwards through the
graph up to data that also matters otherwise, or to a layer with weights, whose inputs are features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from onnx import GraphProto, NodeProto, TensorProto

from hybridq.graph import edit
from hybridq.graph.operators import Kind, Role, row_of

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def steering(graph: GraphProto, is_float: Callable[[str], bool], sums: Callable[[NodeProto], bool]) -> dict[str, str]:
    """The tensors that steer an operator, each with the reason in words.

    ``is_float`` tells float32 tensors that flow; ``sums`` the nodes that sum products with weights over an axis.
    """
    readers = edit.consumers(graph.node)
    outputs = {o.name for o in graph.output}
    learned = _learned(graph, sums)
    direct = {name: why for node in graph.node for name, why in _steered(node, learned) if is_float(name)}
    found: dict[str, str] = {}
    for name in reversed([*(i.name for i in graph.input), *(o for n in graph.node for o in n.output if o)]):
        why = direct.get(name, "")
        if not why and name not in outputs:
            why = _handed_on(name, readers.get(name, ()), found, sums)
        if why and is_float(name):
            found[name] = why
    return found


def is_parameter(node: NodeProto, index: int, found: Mapping[str, str]) -> bool:
    """Whether a node reads its input ``index`` as a parameter."""
    role = row_of(node).inputs[index]
    return role is Role.PARAMETER or (role is Role.POSITION and node.input[index] in found)


def _learned(graph: GraphProto, sums: Callable[[NodeProto], bool]) -> set[str]:
    """Tensors that a layer with weights had a part in: features, not places."""
    found: set[str] = set()
    for node in graph.node:
        if sums(node) or any(name in found for name in edit.reads(node)):
            found.update(o for o in node.output if o)
    return found


def _steered(node: NodeProto, learned: set[str]) -> Iterator[tuple[str, str]]:
    """What a node reads as a parameter, and how to say so."""
    row = row_of(node)
    for index, name in enumerate(node.input):
        position = row.inputs[index] is Role.POSITION and name not in learned and not _keeps_type(node)
        if name and (position or row.inputs[index] is Role.PARAMETER):
            yield name, f"it is the {row.inputs.word(index)} of '{node.name}': a parameter and no data"


def _keeps_type(node: NodeProto) -> bool:
    """Whether a Cast gives floats again."""
    return edit.attribute(node, "to") in FLOATS


def _handed_on(
    name: str, readers: tuple[NodeProto, ...], found: Mapping[str, str], sums: Callable[[NodeProto], bool]
) -> str:
    """Why a tensor steers an operator by what is computed from it, and nothing else is; else nothing."""
    reasons = []
    for node in readers:
        if all(row_of(node).inputs[i] is Role.SHAPE for i, n in enumerate(node.input) if n == name):
            continue
        made = [o for o in node.output if o]
        if sums(node) or row_of(node).kind is Kind.SUBGRAPH or not made or not all(o in found for o in made):
            return ""
        reasons.append(found[made[0]])
    return reasons[0] if reasons else ""

"""Which tensors share parameters: what a Concat, a Reshape or a MaxPool reads and gives is one group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from hybridq.graph import edit
from hybridq.graph.operators import Movement, row_of
from hybridq.graph.outside import values_of
from hybridq.graph.view import GraphView


def share_parameters(view: GraphView, sources: Iterable[str]) -> dict[str, list[str]]:
    """The groups of tensors that share parameters, each under its earliest tensor.

    ``sources``: where values enter a group, in graph order. A state that goes in is the one that came out a step
    before.
    """
    parent = {name: name for name in sources}
    apart = set() if view.sharing.outputs else _keeps_apart(view)
    for node in view.graph.node:
        if node.name in apart or not moves_data(node, view):
            continue
        inputs = [i for i in moved(node) if i in parent]
        for first in inputs[:1]:
            parent.update((out, _root(parent, first)) for out in node.output if view.is_activation(out))
        for other in inputs[1:]:
            parent[_root(parent, other)] = _root(parent, inputs[0])
    for coming, going in view.states.items():
        if coming in parent and going in parent:
            parent[_root(parent, going)] = _root(parent, coming)
    members: dict[str, list[str]] = {}
    for tensor in parent:
        members.setdefault(_root(parent, tensor), []).append(tensor)
    return members


def _root(parent: dict[str, str], name: str) -> str:
    """The representative of a tensor's group; every second step of the way to it is skipped from now on."""
    while parent[name] != name:
        parent[name] = name = parent[parent[name]]
    return name


def moves_data(node: NodeProto, view: GraphView) -> bool:
    """Whether a node only moves values of activations, so that its output can share their parameters."""
    movement = row_of(node).movement
    ends = [*node.output[:1], *moved(node)]
    if movement is Movement.NONE or not all(view.is_activation(e) for e in ends):
        return False
    if node.name in view.sharing.apart or (row_of(node).moves_all and not view.sharing.inputs):
        return False
    if movement is Movement.NEAREST:
        return bool(edit.attribute(node, "mode", b"nearest") == b"nearest")
    if movement is Movement.PADDED:
        constant = edit.attribute(node, "mode", b"constant") == b"constant"
        return not constant or _pads_zero(node, view) or _pads_unseen(node, view)
    return True


def _pads_zero(node: NodeProto, view: GraphView) -> bool:
    name = node.input[2] if len(node.input) > 2 else ""
    if not name:
        return True
    return name in view.initializers and not values_of(view.initializers[name]).any()


def _pads_unseen(node: NodeProto, view: GraphView) -> bool:
    """Whether a Pad's value can only lose, so that the integers' lowest will do as well.

    It is not above zero, which every range holds, only MaxPools read the result, and each of their windows holds an
    element of the data, since no side is padded by a whole window.
    """
    value, pads = (view.initializers.get(name) for name in [*node.input[2:3], node.input[1]])
    if value is None or pads is None or values_of(value).max(initial=0.0) > 0.0 or len(node.input) > 3:
        return False
    amounts = values_of(pads).reshape(2, -1)
    readers = view.consumers.get(node.output[0], ())
    return node.output[0] not in view.outputs and bool(readers) and all(_overlaps(r, amounts) for r in readers)


def _overlaps(node: NodeProto, amounts: NDArray[Any]) -> bool:
    """Whether a node is a MaxPool whose every window reaches beyond a padding of ``amounts``, (2, rank)."""
    row, given = row_of(node), edit.attributes(node)
    if row.movement is not Movement.LARGEST or "kernel_shape" not in given or any(node.output[1:]):
        return False
    dilations = given.get("dilations", [1] * len(given["kernel_shape"]))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, given["kernel_shape"], strict=True)]
    plain = not any(given.get("pads", ())) and not given.get("ceil_mode", 0) and not amounts[:, :2].any()
    return plain and all(amounts[:, 2 + i].max() < k for i, k in enumerate(reach)) and bool(max(dilations) == 1)


def moved(node: NodeProto) -> list[str]:
    """The inputs whose values a data movement node carries to its output."""
    return list(node.input) if row_of(node).moves_all else list(node.input[:1])


def _keeps_apart(view: GraphView) -> set[str]:
    """Names of Concats whose values only leave the graph, and of the movement behind them: they run in float."""
    leaves: dict[str, bool] = {}
    for node in reversed(view.graph.node):
        for out in node.output:
            readers = view.consumers.get(out, ())
            leaves[out] = all(moves_data(r, view) and leaves[r.output[0]] for r in readers)
    found: set[str] = set()
    behind: set[str] = set()
    for node in view.graph.node:
        joins = row_of(node).moves_all or any(i in behind for i in node.input)
        if joins and moves_data(node, view) and leaves[node.output[0]]:
            found.add(node.name)
            behind.update(node.output)
    return found

"""Concats whose inputs keep scales of their own: the model with less in common.

What a Concat joins shares parameters with its result (``shared_qparams``), so that it moves integers. In a long row of
joins, as channel shuffles make, a whole part of the model has one scale then. A Concat that is *separate* is a layer of
its own, which takes each of its inputs to the scale of its result.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from onnx import NodeProto

from hybridq.graph import operators
from hybridq.graph.analysis import known_range
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Layout, row_of
from hybridq.graph.shared_qparams import share_parameters
from hybridq.graph.view import Sharing, view_of


def separable(model: Model) -> tuple[str, ...]:
    """The results of the Concats that let different tensors share parameters, in graph order."""
    return tuple(node.output[0] for node in model.proto.graph.node if _ties(model, node))


def told(model: Model) -> dict[str, tuple[str, ...]]:
    """The joined tensors of each separable Concat by its result, where these are sources, or told themselves.

    The least and largest value of such a result need no measuring. In graph order.
    """
    known = {s for group in model.groups for s in group.sources}
    found = {}
    for result in separable(model):
        joined = tuple(dict.fromkeys(model.producers[result].input))
        if known.issuperset(joined):
            found[result] = joined
            known.add(result)
    return found


def named(model: Model, name: str) -> str:
    """The result of the separable Concat that goes by a name (its own, or its result's); empty where there is none."""
    node = model.nodes.get(name) or model.producers.get(name)
    return node.output[0] if node is not None and _ties(model, node) else ""


def _ties(model: Model, node: NodeProto) -> bool:
    if not row_of(node).moves_all or node.name in model.layer_of:
        return False
    group = model.group_of.get(node.output[0]) if node.output else None
    joined = {i for i in node.input if group is not None and model.group_of.get(i) is group}
    return group is not None and not group.float_only and len(joined) > 1


def separated(model: Model, results: Collection[str], *, outputs_share: bool, fixed_ranges: bool) -> Model:
    """The model with these Concats, by their results, as layers: groups fall apart where they alone held them together.

    ``outputs_share`` and ``fixed_ranges`` as the target has them. Every other layer stays as it is, and so does every
    group that is not concerned.
    """
    nodes = {name: model.producers[name] for name in results}
    if not nodes:
        return model
    view = view_of(model.proto.graph, Sharing(outputs_share, apart=frozenset(n.name for n in nodes.values())))
    view.states = dict(model.states)
    members = share_parameters(view, _sources(model, nodes))
    groups = tuple(_group(model, root, tensors, nodes, fixed_ranges) for root, tensors in members.items())
    home = {t: g.name for g in groups for t in g.tensors}
    known = model.layer_of | {n.name: _layer(model, n) for n in nodes.values()}
    ordered = (known[n.name] for n in model.proto.graph.node if n.name in known)
    return replace(model, layers=tuple(replace(x, group=home[x.name]) for x in ordered), groups=groups)


def _sources(model: Model, more: Collection[str]) -> list[str]:
    """Where values enter a group, in graph order: as before, and the results ``more``."""
    found = {s for group in model.groups for s in group.sources} | set(more)
    made = [o for node in model.proto.graph.node for o in node.output]
    return [name for name in dict.fromkeys([*model.inputs, *made]) if name in found]


def _group(model: Model, name: str, tensors: Sequence[str], more: Collection[str], fixed_ranges: bool) -> Group:
    """A group of tensors; the one that there was, where it is the same."""
    before = model.group_of[name]
    if len(tensors) == len(before.tensors):
        return before
    own = tuple(t for t in tensors if t in before.sources or t in more)
    makers = [model.producers[t] for t in own if t in model.producers]
    owners = [model.owner_of[n.name].name if n.name in model.owner_of else n.output[0] for n in makers]
    known = known_range(makers, own) if fixed_ranges else None
    return Group(name, tuple(tensors), own, tuple(dict.fromkeys(owners)), known, before.float_only)


def _layer(model: Model, node: NodeProto) -> Layer:
    """The layer that a Concat is."""
    name = node.output[0]
    inputs = tuple(i for i in dict.fromkeys(node.input) if i in model.group_of)
    aliases = (node.name,) if node.name and node.name != name else ()
    count = operators.macs(Layout.NONE, {}, None, None, model.tensors[name].shape)
    return Layer(name, node.op_type, node.name, "", "", inputs, (), "", aliases, count, model.group_of[name].name)

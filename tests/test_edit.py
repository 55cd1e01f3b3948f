"""Look-ups into graphs: who writes and reads what, subgraphs included, and names that nobody has."""

from __future__ import annotations

import pytest
from onnx import GraphProto, TensorProto, helper
from random_graphs import random_case

from hybridq.graph import edit

VALUE = helper.make_tensor_value_info


def branch(name: str) -> GraphProto:
    """A subgraph that reads ``a`` from around it, through a tensor of its own."""
    nodes = [helper.make_node("Neg", ["a"], [f"{name}/own"]), helper.make_node("Abs", [f"{name}/own"], [name])]
    return helper.make_graph(nodes, name, [], [VALUE(name, TensorProto.FLOAT, None)])


@pytest.fixture
def graph() -> GraphProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("Add", ["x", "x"], ["b"], name="add"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("then"), else_branch=branch("else")),
    ]
    inputs = [VALUE("x", TensorProto.FLOAT, None), VALUE("c", TensorProto.BOOL, None)]
    return helper.make_graph(nodes, "g", inputs, [VALUE("y", TensorProto.FLOAT, None)])


def test_producers_and_consumers(graph: GraphProto) -> None:
    assert {t: n.name for t, n in edit.producers(graph.node).items()} == {"a": "relu", "b": "add", "y": "if"}
    readers = {t: [n.name for n in nodes] for t, nodes in edit.consumers(graph.node).items()}
    assert readers == {"x": ["relu", "add"], "c": ["if"], "a": ["if"]}


def test_fresh_names_are_nobodys(graph: GraphProto) -> None:
    names = edit.TakenNames.of(graph)
    assert [names.fresh("new") for _ in range(3)] == ["new", "new_2", "new_3"]
    assert names.fresh("then/own") == "then/own_2"  # a name inside a subgraph is taken, too
    assert names.fresh("x") == "x_2"


def test_attributes() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, auto_pad="VALID", pads=[1, 2])
    assert edit.attributes(node) == {"group": 2, "auto_pad": b"VALID", "pads": [1, 2]}
    assert edit.attribute(node, "group", 1) == 2
    assert edit.attribute(node, "alpha", 0.5) == 0.5


@pytest.mark.parametrize("seed", range(10))
def test_readers_of_groups(seed: int) -> None:
    """A layer is among the readers of a group exactly when one of its inputs is in it."""
    model = random_case(seed).model
    for group in model.groups:
        reading = [x for x in model.layers if set(x.inputs) & set(group.tensors)]
        assert list(model.readers.get(group.name, ())) == reading

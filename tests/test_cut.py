"""Cutting a part out of a model: it computes what the whole computes there."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from random_graphs import expose, run
from random_models import INPUT, random_model

from hybridq.errors import ModelError
from hybridq.graph.cut import cut
from hybridq.graph.intake.canonical import canonicalize

FLOAT = TensorProto.FLOAT


def detector() -> onnx.ModelProto:
    """A backbone and a tail that nobody wants to quantize; two inputs."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="backbone"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "z"], ["s"]),
        helper.make_node("Exp", ["s"], ["boxes"]),
        helper.make_node("Sigmoid", ["r"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, FLOAT, ["n", 4]) for n in ("x", "z")],
        [helper.make_tensor_value_info(n, FLOAT, ["n", 4]) for n in ("boxes", "scores")],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_the_tail_goes() -> None:
    part = cut(detector(), [], ["r"])
    assert [n.op_type for n in part.graph.node] == ["MatMul", "Relu"]
    assert [i.name for i in part.graph.input] == ["x"]
    assert [o.name for o in part.graph.output] == ["r"]
    onnx.checker.check_model(part, full_check=True)


def test_the_head_goes() -> None:
    part = cut(detector(), ["r"], ["scores"])
    assert [i.name for i in part.graph.input] == ["r"]
    assert not part.graph.initializer
    onnx.checker.check_model(part, full_check=True)


def test_nothing_named_is_the_whole() -> None:
    part = cut(detector(), [], [])
    assert part.graph.node == detector().graph.node
    assert part.graph.output == detector().graph.output


def test_order_of_the_names_is_kept() -> None:
    assert [o.name for o in cut(detector(), [], ["scores", "h"]).graph.output] == ["scores", "h"]


def test_the_given_model_is_left_alone() -> None:
    given = detector()
    cut(given, ["r"], ["scores"])
    assert given == detector()


@pytest.mark.parametrize(
    ("inputs", "outputs", "match", "hint"),
    [
        ([], ["score"], "no tensor 'score'", "Did you mean 'scores'?"),
        (["zzz"], [], "no tensor 'zzz'", "Give the name of a tensor"),
        (["r"], ["boxes"], "also depend on the input\\(s\\) z", "Name these inputs too"),
        ([], ["backbone"], "no tensor 'backbone'", ""),
        (["x"], ["x"], "is an input", ""),
    ],
)
def test_refusals(inputs: list[str], outputs: list[str], match: str, hint: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        cut(detector(), inputs, outputs, "m.onnx")
    assert hint in str(caught.value)
    assert all(p.path == "m.onnx" for p in caught.value.problems)


def test_every_unknown_name_is_told_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        cut(detector(), ["one"], ["two", "three"])
    assert len(caught.value.problems) == 3


def test_what_a_branch_reads_stays() -> None:
    branches = {
        f"{k}_branch": helper.make_graph(
            [helper.make_node(op, ["r", "w2"], [k])], k, [], [helper.make_tensor_value_info(k, FLOAT, None)]
        )
        for k, op in (("then", "Add"), ("else", "Mul"))
    }
    given = detector()
    given.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w2"))
    given.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    given.graph.node.append(helper.make_node("If", ["c"], ["y"], **branches))
    given.graph.output.append(helper.make_tensor_value_info("y", FLOAT, ["n", 4]))
    part = cut(given, [], ["y"])
    assert {i.name for i in part.graph.input} == {"x", "c"}
    assert {t.name for t in part.graph.initializer} == {"w", "w2"}
    feed = {"x": np.ones((2, 4), np.float32), "c": np.array(True)}
    np.testing.assert_array_equal(run(part, feed)[0], np.full((2, 4), 2, np.float32))


@pytest.mark.parametrize("seed", range(25))
def test_a_part_computes_what_the_whole_does(seed: int) -> None:
    given = random_model(seed)
    random = np.random.default_rng(seed)
    tensors = [n.output[0] for n in given.graph.node if n.op_type != "Greater"]
    ends = [str(t) for t in random.choice(tensors, min(2, len(tensors)), replace=False)]
    feed = {"x": random.normal(size=(2, *INPUT)).astype(np.float32)}
    whole = expose(given, ends)
    expected = dict(zip([o.name for o in whole.graph.output], run(whole, feed), strict=True))
    part = cut(given, [], ends)
    assert [o.name for o in part.graph.output] == ends
    for name, found in zip(ends, run(canonicalize(part), feed), strict=True):
        wanted, got = expected[name].astype(float), found.astype(float)
        finite = np.isfinite(wanted)  # a mask may hold infinities
        np.testing.assert_array_equal(got[~finite], wanted[~finite])
        peak = float(np.abs(wanted[finite]).max(initial=0))
        np.testing.assert_allclose(got[finite], wanted[finite], atol=1e-5 * peak + 1e-12)

"""What is a score: a probability that was moved or combined so that it stays one, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.runtime import run, session
from hybridq.graph.scores import is_score

N = helper.make_node
SCORES: dict[str, list[NodeProto]] = {
    "sigmoid": [N("Sigmoid", ["x"], ["y"])],
    "moved": [N("Sigmoid", ["x"], ["a"]), N("Transpose", ["a"], ["y"], perm=[1, 0])],
    "times another": [N("Sigmoid", ["x"], ["a"]), N("Softmax", ["x"], ["b"]), N("Mul", ["a", "b"], ["y"])],
    "geometric mean": [N("Sigmoid", ["x"], ["a"]), N("Mul", ["a", "a"], ["b"]), N("Sqrt", ["b"], ["y"])],
    "joined": [N("Sigmoid", ["x"], ["a"]), N("HardSigmoid", ["x"], ["b"]), N("Concat", ["a", "b"], ["y"], axis=0)],
    "raised": [N("Sigmoid", ["x"], ["a"]), N("Pow", ["a", "two"], ["y"])],
}
OTHERS: dict[str, list[NodeProto]] = {
    "an input": [N("Identity", ["x"], ["y"])],
    "joined with boxes": [N("Sigmoid", ["x"], ["a"]), N("Exp", ["x"], ["b"]), N("Concat", ["a", "b"], ["y"], axis=0)],
    "scaled": [N("Sigmoid", ["x"], ["a"]), N("Mul", ["a", "large"], ["y"])],
    "summed": [N("Sigmoid", ["x"], ["a"]), N("Add", ["a", "a"], ["y"])],
    "gated": [N("Sigmoid", ["x"], ["a"]), N("Mul", ["a", "x"], ["y"])],
}


def proto(nodes: list[NodeProto]) -> onnx.ModelProto:
    values = {"two": np.float32(2.0), "large": np.float32(640.0)}
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None if n == "y" else [4, 4]) for n in "xy")
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], held), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    return canonicalize(made)


@pytest.mark.parametrize("name", SCORES)
def test_scores_lie_within_0_and_1_whatever_is_read(name: str) -> None:
    model = proto(SCORES[name])
    assert is_score("y", analyse(model))
    x = 30 * np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    (y,) = run(session(model, threads=1), {"x": x})
    assert 0 <= y.min() <= y.max() <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_what_can_leave_0_and_1_is_none(name: str) -> None:
    assert not is_score("y", analyse(proto(OTHERS[name])))


def test_a_long_way_of_movement_changes_nothing() -> None:
    steps = [N("Transpose", [f"t{i}"], [f"t{i + 1}"], perm=[1, 0]) for i in range(1500)]
    view = analyse(proto([N("Sigmoid", ["x"], ["t0"]), *steps, N("Identity", ["t1500"], ["y"])]))
    assert is_score("y", view)

"""The search takes what the steps take: outputs without batch, constant ones, subgraphs, samples of many shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

import hybridq
from hybridq.graph import runtime
from hybridq.graph.edit import outer_reads, with_outer_reads
from hybridq.search.measuring.damage import Cut, cuts_of

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
N = helper.make_node
RANDOM = np.random.default_rng(6)


def value(name: str, shape: list[int | str] | None = None, dtype: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def normal(*shape: int, spread: float = 1.0) -> Array:
    return (spread * RANDOM.standard_normal(shape)).astype(np.float32)


def product(*inputs: str) -> NodeProto:
    return N("MatMul", [inputs[0], "W"], [inputs[1]])


def branches(read: str) -> dict[str, Any]:
    return {
        name: helper.make_graph([N(op, [read], [f"{op}_out"])], op, [], [value(f"{op}_out", [4, 8])])
        for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }


Model = tuple[list[NodeProto], list[ValueInfoProto], list[ValueInfoProto], list[dict[str, Array]]]


def length() -> Model:
    """Sequences of different length."""
    feeds = [{"x": normal(1, t, 8)} for t in (5, 9, 7, 6)]
    return (
        [product("x", "m"), N("Relu", ["m"], ["r"]), product("r", "y")],
        [value("x", [1, "t", 8])],
        [value("y")],
        feeds,
    )


def first_axis() -> Model:
    """Speech: time first, a batch of one in the middle."""
    return [product("x", "m"), product("m", "y")], [value("x", [20, 1, 8])], [value("y")], [{"x": normal(20, 1, 8)}] * 3


def scores() -> Model:
    """Scores of three axes, none of them a batch."""
    nodes = [product("x", "m"), N("Sigmoid", ["m"], ["y"])]
    return nodes, [value("x", [3, 4, 8])], [value("y", [3, 4, 8])], [{"x": normal(3, 4, 8)} for _ in range(4)]


def vector() -> Model:
    """An output of one number, and one of one axis."""
    nodes = [
        product("x", "m"),
        N("Abs", ["m"], ["p"]),
        N("ReduceMean", ["p"], ["y"], keepdims=0),
        N("Neg", ["a"], ["z"]),
    ]
    inputs = [value("x", [4, 8]), value("a", [1])]
    return nodes, inputs, [value("y", []), value("z", [1])], [{"x": normal(4, 8), "a": normal(1)} for _ in range(4)]


def constant() -> Model:
    """A constant among the outputs, and the shape of an input."""
    nodes = [product("x", "y"), N("Identity", ["W"], ["k"]), N("Shape", ["x"], ["n"])]
    outputs = [value("y", [4, 8]), value("k", [8, 8]), value("n", [2], TensorProto.INT64)]
    return nodes, [value("x", [4, 8])], outputs, [{"x": normal(4, 8)} for _ in range(4)]


def branching() -> Model:
    """An If that reads a tensor from outside."""
    nodes = [product("x", "m"), N("If", ["c"], ["v"], **branches("m")), product("v", "y")]
    inputs = [value("x", [4, 8]), value("c", [], TensorProto.BOOL)]
    feeds = [{"x": normal(4, 8), "c": np.array(i % 2 == 0)} for i in range(4)]
    return nodes, inputs, [value("y", [4, 8])], feeds


def window() -> Model:
    """A Range that makes a window, and the window among the outputs."""
    nodes = [
        N("Range", ["zero", "n", "one"], ["r"]),
        N("Cos", ["r"], ["w"]),
        N("Mul", ["x", "w"], ["xw"]),
        product("xw", "y"),
    ]
    inputs = [value("x", [4, 8]), value("n", [])]
    return (
        nodes,
        inputs,
        [value("y", [4, 8]), value("w", ["t"])],
        [{"x": normal(4, 8), "n": np.array(8, np.float32)}] * 4,
    )


def reversed_axes() -> Model:
    """An output behind a Transpose without perm."""
    nodes = [product("x", "m"), N("Transpose", ["m"], ["y"])]
    return nodes, [value("x", [2, 4, 8])], [value("y", [8, 4, 2])], [{"x": normal(2, 4, 8)} for _ in range(4)]


def chance() -> Model:
    """Random numbers inside."""
    nodes = [product("x", "m"), N("RandomNormalLike", ["m"], ["r"]), N("Add", ["m", "r"], ["a"]), product("a", "y")]
    return nodes, [value("x", [4, 8])], [value("y", [4, 8])], [{"x": normal(4, 8)} for _ in range(4)]


def classes() -> Model:
    """Class numbers alone."""
    nodes = [product("x", "m"), N("ArgMax", ["m"], ["y"], axis=1, keepdims=0)]
    return nodes, [value("x", [40, 8])], [value("y", [40], TensorProto.INT64)], [{"x": normal(40, 8)} for _ in range(4)]


MODELS = [length, first_axis, scores, vector, constant, branching, window, reversed_axes, chance, classes]


@pytest.mark.parametrize("make", MODELS, ids=lambda f: f.__name__)
def test_auto_is_as_good_as_the_default(tmp_path: Path, make: Any) -> None:
    nodes, inputs, outputs, feeds = make()
    tensors = {"W": normal(8, 8, spread=0.4), "zero": np.float32(0), "one": np.float32(1)}
    used = {i for n in nodes for i in n.input}
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items() if k in used]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    hybridq.auto(path, feeds, tmp_path / "auto", threads=1)
    given, found = (runtime.session(p, threads=1) for p in (path, tmp_path / "auto/hybrid.onnx"))
    for feed in feeds:
        for a, b in zip(runtime.run(given, feed), runtime.run(found, feed), strict=True):
            assert np.shape(a) == np.shape(b)
            if a.dtype.kind != "f":
                assert np.mean(a == b) > 0.8
            elif make is not chance:
                assert float(((a - b) ** 2).sum()) < 10**-2.5 * float((a**2).sum()) + 1e-12


@pytest.mark.parametrize(
    ("algorithm", "shape"), [("kl_divergence", (100, 1, 80)), ("percentile", (8, 64, 80)), ("mmse", (3, 40, 60))]
)
def test_every_algorithm_takes_a_fixed_first_axis(tmp_path: Path, algorithm: str, shape: tuple[int, ...]) -> None:
    graph = helper.make_graph(
        [N("MatMul", ["x", "W"], ["m"]), N("Relu", ["m"], ["y"])], "g", [value("x", list(shape))], [value("y")]
    )
    graph.initializer.append(numpy_helper.from_array(normal(shape[-1], shape[-1], spread=0.1), "W"))
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    hybridq.step1(path, [{"x": normal(*shape)}], tmp_path / "b", algorithm=algorithm, threads=1)


class TestCuts:
    def test_an_axis_of_one_length_is_cut(self) -> None:
        assert cuts_of([(1, 5, 8), (1, 9, 8)], None) == (Cut(-1),)
        assert cuts_of([(1, 8, 50), (1, 8, 90)], None) == (Cut(1),)
        assert cuts_of([(1, 8, 50), (8, 50)], None) == (Cut(-1),)


def test_subgraphs_read_other_names() -> None:
    node = N("If", ["c"], ["v"], **branches("m"))
    assert set(outer_reads(with_outer_reads(node, {"m": "n", "Relu_out": "z"}))) == {"n"}
    assert set(outer_reads(node)) == {"m"}

"""The names of the given file: every one that still has a meaning is taken, and no layer has any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from situations import ALL

from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.edit import graphs, producers
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.model import Model

Array = NDArray[Any]
TOKENS, WIDTH, HEADS = 6, 16, 2


class Writer:
    """A transformer encoder of fixed shape, each operator a node with a path for a name, as torch exports it."""

    def __init__(self, *, written_out: bool, batch: int | str = 1) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.random = np.random.default_rng(0)
        self.written_out, self.batch = written_out, batch

    def add(self, op: str, path: str, *inputs: str | Array, **attributes: Any) -> str:
        output = f"{path}/{op}_output_0"
        names = []
        for i, value in enumerate(inputs):
            name = value if isinstance(value, str) else f"{path}.{op}.constant_{i}"
            if not isinstance(value, str):
                self.tensors[name] = value
            names.append(name)
        self.nodes.append(helper.make_node(op, names, [output], name=f"{path}/{op}", **attributes))
        return output

    def weights(self, *shape: int) -> Array:
        return (0.3 * self.random.standard_normal(shape)).astype(np.float32)

    def linear(self, path: str, x: str, width: int = WIDTH, *, given: int = WIDTH) -> str:
        return self.add("Add", path, self.weights(width), self.add("MatMul", path, x, self.weights(given, width)))

    def norm(self, path: str, x: str) -> str:
        gamma, beta = np.ones(WIDTH, np.float32), self.weights(WIDTH)
        if not self.written_out:
            return self.add("LayerNormalization", path, x, gamma, beta, axis=-1)
        centred = self.add("Sub", path, x, self.add("ReduceMean", f"{path}/mean", x, axes=[-1]))
        square = self.add("Pow", path, centred, np.float32(2))
        variance = self.add("ReduceMean", f"{path}/variance", square, axes=[-1])
        deviation = self.add("Sqrt", path, self.add("Add", f"{path}/epsilon", variance, np.float32(1e-5)))
        scaled = self.add("Mul", path, self.add("Div", path, centred, deviation), gamma)
        return self.add("Add", path, scaled, beta)

    def heads(self, path: str, x: str, perm: list[int]) -> str:
        shape = np.array([-1 if self.batch == "n" else 1, TOKENS, HEADS, WIDTH // HEADS])
        return self.add("Transpose", path, self.add("Reshape", path, self.linear(path, x), shape), perm=perm)

    def attention(self, path: str, x: str) -> str:
        q, k, v = (
            self.heads(f"{path}/{n}", x, p) for n, p in zip("qkv", ([0, 2, 1, 3], [0, 2, 3, 1]) * 2, strict=False)
        )
        scores = self.add("Div", path, self.add("MatMul", f"{path}/qk", q, k), np.float32(8**0.5))
        mixed = self.add("MatMul", f"{path}/pv", self.add("Softmax", path, scores, axis=-1), v)
        back = self.add("Transpose", path, mixed, perm=[0, 2, 1, 3])
        shape = np.array([-1 if self.batch == "n" else 1, TOKENS, WIDTH])
        return self.linear(f"{path}/out", self.add("Reshape", path, back, shape))

    def block(self, path: str, x: str) -> str:
        x = self.add("Add", f"{path}/first", x, self.attention(f"{path}/attention", self.norm(f"{path}/norm1", x)))
        wide = self.linear(f"{path}/fc1", self.norm(f"{path}/norm2", x), 2 * WIDTH)
        wide = self.add("Relu", path, wide)
        return self.add("Add", f"{path}/second", x, self.linear(f"{path}/fc2", wide, given=2 * WIDTH))

    def model(self) -> ModelProto:
        last = self.linear("/head", self.block("/block1", self.block("/block0", "x")), 4)
        shapes = {"x": [self.batch, TOKENS, WIDTH], last: [self.batch, TOKENS, 4]}
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
        held = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.tensors.items()]
        graph = helper.make_graph(self.nodes, "encoder", ends[:1], ends[1:], held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def known(model: Model) -> set[str]:
    """Every name that a selector takes: of a layer, or of a tensor that shares a layer's parameters."""
    return set(model.names) | {t for g in model.groups for t in g.tensors}


def computed(graph: GraphProto) -> set[str]:
    """Names of the graph that depend on an input."""
    made = producers(graph.node)
    return set(made) | {n.name for n in graph.node}


CASES = [(w, b) for w in (False, True) for b in (1, "n")]


@pytest.mark.parametrize(("written_out", "batch"), CASES)
def test_every_name_of_an_encoder_is_taken(written_out: bool, batch: int | str) -> None:
    given = Writer(written_out=written_out, batch=batch).model()
    model = analyse(canonicalize(given), given)
    movement = {n.name for n in model.proto.graph.node} - {x.node for x in model.layers}
    assert not computed(given.graph) - known(model) - movement


@pytest.mark.parametrize(("written_out", "batch"), CASES)
def test_no_layer_has_a_name_of_its_own(written_out: bool, batch: int | str) -> None:
    given = Writer(written_out=written_out, batch=batch).model()
    assert {x.name for x in analyse(canonicalize(given), given).layers} <= computed(given.graph)


@pytest.mark.parametrize(("written_out", "batch"), CASES)
def test_the_function_stays(written_out: bool, batch: int | str) -> None:
    given = Writer(written_out=written_out, batch=batch).model()
    feed = {"x": np.random.default_rng(1).standard_normal((1, TOKENS, WIDTH)).astype(np.float32)}
    a, b = (runtime.run(runtime.session(m, threads=1), feed)[0] for m in (given, canonicalize(given)))
    np.testing.assert_allclose(a, b, atol=1e-5 * float(np.abs(a).max()))


def test_linear_layers_of_a_fixed_shape_are_one() -> None:
    """All but the one that writes an output, whose name must keep its shape."""
    found = canonicalize(Writer(written_out=False).model())
    ops = [n.op_type for n in found.graph.node]
    assert ops.count("Gemm") == 2 * (3 + 1 + 2)
    assert ops.count("MatMul") == 2 * 2 + 1


def test_a_float16_output_is_its_layer() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="fc"),
        helper.make_node("Relu", ["m"], ["y"], name="act"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [2, 4]) for n in ("x", "y")]
    held = [numpy_helper.from_array(np.ones((4, 4), np.float16), "w")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = analyse(canonicalize(given), given)
    assert [model.names.get(n) for n in ("y", "act", "m", "fc")] == ["y"] * 4


def names_of(graph: GraphProto) -> set[str]:
    """Every tensor and node of a graph and of the graphs inside."""
    return {n for g in graphs(graph) for x in g.node for n in (x.name, *x.input, *x.output)} | {
        i.name for g in graphs(graph) for i in g.input
    }


@pytest.mark.parametrize("name", sorted(ALL)[::3])
def test_every_layer_has_a_name_of_the_file(name: str) -> None:
    """Or, of what was written out behind one, NAME/WORD."""
    given = ALL[name].model
    known = names_of(given.graph) | {n for f in given.functions for x in f.node for n in (x.name, *x.output)}
    layers = analyse(canonicalize(given), given).layer
    assert {n for n in layers if n not in known and n.rpartition("/")[0] not in known} == set()


def test_a_branch_that_is_always_taken() -> None:
    """ONNX Runtime writes it out and puts a word before its names."""

    def branch(gate: str) -> GraphProto:
        nodes = [
            helper.make_node(gate, ["x"], [f"{gate}_out"], name=f"do/{gate}"),
            helper.make_node("Neg", [f"{gate}_out"], [f"{gate}_last"]),
        ]
        return helper.make_graph(
            nodes, gate, [], [helper.make_tensor_value_info(f"{gate}_last", TensorProto.FLOAT, [1, 4])]
        )

    nodes = [
        helper.make_node("If", ["always"], ["s"], then_branch=branch("Sigmoid"), else_branch=branch("Tanh")),
        helper.make_node("Mul", ["s", "x"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.array(True), "always")])
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = analyse(canonicalize(given), given)
    assert [x.name for x in model.layers] == ["Sigmoid_out", "s", "y"]
    assert model.names["do/Sigmoid"] == "Sigmoid_out"
    assert "do/Tanh" not in model.names

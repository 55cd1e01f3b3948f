"""The given model to the canonical graph: the same function, folded; what cannot be used ends in one clear error."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers_canonical import FLOAT, X, assert_canonical, assert_same, conv_bn, model, subgraphs
from onnx import GraphProto, ModelProto, TensorProto, helper
from random_models import INPUT, random_model

from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.graph.opset import newest_opset, opset_of

ZOO = [
    *("ultraface_rfb320", "yunet_n", "fastestdet", "squeezenet"),
    *("vww_mobilenet", "pfld_ghostone", "silero_vad", "super_resolution"),
]


class TestFolding:
    @pytest.mark.parametrize("opset", range(7, newest_opset() + 1))
    def test_every_usual_opset(self, opset: int) -> None:
        given = conv_bn(opset)
        found = canonicalize(given)
        assert_canonical(found)
        assert opset_of(found) == max(opset, 21)
        assert [n.op_type for n in found.graph.node] == ["Conv", "Relu"]
        assert_same(given, found, X)

    def test_dynamic_batch_is_kept(self) -> None:
        dims = canonicalize(conv_bn()).graph.input[0].type.tensor_type.shape.dim
        assert dims[0].dim_param == "n"
        assert [d.dim_value for d in dims[1:]] == [3, 8, 8]

    def test_initializers_listed_as_inputs(self) -> None:
        given = conv_bn()
        given.graph.input.extend(
            helper.make_tensor_value_info(t.name, FLOAT, list(t.dims)) for t in given.graph.initializer
        )
        found = canonicalize(given)
        assert [i.name for i in found.graph.input] == ["x"]
        assert [n.op_type for n in found.graph.node] == ["Conv", "Relu"]

    def test_the_given_model_is_left_alone(self) -> None:
        given = conv_bn()
        before = given.SerializeToString(deterministic=True)
        canonicalize(given)
        assert given.SerializeToString(deterministic=True) == before

    def test_nameless_and_twice_named_nodes(self) -> None:
        given = conv_bn()
        for node, name in zip(given.graph.node, ["", "same", "", "same"], strict=True):
            node.name = name
        assert_canonical(canonicalize(given))

    def test_canonical_is_canonical(self) -> None:
        once = canonicalize(conv_bn())
        assert_same(once, canonicalize(once), X)
        assert [n.op_type for n in canonicalize(once).graph.node] == [n.op_type for n in once.graph.node]

    def test_same_model_same_bytes(self) -> None:
        found = [canonicalize(conv_bn()).SerializeToString(deterministic=True) for _ in range(2)]
        assert found[0] == found[1]

    @pytest.mark.parametrize("seed", range(25))
    def test_random_graphs(self, seed: int) -> None:
        given = random_model(seed)
        found = canonicalize(given)
        assert_canonical(found)
        assert [o.name for o in found.graph.output] == [o.name for o in given.graph.output]
        assert_same(given, found, {"x": np.random.default_rng(seed).normal(size=(3, *INPUT)).astype(np.float32)})

    def test_operators_are_not_written_out(self) -> None:
        """HardSwish, Mish and GroupNormalization stay one layer each, and compute the same to the bit."""
        nodes = [
            helper.make_node("HardSwish", ["x"], ["a"], name="swish"),
            helper.make_node("Mish", ["a"], ["b"]),
            helper.make_node("GroupNormalization", ["b", "scale", "bias"], ["c"], num_groups=2),
            helper.make_node("HardSwish", ["c"], ["y"]),
        ]
        tensors = {"scale": np.float32([1, 2, 3, 4]), "bias": np.float32([0, 1, 0, 1])}
        given = model(nodes, {"x": ["n", 4, 6]}, ["y"], tensors)
        found = canonicalize(given)
        assert_canonical(found)
        assert [n.op_type for n in found.graph.node] == ["HardSwish", "Mish", "GroupNormalization", "HardSwish"]
        assert [o for n in found.graph.node for o in n.output] == ["a", "b", "c", "y"]
        x = {"x": np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)}
        for level in ("all", "none"):
            both = [runtime.run(runtime.session(m, threads=1, level=level), x)[0] for m in (given, found)]
            np.testing.assert_array_equal(*both)


class TestControlFlow:
    """Subgraphs stay as they are, in float32, and what they read from outside stays visible to them."""

    @staticmethod
    def branch(name: str, op: str) -> GraphProto:
        node = helper.make_node(op, ["c", "outer"], [name], name=name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    def conditional(self) -> ModelProto:
        nodes = [
            helper.make_node("Relu", ["x"], ["c"]),
            helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0),
            helper.make_node("Greater", ["m", "limit"], ["big"]),
            helper.make_node(
                "If", ["big"], ["y"], then_branch=self.branch("t", "Add"), else_branch=self.branch("e", "Mul")
            ),
            helper.make_node("Sigmoid", ["y"], ["z"]),
        ]
        tensors = {"outer": np.float32([1, 2, 3]), "limit": np.float32(0.5)}
        return model(nodes, {"x": [2, 3]}, ["z"], tensors)

    def loop(self) -> ModelProto:
        body = helper.make_graph(
            [
                helper.make_node("Add", ["v", "step"], ["w"]),
                helper.make_node("Identity", ["cond"], ["more"]),
                helper.make_node("Identity", ["w"], ["scan"]),
            ],
            "body",
            [
                helper.make_tensor_value_info("i", TensorProto.INT64, []),
                helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v", FLOAT, [2, 3]),
            ],
            [
                helper.make_tensor_value_info("more", TensorProto.BOOL, []),
                helper.make_tensor_value_info("w", FLOAT, [2, 3]),
                helper.make_tensor_value_info("scan", FLOAT, [2, 3]),
            ],
        )
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Loop", ["count", "", "r"], ["last", "all"], body=body),
        ]
        return model(nodes, {"x": [2, 3]}, ["last", "all"], {"step": np.float32([1]), "count": np.int64(3)})

    def scan(self) -> ModelProto:
        body = helper.make_graph(
            [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Relu", ["t"], ["o"])],
            "body",
            [helper.make_tensor_value_info(n, FLOAT, [3]) for n in ("s", "e")],
            [helper.make_tensor_value_info(n, FLOAT, [3]) for n in ("t", "o")],
        )
        nodes = [helper.make_node("Scan", ["zero", "x"], ["sum", "y"], body=body, num_scan_inputs=1)]
        return model(nodes, {"x": [2, 3]}, ["sum", "y"], {"zero": np.zeros(3, np.float32)})

    @pytest.mark.parametrize("kind", ["conditional", "loop", "scan"])
    def test_runs_and_stays_float(self, kind: str) -> None:
        given = getattr(self, kind)()
        found = canonicalize(given)
        for x in (np.zeros((2, 3), np.float32), np.float32([[1, -2, 3], [-4, 5, 6]])):
            assert_same(given, found, {"x": x})
        view = analyse(found, given)
        assert any("subgraph" in x.float_only for x in view.layers)

    def test_what_a_branch_reads_is_found(self) -> None:
        view = analyse(canonicalize(self.conditional()))
        names = {i.name for i in view.proto.graph.initializer} | set(view.tensors)
        assert {"c", "outer"} <= names


class TestOddTypes:
    """Left in float, or refused in one sentence; never a traceback."""

    @staticmethod
    def unless_refused(given: ModelProto) -> ModelProto | None:
        with contextlib.suppress(ModelError):
            return canonicalize(given)
        return None

    @pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
    def test_other_floats_are_no_activations(self, dtype: int) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Cast", ["r"], ["y"], to=FLOAT)]
        given = model(nodes, {"x": [2, 3]}, ["y"], dtype=dtype, out_dtype=FLOAT)
        found = self.unless_refused(given)
        if found is None:
            return
        view = analyse(found, given)
        assert "x" not in view.group_of
        assert view.outputs == ("y",)

    def test_sequences(self) -> None:
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("SplitToSequence", ["r"], ["s"], axis=0, keepdims=0),
        ]
        given = model(nodes, {"x": [2, 3]}, [])
        given.graph.output.append(helper.make_tensor_sequence_value_info("s", FLOAT, None))
        view = analyse(canonicalize(given), given)
        assert view.outputs == ("s",)
        assert view.layer.keys() == {"r"}

    def test_integer_and_string_inputs_stay(self) -> None:
        nodes = [helper.make_node("Cast", ["i"], ["f"], to=FLOAT), helper.make_node("Relu", ["f"], ["y"])]
        given = model(nodes, {"i": [2]}, ["y"], dtype=TensorProto.INT64, out_dtype=FLOAT)
        view = analyse(canonicalize(given), given)
        assert view.inputs == ("i",)
        assert "i" not in view.group_of

    def test_zero_sized_and_scalar_tensors(self) -> None:
        nodes = [
            helper.make_node("Concat", ["x", "nothing"], ["c"], axis=0),
            helper.make_node("Mul", ["c", "two"], ["y"]),
        ]
        given = model(nodes, {"x": [2, 3]}, ["y"], {"nothing": np.zeros((0, 3), np.float32), "two": np.float32(2)})
        assert_same(given, canonicalize(given), {"x": np.ones((2, 3), np.float32)})

    def test_an_output_that_is_a_constant(self) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Add", ["a", "b"], ["k"])]
        tensors = {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)}
        given = model(nodes, {"x": [2, 3]}, ["y", "k"], tensors)
        found = canonicalize(given)
        assert_same(given, found, {"x": np.ones((2, 3), np.float32)})
        assert [o.name for o in found.graph.output] == ["y", "k"]

    def test_an_input_that_is_an_output(self) -> None:
        given = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 3]}, ["y", "x"])
        found = self.unless_refused(given)
        if found is None:
            return
        assert_same(given, found, {"x": np.ones((2, 3), np.float32)})


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_zoo(zoo: ModuleType, name: str) -> None:
    held = zoo.load(name)
    given = read_model(Path(held.model_path))
    found = canonicalize(given)
    assert_canonical(found)
    assert not any(n.op_type == "BatchNormalization" for g in subgraphs(found.graph) for n in g.node)
    weights = {i.name for i in given.graph.initializer}
    assert [i.name for i in found.graph.input] == [i.name for i in given.graph.input if i.name not in weights]
    assert [o.name for o in found.graph.output] == [o.name for o in given.graph.output]
    assert_same(given, found, next(iter(held.calibration())))
    view = analyse(found, given)
    assert all(layer.node in view.nodes for layer in view.layers)

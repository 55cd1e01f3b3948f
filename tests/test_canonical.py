"""The given model to the canonical graph: the same function, folded; what cannot be used ends in one clear error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from random_graphs import INPUT, random_model

from hybridq.errors import ModelError
from hybridq.graph import canonical, runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.canonical import canonicalize
from hybridq.graph.given import read_model
from hybridq.graph.opset import newest_opset, opset_of
from hybridq.storage.state import assemble, weights_of

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
TOLERANCE = 1e-5
ZOO = [
    *("ultraface_rfb320", "yunet_n", "fastestdet", "squeezenet"),
    *("vww_mobilenet", "pfld_ghostone", "silero_vad", "super_resolution"),
]


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    tensors: dict[str, Array] | None = None,
    *,
    opset: int = 21,
    dtype: int = FLOAT,
    out_dtype: int | None = None,
    **domains: int,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, dtype, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(o, out_dtype or dtype, None) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in (tensors or {}).items()],
    )
    sets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(k, v) for k, v in domains.items()]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


def assert_same(given: ModelProto, found: ModelProto, feed: dict[str, Array]) -> None:
    for level in ("all", "none"):
        both = [runtime.run(runtime.session(m, threads=1, level=level), feed) for m in (given, found)]
        for a, b in zip(*both, strict=True):
            assert a.dtype == b.dtype
            good = np.isfinite(a)
            np.testing.assert_array_equal(a[~good], b[~good])
            assert np.abs(a - b)[good].max(initial=0) <= TOLERANCE * np.abs(a)[good].max(initial=0)


def subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for a in node.attribute:
            for inner in [a.g, *a.graphs]:
                if inner.node:
                    yield from subgraphs(inner)


def assert_canonical(found: ModelProto) -> None:
    graph = found.graph
    initializers = {i.name for i in graph.initializer}
    assert {o.version for o in found.opset_import if o.domain == ""} <= set(range(21, newest_opset() + 1))
    assert found.ir_version in (10, 11)
    assert not initializers & {i.name for i in graph.input}
    names = [n.name for n in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not {n.op_type for n in graph.node} & {"Constant"}
    unavoidable = {i.name for i in graph.input} | {o.name for o in graph.output}  # two names for one tensor
    assert all(n.input[0] in unavoidable for n in graph.node if n.op_type in ("Identity", "Dropout"))
    typed = {v.name for v in [*graph.input, *graph.output, *graph.value_info]}
    assert {o for n in graph.node for o in n.output if o} <= typed


def conv_bn(opset: int = 21, **extra: Any) -> ModelProto:
    random = np.random.default_rng(0)
    tensors = {"w": random.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    tensors |= {k: random.uniform(0.5, 2, 4).astype(np.float32) for k in ("scale", "bias", "mean", "var")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["b"], epsilon=1e-5),
        helper.make_node("Identity", ["b"], ["i"]),
        helper.make_node("Relu", ["i"], ["y"]),
    ]
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], tensors, opset=opset, **extra)


X = {"x": np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)}


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


HALF, HALF_TOLERANCE = TensorProto.FLOAT16, 2e-3


def half_net(ends: int = HALF) -> ModelProto:
    """Everything that float16 exporters write: weights, BatchNorm, a Sigmoid kept in float32 between Casts."""
    random = np.random.default_rng(0)
    tensors = {"w1": random.normal(size=(8, 3, 3, 3)), "w2": random.normal(size=(8, 8, 3, 3)) / 8}
    tensors |= {k: random.uniform(0.5, 1.5, 8) for k in ("scale", "bias", "mean", "var")}
    tensors |= {"m": random.normal(size=(8, 4))}
    narrow = ends == FLOAT
    nodes = [helper.make_node("Cast", ["x"], ["h"], to=HALF)] if narrow else []
    nodes += [
        helper.make_node("Conv", ["h" if narrow else "x", "w1"], ["c1"], name="/stem/Conv", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Cast", ["r1"], ["r1f"], to=FLOAT),
        helper.make_node("Sigmoid", ["r1f"], ["sigmoid"]),
        helper.make_node("Cast", ["sigmoid"], ["s"], to=HALF),
        helper.make_node("Mul", ["r1", "s"], ["product"]),
        helper.make_node("Conv", ["product", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c2", "scale", "bias", "mean", "var"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["narrow" if narrow else "y"], name="/head"),
    ]
    nodes += [helper.make_node("Cast", ["narrow"], ["y"], to=FLOAT)] if narrow else []
    return model(nodes, {"x": ["n", 3, 8, 8]}, ["y"], {k: v.astype(np.float16) for k, v in tensors.items()}, dtype=ends)


class TestHalves:
    """A float16 model computes in float32; float16 stays where what is run meets its surroundings."""

    @staticmethod
    def differs(given: ModelProto, found: ModelProto, feed: dict[str, Array]) -> float:
        """The largest difference of an output, relative to its largest value; types must agree."""
        runnable = assemble(found, weights_of(found))
        both = [runtime.run(runtime.session(m, threads=1), feed) for m in (given, runnable)]
        assert [a.dtype for a in both[0]] == [b.dtype for b in both[1]]
        wide = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(*both, strict=True)]
        return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in wide)

    @pytest.mark.parametrize("ends", [HALF, FLOAT])
    def test_the_same_function_in_float32(self, ends: int) -> None:
        given = half_net(ends)
        found = canonicalize(given)
        assert_canonical(found)
        x = X["x"].astype(np.float16 if ends == HALF else np.float32)
        assert self.differs(given, found, {"x": x}) <= HALF_TOLERANCE
        run = assemble(found, weights_of(found)).graph
        for a, b in zip((*given.graph.input, *given.graph.output), (*run.input, *run.output), strict=True):
            assert (a.name, a.type.tensor_type.elem_type) == (b.name, b.type.tensor_type.elem_type)
        assert {v.type.tensor_type.elem_type for v in (*found.graph.input, *found.graph.output)} == {FLOAT}
        assert {t.data_type for t in found.graph.initializer} == {FLOAT}
        assert {v.type.tensor_type.elem_type for v in found.graph.value_info} == {FLOAT}
        inner = [n.op_type for n in found.graph.node]
        assert inner == ["Conv", "Relu", "Sigmoid", "Mul", "Conv", "GlobalAveragePool", "Flatten", "MatMul"]
        assert len(run.node) - len(inner) == (2 if ends == HALF else 0)

    @pytest.mark.parametrize("ends", [HALF, FLOAT])
    def test_every_layer_can_take_a_precision(self, ends: int) -> None:
        given = half_net(ends)
        view = analyse(canonicalize(given), given)
        assert not any(x.float_only for x in view.layers)
        assert [*view.layer] == ["r1", "sigmoid", "product", "r2", "pooled", "y"]
        assert view.names["/head"] == "y"

    def test_constants_are_rounded_as_the_model_rounds_them(self) -> None:
        """What is computed from constants, or from a fixed shape, is float16 in the given model, to the bit."""
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("ReduceProd", ["shape"], ["count"], keepdims=0),
            helper.make_node("Cast", ["count"], ["wide"], to=FLOAT),
            helper.make_node("Sqrt", ["wide"], ["root"]),
            helper.make_node("Cast", ["root"], ["narrow"], to=HALF),
            helper.make_node("Div", ["third", "narrow"], ["factor"]),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
        ]
        given = model(nodes, {"x": [1, 7]}, ["y"], {"third": np.float16(1) / np.float16(3)}, dtype=HALF)
        found = canonicalize(given)
        assert [n.op_type for n in found.graph.node] == ["Mul"]
        (factor,) = map(numpy_helper.to_array, found.graph.initializer)
        assert abs(float(factor) * 3 * np.sqrt(7) - 1) > 1e-5
        assert self.differs(given, found, {"x": np.float16([[1, 2, 3, 4, 5, 6, 7]])}) == 0

    def test_weights_keep_their_values(self) -> None:
        given = half_net()
        before = {t.name: numpy_helper.to_array(t) for t in given.graph.initializer}
        after = {t.name: numpy_helper.to_array(t) for t in canonicalize(given).graph.initializer}
        np.testing.assert_array_equal(after["w1"], before["w1"].astype(np.float32))

    def test_a_person_is_told(self) -> None:
        (note,) = canonical.remarks(canonicalize(half_net()), "half.onnx")
        assert str(note) == (
            "half.onnx: given in float16; float32 takes its place, and its inputs and outputs keep their types\n"
            "  Outputs may differ from the given model's by what float16 rounds away, about 0.001 of the largest value."
        )
        assert note.severity == "note"
        assert not canonical.remarks(canonicalize(conv_bn()))

    def test_stored_weights_only(self) -> None:
        """Weights kept in float16 to save space: not a bit changes."""
        w = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float16)
        nodes = [helper.make_node("Cast", ["w"], ["wide"], to=FLOAT), helper.make_node("MatMul", ["x", "wide"], ["y"])]
        given = model(nodes, {"x": [2, 3]}, ["y"], {"w": w})
        found = canonicalize(given)
        assert [n.op_type for n in found.graph.node] == ["MatMul"]
        assert self.differs(given, found, {"x": np.float32([[1, 2, 3], [4, 5, 6]])}) == 0

    def test_constants_and_types_in_attributes(self) -> None:
        value = numpy_helper.from_array(np.float16([0.5]), "v")
        nodes = [
            helper.make_node("Constant", [], ["c"], value=value),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["filled"], value=value),
            helper.make_node("EyeLike", ["x"], ["eye"], dtype=HALF),
            helper.make_node("Add", ["x", "c"], ["a"]),
            helper.make_node("Add", ["a", "filled"], ["b"]),
            helper.make_node("Mul", ["b", "eye"], ["y"]),
        ]
        given = model(nodes, {"x": [3, 3]}, ["y"], dtype=HALF)
        found = canonicalize(given)
        feed = {"x": np.arange(9, dtype=np.float16).reshape(3, 3)}
        assert self.differs(given, found, feed) == 0
        assert HALF not in {v.type.tensor_type.elem_type for v in found.graph.value_info}

    def test_subgraphs(self) -> None:
        """Branches that make and read float16, the graph's own input and output among it."""

        def branch(name: str, op: str) -> GraphProto:
            node = helper.make_node(op, ["x", "y"], [name], name=name)
            return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, HALF, None)])

        nodes = [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("ReduceMax", ["y"], ["top"], keepdims=0),
            helper.make_node("Greater", ["top", "limit"], ["big"]),
            helper.make_node("If", ["big"], ["z"], then_branch=branch("t", "Add"), else_branch=branch("e", "Mul")),
        ]
        given = model(nodes, {"x": [2, 3]}, ["y", "z"], {"limit": np.float16(2)}, dtype=HALF)
        found = canonicalize(given)
        for x in (np.float16([[0.5, 1, -1], [1, 1, 1]]), np.float16([[1, -2, 3], [-4, 5, 6]])):
            assert self.differs(given, found, {"x": x}) == 0
        inner = {v.type.tensor_type.elem_type for g in subgraphs(found.graph) for v in g.output if g is not found.graph}
        assert FLOAT in inner

    def test_names_that_are_taken(self) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["x/float32"]), helper.make_node("Neg", ["x/float32"], ["y"])]
        given = model(nodes, {"x": [2]}, ["y", "x/float32"], dtype=HALF)
        found = canonicalize(given)
        assert self.differs(given, found, {"x": np.float16([1, -2])}) == 0
        assert [o.name for o in found.graph.output] == ["y", "x/float32"]

    def test_the_given_model_is_left_alone(self) -> None:
        given = half_net()
        before = given.SerializeToString(deterministic=True)
        canonicalize(given)
        assert given.SerializeToString(deterministic=True) == before

    def test_sequences_stay(self) -> None:
        nodes = [helper.make_node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0)]
        given = model(nodes, {"x": [2, 3]}, [], dtype=HALF)
        given.graph.output.append(helper.make_tensor_sequence_value_info("s", HALF, None))
        found = canonicalize(given)
        assert found.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type == HALF
        assert not canonical.remarks(found)

    def test_what_is_refused_names_the_remedy(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        nodes = [helper.make_node("Own", ["x"], ["y"], domain="mine")]
        onnx.save(model(nodes, {"x": [2]}, ["y"], dtype=HALF, mine=1), path)
        with pytest.raises(ModelError, match="the operator Own of 'mine'") as caught:
            canonicalize(read_model(path), str(path))
        assert caught.value.problems[0].path == str(path)
        assert "float32 model it was made from" in caught.value.problems[0].hint


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


class TestRefusals:
    """One problem, naming the file."""

    def refuse(self, path: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match) as caught:
            canonicalize(read_model(path), str(path))
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].path == str(path)
        assert len(str(caught.value)) < 1000

    def test_missing(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "absent.onnx", "no such file")

    def test_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "this is a folder")

    @pytest.mark.parametrize(
        "content", [b"", b"this is a text file\n", b"\x00" * 100, "größer".encode(), b"{}", b"\x08\x0a"]
    )
    def test_no_model(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        self.refuse(path, "not an ONNX model")

    @pytest.mark.parametrize("share", np.linspace(0.02, 0.999, 40))
    def test_truncated(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "model.onnx"
        whole = conv_bn().SerializeToString()
        path.write_bytes(whole[: int(len(whole) * share)])
        self.refuse(path, ".")

    @pytest.mark.parametrize("seed", range(40))
    def test_damaged(self, tmp_path: Path, seed: int) -> None:
        """Random bytes changed: refused, or still a model; never anything else."""
        random = np.random.default_rng(seed)
        data = bytearray(conv_bn().SerializeToString())
        for place in random.integers(0, 350, 3):
            data[place] = random.integers(256)
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        with contextlib.suppress(ModelError):
            canonicalize(read_model(path), str(path))

    def test_external_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        onnx.save(conv_bn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert_same(conv_bn(), canonicalize(read_model(path)), X)
        data = (tmp_path / "weights.bin").read_bytes()
        (tmp_path / "weights.bin").write_bytes(data[: len(data) // 2])
        self.refuse(path, ".")
        (tmp_path / "weights.bin").write_bytes(b"")
        self.refuse(path, "weights lie in another file that cannot be read")
        (tmp_path / "weights.bin").unlink()
        self.refuse(path, "weights lie in another file, which is missing: weights.bin")

    @pytest.mark.parametrize("opset", [1, 5, 6])
    def test_ancient_opsets_end_well(self, tmp_path: Path, opset: int) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Upsample", ["r"], ["y"], scales=[1.0, 2.0])]
        path = tmp_path / "model.onnx"
        given = model(nodes, {"x": [2, 3]}, ["y"], opset=opset)
        path.write_bytes(given.SerializeToString())
        self.refuse(path, ".")

    def test_from_the_future(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(
            model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"], opset=99).SerializeToString()
        )
        self.refuse(path, "opset 99")

    def test_no_standard_operators(self, tmp_path: Path) -> None:
        given = model([helper.make_node("F", ["x"], ["y"], domain="d")], {"x": [2]}, ["y"], d=1)
        del given.opset_import[0]
        path = tmp_path / "model.onnx"
        path.write_bytes(given.SerializeToString())
        self.refuse(path, "has the operator F of")

    def test_unknown_domain(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        given = model([helper.make_node("F", ["x"], ["y"], domain="d")], {"x": [2]}, ["y"], d=1)
        path.write_bytes(given.SerializeToString())
        self.refuse(path, "the operator F of 'd', which ONNX Runtime does not know")

    def test_domain_of_onnxruntime(self) -> None:
        nodes = [
            helper.make_node("Inverse", ["x"], ["g"], domain="com.microsoft", name="inverse"),
            helper.make_node("Relu", ["g"], ["y"]),
        ]
        given = model(nodes, {"x": [2, 2]}, ["y"], **{"com.microsoft": 1})
        found = canonicalize(given)
        assert_same(given, found, {"x": np.eye(2, dtype=np.float32)})
        view = analyse(found, given)
        assert any("com.microsoft" in x.float_only for x in view.layers)
        assert "y" in view.layer

    def test_wrong_shapes(self) -> None:
        given = conv_bn()
        given.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
        with pytest.raises(ModelError, match=r"none that ONNX Runtime runs|do not fit|fails at node"):
            runtime.run(runtime.session(canonicalize(given)), {"x": np.zeros((1, 5, 8, 8), np.float32)})

    def test_a_tensor_nobody_makes(self, tmp_path: Path) -> None:
        path = tmp_path / "model.onnx"
        given = model([helper.make_node("Add", ["x", "ghost"], ["y"])], {"x": [2]}, ["y"])
        path.write_bytes(given.SerializeToString())
        self.refuse(path, ".")

    def test_local_functions_are_inlined(self) -> None:
        function = helper.make_function(
            "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
        )
        nodes = [helper.make_node("Twice", ["x"], ["t"], domain="local"), helper.make_node("Relu", ["t"], ["y"])]
        given = model(nodes, {"x": [2, 3]}, ["y"], local=1)
        given.functions.append(function)
        found = canonicalize(given)
        assert_same(given, found, {"x": np.ones((2, 3), np.float32)})
        assert [n.op_type for n in found.graph.node] == ["Add", "Relu"]


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


def halved(given: ModelProto) -> ModelProto:
    """The model with float16 weights, inputs and outputs, as an exporter writes it."""
    found = ModelProto()
    found.CopyFrom(given)
    del found.graph.value_info[:]
    for value in (*found.graph.input, *found.graph.output):
        if value.type.tensor_type.elem_type == FLOAT:
            value.type.tensor_type.elem_type = HALF
    held = [a.t for n in found.graph.node for a in n.attribute if a.type == onnx.AttributeProto.TENSOR]
    for tensor in (*found.graph.initializer, *held):
        if tensor.data_type == FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    return found


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["squeezenet", "pfld_ghostone", "vww_mobilenet", "ultraface_rfb320"])
def test_zoo_in_float16(zoo: ModuleType, name: str) -> None:
    """The layers are those of the float32 model, and so are the results but for what float16 rounds away."""
    held = zoo.load(name)
    given = read_model(Path(held.model_path))
    half = halved(given)
    found, wide = canonicalize(half), canonicalize(given)
    assert_canonical(found)
    assert [n.op_type for n in found.graph.node] == [n.op_type for n in wide.graph.node]
    views = [analyse(found, half), analyse(wide, given)]
    assert [x.name for x in views[0].layers] == [x.name for x in views[1].layers]
    feed = {k: v.astype(np.float16) for k, v in next(iter(held.calibration())).items()}
    assert TestHalves.differs(half, found, feed) <= HALF_TOLERANCE

"""Models in float16 are computed in float32, and their ends keep their types."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from helpers_canonical import FLOAT, Array, X, assert_canonical, conv_bn, model, subgraphs
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake import canonical
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.intake.given import read_model
from hybridq.storage.state import assemble, weights_of

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

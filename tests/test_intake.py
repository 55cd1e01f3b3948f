"""What the tool takes in: every opset ONNX Runtime loads, a model's own functions, and its word on everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_cli import Run
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

import hybridq
from hybridq import steps
from hybridq.errors import ModelError
from hybridq.graph import opset as opset_module
from hybridq.graph import runtime
from hybridq.graph.intake import one_opset
from hybridq.graph.intake.given import OTHER_FORMATS, read_model
from hybridq.graph.opset import newest_opset, opset_of

Array = NDArray[Any]
RANDOM = np.random.default_rng(21)
WEIGHTS = {n: (0.4 * RANDOM.standard_normal((8, 8))).astype(np.float32) for n in ("Wq", "Wk", "Wv")}
FEEDS = [{"x": RANDOM.standard_normal((1, 6, 8)).astype(np.float32)} for _ in range(8)]


def model(nodes: list[NodeProto], tensors: dict[str, Array], opset: int, *functions: FunctionProto) -> ModelProto:
    """From ``x`` to ``y``, both ``[1, 6, 8]``."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 6, 8]) for n in ("x", "y")]
    held = [numpy_helper.from_array(v, k) for k, v in tensors.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    own = [helper.make_opsetid(f.domain, 1) for f in functions]
    imports = [helper.make_opsetid("", opset), *own]
    made = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10 if opset < 22 else 11)
    made.functions.extend(functions)
    return made


def outputs(given: ModelProto | Path, feeds: list[dict[str, Array]]) -> list[Array]:
    one = runtime.session(given, threads=1)
    return [runtime.run(one, feed)[0] for feed in feeds]


def built(given: ModelProto, folder: Path, **options: Any) -> Path:
    """hybrid.onnx of a model."""
    folder.mkdir(exist_ok=True)
    onnx.save(given, folder / "model.onnx")
    hybridq.step1(folder / "model.onnx", FEEDS, folder / "build", threads=1, **options)
    hybridq.step2(folder / "build", threads=1)
    return folder / "build/hybrid.onnx"


def decibel(wanted: list[Array], found: list[Array]) -> float:
    a, b = np.stack(wanted).astype(np.float64), np.stack(found)
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-30)))


def attention(opset: int) -> ModelProto:
    nodes = [helper.make_node("MatMul", ["x", w], [w[1]]) for w in WEIGHTS]
    nodes += [helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=2, kv_num_heads=2)]
    return model(nodes, WEIGHTS, opset)


def swish() -> ModelProto:
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["o"])]
    own = helper.make_function("own", "Swish", ["a"], ["o"], body, [helper.make_opsetid("", 17)])
    nodes = [
        helper.make_node("MatMul", ["x", "Wq"], ["m"]),
        helper.make_node("Swish", ["m"], ["v"], domain="own"),
        helper.make_node("MatMul", ["v", "Wk"], ["y"]),
    ]
    return model(nodes, WEIGHTS, 17, own)


class TestOpsets:
    @pytest.mark.parametrize("opset", range(23, newest_opset() + 1))
    def test_a_newer_model_keeps_its_opset(self, tmp_path: Path, opset: int) -> None:
        given = attention(opset)
        exact = built(given, tmp_path / "a", dtype="float32")
        assert opset_of(onnx.load(exact)) == opset
        assert decibel(outputs(given, FEEDS), outputs(exact, FEEDS)) > 100
        for dtype in ("uint8", "int16"):
            assert decibel(outputs(given, FEEDS), outputs(built(given, tmp_path / dtype, dtype=dtype), FEEDS)) > 25

    @pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
    def test_quantizers_of_onnx_runtimes_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
        """A model of an opset in which ONNX Runtime has no quantizers, that cannot be converted to one that has."""
        for module in (opset_module, one_opset):
            monkeypatch.setattr(module, "newest_opset", lambda: 22)
        given = attention(23)
        found = built(given, tmp_path, dtype=dtype)
        assert decibel(outputs(given, FEEDS), outputs(found, FEEDS)) > (100 if dtype == "float32" else 25)
        domains = {n.domain for n in onnx.load(found).graph.node if n.op_type == "QuantizeLinear"}
        assert domains == ({"com.microsoft"} if dtype != "float32" else set())

    def test_functions_are_written_out(self, tmp_path: Path) -> None:
        given = swish()
        assert decibel(outputs(given, FEEDS), outputs(built(given, tmp_path / "a", dtype="float32"), FEEDS)) > 100
        assert decibel(outputs(given, FEEDS), outputs(built(given, tmp_path / "b"), FEEDS)) > 25


class TestOtherFiles:
    @pytest.mark.parametrize("suffix", sorted(OTHER_FORMATS))
    def test_a_file_that_is_no_onnx_gets_its_export_command(self, run: Run, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"net{suffix}"
        path.write_bytes(b"\x80\x02 some other tool's")
        done = run("step1", path, "--data-free", "-o", tmp_path / "b")
        assert done.code == 1
        assert f"{suffix} is {OTHER_FORMATS[suffix][0]}" in done.err
        assert "FILE" not in done.err

    @pytest.mark.parametrize(
        "op",
        ["MatMulInteger", "ConvInteger"],
    )
    def test_a_dynamically_quantized_model(self, tmp_path: Path, op: str) -> None:
        path = tmp_path / "model.onnx"
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node(op, ["q", "w"], ["i"]),
        ]
        onnx.save(model(nodes, {"w": np.ones((8, 4), np.int8)}, 13), path)
        with pytest.raises(ModelError, match="quantized already, dynamically") as caught:
            read_model(path)
        assert "float32 model" in caught.value.problems[0].hint

    def test_an_integer_product_that_is_fed_its_operands_is_an_operator(self, tmp_path: Path) -> None:
        ends = [helper.make_tensor_value_info(n, TensorProto.INT8, [4, 4]) for n in ("a", "b")]
        out = helper.make_tensor_value_info("y", TensorProto.INT32, [4, 4])
        graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", ends, [out])
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        feed = {n: np.ones((4, 4), np.int8) for n in "ab"}
        hybridq.step1(path, [feed], tmp_path / "b", threads=1)
        hybridq.step2(tmp_path / "b", threads=1)
        np.testing.assert_array_equal(outputs(tmp_path / "b/hybrid.onnx", [feed])[0], np.full((4, 4), 4))


class TestWords:
    """Every message is ours; the other tool's is shown to who asks for it."""

    FOREIGN = "ONNXRuntimeError"

    def test_an_unknown_operator(self, run: Run, tmp_path: Path) -> None:
        given = model([helper.make_node("Own", ["x"], ["y"], domain="mine")], {}, 17)
        given.opset_import.append(helper.make_opsetid("mine", 1))
        (tmp_path / "m.onnx").write_bytes(given.SerializeToString())
        words = ("step1", tmp_path / "m.onnx", "--data-free", "-o", tmp_path / "b")
        done = run(*words)
        assert done.code == 1
        assert "m.onnx: the model has the operator Own of 'mine'" in done.err
        assert self.FOREIGN not in done.err
        assert self.FOREIGN in run(*words, "--verbose").err

    @pytest.mark.parametrize("error", [KeyError("q"), RuntimeError("[ONNXRuntimeError] : 1"), IndexError("5")])
    def test_what_nobody_foresaw(self, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(steps, "step2", fail)
        done = run("step2", ".")
        assert done.code == 1
        assert "Traceback" not in done.err
        assert self.FOREIGN not in done.err
        for word in ("This is a fault of hybridq", "the command: ", f"hybridq {hybridq.__version__}", "onnxruntime"):
            assert word in done.err
        assert "Traceback" in run("step2", ".", "--verbose").err


class TestRemedies:
    """A remedy names what a person can type next."""

    def linear(self, folder: Path, target: str = "onnxruntime") -> Path:
        nodes = [
            helper.make_node("MatMul", ["x", "Wq"], ["m"], name="in"),
            helper.make_node("LayerNormalization", ["m", "gamma"], ["n"], name="norm"),
            helper.make_node("MatMul", ["n", "Wk"], ["y"], name="out"),
        ]
        given = model(nodes, {**WEIGHTS, "gamma": np.ones(8, np.float32)}, 17)
        onnx.save(given, folder / "model.onnx")
        hybridq.step1(folder / "model.onnx", FEEDS, folder / "b", threads=1, target=target)
        return folder / "b"

    def test_of_a_weights_name_is_its_layer(self, tmp_path: Path, run: Run) -> None:
        folder = self.linear(tmp_path)
        done = run("set", folder, "Wq", "float32")
        assert done.code == 1
        assert "Name the layer: 'm'." in done.err
        assert run("set", folder, "m", "float32").code == 0

    @pytest.mark.parametrize(("target", "left"), [("onnxruntime", "uint8"), ("rknn2", "int8")])
    def test_of_a_layer_raised_alone_is_its_reader(self, tmp_path: Path, target: str, left: str) -> None:
        folder = self.linear(tmp_path, target)
        hybridq.set(folder, "norm", "float16")
        (note,) = [p for p in hybridq.step2(folder, threads=1).problems if p.code == "narrowed"]
        assert f"'n' is float16, but its result is still rounded to {left} for 'y'" in note.message
        hybridq.set(folder, "out", "float16")
        assert not [p for p in hybridq.step2(folder, threads=1).problems if p.code == "narrowed"]


def relu_of_a_product() -> ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "Wq"], ["m"], name="fc"),
        helper.make_node("Relu", ["m"], ["y"], name="act"),
    ]
    return model(nodes, {"Wq": WEIGHTS["Wq"]}, 17)


def lost_tensor(given: ModelProto) -> None:
    given.graph.node[0].input[0] = "lost"


def circle(given: ModelProto) -> None:
    given.graph.node[0].input[0] = "y"


def output_of_nobody(given: ModelProto) -> None:
    given.graph.output[0].name = "z"


def made_twice(given: ModelProto) -> None:
    given.graph.node[1].output[0] = given.graph.output[0].name = "m"


def unknown_operator(given: ModelProto) -> None:
    given.graph.node[1].op_type = "Frob"


def unknown_attribute(given: ModelProto) -> None:
    given.graph.node[1].attribute.append(helper.make_attribute("wrong", 1))


def too_many_inputs(given: ModelProto) -> None:
    given.graph.node[0].input.append("Wq")


def weight_without_numbers(given: ModelProto) -> None:
    weight = given.graph.initializer[0]
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def cut_weight(given: ModelProto) -> None:
    given.graph.initializer[0].raw_data = given.graph.initializer[0].raw_data[:100]


def no_opset(given: ModelProto) -> None:
    del given.opset_import[:]


def domain_not_imported(given: ModelProto) -> None:
    given.graph.node[1].domain = "mine"


def late_version(given: ModelProto) -> None:
    given.ir_version = 99


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (lost_tensor, "reads the tensor 'lost', which nothing makes"),
        (circle, "has nodes that wait for each other's results"),
        (output_of_nobody, "declares the output 'z', which nothing makes"),
        (made_twice, "makes the tensor 'm' twice"),
        (unknown_operator, "has the operator Frob, which opset 17 does not know"),
        (unknown_attribute, "has the attribute 'wrong' at node 'act' (Relu)"),
        (too_many_inputs, "has 3 inputs at node 'fc' (MatMul), which takes 2 to 2"),
        (cut_weight, "has 100 bytes for the weight 'Wq', whose shape takes 256"),
        (weight_without_numbers, "has NaN in the weight 'Wq'"),
        (no_opset, "does not say which opset its operators are of"),
        (domain_not_imported, "has operators of the domain 'mine', which it does not import"),
        (late_version, "is of IR version 99, and the installed ONNX Runtime reads up to"),
    ],
)
def test_a_broken_model_is_told_what_is_wrong(breaks: Any, said: str, tmp_path: Path) -> None:
    given = relu_of_a_product()
    breaks(given)
    with pytest.raises(ModelError) as refused:
        built(given, tmp_path)
    (problem,) = refused.value.problems
    assert problem.message.startswith(f"the model {said}")
    assert problem.path == str(tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_model_of_which_no_layer_can_have_8_bits_says_so(kind: type[np.floating[Any]], tmp_path: Path) -> None:
    type_of = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ends = [helper.make_tensor_value_info(n, type_of, [4, 8]) for n in ("x", "y")]
    held = [numpy_helper.from_array(WEIGHTS["Wq"].astype(kind), "w")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    feeds = [{"x": RANDOM.standard_normal((4, 8)).astype(kind)} for _ in range(4)]
    told = [
        p for p in steps.step1(tmp_path / "m.onnx", feeds, tmp_path / "b", threads=1).problems if p.code == "nothing"
    ]
    assert [("float64" in p.message, "float()" in p.hint) for p in told] == (
        [(True, True)] if kind is np.float64 else []
    )

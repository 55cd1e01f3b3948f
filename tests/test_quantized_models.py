"""Models that arrive quantized: their numbers become the cfg's, and without an edit they leave as they came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from qdq_graphs import as_written

from hybridq import steps
from hybridq.errors import ModelError
from hybridq.graph.intake.recovered import is_quantized, recover
from hybridq.steps.editing import diff, set_precision
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

RANDOM = np.random.default_rng(3)
FEEDS = [{"x": RANDOM.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]


class _Reader(CalibrationDataReader):
    """The feeds, one by one."""

    def __init__(self) -> None:
        self.left = iter(FEEDS)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def float_model() -> onnx.ModelProto:
    """Convs with Relu, a MaxPool, a Concat of ranges far apart, an Add of a constant, a Gemm, a Softmax."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        n("Relu", ["c1"], ["r1"], "relu1"),
        n("MaxPool", ["r1"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        n("Conv", ["p", "w2", "b2"], ["c2"], "conv2"),
        n("Sigmoid", ["c2"], ["s"], "sig"),
        n("Concat", ["p", "s"], ["cat"], "cat", axis=1),
        n("Add", ["cat", "k"], ["a"], "add"),
        n("GlobalAveragePool", ["a"], ["g"], "gap"),
        n("Flatten", ["g"], ["f"], "flat"),
        n("Gemm", ["f", "w3", "b3"], ["y"], "gemm", transB=1),
    ]
    shapes = {
        "w1": (6, 3, 3, 3),
        "b1": (6,),
        "w2": (4, 6, 1, 1),
        "b2": (4,),
        "k": (1, 10, 1, 1),
        "w3": (5, 10),
        "b3": (5,),
    }
    weights = [numpy_helper.from_array(RANDOM.normal(size=s).astype(np.float32), k) for k, s in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model, and its quantized forms by ONNX Runtime's quantizer."""
    path = tmp_path_factory.mktemp("quantized")
    onnx.save(float_model(), path / "float.onnx")
    kinds = {"QUInt8": QuantType.QUInt8, "QInt8": QuantType.QInt8}
    for form in QuantFormat:
        for name, kind in kinds.items():
            out = path / f"{form.name}-{name}.onnx"
            words = {"per_channel": form is QuantFormat.QDQ, "activation_type": kind, "weight_type": QuantType.QInt8}
            quantize_static(path / "float.onnx", out, _Reader(), quant_format=form, **words)
    return path


def came_in(model: Path, out: Path) -> Path:
    step1(model, FEEDS, out, threads=1)
    return out


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_a_qdq_model_leaves_as_it_came_bit_for_bit(folder: Path, tmp_path: Path, kind: str) -> None:
    given = folder / f"QDQ-{kind}.onnx"
    built = step2(came_in(given, tmp_path / "b"), threads=1)
    assert not diff(tmp_path / "b")
    for a, b in zip(as_written(given, FEEDS), as_written(built.path, FEEDS), strict=True):
        assert np.array_equal(a, b)


def test_its_scales_are_the_cfgs(folder: Path, tmp_path: Path) -> None:
    given = folder / "QDQ-QUInt8.onnx"
    recovered = recover(onnx.load(given))
    state = steps.common.read_state(came_in(given, tmp_path / "b"))
    for tensor in ("x", "c2", "y"):
        entry, q = state.calibrated.entries[state.model.group_of[tensor].name], recovered.tensors[tensor]
        assert (entry.scale, entry.zero_point) == (float(q.scale), int(q.zero_point))
    weight = state.calibrated.entries["r1:weight"]
    assert weight.scale == tuple(float(s) for s in recovered.weights["w1"].scale)


def test_step1_says_that_they_are_kept_and_what_that_leaves_without_effect(folder: Path, tmp_path: Path) -> None:
    plain = step1(folder / "QDQ-QUInt8.onnx", FEEDS, tmp_path / "a", threads=1)
    told = step1(
        folder / "QDQ-QUInt8.onnx", FEEDS, tmp_path / "b", threads=1, algorithm="mmse", dtype="int16", samples=2
    )
    (kept,), (with_flags,) = plain.remarks, told.remarks
    assert kept.startswith("The file is quantized: its own scales and zero points of ")
    assert with_flags == f"{kept} So --algorithm mmse --dtype int16 has no effect: give the float model for that."
    kept_entries, others = (one.state.calibrated.entries for one in (plain, told))
    assert [(e.dtype, e.scale, e.zero_point) for e in kept_entries.values()] == [
        (e.dtype, e.scale, e.zero_point) for e in others.values()
    ]


def test_a_raised_layer_is_computed_anew(folder: Path, tmp_path: Path) -> None:
    given = folder / "QDQ-QUInt8.onnx"
    out = came_in(given, tmp_path / "b")
    for name in ("c2", "s", "cat", "a", "r1", "g", "y"):
        set_precision(out, name, "float32")
    built = step2(out, threads=1)
    exact = as_written(folder / "float.onnx", FEEDS)
    before, after = (
        sum(float(np.square(a - b).sum()) for a, b in zip(exact, as_written(path, FEEDS), strict=True))
        for path in (given, built.path)
    )
    assert after < 0.8 * before


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_quantized_operators_come_in_too(folder: Path, tmp_path: Path, kind: str) -> None:
    """Integer kernels round a product otherwise than floats do: a step of the output at most."""
    given = folder / f"QOperator-{kind}.onnx"
    assert is_quantized(onnx.load(given))
    built = step2(came_in(given, tmp_path / "b"), threads=1)
    step = float(recover(onnx.load(given)).tensors["y"].scale)
    for a, b in zip(as_written(given, FEEDS), as_written(built.path, FEEDS), strict=True):
        assert np.abs(a - b).max() <= 1.01 * step


EACH = {  # what ONNX Runtime's quantizer writes on integers: nodes behind a Conv that gives m, and their constants
    "ArgMax": ([("ArgMax", "m", "a", {"axis": 1}), ("Cast", "a", "y", {"to": TensorProto.FLOAT})], {}),
    "AveragePool": ([("AveragePool", "m", "y", {"kernel_shape": [2, 2]})], {}),
    "Clip": ([("Clip", "m low high", "y", {})], {"low": np.float32(-0.3), "high": np.float32(0.5)}),
    "Flatten and Softmax": ([("Flatten", "m", "f", {}), ("Softmax", "f", "y", {})], {}),
    "Gather": ([("Gather", "m index", "y", {"axis": 1})], {"index": np.array([0, 2])}),
    "LeakyRelu": ([("LeakyRelu", "m", "y", {"alpha": 0.1})], {}),
    "MatMul": ([("Transpose", "m", "t", {"perm": [0, 1, 3, 2]}), ("MatMul", "m t", "y", {})], {}),
    "Mul and Split": ([("Split", "m", "left right", {"axis": 1}), ("Mul", "left right", "y", {})], {}),
    "Pad": ([("Pad", "m pads low", "y", {})], {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "low": np.float32(0.4)}),
    "Pad with zeros": ([("Pad", "m pads", "y", {})], {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "Resize": ([("Resize", "m - scales", "y", {"mode": "nearest"})], {"scales": np.array([1, 1, 2, 2], np.float32)}),
    "Sigmoid": ([("Sigmoid", "m", "y", {})], {}),
    "Squeeze": ([("Squeeze", "m axes", "y", {})], {"axes": np.array([0])}),
}


@pytest.mark.parametrize("name", EACH)
def test_every_quantized_operator_comes_in(name: str, tmp_path: Path) -> None:
    rows, held = EACH[name]
    held = {**held, "w": RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32), "b": np.zeros(4, np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["m"], "conv")]
    for i, (op, inputs, results, words) in enumerate(rows):
        reads = ["" if r == "-" else r for r in inputs.split()]
        nodes.append(helper.make_node(op, reads, results.split(), f"n{i}", **words))
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8]),
        helper.make_empty_tensor_value_info("y"),
    ]
    ends[1].type.tensor_type.elem_type = TensorProto.FLOAT
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "float.onnx")
    given = tmp_path / "given.onnx"
    quantize_static(tmp_path / "float.onnx", given, _Reader(), quant_format=QuantFormat.QOperator)
    assert is_quantized(onnx.load(given))
    built = step2(came_in(given, tmp_path / "b"), threads=1)
    step = max(float(q.scale) for q in recover(onnx.load(given)).tensors.values())
    for a, b in zip(as_written(given, FEEDS), as_written(built.path, FEEDS), strict=True):
        assert np.abs(a - b).max() <= 1.01 * step


def test_our_own_model_comes_in(folder: Path, tmp_path: Path) -> None:
    step1(folder / "float.onnx", FEEDS, tmp_path / "a", dtype="uint8", threads=1)
    ours = step2(tmp_path / "a", tmp_path / "ours.onnx", portable=True, threads=1).path
    built = step2(came_in(ours, tmp_path / "b"), threads=1)
    for a, b in zip(as_written(ours, FEEDS), as_written(built.path, FEEDS), strict=True):
        assert np.array_equal(a, b)


def test_the_float_graph_has_no_quantizer_left(folder: Path) -> None:
    for name in ("QDQ-QUInt8", "QOperator-QInt8"):
        found = recover(onnx.load(folder / f"{name}.onnx"))
        assert not is_quantized(found.proto)
        onnx.checker.check_model(found.proto)


def test_computed_parameters_are_refused() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("QuantizeLinear", ["x", "m"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "m"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [4]) for t in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    with pytest.raises(ModelError, match="computed at run time"):
        recover(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


OUTSIDE = {  # a model's integers that no quantizer made, and what reads its first float tensor
    "input": ("uint8[1, 4, 6, 6] i", "d = DequantizeLinear(i, s, z)"),
    "table": ("int64[4, 6] i", "r = Gather(t, i)  e = DequantizeLinear(r, s, n)  d = Unsqueeze(e, o)"),
    "columns": ("int64[24] i", "r = Gather<axis = 1>(t, i)  k = Reshape(r, p)  d = DequantizeLinear(k, s, n)"),
}


def _values(path: Path, level: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_integers_of_an_input_or_a_table_stay_what_floats_are_made_of(name: str, level: str, tmp_path: Path) -> None:
    given, text = OUTSIDE[name]
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]> g ({given}) => (float[A, B, C, D] y) {{
        {text}  w = DequantizeLinear<axis = 0>(q, v, u)  c = Conv(d, w)  a = Relu(c)
        b = QuantizeLinear(a, s, z0)  y = DequantizeLinear(b, s, z0) }}""")
    random = np.random.default_rng(4)
    held = {
        "s": np.float32(0.02),
        "z": np.uint8(120),
        "z0": np.uint8(0) if name == "input" else np.int8(-128),
        "n": np.int8(-3),
        "t": random.integers(-128, 128, (30, 6) if name == "table" else (6, 30)).astype(np.int8),
        "o": np.array([0]),
        "p": np.array([1, 4, 6, 6]),
        "q": random.integers(-127, 128, (3, 4, 1, 1)).astype(np.int8),
        "v": np.float32([0.01, 0.02, 0.03]),
        "u": np.zeros(3, np.int8),
    }
    read = {i for n in model.graph.node for i in n.input}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in held.items() if k in read)
    path = tmp_path / "given.onnx"
    onnx.save(model, path)
    kind = model.graph.input[0].type.tensor_type
    shape = [d.dim_value for d in kind.shape.dim]
    high, dtype = (256, np.uint8) if name == "input" else (30, np.int64)
    feeds = [{"i": random.integers(0, high, shape).astype(dtype)} for _ in range(4)]
    step1(path, feeds, tmp_path / "b", threads=1)
    built = step2(tmp_path / "b", threads=1)
    wanted, found = ([_values(p, lv, f) for f in feeds] for p, lv in ((path, "ORT_DISABLE_ALL"), (built.path, level)))
    step = 0.021 if level == "ORT_ENABLE_ALL" else 0.0  # integer kernels may round a half otherwise
    assert max(np.abs(a - b).max() for a, b in zip(wanted, found, strict=True)) <= step
    tables = [t for t in onnx.load(built.path).graph.initializer if t.name == "t"]
    assert [t.data_type for t in tables] == [TensorProto.INT8] * (name != "input")


def tokens(path: Path) -> list[dict[str, np.ndarray]]:
    """A table of embeddings, a norm as Llama's exports write it, two linear layers; gives samples."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[1, 8] i) => (float[1, 8, 30] y) { e = Gather(t, i)  s = Pow(e, two)  v = ReduceMean<axes = [-1]>(s)
        a = Add(v, tiny)  q = Sqrt(a)  d = Div(one, q)  n = Mul(e, d)  k = Mul(g, n)
        m = MatMul(k, w)  b = Add(m, c)  r = Relu(b)  f = Clip(r, zero, six)  o = MatMul(f, u)  y = Add(o, h) }""")
    random = np.random.default_rng(6)
    shapes = {"t": (600, 24), "g": (24,), "w": (24, 40), "c": (40,), "u": (40, 30), "h": (30,)}
    held = {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    held |= {n: np.float32(v) for n, v in (("two", 2), ("one", 1), ("tiny", 1e-5), ("zero", 0), ("six", 6))}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in held.items())
    onnx.save(model, path)
    return [{"i": random.integers(0, 600, (1, 8))} for _ in range(6)]


@pytest.mark.parametrize("kind", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_language_model_leaves_as_it_came_with_its_table_in_integers(kind: QuantFormat, tmp_path: Path) -> None:
    feeds = tokens(tmp_path / "float.onnx")
    reader = _Reader()
    reader.left = iter(feeds)
    given = tmp_path / "given.onnx"
    quantize_static(tmp_path / "float.onnx", given, reader, quant_format=kind, per_channel=True)
    problems = step1(given, feeds, tmp_path / "b", threads=1).problems
    assert not [p for p in problems if p.code == "quantized" and kind is QuantFormat.QDQ]
    assert not [p for p in problems if "not compared" in p.message]
    built = step2(tmp_path / "b", threads=1).path
    assert built.stat().st_size < 1.25 * given.stat().st_size
    for feed in feeds:
        wanted, found = (_values(p, "ORT_DISABLE_ALL", feed) for p in (given, built))
        step = 0.0 if kind is QuantFormat.QDQ else 2 * np.abs(wanted).max() / 127  # integer kernels round otherwise
        assert np.abs(wanted - found).max() <= step


def test_integer_outputs_are_refused() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "Q1")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [4])],
        [numpy_helper.from_array(np.float32(1), "s")],
    )
    with pytest.raises(ModelError, match="its output 'q' is of integers"):
        recover(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


ENDS = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [1, 3, 8, 8]) for t in ("x", "y")]


def written(path: Path, nodes: list[tuple[str, str, str]], **more: object) -> Path:
    """A QDQ model of ``(op, inputs, output)`` rows; ``s`` and ``t`` are two scales, ``z`` the zero point."""
    rows = [helper.make_node(op, inputs.split(), [out], name=f"{out}/n") for op, inputs, out in nodes]
    numbers = {"s": np.float32(0.05), "t": np.float32(0.13), "z": np.uint8(120), "yes": np.array(True)}
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in numbers.items()]
    for out, branch in more.items():
        graphs = {f"{name}_branch": _branch(branch, name) for name in ("then", "else")}
        rows.insert(-1, helper.make_node("If", ["yes"], [out], name=f"{out}/n", **graphs))
    graph = helper.make_graph(rows, "g", ENDS[:1], ENDS[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _branch(reads: object, name: str) -> onnx.GraphProto:
    node = helper.make_node("Neg", [str(reads)], [f"{name}_out"], name=f"{name}/neg")
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)])


Q, DQ = "QuantizeLinear", "DequantizeLinear"
ROUNDED = [("Mul", "x x", "m"), (Q, "m s z", "q"), (DQ, "q s z", "d")]


@pytest.mark.parametrize(
    ("nodes", "more"),
    [
        ([*ROUNDED, ("Sub", "d m", "y")], {}),  # one reader sees the values themselves
        ([*ROUNDED, ("Sub", "d i", "y")], {"i": "m"}),  # in a subgraph
        ([*ROUNDED, (Q, "m t z", "q2"), (DQ, "q2 t z", "d2"), ("Sub", "d d2", "y")], {}),  # two quantizers
        ([*ROUNDED, (Q, "d t z", "q2"), (DQ, "q2 t z", "d2"), ("Sub", "d d2", "y")], {}),  # one behind the other
        ([*ROUNDED, ("Mul", "x x", "n"), ("Sub", "d n", "y")], {}),  # of two equal results one is quantized
        ([*ROUNDED, ("Neg", "m", "k"), ("Sub", "d k", "y")], {}),
    ],
)
def test_readers_see_a_tensor_as_they_did(
    nodes: list[tuple[str, str, str]], more: dict[str, object], tmp_path: Path
) -> None:
    given = written(tmp_path / "given.onnx", nodes, **more)
    result = step1(given, FEEDS, tmp_path / "b", threads=1)
    assert not [p for p in result.problems if p.code == "quantized"]
    built = step2(tmp_path / "b", threads=1)
    for a, b in zip(as_written(given, FEEDS), as_written(built.path, FEEDS), strict=True):
        assert np.array_equal(a, b)


def test_what_leaves_otherwise_is_told_with_its_place(folder: Path, tmp_path: Path) -> None:
    """uint16 becomes int16, which is symmetric: a zero point beside the middle cannot be kept."""
    given = written(tmp_path / "given.onnx", [*ROUNDED, ("Relu", "d", "y")])
    model = onnx.load(given)
    held = {t.name: t for t in model.graph.initializer}
    held["z"].CopyFrom(numpy_helper.from_array(np.array(1000, np.uint16), "z"))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 21))
    model.ir_version = 10
    onnx.save(model, given)
    told = [p.message for p in step1(given, FEEDS, tmp_path / "b", threads=1).problems if p.code == "quantized"]
    assert any("output 'y' differs by up to" in m and "first tensor that does is 'm'" in m for m in told), told

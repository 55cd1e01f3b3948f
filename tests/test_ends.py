"""The ends of a model: outputs of any kind and place, shapes that samples tell, nodes whose first output is unused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_cli import Run
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

import hybridq
from hybridq.graph import runtime
from hybridq.graph.chance import random_nodes, seeded
from hybridq.report import words

Array = NDArray[Any]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
N = helper.make_node


def value(name: str, shape: list[int | str] | None = None, dtype: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


class Case:
    """A model in a folder of its own with samples, and what the steps make of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.random = folder, np.random.default_rng(4)

    def normal(self, *shape: int, spread: float = 1.0) -> Array:
        return (spread * self.random.standard_normal(shape)).astype(np.float32)

    def model(
        self,
        nodes: list[NodeProto],
        inputs: list[ValueInfoProto],
        outputs: list[ValueInfoProto],
        tensors: dict[str, Array],
        feeds: list[dict[str, Array]],
    ) -> None:
        held = [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
        graph = helper.make_graph(nodes, "g", inputs, outputs, held)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(proto, self.folder / "model.onnx")
        self.feeds = feeds

    def build(self, dtype: str | None = None) -> Path:
        out = self.folder / str(dtype)
        hybridq.step1(self.folder / "model.onnx", self.feeds, out, threads=1, **({"dtype": dtype} if dtype else {}))
        hybridq.step2(out, threads=1)
        return out

    def outputs(self, path: Path) -> list[list[Any]]:
        one = runtime.session(path, threads=1)
        return [runtime.run(one, feed) for feed in self.feeds]

    def holds(self) -> None:
        """float32 to the bit, 8 bits at 25 dB or more, what is no float equal."""
        given = self.outputs(self.folder / "model.onnx")
        exact, eight = (self.outputs(self.build(d) / "hybrid.onnx") for d in ("float32", "uint8"))
        for wanted, same, near in zip(given, exact, eight, strict=True):
            for a, b, c in zip(wanted, same, near, strict=True):
                np.testing.assert_array_equal(a, b)
                assert np.shape(a) == np.shape(c)
                if a.dtype.kind == "f" and (a != c).any():
                    assert 10 * np.log10((a**2).sum() / ((a - c) ** 2).sum()) > 20
                elif a.dtype.kind != "f":
                    np.testing.assert_array_equal(a, c)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_only_the_last_state_of_an_lstm(case: Case) -> None:
    nodes = [N("LSTM", ["x", "W", "R"], ["", "h"], hidden_size=8), N("Squeeze", ["h", "axis"], ["s"])]
    tensors = {"W": case.normal(1, 32, 6, spread=0.4), "R": case.normal(1, 32, 8, spread=0.4), "V": case.normal(8, 4)}
    feeds = [{"x": case.normal(5, 1, 6)} for _ in range(8)]
    nodes += [N("MatMul", ["s", "V"], ["y"])]
    case.model(nodes, [value("x", [5, 1, 6])], [value("y", [1, 4])], {**tensors, "axis": np.array([0])}, feeds)
    case.holds()
    layers = json.loads((case.build() / "model.json").read_text())["layers"]
    assert "h" in [x["name"] for x in layers]


def test_an_if_whose_first_output_is_an_integer(case: Case) -> None:
    branches = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        inner = [N("Size", ["m"], [f"{op}i"]), N(op, ["m"], [f"{op}f"])]
        branches[name] = helper.make_graph(inner, op, [], [value(f"{op}i", [], INT64), value(f"{op}f", [2, 8])])
    nodes = [
        N("MatMul", ["x", "W"], ["m"]),
        N("ReduceSum", ["x"], ["s"], keepdims=0),
        N("Greater", ["s", "zero"], ["g"]),
        N("If", ["g"], ["i", "v"], **branches),
        N("MatMul", ["v", "W"], ["y"]),
    ]
    tensors = {"W": case.normal(8, 8, spread=0.4), "zero": np.float32(0)}
    outputs = [value("y", [2, 8]), value("i", [], INT64)]
    case.model(nodes, [value("x", [2, 8])], outputs, tensors, [{"x": case.normal(2, 8)} for _ in range(8)])
    case.holds()


def test_an_input_comes_out_as_it_went_in(case: Case) -> None:
    nodes = [N("MatMul", ["x", "W"], ["y"]), N("Identity", ["x"], ["same"]), N("Reshape", ["x", "s"], ["flat"])]
    outputs = [value("same", [4, 8]), value("flat", [32]), value("y", [4, 12])]
    tensors = {"W": case.normal(8, 12, spread=0.4), "s": np.array([32])}
    case.model(nodes, [value("x", [4, 8])], outputs, tensors, [{"x": case.normal(4, 8)} for _ in range(8)])
    for dtype in (None, "uint8", "int16"):
        for feed, (same, flat, _) in zip(case.feeds, case.outputs(case.build(dtype) / "hybrid.onnx"), strict=True):
            np.testing.assert_array_equal(same, feed["x"])
            np.testing.assert_array_equal(flat, feed["x"].reshape(-1))


@pytest.mark.parametrize("others", [True, False])
def test_constant_outputs_are_carried(case: Case, others: bool) -> None:
    nodes = [N("Identity", ["boxes"], ["k"]), N("Shape", ["x"], ["n"])]
    outputs = [value("k", [6, 4]), value("n", [2], INT64)]
    nodes += [N("MatMul", ["x", "W"], ["y"])] if others else []
    outputs += [value("y", [4, 8])] if others else []
    tensors = {"boxes": case.normal(6, 4), "W": case.normal(8, 8)}
    case.model(nodes, [value("x", [4, 8])], outputs, tensors, [{"x": case.normal(4, 8)} for _ in range(4)])
    case.holds()


def test_sequences_are_carried_or_named(case: Case, run: Run) -> None:
    nodes = [N("MatMul", ["x", "W"], ["m"]), N("SplitToSequence", ["m"], ["parts"], axis=0)]
    out = helper.make_tensor_sequence_value_info("parts", FLOAT, None)
    case.model(nodes, [value("x", [4, 8])], [out], {"W": case.normal(8, 8)}, [{"x": case.normal(4, 8)}])
    case.build()
    sequence = helper.make_tensor_sequence_value_info("parts", FLOAT, [4, 8])
    case.model([N("SequenceAt", ["parts", "i"], ["y"])], [sequence], [value("y")], {"i": np.array(0)}, [])
    done = run("step1", case.folder / "model.onnx", "--data-free", "-o", case.folder / "b")
    assert done.code == 1
    assert "input 'parts' is a sequence" in done.err


def test_a_rank_that_only_a_run_tells(case: Case) -> None:
    nodes = [
        N("MatMul", ["x", "W"], ["m"]),
        N("Reshape", ["m", "shape"], ["r"]),
        N("MatMul", ["r", "W"], ["y"]),
    ]
    inputs = [value("x", [2, 8]), value("shape", ["rank"], INT64)]
    feeds = [{"x": case.normal(2, 8), "shape": np.array([2, 1, 8])} for _ in range(8)]
    case.model(nodes, inputs, [value("y")], {"W": case.normal(8, 8, spread=0.4)}, feeds)
    case.holds()
    declared = onnx.load(case.build() / "hybrid.onnx").graph.output[0].type.tensor_type
    assert not declared.HasField("shape") or len(declared.shape.dim) == 3


@pytest.mark.parametrize("sizes", [[(64, 64)] * 3, [(8, 8), (16, 24), (8, 8)]])
def test_multiply_accumulates_are_those_of_the_samples(case: Case, sizes: list[tuple[int, int]]) -> None:
    nodes = [
        N("Conv", ["x", "W"], ["a"], pads=[1] * 4),
        N("GlobalAveragePool", ["a"], ["p"]),
        N("Conv", ["p", "U"], ["y"]),
    ]
    tensors = {"W": case.normal(8, 3, 3, 3), "U": case.normal(16, 8, 1, 1)}
    feeds = [{"x": case.normal(1, 3, *size)} for size in sizes]
    case.model(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 16, 1, 1])], tensors, feeds)
    layers = json.loads((case.build() / "model.json").read_text())["layers"]
    pixels = sum(h * w for h, w in sizes) / len(sizes)
    assert [x["macs"] for x in layers if x["op"] == "Conv"] == [round(8 * 27 * pixels), 16 * 8]


def test_two_nodes_of_one_name(case: Case) -> None:
    nodes = [
        N("MatMul", ["x", "W"], ["a"], name="fc"),
        N("Sigmoid", ["a"], ["s"]),
        N("MatMul", ["s", "W"], ["y"], name="fc"),
    ]
    case.model(nodes, [value("x", [4, 8])], [value("y", [4, 8])], {"W": case.normal(8, 8)}, [{"x": case.normal(4, 8)}])
    found = hybridq.step1(case.folder / "model.onnx", case.feeds, case.folder / "b", threads=1)
    assert len({x.node for x in found.state.model.layers}) == 3


def test_class_numbers_are_judged_by_equality(case: Case) -> None:
    nodes = [N("MatMul", ["x", "W"], ["m"]), N("ArgMax", ["m"], ["class"], axis=1, keepdims=0)]
    feeds = [{"x": case.normal(40, 8)} for _ in range(8)]
    case.model(nodes, [value("x", [40, 8])], [value("class", [40], INT64)], {"W": case.normal(8, 8)}, feeds)
    folder = case.build("uint8")
    given, found = (case.outputs(p) for p in (case.folder / "model.onnx", folder / "hybrid.onnx"))
    share = float(np.mean([a[0] == b[0] for a, b in zip(given, found, strict=True)]))
    (output,) = hybridq.step3(folder, case.feeds, seconds=0).report.outputs
    assert output.equal == pytest.approx(share)
    assert not output.slices
    assert words.quality(output).endswith("equal")


class TestChance:
    def noisy(self, case: Case) -> None:
        nodes = [
            N("MatMul", ["x", "W"], ["c"]),
            N("RandomNormalLike", ["c"], ["n"], name="noise"),
            N("Add", ["c", "n"], ["y"]),
        ]
        feeds = [{"x": case.normal(4, 8)} for _ in range(8)]
        case.model(nodes, [value("x", [4, 8])], [value("y", [4, 8])], {"W": case.normal(8, 8)}, feeds)

    def test_it_is_told(self, case: Case) -> None:
        self.noisy(case)
        found = hybridq.step1(case.folder / "model.onnx", case.feeds, case.folder / "b", threads=1)
        assert [p.code for p in found.problems if "'noise'" in p.message] == ["random"]

    def test_seeded_models_draw_alike(self, case: Case) -> None:
        self.noisy(case)
        given = onnx.load(case.folder / "model.onnx")
        assert random_nodes(given.graph) == ["noise"]
        one, other = (runtime.session(seeded(given), threads=1) for _ in range(2))
        for feed in case.feeds:
            np.testing.assert_array_equal(runtime.run(one, feed)[0], runtime.run(other, feed)[0])


def test_every_step_tells_how_far_it_is_in_the_same_way(tmp_path: Path) -> None:
    case, told = Case(tmp_path), list[tuple[str, int, int | None]]()
    feeds = [{"x": case.normal(1, 4)} for _ in range(5)]
    case.model([N("Relu", ["x"], ["y"])], [value("x", ["N", 4])], [value("y", ["N", 4])], {}, feeds)

    def tell(what: str, done: int, total: int | None) -> None:
        told.append((what, done, total))

    hybridq.step1(tmp_path / "model.onnx", feeds, tmp_path / "b", threads=1, batch=2, progress=tell)
    hybridq.step2(tmp_path / "b", threads=1, progress=tell)
    hybridq.step3(tmp_path / "b", feeds, threads=1, seconds=0, progress=tell)
    assert [(done, total) for what, done, total in told if what == "calibrating"] == [(2, 5), (4, 5), (5, 5)]
    assert [(done, total) for what, done, total in told if what == "comparing"] == [(n, 5) for n in range(1, 6)]

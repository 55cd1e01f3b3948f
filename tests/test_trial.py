"""ONNX Runtime may end a process: not ours; and what is known to end it is never built."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from random_graphs import Case, make_case

from hybridq.graph import trial
from hybridq.quant.dtypes import Precision

N = helper.make_node
FLOAT = TensorProto.FLOAT


def saved(case: Case, precision: Precision, folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(case.build(case.plan(case.all(precision))), path)
    return path


def value(name: str, shape: Any = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def case_of(nodes: list[onnx.NodeProto], feed: dict[str, Any], **held: Any) -> Case:
    graph = helper.make_graph(
        nodes,
        "g",
        [value(k, v.shape, helper.np_dtype_to_tensor_dtype(v.dtype)) for k, v in feed.items()],
        [value("y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()],
    )
    return make_case(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), feed)


class TestDeath:
    """The parent learns how the child ended."""

    def test_a_model_that_runs(self, tmp_path: Path) -> None:
        case = case_of([N("Relu", ["x"], ["y"])], {"x": np.ones((2, 3), np.float32)})
        assert trial.death(saved(case, Precision.FLOAT32, tmp_path), case.feed, threads=1) == ""

    def test_an_exception_is_no_death(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"no model")
        assert trial.death(tmp_path / "m.onnx", {}, threads=1) == ""

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
    def test_a_signal_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script = tmp_path / "dies.py"
        script.write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGABRT)})\n")
        monkeypatch.setattr(trial, "__file__", str(script))
        assert trial.death(tmp_path / "m.onnx", {}) == "SIGABRT"

    def test_the_next_trial_has_a_process_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that lives on is kept; after a death there is another."""
        case = case_of([N("Relu", ["x"], ["y"])], {"x": np.ones((2, 3), np.float32)})
        path = saved(case, Precision.FLOAT32, tmp_path)
        assert [trial.death(path, case.feed, threads=1) for _ in range(2)] == ["", ""]
        script = tmp_path / "dies.py"
        script.write_text("import sys\nsys.stdin.readline()\nsys.exit(1)\n")
        with monkeypatch.context() as patched:
            patched.setattr(trial, "__file__", str(script))
            assert trial.death(path, case.feed, threads=1) == ""  # a program's own exit code is no death
        assert trial.death(path, case.feed, threads=1) == ""


class TestWhatIsKnown:
    """Constructs that end ONNX Runtime 1.32 are built in another way."""

    @pytest.mark.parametrize("precision", [Precision.INT16, Precision.UINT8, Precision.INT8])
    def test_moved_and_read_inside_an_if(self, precision: Precision, tmp_path: Path) -> None:
        then = helper.make_graph([N("Relu", ["t"], ["u"])], "a", [], [value("u")])
        other = helper.make_graph([N("Neg", ["t"], ["v"])], "b", [], [value("v")])
        nodes = [
            N("MatMul", ["x", "w"], ["m"]),
            N("Transpose", ["m"], ["t"], perm=[0, 2, 1]),
            N("If", ["c"], ["y"], then_branch=then, else_branch=other),
        ]
        random = np.random.default_rng(0)
        feed = {"x": random.normal(size=(1, 6, 8)).astype(np.float32)}
        held = {"w": random.normal(size=(8, 8)).astype(np.float32), "c": np.array(True)}
        nodes.insert(0, N("ReduceSum", ["x"], ["total"], keepdims=0))
        nodes.insert(1, N("IsNaN", ["total"], ["bad"]))
        nodes[-1].input[0] = "bad"
        case = case_of(nodes, feed, w=held["w"])
        assert trial.death(saved(case, precision, tmp_path), feed, threads=1) == ""

    @pytest.mark.parametrize("op", ["Mul", "Add"])
    @pytest.mark.parametrize("count", [0, 3])
    def test_arithmetic_on_what_was_not_found(self, op: str, count: int, tmp_path: Path) -> None:
        nodes = [
            N("MatMul", ["x", "w"], ["m"]),
            N("Greater", ["m", "limit"], ["g"]),
            N("NonZero", ["g"], ["z"]),
            N("Transpose", ["z"], ["t"], perm=[1, 0]),
            N("GatherND", ["m", "t"], ["s"]),
            N(op, ["s", "two"], ["y"]),
        ]
        random = np.random.default_rng(0)
        x = random.normal(size=(4, 8)).astype(np.float32)
        w = random.normal(size=(8, 8)).astype(np.float32)
        case = case_of(nodes, {"x": x}, w=w, limit=np.float32(1.0), two=np.float32(2))
        plan = case.plan(case.all(Precision.UINT8))
        assert plan.layers["m"].native
        assert not plan.layers["y"].native
        feed = {"x": x if count else -np.abs(x) * 0}
        assert trial.death(saved(case, Precision.UINT8, tmp_path), feed, threads=2) == ""

"""Other runtimes: what they are given, what is told of them, and times for a search from there."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_cli import Run

import hybridq
from hybridq.engines import mnn, ncnn, openvino
from hybridq.engines.records import Loaded
from hybridq.engines.table import ENGINES, is_here
from hybridq.errors import EngineError
from hybridq.exchange.view import View, make_view
from hybridq.files.temporary import temporary_folder
from hybridq.plan.plan import make_plan
from hybridq.steps import propose
from hybridq.steps.common import read_config, read_state

INSTALLED = [n for n in ENGINES if is_here(n)]
MISSING = [n for n in ENGINES if n not in INSTALLED]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_runtime_computes_float_as_float_and_is_told_beside(folder: Path, run: Run, name: str) -> None:
    done = run("step3", "build", "--runtime", name, "--threads", 1, "--seconds", 0.1)
    assert done.code == 0
    assert f"build/{name}" in done.out
    told = json.loads((folder / "build" / "report" / "report.json").read_text())
    found = told["runtime"]
    assert found["name"] == name
    assert found["float_sqnr_db"] is None or found["float_sqnr_db"] > 90
    assert found["timing"]["speedup"] > 0
    if name == "onnxruntime":
        lowest = min(o["sqnr_db"] for o in told["outputs"])
        assert found["sqnr_db"] == pytest.approx(lowest, abs=1e-6)
    assert f"build/{name}" in (folder / "build" / "report" / "index.html").read_text()


@pytest.mark.parametrize("name", MISSING)
def test_a_runtime_that_is_not_installed_ends_with_1_and_the_command(folder: Path, run: Run, name: str) -> None:
    done = run("step3", "build", "--runtime", name)
    assert done.code == 1
    assert "is not installed here" in done.err
    assert f"pip install 'hybridq[{ENGINES[name].extra}]'" in done.err


def test_a_search_takes_times_from_the_runtime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watch(name: str, *_: object) -> object:
        def ratio(*_: object) -> float:
            asked.append(name)
            return 3.0

        return ratio

    monkeypatch.setattr(propose, "stopwatch", watch)
    found = propose.propose(folder / "build", runtime="onnxruntime", min_speedup=2.5, threads=1)
    assert asked
    assert set(asked) == {"onnxruntime"}
    assert found.feasible
    assert (
        "times of onnxruntime" in json.loads((folder / "build" / "search.json").read_text())["question"]["onnxruntime"]
    )


def _view(folder: Path) -> View:
    state = read_state(folder)
    config, _ = read_config(folder, state)
    return make_view(state, make_plan(state.model, state.calibrated, config, state.weights), config)


def test_ncnn_gets_int8_weights_and_scales_where_its_floats_were(folder: Path) -> None:
    """The converter's file has other layers before and behind, and names of its own."""
    view = _view(folder / "build")
    layer = next(x for x in view.layers if x.op == "Conv")
    weight = view.weights_of[layer.name][0]
    values = view.kept(weight)
    count = values.shape[0]
    bias = np.arange(count, dtype="<f4")
    param = ["7767517", "3 3", "Input in0 0 1 in0", f"Convolution conv_7 1 1 in0 1 0={count} 1=3 5=1 6={values.size}"]
    before, behind = b"before__", b"behind__"
    data = before + bytes(4) + values.astype("<f4").tobytes() + bias.tobytes() + behind
    scales = {layer.name: (np.linspace(50, 90, count, dtype=np.float32), np.float32(12.5))}
    notes: list[str] = []
    lines, made = ncnn.quantized(param, data, view, scales, notes)
    assert (lines[:3], notes) == (param[:3], [])
    assert lines[3] == f"{param[3]} 8=2"
    assert made.startswith(before + ncnn.INT8_FLAG)
    start = len(before) + 4
    integers = np.frombuffer(made[start : start + values.size], np.int8).reshape(values.shape)
    expected = np.clip(np.round(values * scales[layer.name][0][:, None, None, None]), -127, 127)
    assert np.abs(integers - expected).max() <= (np.abs(values * 50 % 1 - 0.5).min() < 1e-3)
    padded = start + values.size + -values.size % 4
    tail = np.frombuffer(made[padded : -len(behind)], "<f4")
    assert tail.tolist() == [*bias, *scales[layer.name][0], 12.5]
    assert made.endswith(behind)


def test_ncnn_says_which_weights_it_did_not_find(folder: Path) -> None:
    view = _view(folder / "build")
    layer = next(x for x in view.layers if x.op == "Conv")
    notes: list[str] = []
    lines, made = ncnn.quantized(
        ["a b"], b"nothing", view, {layer.name: (np.ones(8, np.float32), np.float32(1))}, notes
    )
    assert (lines, made) == (["a b"], b"nothing")
    assert notes == ["1 layers stay float: pnnx changed their weights"]


def test_python_takes_the_runtime_too(folder: Path) -> None:
    found = hybridq.step3(folder / "build", runtime="onnxruntime", seconds=0, threads=1, metric="agreement")
    runtime = found.report.runtime
    assert runtime is not None
    assert runtime.metric is not None
    assert found.report.metric is not None
    assert runtime.metric.hybrid_value == found.report.metric.hybrid_value
    assert runtime.timing is None


# -- runtimes that are not here, played by ONNX Runtime: what the adapters give them and what they take --------------


class _Played:
    """A model file in ONNX Runtime, as OpenVINO and MNN are asked."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.found: list[np.ndarray] = []

    def create_infer_request(self) -> _Played:
        return self

    def infer(self, feed: dict[str, np.ndarray], *, share_inputs: bool) -> None:
        assert share_inputs
        self.found = self.session.run(None, feed)

    def get_output_tensor(self, place: int) -> SimpleNamespace:
        return SimpleNamespace(data=self.found[place])


class _Read:
    """A model that OpenVINO has read; open, where somebody writes down what it is asked."""

    def __init__(self, path: str, asked: list[dict[str, list[int]]] | None = None) -> None:
        self.path, self.asked = path, asked
        self.outputs = onnx.load(path).graph.output

    def is_dynamic(self) -> bool:
        return self.asked is not None

    def reshape(self, shapes: dict[str, list[int]]) -> None:
        assert self.asked is not None
        self.asked.append(shapes)


class _Core:
    def read_model(self, path: str) -> _Read:
        return _Read(path)


def test_openvino_gets_the_float_and_the_portable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Core(_Core):
        def compile_model(self, model: _Read, device: str, words: dict[str, str]) -> _Played:
            asked.append((Path(model.path).name, device, words["INFERENCE_NUM_THREADS"]))
            return _Played(model.path)

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core, __version__="2026.1.0-7"))
    view = _view(folder / "build")
    with temporary_folder() as place:
        loaded = ENGINES["openvino"].load(view, place, 1, [_sample(folder)[0]])
        names = {n.op_type for n in onnx.load(place / "hybrid.onnx").graph.node}
    assert asked == [("float.onnx", "CPU", "1"), ("hybrid.onnx", "CPU", "1")]
    assert "QuantizeLinear" in names
    assert "LeakyRelu" not in names  # what only ONNX Runtime needs
    assert loaded.version == "2026.1.0"
    _agree(loaded, folder)


def test_openvinos_refusal_is_told(folder: Path) -> None:
    class Core(_Core):
        def compile_model(self, *_: object) -> None:
            raise RuntimeError("no such operator")

    with pytest.raises(EngineError, match="OpenVINO does not take the model"):
        openvino.compiled(Core(), folder / "small.onnx", 1, {})


def test_openvino_gets_the_shapes_of_each_sample(tmp_path: Path) -> None:
    """With open axes its integers get wrong biases: they are closed, anew where a sample is of another shape."""
    asked: list[dict[str, list[int]]] = []

    class Core(_Core):
        def read_model(self, path: str) -> _Read:
            return _Read(path, asked)

        def compile_model(self, model: _Read, *_: object) -> _Played:
            return _Played(model.path)

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "open.onnx")
    one, two = ({"x": np.ones((n, 2), np.float32)} for n in (1, 2))
    found = openvino.compiled(Core(), tmp_path / "open.onnx", 1, one)
    for feed in (one, two, one):
        np.testing.assert_array_equal(found.run(None, feed)[0], -feed["x"])
    assert asked == [{"x": [1, 2]}, {"x": [2, 2]}]


class _Tensor:
    """MNN's: a shape and values that are copied."""

    def __init__(
        self, shape: tuple[int, ...], _kind: int = 0, values: np.ndarray | None = None, _layout: int = 0
    ) -> None:
        self.shape = shape
        self.values = np.zeros(shape, np.float32) if values is None else values

    def copyFrom(self, other: _Tensor) -> None:  # noqa: N802 - MNN's word
        self.values = other.values

    def copyToHostTensor(self, host: _Tensor) -> None:  # noqa: N802
        host.values = self.values

    def getShape(self) -> tuple[int, ...]:  # noqa: N802
        return self.shape

    def getData(self) -> list[float]:  # noqa: N802
        return self.values.reshape(-1).tolist()


def _mnn() -> SimpleNamespace:
    class Interpreter:
        def __init__(self, path: str) -> None:
            self.played = _Played(path)
            self.fed: dict[str, _Tensor] = {}
            self.made: dict[str, np.ndarray] = {}

        def createSession(self, words: dict[str, object]) -> int:  # noqa: N802
            assert words["numThread"] == 1
            os.write(1, b"MNN use high precision\n")  # as the library does, past Python
            return 7

        def getSessionInput(self, session: int, name: str) -> _Tensor:  # noqa: N802
            assert session == 7
            return self.fed.setdefault(name, _Tensor((1,)))

        def runSession(self, _: int) -> None:  # noqa: N802
            values = self.played.session.run(None, {n: t.values for n, t in self.fed.items()})
            self.made = dict(zip(self.played.outputs, values, strict=True))

        def getSessionOutput(self, _: int, name: str) -> _Tensor:  # noqa: N802
            return _Tensor(self.made[name].shape, 0, self.made[name])

    return SimpleNamespace(Interpreter=Interpreter, Tensor=_Tensor, Halide_Type_Float=1, Tensor_DimensionType_Caffe=2)


def test_mnn_gets_both_files_and_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = []

    def converter(words: list[str], **_: object) -> SimpleNamespace:
        commands.append(words[3:])
        given = dict(zip(words[3::2], words[4::2], strict=False))
        shutil.copy(given["--modelFile"], given["--MNNModel"])
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setitem(sys.modules, "MNN", _mnn())
    monkeypatch.setattr(mnn.subprocess, "run", converter)
    monkeypatch.setattr(mnn, "version", lambda _: "3.6.1")
    with temporary_folder() as place:
        loaded = ENGINES["mnn"].load(_view(folder / "build"), place, 1, [_sample(folder)[0]])
        table = json.loads((place / "compression.json").read_text())
    assert capfd.readouterr().out == ""  # what MNN prints would spoil --json
    assert [("--compressionParamsFile" in words) for words in commands] == [False, True]
    assert table["algo"][0]["quantParams"]["layer"]
    feed, expected = _sample(folder)
    assert loaded.given.run(None, feed)[0] == pytest.approx(expected, abs=1e-5)


def test_mnns_refusal_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(returncode=1, stdout="", stderr="first\nno such operator")
    monkeypatch.setattr(mnn.subprocess, "run", lambda *_, **__: told)
    with pytest.raises(EngineError, match=r"(?s)MNN's converter does not take the model.*no such operator"):
        mnn._converted(folder / "small.onnx", folder / "out.mnn")


def _sample(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    session = onnxruntime.InferenceSession(folder / "small.onnx", providers=["CPUExecutionProvider"])
    feed = {"image": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    return feed, session.run(None, feed)[0]


def _agree(loaded: Loaded, folder: Path) -> None:
    feed, expected = _sample(folder)
    (given,), (hybrid,) = (runner.run(None, feed) for runner in (loaded.given, loaded.hybrid))
    assert given == pytest.approx(expected, abs=1e-5)
    assert not np.array_equal(hybrid, given)

"""Defaults of recurrent models: chosen in the loop, weights alone where a step is little work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_chinese import is_translated
from helpers_cli import Run
from onnx import TensorProto, helper, numpy_helper
from recurrent import Array, cell, frames

from hybridq import steps, targets
from hybridq.graph.states import detected
from hybridq.plan.defaults import is_little_work
from hybridq.quant.dtypes import Precision
from hybridq.steps.editing import set_precision
from hybridq.steps.prepare import prepare
from hybridq.steps.propose import auto

UNITS = 24


def operator(op: str, gates: int, seed: int = 0) -> onnx.ModelProto:
    """A layer of a recurrent operator, a step a run, and a projection of what it gives."""
    random = np.random.default_rng(seed)
    held = {
        "w": random.normal(size=(1, gates * UNITS, 6)) * 0.2,
        "r": random.normal(size=(1, gates * UNITS, UNITS)) * 0.05,
        "b": random.normal(size=(1, 2 * gates * UNITS)) * 0.1,
        "wy": random.normal(size=(UNITS, 20)),
    }
    lstm = op == "LSTM"
    node = helper.make_node(
        op, ["x", "w", "r", "b", "", "h0", *(["c0"] if lstm else [])], ["all", "hn", *(["cn"] if lstm else [])],
        name="unit", hidden_size=UNITS,
    )  # fmt: skip
    nodes = [
        node,
        helper.make_node("Squeeze", ["hn", "axis"], ["flat"]),
        helper.make_node("MatMul", ["flat", "wy"], ["y"], name="head"),
    ]
    states = ["h0", "c0"] if lstm else ["h0"]
    shape = [1, 1, UNITS]
    graph = helper.make_graph(
        nodes,
        op,
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in [("x", [1, 1, 6]), *((n, shape) for n in states)]
        ],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in [("y", [1, 20]), *((f"{n[0]}n", shape) for n in states)]
        ],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in held.items()]
        + [numpy_helper.from_array(np.array([0], np.int64), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def saved(folder: Path, model: onnx.ModelProto, sequences: Sequence[Array]) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "m.onnx")
    for i, sequence in enumerate(sequences):
        np.save(folder / f"{i}.npy", sequence)
    (folder / "list.txt").write_text("".join(f"{i}.npy\n" for i in range(len(sequences))))
    return folder / "m.onnx", folder / "list.txt"


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_weights_of_recurrent_operators_are_stored_in_8_bits(op: str, gates: int, tmp_path: Path, run: Run) -> None:
    model, data = saved(tmp_path / "m", operator(op, gates), [frames(30, 1)[:, None], frames(30, 2)[:, None]])
    out = tmp_path / "build"
    state = steps.step1(model, data, out, threads=1).state
    default = state.calibrated.layers[next(x.name for x in state.model.layers if x.op == op)]
    assert default.precision is Precision.FLOAT32
    assert default.weight_only is Precision.INT8
    steps.step2(out, threads=1)
    built = onnx.load(out / "hybrid.onnx")
    kinds = {t.data_type for t in built.graph.initializer if np.prod(t.dims) > 256}
    assert kinds == {TensorProto.INT8}, "nothing large is left in float"
    assert (out / "hybrid.onnx").stat().st_size < model.stat().st_size
    found = steps.step3(out, threads=1, seconds=0).report
    assert found.outputs[0].sqnr_db > 35.0


def test_a_model_whose_loop_shows_8_bits_gets_16(tmp_path: Path) -> None:
    """An oscillator close to the edge: what is rounded of its weights comes back at every step."""
    angle, units = 0.3, 32
    turn = np.zeros((1, units, units))
    for i in range(0, units, 2):
        a = angle * (1 + i / units)
        turn[0, i : i + 2, i : i + 2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(units, units)))[0]
    model = operator("RNN", 1)
    held = {t.name: t for t in model.graph.initializer}
    random = np.random.default_rng(1)
    values = {
        "w": random.normal(size=(1, units, 6)) * 0.02,
        "r": mixing @ turn @ mixing.T * 1.02,
        "b": np.zeros((1, 2 * units)),
        "wy": random.normal(size=(units, 20)),
    }
    for name, value in values.items():
        held[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    model.graph.node[0].attribute[0].i = units
    for value in (model.graph.input[1], model.graph.output[1]):
        value.type.tensor_type.shape.dim[2].dim_value = units
    path, data = saved(tmp_path / "m", model, [frames(200, 1)[:, None]])
    state = steps.step1(path, data, tmp_path / "build", threads=1).state
    assert {d.weight_only for d in state.calibrated.layers.values()} == {Precision.INT16}


def test_a_search_takes_16_bits_where_they_keep_more(tmp_path: Path) -> None:
    model, data = saved(tmp_path / "m", operator("GRU", 3), [frames(40, 1)[:, None]])
    found = auto(model, data, tmp_path / "build", threads=1, seconds=0)
    assert found.compared.report.outputs[0].sqnr_db > 75.0
    assert (tmp_path / "build/hybrid.onnx").stat().st_size < model.stat().st_size


def test_what_is_asked_for_is_done(tmp_path: Path) -> None:
    model, data = saved(tmp_path / "m", cell(), [frames(30, 1)])
    state = steps.step1(model, data, tmp_path / "build", threads=1, dtype="uint8").state
    assert {d.precision for d in state.calibrated.layers.values()} == {Precision.UINT8}


def test_a_state_is_one_group_with_what_it_was_a_step_before(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, cell(), [frames(2)])
    model = prepare(path, (), (), targets.load("onnxruntime")).model
    assert model.group_of["h"] is model.group_of["hn"]
    assert prepare(path, (), (), targets.load("onnxruntime"), ["none"]).model.group_of["h"].layers == ()


def test_what_counts_as_little_work(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, cell(), [frames(2)])
    assert is_little_work(prepare(path, (), (), targets.load("onnxruntime")).model)
    assert detected(onnx.load(path)) == {"h": "hn"}


def large_state(decay: float, size: int = 1024) -> onnx.ModelProto:
    """``hn = decay h + x W``, ``y = hn V``: steps of two million multiply-accumulates, one product making the state."""
    random = np.random.default_rng(0)
    ends = f"(float[1,{size}] x, float[1,{size}] h) => (float[1,{size}] y, float[1,{size}] hn)"
    body = "{ c = Concat <axis = 1> (x, h) hn = MatMul(c, w) y = MatMul(hn, v) }"
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {ends} {body}')
    w, v = random.normal(size=(2, size, size)) / size**0.5
    held = {"w": np.concatenate([w, decay * np.eye(size)]), "v": v}
    made.graph.initializer.extend(numpy_helper.from_array(x.astype(np.float32), name) for name, x in held.items())
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("decay", "maker"), [(0.998, Precision.FLOAT32), (0.9, Precision.UINT8)])
def test_a_state_that_8_bits_forget_is_made_in_float_and_the_rest_in_8_bits(
    decay: float, maker: Precision, tmp_path: Path
) -> None:
    """Rounded at every step, what a slow state adds up is lost; a quick one is hardly worse for it."""
    x = np.random.default_rng(1).integers(0, 256, (60, 1, 1024)).astype(np.float32) / 255
    model, data = saved(tmp_path / "m", large_state(decay), [x])
    state = steps.step1(model, data, tmp_path / "build", threads=1, weights_repair="none").state
    assert not is_little_work(state.model)
    found = {name: default.precision for name, default in state.calibrated.layers.items()}
    assert found == {"hn": maker, "y": Precision.UINT8}


def slow_state(decay: float) -> onnx.ModelProto:
    """``hn = decay h + x``: the slower it forgets, the less a step adds to what it holds."""
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[1,6] x, float[1,6] h) => (float[1,6] y, float[1,6] hn)'
    body = f"<float[1] d = {{{decay}}}> {{ k = Mul(h, d) hn = Add(k, x) y = Tanh(hn) }}"
    return onnx.parser.parse_model(f"{text} {body}")


@pytest.mark.parametrize(("decay", "told"), [(0.2, False), (0.9999, True)])
def test_a_state_coarse_against_its_updates_is_told(decay: float, told: bool, tmp_path: Path) -> None:
    ramp = np.full((400, 1, 6), 0.01, np.float32) + frames(400, 1) * (0.002 if told else 1.0)
    model, data = saved(tmp_path / "m", slow_state(decay), [ramp])
    found = steps.step1(model, data, tmp_path / "build", threads=1, target="rknn2")
    coarse = [f for f in found.findings if f.code == "state"]
    assert bool(coarse) is told
    assert all("'h' moves by" in f.message and f.layers[0] == "hn" for f in coarse)
    assert all(is_translated(f.message) for f in found.findings)


def test_a_finer_state_helps_as_the_lint_says(tmp_path: Path) -> None:
    ramp = np.full((400, 1, 6), 0.01, np.float32) + frames(400, 1) * 0.002
    model, data = saved(tmp_path / "m", slow_state(0.9999), [ramp])
    found = steps.step1(model, data, tmp_path / "build", threads=1, target="rknn2")
    (coarse,) = (f for f in found.findings if f.code == "state")

    def kept() -> float:
        steps.step2(tmp_path / "build", threads=1)
        report = steps.step3(tmp_path / "build", threads=1, seconds=0).report
        return min(one.sqnr_db for one in report.outputs if one.name == "y")

    before = kept()
    for name in coarse.layers:
        set_precision(tmp_path / "build", name, str(coarse.precision))
    assert kept() > before + 6

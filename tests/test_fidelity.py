"""The check of ONNX Runtime against itself: silent where it computes what the file says, else it names a layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from qdq_graphs import Array, Graph, symmetric, uint8

from hybridq.cli.flags import talk
from hybridq.cli.step_commands import tell_fidelity
from hybridq.compare import fidelity
from hybridq.compare.fidelity import Fidelity, check_fidelity
from hybridq.graph import runtime
from hybridq.quant.numerics import quantize

RANDOM = np.random.default_rng(0)
X = {"x": RANDOM.normal(size=(1, 8, 12, 12)).astype(np.float32)}
SPREAD = np.array([20.0] + [0.2] * 7, np.float32).reshape(8, 1, 1, 1)  # channels that per-tensor weights ruin
FILTERS = [(RANDOM.normal(size=(8, 8, 3, 3)) * SPREAD / 8).astype(np.float32) for _ in range(3)]
GAIN = np.float32(1) / SPREAD.reshape(1, 8, 1, 1)
WIDE = uint8(-100, 100)
EVEN = uint8(-4, 4)


def convolution(graph: Graph, x: str, values: Array, *, integer: bool) -> str:
    """A Conv with weights in int8, or in float32, where ONNX Runtime would make them int8 per tensor."""
    p = symmetric(values, axis=0)
    w = graph.dequantize(graph.const(quantize(values, p)), p) if integer else graph.const(values)
    return graph.op("Conv", x, w, kernel_shape=[3, 3], pads=[1] * 4)


def chain(kinds: str, *, barrier: bool = False) -> tuple[onnx.ModelProto, list[str]]:
    """Convolutions, ``i`` integer and ``f`` float32, and their results in 8 bits, whose channels a Mul evens out."""
    graph, stored = Graph({"x": X["x"].shape}), []
    x = graph.stored("x", EVEN)
    for kind, values in zip(kinds, FILTERS, strict=False):
        y = convolution(graph, x, values, integer=kind == "i")
        y = graph.op("LeakyRelu", y, alpha=1.0) if barrier else y
        out = WIDE if kind == "i" else EVEN
        stored.append(graph.quantize(y, out))
        y = graph.dequantize(stored[-1], out)
        x = graph.stored(graph.op("Mul", y, graph.const(GAIN)), EVEN) if kind == "i" else y
    return graph.model(graph.op("Mul", x, graph.const(GAIN))), stored


def checked(model: onnx.ModelProto, folder: Path, feed: dict[str, Array] = X) -> Fidelity:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return check_fidelity(path, feed, threads=1)


@pytest.mark.parametrize("kinds", ["f", "if", "fi", "ifi", "iif", "iff"])
def test_it_names_the_layer_that_is_rewritten(kinds: str, tmp_path: Path) -> None:
    model, stored = chain(kinds)
    found = checked(model, tmp_path)
    assert not found.faithful
    assert found.differing[0] == stored[kinds.index("f")]


@pytest.mark.parametrize("kinds", ["f", "if", "fi", "ifi", "iif", "iff", "i", "iii"])
def test_it_is_silent_where_nothing_is_rewritten(kinds: str, tmp_path: Path) -> None:
    model, _ = chain(kinds, barrier="f" in kinds)
    found = checked(model, tmp_path)
    assert found.faithful
    assert found.differing == ()


def test_a_float_model_is_exact(tmp_path: Path) -> None:
    graph, y = Graph({"x": X["x"].shape}), "x"
    for values in FILTERS:
        y = graph.op("Sigmoid", convolution(graph, y, values, integer=False))
    found = checked(graph.model(y), tmp_path)
    assert found.worst > 100  # other kernels sum in another order; nothing more
    assert found.differing == ()


def test_a_pure_float_path_of_one_kernel_is_exact_to_the_bit(tmp_path: Path) -> None:
    graph = Graph({"x": X["x"].shape})
    found = checked(graph.model(graph.op("Mul", graph.op("Add", "x", "x"), "x")), tmp_path)
    assert found.worst == float("inf")


def test_ties_are_no_rewriting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers that fall on halves differ by a step here and there, more with every layer: nobody is named."""
    monkeypatch.setattr(fidelity, "ENOUGH_DB", float("inf"))  # look for rewritten layers whatever the outputs say
    random, graph = np.random.default_rng(3), Graph({"x": (1, 8, 64, 64)})
    feed = {"x": random.normal(size=(1, 8, 64, 64)).astype(np.float32)}
    y = graph.stored("x", EVEN)
    for _ in range(16):
        values = random.normal(0, 1 / np.sqrt(72), (8, 8, 3, 3)).astype(np.float32)
        y = graph.stored(convolution(graph, y, values, integer=True), EVEN)
    found = checked(graph.model(y), tmp_path, feed)
    assert np.isfinite(found.worst)
    assert found.differing == ()


@pytest.mark.parametrize(
    ("optimized", "plain", "faithful"),
    [(18.7, 18.0, True), (18.0, 20.9, True), (35.0, 22.0, False), (5.0, 22.0, False)],
)
def test_runs_that_are_as_near_to_float_are_no_loss(optimized: float, plain: float, faithful: bool) -> None:
    assert Fidelity({"y": 22.5, "z": 80.0}, (), {"y": optimized}, {"y": plain}).faithful is faithful
    assert Fidelity({"y": 22.5, "z": 12.0}, (), {"y": optimized}, {"y": plain}).faithful is False
    assert Fidelity({"y": 22.5}, ()).faithful is False


def test_float_is_asked_where_the_runs_do_not_agree(tmp_path: Path) -> None:
    asked: list[int] = []

    def given() -> dict[str, Array]:
        asked.append(1)
        return dict(zip(names, runtime.run(runtime.session(model, level="none"), X), strict=True))

    for kinds, barrier, times in (("iif", True, 0), ("iif", False, 1)):
        model, _ = chain(kinds, barrier=barrier)
        names = [o.name for o in model.graph.output]
        onnx.save(model, tmp_path / "model.onnx")
        found = check_fidelity(tmp_path / "model.onnx", X, threads=1, given=given)
        assert len(asked) == times
        assert list(found.optimized_db) == names * times
    assert found.plain_db[names[0]] > 100 > found.optimized_db[names[0]]  # the file as written stood for float


@pytest.mark.parametrize(("plain", "told"), [(18.0, "no loss"), (22.0, "good from 30 dB")])
def test_step2_says_how_weighty_it_is(plain: float, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    tell_fidelity(talk(quiet=False, verbose=False, as_json=False), Fidelity({"y": 22.5}, (), {"y": 18.7}, {"y": plain}))
    said = " ".join(capsys.readouterr().out.split())
    assert told in said
    assert f"18.7 dB and {plain:.1f} dB from float" in said
    assert "no layer is to blame" in said

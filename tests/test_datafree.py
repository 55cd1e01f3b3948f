"""Ranges without data: what BatchNorm says, and intervals that never miss."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hybridq.calibration.datafree import DEVIATIONS, RULES, DataFree, Trust, data_free
from hybridq.dataset import InputSpec, Preprocessing
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.quant.qparams import Range

node = helper.make_node
UNIT = {"x": Range(-1.0, 1.0)}


def graph(nodes: list[onnx.NodeProto], output: str, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def batch_norm_net(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(size=(6, 4, 3, 3)),
        "gamma": rng.normal(size=6),
        "beta": rng.normal(size=6),
        "mean": rng.normal(size=6),
        "var": rng.uniform(0.5, 2.0, 6),
        "w2": rng.normal(size=(3, 6, 1, 1)),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("Conv", ["r", "w2"], ["y"]),
    ]
    return graph(nodes, "y", weights)


def found_for(given: onnx.ModelProto, inputs: dict[str, Range] | None = None) -> DataFree:
    return data_free(given, canonicalize(given), inputs)


def test_batch_norm_says_mean_and_deviation() -> None:
    given = batch_norm_net()
    found = found_for(given)
    held = {i.name: numpy_helper.to_array(i) for i in given.graph.initializer}
    beta, gamma = held["beta"].astype(np.float64), np.abs(held["gamma"].astype(np.float64))
    assert found.ranges["r"].max == pytest.approx(float((beta + DEVIATIONS * gamma).max()))
    assert found.ranges["r"].min == 0.0
    assert found.trust["r"] is Trust.BATCHNORM
    assert found.trust["y"] is Trust.INTERVAL


@pytest.mark.parametrize(
    ("mean", "std", "range_"),
    [
        ("127.5", "64", Range(-127.5 / 64, 127.5 / 64)),
        ("0", "255", Range(0.0, 1.0)),
        (None, "x=1,2,5,-1", Range(-255.0, 255.0)),
        ("10,20,30,40", None, Range(-40.0, 245.0)),
    ],
)
def test_mean_and_std_say_what_pictures_become(mean: str | None, std: str | None, range_: Range) -> None:
    spec = InputSpec("x", (1, 4, 8, 8), "float32")
    assert Preprocessing.of(mean, std).pixel_ranges([spec]) == {"x": range_}


def test_without_mean_and_std_or_without_a_picture_nothing_is_known() -> None:
    assert Preprocessing.of().pixel_ranges([InputSpec("x", (1, 4, 8, 8), "float32")]) == {}
    assert Preprocessing.of("1", "2").pixel_ranges([InputSpec("x", (1, 4), "float32")]) == {}
    assert Preprocessing.of("1", "2").pixel_ranges([InputSpec("x", (1, 3, 8, 8), "uint8")]) == {}


def test_an_input_is_a_guess_unless_given() -> None:
    given = batch_norm_net()
    assert found_for(given).trust["x"] is Trust.GUESS
    assert found_for(given, UNIT).trust["x"] is Trust.INTERVAL
    assert found_for(given, UNIT).ranges["x"] == Range(-1.0, 1.0)


def test_every_group_gets_a_range() -> None:
    given = batch_norm_net()
    proto = canonicalize(given)
    model = analyse(proto, given)
    measured = found_for(given).measured(model)
    assert set(measured) == set(model.group)
    assert all(m.range.min <= 0.0 <= m.range.max for m in measured.values())
    assert all(m.ranges["normal"][8] == m.range for m in measured.values())


def test_remarks_say_what_the_input_is_taken_for_and_count_the_rest() -> None:
    given = batch_norm_net()
    model = analyse(canonicalize(given), given)
    guess, counts = found_for(given).remarks(model)
    assert guess == "Input 'x' is taken to lie in [-2.5, 2.5] (a guess; for pictures give --mean and --std)."
    assert counts.startswith("2 ranges come from BatchNorm, 1 from intervals, 1 are guesses")
    assert found_for(given, UNIT).remarks(model)[0].endswith("[-1, 1] (pictures of 0 to 255 by mean and std).")


MONOTONE = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "LeakyRelu": {"alpha": 0.2},
    "Softmax": {},
}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(MONOTONE)), min_size=1, max_size=3), st.integers(0, 1000))
def test_intervals_never_miss(ops: list[str], seed: int) -> None:
    names = ["x", *(f"t{i}" for i in range(len(ops)))]
    nodes = [node(op, [names[i]], [names[i + 1]], **MONOTONE[op]) for i, op in enumerate(ops)]
    last = names[-1]
    rng = np.random.default_rng(seed)
    nodes += [node("Mul", [last, "k"], ["m"]), node("Add", ["m", last], ["y"])]
    given = graph(nodes, "y", {"k": rng.normal(size=(1, 4, 1, 1))})
    proto = canonicalize(given)
    found = data_free(given, proto, UNIT)
    x = rng.uniform(-1, 1, (1, 4, 8, 8)).astype(np.float32)
    (y,) = runtime.run(runtime.session(given, threads=1), {"x": x})
    r = found.ranges["y"]
    assert r.min - 1e-5 <= y.min()
    assert y.max() <= r.max + 1e-5


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_convolution_stays_near_what_occurs(group: int) -> None:
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(8, 4 // group, 3, 3)), "b": rng.normal(size=8)}
    given = graph([node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], group=group)], "y", weights)
    found = found_for(given, UNIT)
    x = rng.uniform(-1, 1, (1, 4, 8, 8)).astype(np.float32)
    (y,) = runtime.run(runtime.session(given, threads=1), {"x": x})
    assert found.ranges["y"].min <= y.min()
    assert y.max() <= found.ranges["y"].max <= 6 * y.max()


def test_an_unknown_operator_is_a_guess() -> None:
    given = graph([node("Erf", ["x"], ["e"]), node("Relu", ["e"], ["y"])], "y", {})
    assert "Erf" not in RULES
    assert found_for(given, UNIT).trust["y"] is Trust.GUESS
    assert Trust.GUESS.word == "guess"


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    w = np.random.default_rng(2).normal(size=(4, 5))
    given = graph(
        [
            node("GlobalAveragePool", ["x"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "w"], ["y"], transB=transposed),
        ],
        "y",
        {"w": w.T if transposed else w},
    )
    found = found_for(given, UNIT)
    assert found.ranges["y"].max <= np.abs(w).sum(axis=0).max() + 1e-6
    assert found.trust["y"] is Trust.INTERVAL

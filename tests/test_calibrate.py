"""Calibration equals measuring every tensor with NumPy, however the samples are batched and wherever they run."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import reduce
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_statistics import of_samples
from onnx import TensorProto, helper, numpy_helper

from hybridq.calibration.calibrate import Pile, calibrate, prepare
from hybridq.calibration.convergence import convergence
from hybridq.calibration.instrument import SUBSAMPLE
from hybridq.calibration.recorder import NotANumberError
from hybridq.calibration.statistics import CalibrationStats
from hybridq.errors import DatasetError, ModelError
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.model import Model
from hybridq.graph.separated import separable, told

Feed = dict[str, np.ndarray]
HISTOGRAM = {"mmse"}


def net(batch: Any = 1, size: Any = 24, extra: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    """Conv + Relu, a depthwise Conv without activation, Concat, Sigmoid, Clip, Gemm; and whatever ``extra`` appends."""
    rng = np.random.default_rng(5)
    node = helper.make_node
    weights = {
        "w1": rng.normal(size=(16, 3, 3, 3)),
        "w2": rng.normal(size=(16, 1, 3, 3)),
        "w3": rng.normal(size=(5, 16, 1, 1)),
        "w4": rng.normal(size=(21, 7)),
        "zero": np.array(0.0),
        "six": np.array(6.0),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        node("Conv", ["c2", "w3"], ["c3"]),
        node("Clip", ["c3", "zero", "six"], ["k3"]),
        node("Concat", ["c2", "k3"], ["cat"], axis=1),
        node("Sigmoid", ["cat"], ["sig"]),
        node("Mul", ["cat", "sig"], ["silu"]),
        node("GlobalAveragePool", ["silu"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
        node("Gemm", ["flat", "w4"], ["y"]),
        *(extra or []),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 7])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def view(given: onnx.ModelProto) -> tuple[Model, onnx.ModelProto]:
    proto = canonicalize(given)
    return analyse(proto), proto


def feeds(count: int, size: int = 24, seed: int = 0) -> list[Feed]:
    rng = np.random.default_rng(seed)
    return [{"x": (rng.normal(size=(1, 3, size, size)) * (1 + i % 5)).astype(np.float32)} for i in range(count)]


def batches(samples: list[Feed], batch: int, first: int = 0) -> Iterator[tuple[int, Feed]]:
    for i in range(0, len(samples), batch):
        part = samples[i : i + batch]
        yield first + i, {k: np.concatenate([f[k] for f in part]) for k in part[0]}


def truth(proto: onnx.ModelProto, names: list[str], samples: list[Feed]) -> dict[str, np.ndarray]:
    """Each tensor's (minimum, maximum) of every sample, from the model with that tensor as an output."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    inside = [n for n in names if n not in samples[0]]
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in inside)
    session = runtime.session(probe, threads=1)
    found: dict[str, list[tuple[float, float]]] = {n: [] for n in names}
    for feed in samples:
        values = {**feed, **dict(zip(inside, runtime.run(session, feed, inside), strict=True))}
        for n in names:
            found[n].append((values[n].min(), values[n].max()))
    return {n: np.array(pairs) for n, pairs in found.items()}


def same(a: CalibrationStats, b: CalibrationStats) -> bool:
    return (
        a.samples == b.samples
        and a.tensors.keys() == b.tensors.keys()
        and all(s.same_as(b.tensors[n]) for n, s in a.tensors.items())
    )


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("axis", "size"), [(1, 24), ("N", 24), ("N", "S"), (1, 80)])
def test_min_and_max_are_those_of_every_element(axis: Any, size: Any, batch: int) -> None:
    if axis == 1 and batch > 1:
        pytest.skip("the batch axis is fixed")
    model, proto = view(net(axis, size))
    samples = feeds(10, size if isinstance(size, int) else 24)
    stats = calibrate(model, proto, batches(samples, batch), algorithms=HISTOGRAM, threads=1, batch=batch)
    assert stats.samples == 10
    measured = set(separable(model)) - told(model).keys()
    assert set(stats.tensors) == {*(s for g in model.groups for s in g.sources), *measured}
    for name, pairs in truth(proto, list(stats.tensors), samples).items():
        pairs[:, 0] = np.minimum(pairs[:, 0], np.inf if model.group_of[name].fixed is None else 0.0)
        np.testing.assert_allclose(stats.tensors[name].pairs, pairs, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", [24, 80])
def test_the_histogram_is_of_about_so_many_elements(size: int) -> None:
    model, proto = view(net(1, size))
    stats = calibrate(model, proto, batches(feeds(3, size), 1), algorithms=HISTOGRAM, threads=1)
    for name, s in stats.tensors.items():
        if model.group_of[name].fixed is not None or name in separable(model):
            assert s.count == 0, name
            continue
        shape = model.tensors[name].shape
        elements = int(np.prod([d for d in shape or () if isinstance(d, int)]))
        assert min(elements, SUBSAMPLE) * 0.4 <= s.count / 3 <= min(elements, SUBSAMPLE) * 1.2, name


@pytest.mark.parametrize("size", [24, "S"])
def test_the_batch_does_not_matter(size: Any) -> None:
    model, proto = view(net("N", size))
    samples = feeds(11)
    whole, by_four = (
        calibrate(model, proto, batches(samples, n), algorithms=HISTOGRAM, threads=1, batch=n) for n in (1, 4)
    )
    for name, s in whole.tensors.items():
        other = by_four.tensors[name]
        np.testing.assert_allclose(s.pairs, other.pairs, rtol=1e-5, atol=1e-5)
        assert s.count == other.count


def test_dynamic_sizes_may_differ() -> None:
    model, proto = view(net("N", "S"))
    samples = [*feeds(3, 24), *feeds(3, 40, seed=1)]
    stats = calibrate(model, proto, batches(samples, 1), algorithms=HISTOGRAM, threads=1)
    for name, pairs in truth(proto, list(stats.tensors), samples).items():
        np.testing.assert_allclose(stats.tensors[name].pairs, pairs, rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_halves_equal_the_whole() -> None:
    model, proto = view(net())
    samples = feeds(40)
    whole = calibrate(model, proto, batches(samples, 1), algorithms=HISTOGRAM, threads=1)
    first = calibrate(model, proto, batches(samples[:17], 1), algorithms=HISTOGRAM, threads=1)
    second = calibrate(model, proto, batches(samples[17:], 1, first=17), algorithms=HISTOGRAM, threads=1)
    assert same(whole, first.merge(second))
    assert same(whole, second.merge(first))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_gives_the_same_bytes(kind: str) -> None:
    model, proto = view(net())
    samples = feeds(40)
    whole = calibrate(model, proto, batches(samples, 1), algorithms=HISTOGRAM, threads=1)
    made: Executor = (
        ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    )
    with made as executor:
        spread = calibrate(
            model,
            proto,
            batches(samples, 1),
            algorithms=HISTOGRAM,
            threads=1,
            executor=executor,
            workers=2,
        )
    assert same(whole, spread)


def test_merging_many_parts_copies_each_sample_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    model, proto = view(net())
    parts = [calibrate(model, proto, batches(feeds(1), 1, first=i), algorithms=HISTOGRAM, threads=1) for i in range(64)]
    copied: list[int] = []
    plain = CalibrationStats.merge

    def counting(one: CalibrationStats, other: CalibrationStats) -> CalibrationStats:
        copied.append(one.samples + other.samples)
        return plain(one, other)

    monkeypatch.setattr(CalibrationStats, "merge", counting)
    pile = Pile(parts[0])
    for part in parts[1:]:
        pile.add(part)
    assert same(pile.merged(), reduce(plain, parts))
    assert sum(copied) <= 64 * 6


def test_without_a_search_no_histogram_is_kept() -> None:
    model, proto = view(net())
    stats = calibrate(model, proto, batches(feeds(2), 1), algorithms={"normal"}, threads=1)
    assert all(s.histogram is None for s in stats.tensors.values())


def test_nan_names_input_and_sample() -> None:
    model, proto = view(net())
    samples = feeds(6)
    samples[4]["x"][0, 1, 2, 3] = np.nan
    with pytest.raises(NotANumberError, match="input 'x' holds NaN in sample 4") as raised:
        calibrate(model, proto, batches(samples, 1), algorithms=HISTOGRAM, threads=1)
    assert raised.value.sample == 4
    assert "in 'bad.npy'" in str(raised.value.at("'bad.npy'"))


@pytest.mark.parametrize("algorithm", ["normal", "mmse"])
def test_a_model_that_overflows_is_named(algorithm: str) -> None:
    model, proto = view(net())
    samples = feeds(5)
    samples[3]["x"][:] = 1e38
    with pytest.raises(ModelError, match="in sample 3"):
        calibrate(model, proto, batches(samples, 1), algorithms={algorithm}, threads=1)


def test_no_sample_is_an_error() -> None:
    model, proto = view(net())
    with pytest.raises(DatasetError, match="no sample"):
        calibrate(model, proto, [], threads=1)


def test_merging_other_models_is_refused() -> None:
    one = of_samples([np.float32([1])])
    with pytest.raises(ValueError, match="different tensors"):
        CalibrationStats(1, {"a": one}).merge(CalibrationStats(1, {"b": one}))


def test_integers_and_subgraphs_are_left_out() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["y"], ["inside"])],
        "then",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["y"], ["outside"])],
        "else",
        [],
        [helper.make_tensor_value_info("outside", TensorProto.FLOAT, None)],
    )
    extra = [
        helper.make_node("ReduceSum", ["y"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["yes"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=other),
    ]
    given = net(extra=extra)
    given.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    model, proto = view(given)
    program = prepare(model, proto, histogram=True)
    assert "inside" not in program.tensors
    stats = calibrate(model, proto, batches(feeds(3), 1), algorithms=HISTOGRAM, threads=1)
    assert "z" in stats.tensors


def test_memory_does_not_grow_with_samples() -> None:
    model, proto = view(net())
    sample = feeds(1)[0]

    def peak(count: int) -> int:
        tracemalloc.start()
        calibrate(model, proto, ((i, sample) for i in range(count)), algorithms=HISTOGRAM, threads=1)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(20)
    few, many = peak(50), peak(1000)
    assert many <= 1.05 * few + 16 * 1000 * len(model.tensors)


def test_convergence_tells_a_settled_range_from_a_moving_one() -> None:
    settled = of_samples([np.float32([-1, 1])] * 20)
    moving = of_samples([np.float32([0, i]) for i in range(1, 21)])
    found = convergence(CalibrationStats(20, {"settled": settled, "moving": moving}))
    assert found.moved["settled"] == 0.0
    assert found.moved["moving"] == pytest.approx(0.25)
    assert "1 of 2" in found.summary
    assert "moving" in found.summary


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["squeezenet", "silero_vad"])
def test_zoo(zoo: ModuleType, name: str) -> None:
    held = zoo.load(name)
    model, proto = view(onnx.load(held.model_path))
    samples = [feed for feed, _ in zip(held.calibration(), range(3), strict=False)]
    stats = calibrate(model, proto, enumerate(samples), algorithms=HISTOGRAM, threads=1)
    for tensor, pairs in truth(proto, list(stats.tensors), samples).items():
        pairs[:, 0] = np.minimum(pairs[:, 0], np.inf if model.group_of[tensor].fixed is None else 0.0)
        np.testing.assert_allclose(stats.tensors[tensor].pairs, pairs, rtol=1e-4, atol=1e-4, err_msg=tensor)

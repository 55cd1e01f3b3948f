"""Channels that a normalization or another constant scales: they balance a tensor's rounding against its readers'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_graphs import given as graph
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Case, make_case, run

from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import sqnr_db
from hybridq.repair.balance import Read
from hybridq.repair.channels import tied_channels
from hybridq.repair.equalization import equalizations
from hybridq.repair.observe import observer
from hybridq.storage.state import assemble

Array = np.ndarray[Any, Any]
WIDTH, TOKENS = 32, 16
LOUD = np.where(np.arange(WIDTH) < 2, 16.0, 1.0).astype(np.float32)  # two channels are far louder than the others
LAST = {"axes": [-1]}

FORMS: dict[str, list[tuple[Any, ...]]] = {  # from x to "n" with the constants "scale" and "shift"
    "LayerNormalization": [("LayerNormalization", "x scale shift", "n", {"axis": -1})],
    "RMSNormalization": [("RMSNormalization", "x scale", "n", {"axis": -1})],
    "constants at its end": [
        ("ReduceMean", "x last", "m"), ("Sub", "x m", "c"), ("Mul", "c c", "s"), ("ReduceMean", "s last", "v"),
        ("Sqrt", "v", "d"), ("Div", "c d", "h"), ("Mul", "h scale", "g"), ("Add", "g shift", "n"),
    ],
    "constants first": [
        ("ReduceMean", "x last", "m"), ("Sub", "x m", "c"), ("Mul", "c c", "s"), ("ReduceMean", "s last", "v"),
        ("Sqrt", "v", "d"), ("Div", "scale d", "i"), ("Mul", "x i", "g"), ("Mul", "m i", "k"),
        ("Sub", "shift k", "o"), ("Add", "g o", "n"),
    ],
}  # fmt: skip


def samples(count: int, seed: int) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1, TOKENS, WIDTH)).astype(np.float32)} for _ in range(count)]


def normalized(form: str) -> Case:
    """A normalization, a matrix product of what it gives that hears all channels alike, Relu, its shape, a product."""
    random = np.random.default_rng(0)
    first, last = (random.normal(size=s).astype(np.float32) for s in ((WIDTH, WIDTH), (WIDTH, 8)))
    shift = random.normal(size=WIDTH).astype(np.float32) * LOUD / 4
    tensors = {"scale": LOUD, "shift": shift, "w0": first / LOUD[:, None], "w1": last, "last": np.array([-1])}
    nodes = [*FORMS[form], ("Shape", "n", "size"), ("MatMul", "n w0", "a"), ("Relu", "a", "b")]
    nodes += [("Reshape", "b size", "r"), ("MatMul", "r w1", "y")]
    used = {k: v for k, v in tensors.items() if any(k in n[1].split() for n in nodes)}
    model = graph(nodes, used, ["y"], ("n", TOKENS, WIDTH))
    model.opset_import[0].version = 23 if form == "RMSNormalization" else 18
    return make_case(model, samples(1, 0)[0])


def changed(case: Case, made: dict[str, Array]) -> Any:
    return assemble(case.model.proto, {**case.weights, **made})


def hybrid_db(model: Any, feed: dict[str, Array]) -> float:
    case = make_case(model, feed)
    built = case.build(case.plan(case.all(Precision.UINT8)))
    return sqnr_db(run(case.proto, feed)[0], run(built, feed)[0])


@pytest.mark.parametrize("form", FORMS)
class TestNormalizedChannels:
    def test_float_model_stays_the_same_to_the_last_bit(self, form: str) -> None:
        case = normalized(form)
        both = equalizations(case.model, case.weights, samples(8, 1), threads=1)
        for made in (both.every, both.harmless):
            assert {"scale", "w0"} <= made.keys()
            for feed in samples(2, 2):
                for before, after in zip(run(case.proto, feed), run(changed(case, made), feed), strict=True):
                    np.testing.assert_array_equal(before, after)

    def test_samples_that_were_not_seen_gain(self, form: str) -> None:
        """Two loud channels leave the others a sixteenth of the steps; without them they have nearly all."""
        case = normalized(form)
        other = changed(case, equalizations(case.model, case.weights, samples(8, 1), threads=1).harmless)
        gains = [hybrid_db(other, f) - hybrid_db(case.proto, f) for f in samples(4, 3)]
        assert min(gains) > 6

    def test_what_is_rounded_to_8_bits_itself_stays(self, form: str) -> None:
        case = normalized(form)
        made = equalizations(case.model, case.weights, samples(8, 1), rounded={"scale", "w0"}, threads=1)
        assert "scale" not in {**made.every, **made.harmless}


def test_each_axis_keeps_its_own_scales() -> None:
    """A constant along one axis and a product along another: nothing may be scaled."""
    nodes = [("Mul", "x column", "a"), ("MatMul", "a w", "y")]
    tensors = {"column": np.arange(1, 1 + TOKENS, dtype=np.float32)[:, None], "w": np.ones((WIDTH, 2), np.float32)}
    case = make_case(graph(nodes, tensors, ["y"], (1, TOKENS, WIDTH)), samples(1, 0)[0])
    assert not equalizations(case.model, case.weights, samples(8, 1), threads=1).every


def test_instances_are_scaled_along_their_channels() -> None:
    nodes = [("InstanceNormalization", "x scale shift", "a"), ("Relu", "a", "b"), ("Conv", "b w", "y")]
    tensors = {"scale": LOUD[:4], "shift": LOUD[:4] * 0, "w": np.ones((2, 4, 1, 1), np.float32)}
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 4, 8, 8)).astype(np.float32)} for i in range(8)]
    case = make_case(graph(nodes, tensors, ["y"], (1, 4, 8, 8)), feeds[0])
    values = observer(case.model, case.weights, ["x", "a", "b", "y"], threads=1)(feeds[0])
    found = tied_channels(case.model, case.weights, {n: v.shape for n, v in values.items()})
    assert found.numbers["a"].ravel().tolist() == found.numbers["b"].ravel().tolist()
    assert len(set(found.numbers["a"].ravel().tolist()) - {0}) == 4
    made = equalizations(case.model, case.weights, feeds, threads=1).harmless
    assert set(made) == {"scale", "shift", "w"}


class TestBalance:
    @given(seed=st.integers(0, 2**16), groups=st.sampled_from([1, 2]), window=st.sampled_from([1, 4]))
    @settings(max_examples=15, deadline=None)
    def test_noise_is_what_rounding_does(self, seed: int, groups: int, window: int) -> None:
        """Over many products the noise that is expected is the noise that is measured, within half a dB."""
        random, outputs, inputs = np.random.default_rng(seed), 24, 16
        weights = random.normal(size=(groups, outputs, inputs, window))
        x = random.normal(size=(4000, groups, inputs, window)) * random.uniform(0.2, 2, (groups, inputs, 1))
        step = 2 * float(np.abs(x).max()) / 255
        size = np.sqrt(np.square(weights).sum(3))
        numbers = np.arange(groups * inputs).reshape(groups, inputs)
        power = np.square(x).mean((0, 3))
        read = Read(size, np.abs(weights).max(3), window, numbers, power, step)
        of_tensor, of_weights = read.noise(np.ones(groups * inputs))
        steps = np.abs(weights).max((2, 3), keepdims=True) / 127
        signal = np.einsum("goc,gc->go", np.square(size), power)

        def measured(one: Array, other: Array) -> float:
            return float((np.square(np.einsum("ngck,gock->ngo", one, other)).mean(0) / signal).sum())

        of_x = measured(np.rint(x / step) * step - x, weights)
        of_w = measured(x, np.rint(weights / steps) * steps - weights)
        assert abs(10 * np.log10(of_tensor.sum() / 12 / of_x)) < 0.5
        assert abs(10 * np.log10(of_weights.sum() / 12 / of_w)) < 1.5  # weights are few

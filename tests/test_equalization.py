"""Channels are equalized: the float model computes the same, and 8 bits harm less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given as graph
from helpers_repairs import SHAPE, Array, feeds, uneven
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Case, make_case, random_case, run

from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import sqnr_db
from hybridq.repair.channels import tied_channels
from hybridq.repair.equalization import equalizations, expected_reach
from hybridq.repair.observe import observer
from hybridq.search.for_step1 import measure, weight_repair
from hybridq.steps import step1, step2
from hybridq.steps.editing import set_precision
from hybridq.storage.state import assemble


def hybrid_db(case: Case) -> float:
    """SQNR in dB of the model with every layer in 8 bits."""
    built = case.build(case.plan(case.all(Precision.UINT8)))
    return min(map(sqnr_db, run(case.proto, case.feed), run(built, case.feed)))


def every_channel(case: Case, samples: list[dict[str, Array]]) -> dict[str, Array]:
    """What changes where all free channels are equalized."""
    return equalizations(case.model, case.weights, samples, threads=1).every


class TestEqualization:
    @pytest.mark.parametrize("seeds", [range(i, i + 20) for i in range(0, 160, 20)], ids=str)
    def test_float_model_stays_the_same_to_the_last_bit(self, seeds: range) -> None:
        for seed in seeds:
            case = random_case(seed)
            both = equalizations(case.model, case.weights, [case.feed], threads=1)
            for made in (both.every, both.harmless):
                other = assemble(case.model.proto, {**case.weights, **made})
                for before, after in zip(run(case.proto, case.feed), run(other, case.feed), strict=True):
                    np.testing.assert_array_equal(before, after, err_msg=f"seed {seed}: {sorted(made)}")

    def test_random_graphs_have_something_to_equalize(self) -> None:
        cases = map(random_case, range(240))
        assert sum(bool(every_channel(c, [c.feed])) for c in cases) >= 10

    def test_uneven_channels_gain(self) -> None:
        whole = feeds(1)[0]
        case = make_case(uneven(), whole)
        made = every_channel(case, [whole])
        other = make_case(assemble(case.model.proto, {**case.weights, **made}), whole)
        assert hybrid_db(other) > hybrid_db(case) + 6

    @pytest.mark.parametrize("end", ["Sigmoid", "HardSwish", "Tanh"])
    def test_nothing_is_scaled_before_what_is_not_homogeneous(self, end: str) -> None:
        case = make_case(uneven(end), feeds(1)[0])
        assert not every_channel(case, [case.feed])


def alone(seed: int = 0, scale: float = 1 / 4) -> onnx.ModelProto:
    """Conv, Relu, depthwise Conv, Conv: channel i reaches ``scale ** i`` as far, and is heard as much as any."""
    random, sizes = np.random.default_rng(seed), np.float32(scale) ** np.arange(4, dtype=np.float32)
    first, depth, last = (random.normal(size=s).astype(np.float32) for s in ((4, 4, 3, 3), (4, 1, 3, 3), (4, 4, 1, 1)))
    sizes = sizes.reshape(4, 1, 1, 1)
    tensors = {"w0": first * sizes, "w1": depth / sizes, "w2": last}
    pads: dict[str, Any] = {"pads": [1] * 4}
    nodes: list[tuple[Any, ...]] = [("Conv", "x w0", "a", pads), ("Relu", "a", "b", {})]
    nodes += [("Conv", "b w1", "d", {**pads, "group": 4}), ("Conv", "d w2", "y", {})]
    return graph(nodes, tensors, ["y"], SHAPE)


class TestHarmlessChannels:
    """Channels that only convolutions of single channels read: whatever they gain, no weight loses a step."""

    @pytest.mark.parametrize("scale", [1.0, 1 / 2, 1 / 4, 1 / 8])
    def test_samples_that_were_not_seen_lose_nothing(self, scale: float) -> None:
        """Within what other roundings change; three seeds, eight samples to look at and eight others."""
        gains: list[float] = []
        for seed in range(3):
            case = make_case(alone(seed, scale), feeds(1)[0])
            made = equalizations(case.model, case.weights, feeds(8, seed), threads=1).harmless
            pair = case.proto, assemble(case.model.proto, {**case.weights, **made})
            found = [[hybrid_db(make_case(p, f)) for f in feeds(8, 100 + seed)] for p in pair]
            gains += np.subtract(found[1], found[0]).tolist()
        assert np.mean(gains) > {1.0: -0.2, 1 / 2: 0.0, 1 / 4: 2.0, 1 / 8: 4.0}[scale]

    def test_weights_keep_their_steps(self) -> None:
        """Each filter changes as a whole, by a power of two: the same integers under another scale."""
        case = make_case(alone(), feeds(1)[0])
        made = equalizations(case.model, case.weights, feeds(8), threads=1).harmless
        assert made
        for name, after in made.items():
            ratio = after.reshape(len(after), -1) / case.weights[name].reshape(len(after), -1)
            assert (ratio == ratio[:, :1]).all()
            assert (np.log2(ratio) % 1 == 0).all()

    @pytest.mark.parametrize("reader", ["Conv", "both", "depthwise"])
    def test_no_other_layer_reads_them(self, reader: str) -> None:
        depthwise = ("Conv", "b w1", "d", {"group": 4, "pads": [1] * 4})
        whole = ("Conv", "b w2", "e", {})
        nodes = {"Conv": [whole], "both": [depthwise, whole], "depthwise": [depthwise]}[reader]
        start = [("Conv", "x w0", "a", {"pads": [1] * 4}), ("Relu", "a", "b", {})]
        held = {t.name: onnx.numpy_helper.to_array(t) for t in alone().graph.initializer}
        outputs = [n[2] for n in nodes]
        used = {k: v for k, v in held.items() if k == "w0" or any(k in n[1] for n in nodes)}
        case = make_case(graph([*start, *nodes], used, outputs, SHAPE), feeds(1)[0])
        both = equalizations(case.model, case.weights, feeds(8), threads=1)
        assert both.every
        assert bool(both.harmless) is (reader == "depthwise")
        assert both.differ is (reader != "depthwise")


class TestTiedChannels:
    def numbers(self, nodes: list[Any], tensors: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        case = make_case(graph(nodes, tensors, outputs, SHAPE), feeds(1)[0])
        names = [t.name for t in case.model.tensors.values()]
        values = observer(case.model, case.weights, names, threads=1)(case.feed)
        found = tied_channels(case.model, case.weights, {n: v.shape for n, v in values.items()})
        return {k: v.ravel() for k, v in found.numbers.items()}

    def test_concat_keeps_its_parts_and_add_ties_them(self) -> None:
        tensors = {f"w{i}": np.ones((4, 4, 1, 1), np.float32) for i in range(2)} | {
            "w2": np.ones((2, 8, 1, 1), np.float32)
        }
        convs = [("Conv", "x w0", "a", {}), ("Conv", "x w1", "b", {})]
        apart = self.numbers([*convs, ("Concat", "a b", "c", {"axis": 1}), ("Conv", "c w2", "y", {})], tensors, ["y"])
        assert apart["c"].tolist() == [*apart["a"], *apart["b"]]
        assert len(set(apart["c"].tolist())) == 8
        tensors["w2"] = np.ones((2, 4, 1, 1), np.float32)
        joined = self.numbers([*convs, ("Add", "a b", "c", {}), ("Conv", "c w2", "y", {})], tensors, ["y"])
        assert joined["a"].tolist() == joined["b"].tolist() == joined["c"].tolist()
        assert all(joined["a"])

    def test_shuffled_channels_are_followed(self) -> None:
        tensors = {
            "w0": np.ones((4, 4, 1, 1), np.float32), "w1": np.ones((2, 4, 1, 1), np.float32),
            "parts": np.array([1, 2, 2, 8, 8]), "whole": np.array([1, 4, 8, 8]),
        }  # fmt: skip
        nodes = [
            ("Conv", "x w0", "a", {}),
            ("Reshape", "a parts", "b", {}),
            ("Transpose", "b", "c", {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", "c whole", "d", {}),
            ("Conv", "d w1", "y", {}),
        ]
        found = self.numbers(nodes, tensors, ["y"])
        assert found["d"].tolist() == found["a"][[0, 2, 1, 3]].tolist()
        assert all(found["a"])

    @pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"])
    def test_windows_across_channels_keep_their_scale(self, pool: str) -> None:
        """The channels of a matrix product lie along the last axis, where windows mix them."""
        window = {} if pool.startswith("Global") else {"kernel_shape": [3, 3], "pads": [1] * 4}
        tensors = {"w0": np.ones((8, 8), np.float32), "w1": np.ones((8 if window else 1, 2), np.float32)}
        nodes = [("MatMul", "x w0", "a", {}), (pool, "a", "b", window), ("MatMul", "b w1", "y", {})]
        assert not self.numbers(nodes, tensors, ["y"])["a"].any()

    def test_outputs_and_inputs_keep_their_scale(self) -> None:
        tensors = {f"w{i}": np.ones((4, 4, 1, 1), np.float32) for i in range(2)}
        found = self.numbers([("Conv", "x w0", "a", {}), ("Conv", "a w1", "y", {})], tensors, ["a", "y"])
        assert not found["x"].any()
        assert not found["a"].any()
        assert not found["y"].any()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(uneven(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


class TestEqualizedUnasked:
    """Step1 equalizes channels by itself where samples agree how loud they are and it clearly helps."""

    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10**6), samples=st.integers(1, 9), channels=st.integers(1, 5))
    def test_expected_reach(self, seed: int, samples: int, channels: int) -> None:
        seen = np.exp2(np.random.default_rng(seed).normal(0, 3, (samples, channels)))
        found = expected_reach(seen)
        assert (found >= seen.max(axis=0)).all()
        assert found.max() == seen.max()
        steady = np.broadcast_to(seen[:1], seen.shape)
        np.testing.assert_array_equal(expected_reach(steady), seen[0])

    def test_a_channel_that_is_loud_in_one_sample_is_left_alone(self) -> None:
        seen = np.array([[8.0, 1.0, 0.0]] * 7 + [[8.0, 1.0, 1.0]])
        assert expected_reach(seen).tolist() == [8.0, 1.0, 8.0]

    def test_by_default(self, path: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        assert step1(path, feeds(8), out, threads=1).state.calibrated.equalized == ("b", "y")
        set_precision(out, "*", "float32")
        step2(out, threads=1)
        one, other = (run(onnx.load(p), feeds(1, 5)[0])[0] for p in (path, out / "hybrid.onnx"))
        np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        "options", [{"dtype": "uint8"}, {"algorithm": "normal"}, {"weights_repair": "gptq"}, {"target": "rknn2"}]
    )
    def test_not_where_something_was_asked_for(self, path: Path, tmp_path: Path, options: dict[str, str]) -> None:
        assert not step1(path, feeds(8), tmp_path / "out", threads=1, **options).state.calibrated.equalized

    def test_not_on_few_samples_nor_on_those_that_come_once(self, path: Path, tmp_path: Path) -> None:
        for few in (feeds(7), iter(feeds(8))):
            made = step1(path, few, tmp_path / "out", threads=1, force=True).state
            assert not made.calibrated.equalized

    def test_not_where_it_hardly_helps(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(weight_repair, "CLEAR", 0.0)
        assert not step1(path, feeds(8), tmp_path / "out", threads=1).state.calibrated.equalized

    def test_channels_that_do_not_help_are_not_rounded_together(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With biases corrected they must leave less damage than channels as they are."""
        measured: list[tuple[str, ...]] = []
        damage = measure.Measure._damage

        def told(self: measure.Measure, one: measure.Calibration) -> float:
            measured.append(one.repairs)
            return damage(self, one) * (1.0 if worth or not one.calibrated.equalized else 100.0)

        monkeypatch.setattr(measure.Measure, "_damage", told)
        for worth in (True, False):
            measured.clear()
            made = step1(path, feeds(8), tmp_path / "out", threads=1, force=True).state.calibrated
            assert bool(made.equalized) is worth
            assert (sum("equalized" in " ".join(words) for words in measured) > 1) is worth

    def test_harmless_channels_need_no_measurement(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(weight_repair, "CLEAR", 0.0)
        onnx.save(alone(), tmp_path / "model.onnx")

        def equalized(samples: Any, **options: str) -> tuple[str, ...]:
            made = step1(tmp_path / "model.onnx", samples, tmp_path / "out", threads=1, force=True, **options)
            return made.state.calibrated.equalized

        assert equalized(feeds(8)) == ("b", "d")
        for samples, options in ((feeds(7), {}), (feeds(8), {"weights": "layer"}), (feeds(8), {"dtype": "uint8"})):
            assert not equalized(samples, **options)

    def test_ranges_hold_as_they_were_measured(self, path: Path, tmp_path: Path) -> None:
        """No channel outgrows its tensor: calibrating the equalized model anew finds the same ranges."""
        given = feeds(8)
        ranges = [
            step1(
                path, given, tmp_path / how, threads=1, algorithm="normal", weights_repair=how
            ).state.calibrated.measured
            for how in ("none", "equalize")
        ]
        assert {g: m.range for g, m in ranges[0].items()} == {g: m.range for g, m in ranges[1].items()}

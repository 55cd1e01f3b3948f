"""Repairs of weights: what they leave alone, what they gain, and that a person sees and can undo them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given as graph
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Case, make_case, random_case, run

from hybridq.build.builder import build
from hybridq.config import read_cfg, write_cfg
from hybridq.graph.model import Model
from hybridq.plan.layer_weights import integers
from hybridq.plan.plan import make_plan
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.metrics import sqnr_db
from hybridq.quant.numerics import dequantize, quantize
from hybridq.quant.qparams import QParams
from hybridq.quant.records import QuantConfig
from hybridq.repair import gptq
from hybridq.repair.channels import tied_channels
from hybridq.repair.equalization import equalized, expected_reach
from hybridq.repair.gptq import compensate, compensated_weights
from hybridq.repair.observe import observer
from hybridq.report.effects import Effects
from hybridq.search import choose_repair
from hybridq.search.choose_repair import Candidate, Repair
from hybridq.steps import step1, step2
from hybridq.steps.common import read_state
from hybridq.steps.editing import set_precision
from hybridq.storage.state import assemble

Array = np.ndarray[Any, Any]
SHAPE = (1, 4, 8, 8)


def uneven(end: str = "Relu") -> onnx.ModelProto:
    """Conv, ``end``, Conv: the first one's channels reach 1, 1/4, 1/16 and 1/64 as far."""
    random = np.random.default_rng(0)
    first = random.normal(size=(4, 4, 3, 3)).astype(np.float32) * np.array([1, 1 / 4, 1 / 16, 1 / 64]).reshape(
        4, 1, 1, 1
    )
    second = random.normal(size=(4, 4, 3, 3)).astype(np.float32) * np.array([1, 4, 16, 64]).reshape(1, 4, 1, 1)
    tensors = {"w0": first.astype(np.float32), "w1": second.astype(np.float32)}
    pads = {"pads": [1] * 4}
    return graph([("Conv", "x w0", "a", pads), (end, "a", "b", {}), ("Conv", "b w1", "y", pads)], tensors, ["y"], SHAPE)


def feeds(count: int = 8, seed: int = 1) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


def hybrid_db(case: Case) -> float:
    """SQNR in dB of the model with every layer in 8 bits."""
    built = case.build(case.plan(case.all(Precision.UINT8)))
    return min(map(sqnr_db, run(case.proto, case.feed), run(built, case.feed)))


class TestEqualization:
    @pytest.mark.parametrize("seeds", [range(i, i + 20) for i in range(0, 160, 20)], ids=str)
    def test_float_model_stays_the_same_to_the_last_bit(self, seeds: range) -> None:
        for seed in seeds:
            case = random_case(seed)
            made = equalized(case.model, case.weights, [case.feed], threads=1)
            other = assemble(case.model.proto, {**case.weights, **made})
            for before, after in zip(run(case.proto, case.feed), run(other, case.feed), strict=True):
                np.testing.assert_array_equal(before, after, err_msg=f"seed {seed}: {sorted(made)}")

    def test_random_graphs_have_something_to_equalize(self) -> None:
        cases = map(random_case, range(160))
        assert sum(bool(equalized(c.model, c.weights, [c.feed], threads=1)) for c in cases) >= 10

    def test_uneven_channels_gain(self) -> None:
        whole = feeds(1)[0]
        case = make_case(uneven(), whole)
        made = equalized(case.model, case.weights, [whole], threads=1)
        other = make_case(assemble(case.model.proto, {**case.weights, **made}), whole)
        assert hybrid_db(other) > hybrid_db(case) + 6

    @pytest.mark.parametrize("end", ["Sigmoid", "HardSwish", "Tanh"])
    def test_nothing_is_scaled_before_what_is_not_homogeneous(self, end: str) -> None:
        case = make_case(uneven(end), feeds(1)[0])
        assert not equalized(case.model, case.weights, [case.feed], threads=1)


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

    def test_outputs_and_inputs_keep_their_scale(self) -> None:
        tensors = {f"w{i}": np.ones((4, 4, 1, 1), np.float32) for i in range(2)}
        found = self.numbers([("Conv", "x w0", "a", {}), ("Conv", "a w1", "y", {})], tensors, ["a", "y"])
        assert not found["x"].any()
        assert not found["a"].any()
        assert not found["y"].any()


def moments(random: np.random.Generator, groups: int, inputs: int) -> Array:
    x = random.normal(size=(groups, 40, inputs)) @ random.normal(size=(groups, inputs, inputs))
    return np.asarray(x.transpose(0, 2, 1) @ x)


class TestRounding:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 10**6), groups=st.integers(1, 3), inputs=st.integers(2, 90))
    def test_less_error_where_inputs_go_together(self, seed: int, groups: int, inputs: int) -> None:
        random = np.random.default_rng(seed)
        values, moment = random.normal(size=(groups, 8, inputs)), moments(random, groups, inputs)
        scale, zero = np.full((groups, 8, 1), 0.05), np.zeros((groups, 8, 1))
        p = QParams(Precision.INT8, Scheme.SYMMETRIC, np.float32(0.05), np.int32(0))

        def error(q: Array) -> float:
            e = values - scale * q
            return float(np.einsum("goi,gij,goj->", e, moment, e))

        found = compensate(values, scale, zero, moment, p)
        nearest = np.clip(np.rint(values / scale), p.qmin, p.qmax)
        assert np.array_equal(found, np.rint(found))
        assert found.min() >= p.qmin
        assert found.max() <= p.qmax
        assert error(found) <= 1.02 * error(nearest)

    def test_independent_inputs_go_to_the_nearest(self) -> None:
        random = np.random.default_rng(3)
        values = random.normal(size=(1, 5, 70))
        p = QParams(Precision.INT8, Scheme.SYMMETRIC, np.float32(0.05), np.int32(0))
        scale = np.full((1, 5, 1), 0.05)
        moment = np.diag(random.uniform(1, 2, 70))[None]
        found = compensate(values, scale, np.zeros((1, 5, 1)), moment, p)
        np.testing.assert_array_equal(found, np.clip(np.rint(values / 0.05), -128, 127))

    @pytest.mark.parametrize("seeds", [range(i, i + 10) for i in range(0, 40, 10)], ids=str)
    def test_layers_of_random_graphs(self, seeds: range) -> None:
        """Integers of the plan's type and shape, with less error in what the layers compute on these samples."""
        seen, shares = 0, []
        for seed in seeds:
            case = random_case(seed)
            plan = case.plan(case.all(Precision.UINT8))
            for name, found in compensated_weights(case.model, plan, case.weights, [case.feed], threads=1).items():
                held = plan.layers[name].weights[0]
                assert held.qparams is not None
                assert found.dtype == held.qparams.precision.numpy
                assert found.shape == case.weights[held.tensor].shape
                nearest = quantize(case.weights[held.tensor], held.qparams)
                errors = [self.error(case, name, dequantize(q, held.qparams)) for q in (found, nearest)]
                shares.append(math.log(max(errors[0], 1e-30) / max(errors[1], 1e-30)))
                seen += 1
        assert seen >= 10
        assert np.median(shares) < 0, shares
        assert np.mean(np.array(shares) > 0.1) < 0.2, shares

    def error(self, case: Case, name: str, values: Array) -> float:
        """What a layer's other weights change in its result, everything before it left as it is."""
        layer = case.model.layer[name]
        result = case.model.nodes[layer.node].output[0]
        both = (case.weights, case.weights.changed({layer.weights[0].tensor: values}))
        a, b = (observer(case.model, w, [result], threads=1)(case.feed)[result] for w in both)
        return float(np.mean((a - b) ** 2))

    def test_inputs_too_large_to_square_are_left_alone(self) -> None:
        case = make_case(uneven(), {"x": np.full(SHAPE, 1e20, np.float32)})
        plan = case.plan(case.all(Precision.UINT8))
        assert "b" not in compensated_weights(case.model, plan, case.weights, [case.feed], threads=1)

    def test_a_wide_result_does_not_count_as_many_inputs(self) -> None:
        tensors = {"w0": np.random.default_rng(0).normal(size=(8, 3000)).astype(np.float32)}
        case = make_case(
            graph([("MatMul", "x w0", "y", {})], tensors, ["y"], (1, 4, 8)), {"x": np.ones((1, 4, 8), np.float32)}
        )
        assert "y" in compensated_weights(case.model, case.plan(case.all(Precision.UINT8)), case.weights, [case.feed])


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
        monkeypatch.setattr(choose_repair, "CLEAR", 0.0)
        assert not step1(path, feeds(8), tmp_path / "out", threads=1).state.calibrated.equalized

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


@pytest.mark.parametrize("repair", [Repair.BETTER, Repair.AUTO])
def test_what_is_chosen_by_measuring_measures_best(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: Repair
) -> None:
    """It does no more harm than what it could have stayed with, and is what is written."""
    seen: list[tuple[Candidate, Candidate]] = []

    def watched(made: list[Candidate], damage: Any) -> Candidate:
        seen.append((made[0], best(made, damage)))
        return seen[-1][1]

    best = choose_repair._best
    monkeypatch.setattr(choose_repair, "_best", watched)
    given = feeds(6)
    state = step1(path, given, tmp_path / "out", weights_repair=str(repair), threads=1).state
    first, chosen = seen[0][0], seen[-1][1]
    assert chosen is not first
    assert noise(state.model, chosen, given) < noise(state.model, first, given)
    assert state.weights.rounded == chosen.weights.rounded


def noise(model: Model, candidate: Candidate, given: list[dict[str, Array]]) -> float:
    """Noise over signal at the output, all samples together."""
    config = QuantConfig("onnxruntime", {}, candidate.calibrated.entries, {})
    plan = make_plan(model, candidate.calibrated, config, candidate.weights)
    hybrid = build(model, plan, candidate.weights).assemble()
    pairs = [[run(p, feed)[0] for p in (assemble(model.proto, candidate.weights), hybrid)] for feed in given]
    return float(sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(uneven(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


class TestStep1:
    def test_rounded_weights_are_told_used_and_undone(self, path: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        step1(path, feeds(), out, weights_repair="gptq", threads=1, dtype="uint8")
        cfg = out / "model.quantization.cfg"
        line = next(x for x in cfg.read_text().splitlines() if '"b:weight"' in x)
        assert "algorithm: gptq" in line
        state = read_state(out)
        ready = state.weights.rounded["b"]
        assert self.stored(out) == ready.tobytes()
        cfg.write_text(cfg.read_text().replace(line, line.replace("gptq", "normal")))
        nearest = self.stored(out)
        assert nearest != ready.tobytes()
        assert len(nearest) == len(ready.tobytes())

    def test_rounding_together_can_be_asked_for_again(self, path: Path, tmp_path: Path) -> None:
        """The integers lie ready beside an entry that says ``normal``: the word is what decides."""
        out = tmp_path / "out"
        step1(path, feeds(), out, weights_repair="gptq", threads=1, dtype="uint8")
        state = read_state(out)
        assert state.calibrated.rounded == tuple(state.weights.rounded)
        model, entries = state.model, dict(state.calibrated.entries)
        entries["b:weight"] = replace(entries["b:weight"], algorithm="normal")
        calibrated = replace(state.calibrated, entries=entries)
        text = write_cfg(model, calibrated)
        line = next(x for x in text.splitlines() if '"b:weight"' in x)
        config = read_cfg(text.replace(line, line.replace("normal", "gptq")), "cfg", model, calibrated)
        plain = make_plan(model, calibrated, read_cfg(text, "cfg", model, calibrated), state.weights)
        plan = make_plan(model, calibrated, config, state.weights)
        assert [p.layers["b"].weights[0].rounded for p in (plain, plan)] == ["", "b"]
        effects = Effects(model, calibrated, config, state.weights, plan, plain)
        assert [effects.of(e) for e in config.edits] == ["its weights are int8, rounded together"]

    def test_an_edited_scale_rounds_to_the_nearest(self, path: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        step1(path, feeds(), out, weights_repair="gptq", threads=1, dtype="uint8")
        cfg = out / "model.quantization.cfg"
        line = next(x for x in cfg.read_text().splitlines() if '"b:weight"' in x)
        edited = line.replace("}", ", scale: [0.02, 0.005, 0.002, 0.001]}")
        cfg.write_text(cfg.read_text().replace(line, edited))
        scale = np.array([0.02, 0.005, 0.002, 0.001], np.float32)
        p = QParams(Precision.INT8, Scheme.SYMMETRIC, scale, np.zeros(4, np.int32), 0)
        assert self.stored(out) == quantize(read_state(out).weights["w0"], p).tobytes()

    def stored(self, out: Path) -> bytes:
        step2(out, threads=1)
        tensors = {t.name: t for t in onnx.load(out / "hybrid.onnx").graph.initializer}
        return bytes(onnx.numpy_helper.to_array(tensors["w0/int8"]).tobytes())

    @pytest.mark.parametrize("repair", ["equalize", "auto"])
    def test_equalized_channels_are_calibrated_anew(self, path: Path, tmp_path: Path, repair: str) -> None:
        plain = step1(path, feeds(), tmp_path / "plain", weights_repair="none", threads=1, dtype="uint8")
        found = step1(path, feeds(), tmp_path / "out", weights_repair=repair, threads=1, dtype="uint8")
        assert any("equalized" in remark for remark in found.remarks)
        before, after = (s.state.calibrated.measured["b"].range for s in (plain, found))
        assert after.max <= before.max
        np.testing.assert_array_equal(
            *(run(assemble(s.state.model.proto, s.state.weights), feeds(1)[0])[0] for s in (plain, found))
        )
        assert self.db(tmp_path / "out") > self.db(tmp_path / "plain") + 6

    def db(self, out: Path) -> float:
        step2(out, threads=1)
        state, feed = read_state(out), feeds(1)[0]
        reference = run(assemble(state.model.proto, state.weights), feed)[0]
        return sqnr_db(reference, run(onnx.load(out / "hybrid.onnx"), feed)[0])


def test_integers_without_repair_are_the_nearest() -> None:
    case = make_case(uneven(), feeds(1)[0])
    for layer in case.plan(case.all(Precision.UINT8)).layers.values():
        for held in layer.weights:
            assert held.qparams is not None
            np.testing.assert_array_equal(
                integers(held, case.weights), quantize(case.weights[held.tensor], held.qparams)
            )


@pytest.mark.parametrize("inputs", [2, 63, 64, 65, 150])
def test_blocks_of_inputs_change_nothing(inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are rounded in blocks for speed alone: every error reaches all inputs behind it, in its block or not."""
    rng = np.random.default_rng(inputs)
    values = rng.normal(size=(2, 5, inputs))
    x = rng.normal(size=(2, 400, inputs)) @ rng.normal(size=(2, inputs, inputs))
    moment = x.transpose(0, 2, 1) @ x
    scale = np.full((2, 5, 1), 0.25)
    p = QParams(Precision.INT8, Scheme.SYMMETRIC, np.float32(0.25), np.int32(0))
    zero = np.zeros((2, 5, 1), np.int32)
    blocked = gptq.compensate(values, scale, zero, moment, p)
    monkeypatch.setattr(gptq, "BLOCK", 1)
    np.testing.assert_array_equal(gptq.compensate(values, scale, zero, moment, p), blocked)
    monkeypatch.setattr(gptq, "BLOCK", 1000)
    np.testing.assert_array_equal(gptq.compensate(values, scale, zero, moment, p), blocked)
    apart = np.rint(values / scale)

    def noise(q: np.ndarray) -> float:
        error = values - scale * q
        return float(np.einsum("goi,gij,goj->", error, moment, error))

    assert noise(blocked) < 0.7 * noise(apart) or inputs == 2


def test_rounding_together_keeps_the_ends_from_which_a_toolchain_takes_the_range() -> None:
    nearest = np.array([[0.0, 3.0, 255.0, 255.0, 7.0], [255.0, 0.0, 9.0, 9.0, 9.0], [4.0, 0.0, 255.0, 5.0, 6.0]])
    found = np.array([[1.0, 3.0, 254.0, 254.0, 7.0], [254.0, 0.0, 9.0, 8.0, 9.0], [0.0, 2.0, 254.0, 255.0, 6.0]])
    kept = gptq.with_ends(found, nearest)
    assert kept.tolist() == [[0.0, 3.0, 255.0, 254.0, 7.0], [255.0, 0.0, 9.0, 8.0, 9.0], found[2].tolist()]

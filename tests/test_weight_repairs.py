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
from helpers_repairs import SHAPE, Array, feeds, uneven
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
from hybridq.repair.gptq import compensate, compensated_weights
from hybridq.repair.observe import observer
from hybridq.report.effects import Effects
from hybridq.search.for_step1 import weight_repair
from hybridq.search.for_step1.measure import Calibration
from hybridq.search.for_step1.weight_repair import Repair
from hybridq.steps import step1, step2
from hybridq.steps.common import read_state
from hybridq.storage.state import assemble


def moments(random: np.random.Generator, groups: int, inputs: int) -> Array:
    x = random.normal(size=(groups, 40, inputs)) @ random.normal(size=(groups, inputs, inputs))
    return np.asarray(x.transpose(0, 2, 1) @ x)


class TestRounding:
    def test_weights_that_several_layers_read_stay_one(self, tmp_path: Path) -> None:
        shared = np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32)
        rows = [("Conv", f"{a} w", b, {"pads": [1] * 4}) for a, b in zip("xabcd", "abcdy", strict=True)]
        onnx.save(graph(rows, {"w": shared}, ["y"], SHAPE), tmp_path / "model.onnx")
        for repair in ("gptq", "better", "auto"):
            build = tmp_path / repair
            step1(tmp_path / "model.onnx", feeds(), build, weights_repair=repair, threads=1)
            step2(build, threads=1)
            held = onnx.load(build / "hybrid.onnx").graph.initializer
            assert [list(t.dims) for t in held if len(t.dims) == 4] == [[4, 4, 3, 3]]

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

    def test_outputs_are_rounded_apart_as_they_are_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few weights are held at once."""
        for seed in range(6):
            case = random_case(seed)
            plan = case.plan(case.all(Precision.UINT8))
            wanted = compensated_weights(case.model, plan, case.weights, [case.feed], threads=1)
            with monkeypatch.context() as patch:
                patch.setattr(gptq, "PORTION", 1)
                found = compensated_weights(case.model, plan, case.weights, [case.feed], threads=1)
            assert found.keys() == wanted.keys()
            for name, integers_ in wanted.items():
                np.testing.assert_allclose(found[name].astype(int), integers_.astype(int), atol=1)
                assert np.mean(found[name] != integers_) < 0.01, name

    def test_a_wide_result_does_not_count_as_many_inputs(self) -> None:
        tensors = {"w0": np.random.default_rng(0).normal(size=(8, 3000)).astype(np.float32)}
        case = make_case(
            graph([("MatMul", "x w0", "y", {})], tensors, ["y"], (1, 4, 8)), {"x": np.ones((1, 4, 8), np.float32)}
        )
        assert "y" in compensated_weights(case.model, case.plan(case.all(Precision.UINT8)), case.weights, [case.feed])


@pytest.mark.parametrize("repair", [Repair.BETTER, Repair.AUTO])
def test_what_is_chosen_by_measuring_measures_best(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: Repair
) -> None:
    """It does no more harm than what it could have stayed with, and is what is written."""
    seen: list[tuple[Calibration, Calibration]] = []

    def watched(made: list[Calibration], damage: Any) -> Calibration:
        seen.append((made[0], best(made, damage)))
        return seen[-1][1]

    best = weight_repair._best
    monkeypatch.setattr(weight_repair, "_best", watched)
    given = feeds(6)
    state = step1(path, given, tmp_path / "out", weights_repair=str(repair), threads=1).state
    first, chosen = seen[0][0], seen[-1][1]
    assert chosen is not first
    assert noise(state.model, chosen, given) < noise(state.model, first, given)
    assert state.weights.rounded == chosen.weights.rounded


def noise(model: Model, candidate: Calibration, given: list[dict[str, Array]]) -> float:
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

"""Random graphs with random precisions: the built model is valid, runs, and is as noisy as its scales say."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import onnx
import pytest
from noise import Noise, powers
from random_graphs import Case, random_case, random_choices, run

from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Precision

DECIBEL = 6.0  # between the noise that the scales predict and what the model has
DRAWS = 6
SILENCE = 1e-12  # of a signal's power: what float arithmetic itself does to it
FAST = [range(start, start + 6) for start in range(0, 60, 6)]
SLOW = [range(start, start + 20) for start in range(60, 560, 20)]
CHUNKS = [*FAST, *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW)]


@cache
def case_of(seed: int) -> Case:
    return random_case(seed)


def plan_of(seed: int, *, portable: bool = False) -> QuantPlan:
    case = case_of(seed)
    return case.plan(random_choices(case, seed), portable=portable)


def excess(found: float, expected: float, signal: float) -> float:
    """Noise over expected noise in dB."""
    floor = SILENCE * signal + 1e-30
    return 10 * math.log10((found + floor) / (expected + floor))


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_noise_is_what_the_scales_predict(seeds: range) -> None:
    """Never more; less where values happen to lie on the integers' grid, which noise of a given power cannot know.

    The optimized model is the one that is judged, and it must agree with what the file says (ORT_DISABLE_ALL): where
    nothing is rewritten only ties of rounding tell them apart, far below the noise of quantization. Outputs of a few
    numbers have too few draws of noise for 6 dB to hold always.
    """
    noises, gaps = [], []
    for seed in seeds:
        case, plan = case_of(seed), plan_of(seed)
        built = case.build(plan)
        onnx.checker.check_model(built, full_check=True)
        reference = run(case.proto, case.feed)
        fast, plain = run(built, case.feed, "all"), run(built, case.feed, "none")
        expected = np.mean([powers(outputs, reference) for outputs in Noise(case, plan).draws(DRAWS)], axis=0)
        found, gap = powers(fast, reference), powers(fast, plain)
        for i, name in enumerate(case.model.outputs):
            signal = float(np.mean(reference[i].astype(np.float64) ** 2))
            noises.append(excess(found[i], expected[i], signal))
            if expected[i] > 1e-8 * signal:
                gaps.append(excess(gap[i], expected[i], signal))
            few = reference[i].size < 256
            assert noises[-1] < (3 * DECIBEL if few else DECIBEL), f"seed {seed}, output {name}"
            assert gap[i] <= expected[i] + 1e-8 * signal, f"seed {seed}, output {name}"
    assert np.mean(np.array(noises) > -DECIBEL) >= 0.8
    assert np.mean(gaps) < -20


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_float32_everywhere_changes_no_bit(seeds: range) -> None:
    for seed in seeds:
        case = case_of(seed)
        built = case.build(case.plan(case.all(Precision.FLOAT32)))
        for level in ("all", "none"):
            for a, b in zip(run(case.proto, case.feed, level), run(built, case.feed, level), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}, {level}")


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_int8_in_the_file_as_uint8_changes_no_bit(seeds: range) -> None:
    """A shifted zero point and shifted integers are the same real values; no int8 activation is left in the file."""
    for seed in seeds:
        case = case_of(seed)
        plan = case.plan(case.all(Precision.INT8))
        shifted, plain = case.build(plan), case.build(dataclasses.replace(plan, shifted=False))
        for a, b in zip(run(shifted, case.feed, "none"), run(plain, case.feed, "none"), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}")
        assert onnx.TensorProto.INT8 not in _quantized_to(shifted)
        assert onnx.TensorProto.UINT8 not in _quantized_to(plain)


def _quantized_to(built: onnx.ModelProto) -> set[int]:
    """The types that the quantizers of a model give."""
    held = {t.name: t.data_type for t in built.graph.initializer}
    return {held[n.input[2]] for n in built.graph.node if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_every_layer_makes_a_difference(seeds: range) -> None:
    for seed in seeds:
        case = case_of(seed)
        choices, plan = random_choices(case, seed), plan_of(seed)
        before = case.build(plan).SerializeToString(deterministic=True)
        assert case.build(plan).SerializeToString(deterministic=True) == before
        for i, layer in enumerate(case.model.layers):
            if not layer.float_only:
                other = next(
                    p for p in list(Precision)[(seed + i) % 5 :] + list(Precision) if p != plan.layers[layer.name].asked
                )
                changed = case.build(case.plan({**choices, layer.name: other}))
                assert changed.SerializeToString(deterministic=True) != before, f"seed {seed}, {layer.name}"


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_portable_models_agree_with_the_others(seeds: range) -> None:
    """Barriers, padding and double rounding change no value, so ORT_DISABLE_ALL gives the same with and without."""
    for seed in seeds:
        case = case_of(seed)
        built, portable = (case.build(plan_of(seed, portable=p)) for p in (False, True))
        onnx.checker.check_model(portable, full_check=True)
        slopes = [a.f for n in portable.graph.node if n.op_type == "LeakyRelu" for a in n.attribute]
        assert not {0.0, 1.0} & set(slopes)
        for a, b in zip(run(built, case.feed, "none"), run(portable, case.feed, "none"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"seed {seed}")


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_conversions_are_few(seeds: range) -> None:
    """No 8-bit tensor is converted to 8 bits, and no tensor is converted twice to the same numbers."""
    for seed in seeds:
        graph = case_of(seed).build(plan_of(seed)).graph
        kinds = {t.name: t.data_type for t in graph.initializer}
        made = {n.output[0]: n for n in graph.node}
        seen = set()
        for node in graph.node:
            if node.op_type != "QuantizeLinear":
                continue
            key = tuple(node.input)  # equal scales and zero points are one initializer
            assert key not in seen, f"seed {seed}: {node.name}"
            seen.add(key)
            source = made.get(node.input[0])
            if source is not None and source.op_type == "DequantizeLinear":
                before = kinds[source.input[2]]
                assert before == onnx.TensorProto.INT16, f"seed {seed}: {node.name}"
                assert kinds[node.input[2]] != before, f"seed {seed}: {node.name}"


@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_names_are_unique_and_kept(seeds: range) -> None:
    for seed in seeds:
        case = case_of(seed)
        graph = case.build(plan_of(seed)).graph
        names = [n.name for n in graph.node]
        tensors = [o for n in graph.node for o in n.output] + [t.name for t in graph.initializer]
        assert len(set(names)) == len(names)
        assert len(set(tensors)) == len(tensors)
        assert [o.name for o in graph.output] == list(case.model.outputs)
        assert [i.name for i in graph.input] == list(case.model.inputs)
        order = {"x": -1} | {t.name: -1 for t in graph.initializer}
        for i, node in enumerate(graph.node):
            assert all(r in order for r in node.input if r)
            order |= dict.fromkeys(node.output, i)
        kept = {s for g in case.model.groups for s in g.sources if g.layers}
        assert kept <= set(order)

"""Which side elementwise layers between float32 and 8 bits are on: no rounding for nothing, no boundary for nothing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from helpers_graphs import F32, U8, case_of, normal
from helpers_graphs import given as graph
from helpers_statistics import of_samples
from random_graphs import random_case

from hybridq import targets
from hybridq.graph.model import Model
from hybridq.graph.operators import Kind, lookup
from hybridq.plan.islands import OUTPUT, _Cut, elements, float_saves, float_side
from hybridq.plan.record import Request, decide
from hybridq.quant.dtypes import Precision

CONV = {"w": normal(8, 8, 3, 3), "v": normal(8, 8, 1, 1)}  # enough products that the first pays in integers


def precisions(rows: list[tuple[Any, ...]], tensors: dict[str, Any]) -> dict[str, Precision]:
    """What layers get by default between a Conv that makes ``a`` and one that reads ``z``."""
    nodes = [("Conv", "x w", "a"), *rows, ("Conv", "z v", "y")]
    case = case_of(graph(nodes, {**CONV, **tensors}, ["y"]))
    return {n: x.precision for n, x in case.calibrated.layers.items()}


def test_a_hard_swish_written_out_is_rounded_at_its_ends_only() -> None:
    rows = [("Add", "a three", "b"), ("Clip", "b low high", "c"), ("Mul", "a c", "d"), ("Div", "d six", "z")]
    values = {"three": 3, "low": 0, "high": 6, "six": 6}
    found = precisions(rows, {k: np.float32(v) for k, v in values.items()})
    assert found == {"a": U8, "c": F32, "d": F32, "z": F32, "y": U8}


def test_scale_and_shift_behind_a_float_layer_stay_float() -> None:
    affine = {"scale": normal(1, 8, 1, 1), "shift": normal(1, 8, 1, 1)}
    found = precisions([("Tanh", "a", "t"), ("Mul", "t scale", "m"), ("Add", "m shift", "z")], affine)
    assert found == {"a": U8, "t": F32, "m": F32, "z": F32, "y": U8}


def test_a_silu_between_convolutions_stays_in_integers() -> None:
    found = precisions([("Sigmoid", "a", "s"), ("Mul", "a s", "z")], {})
    assert set(found.values()) == {U8}


@pytest.mark.parametrize(("around", "side"), [("Tanh", F32), ("Relu", U8)])
def test_filters_of_one_channel_each_are_on_the_side_of_their_neighbours(around: str, side: Precision) -> None:
    rows = [(around, "a", "h"), ("Conv", "h d", "c", {"group": 8, "pads": [1, 1, 1, 1]}), (around, "c", "z")]
    found = precisions(rows, {"d": normal(8, 1, 3, 3)})
    assert {v for k, v in found.items() if k not in ("a", "y")} == {side}


def test_a_filter_of_a_single_signal_stays_float() -> None:
    """Its integer kernel takes five times as long, and its few weights save nothing."""
    rows = [("Conv", "x one", "low", {"strides": [1, 2]}), ("Conv", "low two", "y")]
    tensors = {"one": normal(1, 1, 1, 16), "two": normal(8, 1, 1, 8)}
    case = case_of(graph(rows, tensors, ["y"], ("n", 1, 1, 64)), {"x": normal(4, 1, 1, 64)})
    found = {n: x.precision for n, x in case.calibrated.layers.items()}
    assert found == {"low": F32, "y": U8}


@pytest.mark.parametrize(("outputs", "side"), [(["y"], U8), (["y", "z"], F32)])
def test_an_output_is_not_rounded_for_its_readers(outputs: list[str], side: Precision) -> None:
    nodes = [("Conv", "x w", "a"), ("Sigmoid", "a", "z"), ("Conv", "z v", "y")]
    case = case_of(graph(nodes, CONV, outputs))
    assert {n: x.precision for n, x in case.calibrated.layers.items()} == {"a": U8, "z": side, "y": U8}


def test_a_residual_sum_stays_in_integers() -> None:
    found = precisions([("Conv", "a u", "b"), ("Add", "a b", "z")], {"u": normal(8, 8, 1, 1)})
    assert set(found.values()) == {U8}


def test_a_small_float_gate_does_not_drag_the_map_it_scales() -> None:
    """One number a channel is rounded rather than the whole map brought to float32 and back."""
    rows = [("GlobalAveragePool", "a", "p"), ("Conv", "p u", "q"), ("HardSigmoid", "q", "g"), ("Mul", "a g", "z")]
    found = precisions(rows, {"u": normal(8, 8, 1, 1)})
    assert (found["g"], found["z"]) == (F32, U8)


def test_a_gate_as_large_as_its_map_does() -> None:
    found = precisions([("HardSigmoid", "a", "g"), ("Mul", "a g", "z")], {})
    assert (found["g"], found["z"]) == (F32, F32)


@pytest.mark.parametrize("seed", range(25))
def test_the_cut_is_the_cheapest_of_all_divisions(seed: int) -> None:
    model = random_case(seed).model
    kinds = {g.name: {lookup(model.layer[n].op).kind for n in g.layers} for g in model.groups}
    random = np.random.default_rng(seed)
    free = [n for n, k in kinds.items() if k == {Kind.ELEMENTWISE}][:8]
    floats = {n for n in free if random.random() < 0.3}
    free = [n for n in free if n not in floats]
    found = float_side(model, floats, free)
    costs = {
        chosen: cost(model, floats, free, set(chosen))
        for size in range(len(free) + 1)
        for chosen in itertools.combinations(free, size)
    }
    assert cost(model, floats, free, found) == pytest.approx(min(costs.values()), rel=1e-6, abs=1e-9)


def cost(model: Model, floats: set[str], free: list[str], chosen: set[str]) -> float:
    """Nanoseconds of a division: what float computing does not save, and every tensor's boundaries, once each."""
    cut = _Cut(model, floats, free)
    side = {g.name: g.name in floats | chosen or not g.layers for g in model.groups}
    total = 0.0
    for group in model.groups:
        if group.name in chosen:
            total -= sum(float_saves(model, model.layer[n]) for n in group.layers)
            total -= OUTPUT * sum(elements(model, t) for t in group.tensors if t in model.outputs)
        readers = [side[x.group] for x in model.readers.get(group.name, ()) if x.group != group.name]
        readers += [True] if cut._leaves(group) else []
        quantize, dequantize = cut._costs(group)
        total += quantize * (side[group.name] and not all(readers)) + dequantize * (
            not side[group.name] and any(readers)
        )
    return total


@pytest.mark.parametrize(("reader", "raised"), [("Log", True), ("Tanh", False)])
def test_what_a_logarithm_reads_keeps_its_small_values(reader: str, raised: bool) -> None:
    """A power spectrum reaches over many orders of magnitude: 8 bits would leave its peaks alone."""
    rows = [("Mul", "a a", "p"), ("Conv", "p u", "m"), ("Add", "m tiny", "q"), (reader, "q", "z")]
    tensors = {**CONV, "u": np.abs(normal(8, 8, 1, 1)), "tiny": np.float32(1e-6)}
    peaks, floor = np.geomspace(1, 900, 12), np.geomspace(0.02, 1, 500)
    spectrum = np.concatenate([peaks, floor]).astype(np.float32)
    case = case_of(graph([("Conv", "x w", "a"), *rows, ("Conv", "z v", "y")], tensors, ["y"]))
    stats = {
        name: of_samples([spectrum])
        for name in case.model.group
        if case.model.group[name].layers and name in ("p", "m")
    }
    target = targets.load("onnxruntime")
    found = decide(case.model, case.weights, stats, Request(target, target.default, "normal"), ["normal"])
    assert found.layers["p"].precision is F32 or not raised
    assert (found.layers["m"].precision is F32) is raised

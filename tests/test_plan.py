"""What the plan decides: precisions, groups, conversions, parameters and reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_graphs import CHAIN, F16, F32, I8, I16, U8, case_of, normal
from helpers_graphs import given as graph
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import Case, make_case, random_case

from hybridq import targets
from hybridq.plan.barriers import REWRITES
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import Barrier, BarrierKind, QuantPlan
from hybridq.plan.record import known_range
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.records import Entry, LayerChoice, QuantConfig

W = normal(8, 8, 1, 1)
CONCAT = graph(
    [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Conv", "c u", "y")],
    {"w": W, "v": 2 * W, "u": normal(8, 16, 1, 1)},
    ["y"],
)


def edited(case: Case, key: str, choices: dict[str, LayerChoice] | None = None, **fields: Any) -> QuantPlan:
    """A plan where a person changed fields of one entry."""
    entries = {**case.calibrated.entries, key: replace(case.calibrated.entries[key], **fields)}
    config = QuantConfig(case.calibrated.target, choices or {}, entries, {key: frozenset(fields)})
    return make_plan(case.model, case.calibrated, config, case.weights)


class TestPrecisions:
    @pytest.mark.parametrize("seed", range(30))
    @settings(max_examples=10, deadline=None)
    @given(data=st.data())
    def test_laws(self, seed: int, data: st.DataObject) -> None:
        case = random_case(seed)
        choosable = [x.name for x in case.model.layers if not x.float_only]
        choices = {n: data.draw(st.sampled_from(list(Precision))) for n in choosable}
        plan = case.plan(choices)
        for group in case.model.groups:
            members = [n for n in group.layers if not case.model.layer[n].float_only]
            held = plan.groups[group.name]
            # a group ends with one precision, which somebody asked for; nobody has fewer bits than asked
            assert len({plan.layers[n].done for n in members}) <= 1
            for name in members:
                layer = plan.layers[name]
                assert layer.asked is choices[name]
                assert layer.done.bits >= layer.asked.bits
                assert layer.done in {choices[n] for n in members} | {F32}
                assert (layer.done is layer.asked) or layer.why
            # a stored form never has more bits than its group; conversions always have fewer than it
            assert held.stored.precision.bits <= held.precision.bits or held.stored.is_float
            assert all(p.bits < held.stored.precision.bits for p in held.conversions)
            assert all(form.precision is p for p, form in held.conversions.items())

    @pytest.mark.parametrize("seed", range(10))
    def test_defaults_without_any_choice(self, seed: int) -> None:
        case = random_case(seed)
        plan = case.plan({})
        for layer in case.model.layers:
            held = plan.layers[layer.name]
            assert held.done in (U8, F32)
            assert held.done is U8 or held.why

    def test_the_widest_of_a_group_wins(self) -> None:
        plan = case_of(CONCAT).plan({"a": U8, "b": I16, "y": I16})
        assert plan.layers["a"].done is I16
        assert plan.layers["a"].why == "shares its parameters with 'b', which is int16"

    def test_a_wide_layer_between_narrow_ones_gains_weights_only(self) -> None:
        plan = case_of(CHAIN).plan({"r1": U8, "r2": I16, "y": U8})
        assert plan.layers["r2"].weights[0].precision is I16
        assert plan.groups["r2"].stored.precision is U8
        assert not plan.groups["r1"].conversions

    def test_an_input_takes_the_widest_of_its_readers(self) -> None:
        rows = [("Conv", "x w", "a"), ("Conv", "x v", "b")]
        case = case_of(graph(rows, {"w": W, "v": 2 * W}, ["a", "b"]))
        assert case.plan({"a": U8, "b": I16}).groups["x"].stored.precision is I16
        assert case.plan({"a": F32, "b": F32}).groups["x"].stored.is_float
        assert set(case.plan({"a": U8, "b": F32}).groups["x"].conversions) == {U8}

    def test_an_output_keeps_what_it_asked_for(self) -> None:
        assert case_of(CHAIN).plan({"r1": U8, "r2": U8, "y": I16}).groups["y"].stored.precision is I16


class TestParameters:
    @pytest.mark.parametrize("target", targets.names())
    @pytest.mark.parametrize("precision", [U8, I8, I16])
    def test_schemes_of_the_target(self, target: str, precision: Precision) -> None:
        wanted = targets.load(target).precisions.get(precision)
        if wanted is None:
            return
        case = make_case(CHAIN, {"x": normal(2, 8, 8, 8)}, target)
        plan = case.plan(case.all(precision))
        activation, weight = plan.groups["r1"].stored.qparams, plan.layers["r1"].weights[0].qparams
        assert activation is not None
        assert weight is not None
        assert (activation.precision, activation.scheme) == (wanted.activation.dtype, wanted.activation.scheme)
        assert (weight.precision, weight.scheme) == (wanted.weight.dtype, wanted.weight.scheme)
        assert (weight.axis is not None) == wanted.weight.per_channel
        if weight.scheme is Scheme.DYNAMIC_FIXED_POINT:
            np.testing.assert_array_equal(np.log2(weight.scale) % 1, 0)

    def test_sixteen_bits_have_headroom(self) -> None:
        case = case_of(CHAIN)
        held = case.plan(case.all(I16)).groups["r1"].stored.qparams
        assert held is not None
        top = case.calibrated.measured["r1"].range.max
        assert held.range.max == pytest.approx(2 * top, rel=1e-3)

    def test_an_edited_range_is_taken(self) -> None:
        held = edited(case_of(CHAIN), "r1", min=0.0, max=2.55).groups["r1"].stored.qparams
        assert held is not None
        assert float(held.scale) == pytest.approx(0.01)

    def test_an_edited_scale_is_taken(self) -> None:
        held = edited(case_of(CHAIN), "r1", scale=0.25, zero_point=3).groups["r1"].stored.qparams
        assert held is not None
        assert (float(held.scale), int(held.zero_point)) == (0.25, 3)

    def test_an_edited_weight_scale_is_taken(self) -> None:
        case = case_of(CHAIN)
        scale = tuple(float(s) for s in np.full(8, 0.125))
        weight = edited(case, "r1:weight", scale=scale).layers["r1"].weights[0].qparams
        assert weight is not None
        assert (weight.scale == 0.125).all()

    def test_fixed_ranges_need_no_headroom(self) -> None:
        case = case_of(graph([("Sigmoid", "x", "s"), ("Conv", "s w", "y")], {"w": W}, ["y"]))
        held = case.plan(case.all(I16)).groups["s"].stored.qparams
        assert held is not None
        assert held.range.max == pytest.approx(1.0)


class TestNative:
    def test_eight_bits_on_every_edge(self) -> None:
        case = case_of(CHAIN)
        plan = case.plan(case.all(U8))
        assert all(x.native and x.bias is not None for x in plan.layers.values())
        assert not any(x.barrier for x in plan.roundings.values())
        assert not any(w.folded for x in plan.layers.values() for w in x.weights)

    @pytest.mark.parametrize("other", [F32, F16, I16])
    def test_others_are_float_computations_behind_a_barrier(self, other: Precision) -> None:
        case = case_of(CHAIN)
        plan = case.plan({**case.all(U8), "r2": other})
        layer = plan.layers["r2"]
        assert not layer.native
        assert plan.barrier("r2") == Barrier(BarrierKind.ACTIVATION, REWRITES)
        assert layer.bias is None
        assert all(w.folded or w.precision is F32 for w in layer.weights)

    def test_weight_only(self) -> None:
        case = case_of(CHAIN)
        layer = case.plan({"r2": LayerChoice(F32, weight_only=I8)}).layers["r2"]
        assert layer.done is F32
        assert (layer.weights[0].precision, layer.weights[0].folded) == (I8, True)

    def test_float_only_layers_tell_why(self) -> None:
        case = case_of(graph([("Trilu", "x", "t"), ("Conv", "t w", "y")], {"w": W}, ["y"]))
        layer = case.plan({}).layers["t"]
        assert layer.done is F32
        assert layer.why == case.model.layer["t"].float_only != ""


def test_a_range_is_what_the_entry_says() -> None:
    """Entries and plan agree on an unedited model."""
    case = case_of(CHAIN)
    plan = case.plan({})
    for name, group in plan.groups.items():
        entry: Entry = case.calibrated.entries[name]
        if group.stored.qparams is not None and entry.dtype is group.stored.precision:
            assert float(group.stored.qparams.scale) == entry.scale
            assert int(group.stored.qparams.zero_point) == entry.zero_point
            assert Range(float(entry.min), float(entry.max)) == case.calibrated.measured[name].range  # type: ignore[arg-type]


class TestKnownRange:
    """A range that an operator always keeps is taken whole only where the measured one comes near."""

    @pytest.mark.parametrize(
        ("measured", "wanted"),
        [
            ((0.0, 0.9), (0.0, 1.0)),
            ((0.0, 0.25), (0.0, 1.0)),
            ((0.0, 0.125), (0.0, 0.25)),
            ((0.0, 0.0), (0.0, 1.0)),
        ],
    )
    def test_of_probabilities(self, measured: tuple[float, float], wanted: tuple[float, float]) -> None:
        assert known_range(Range(0.0, 1.0), [Range(*measured)]) == Range(*wanted)

    def test_both_ends_and_several_parts(self) -> None:
        parts = [Range(-0.0625, 0.0), Range(0.0, 0.125)]
        assert known_range(Range(-1.0, 1.0), parts) == Range(-0.125, 0.25)
        assert known_range(Range(-1.0, 1.0), [*parts, Range(-0.5, 0.0)]) == Range(-1.0, 1.0)
        assert known_range(Range(-1.0, 1.0), []) == Range(-1.0, 1.0)

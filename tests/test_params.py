"""From an entry to parameters: laws over random entries, and over random models, targets and edits with the plan."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from cfg_edits import config_of, disagreements, random_fields
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import Case, make_case
from random_models import INPUT, SAMPLES, random_model

from hybridq.plan.plan import make_plan
from hybridq.quant.dtypes import Precision, Scheme, Storage
from hybridq.quant.entry_params import (
    EXPRESSES,
    activation_entry,
    activation_params,
    weight_params,
    weight_params_of_edits,
)
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import Range
from hybridq.quant.records import FIELDS, Entry, Measured, QuantConfig
from hybridq.report.effects import Effects
from hybridq.targets import load

INTEGERS = [Precision.INT16, Precision.INT8, Precision.UINT8]
ends = st.tuples(st.floats(-1e3, 0, width=32), st.floats(0, 1e3, width=32))
storages = st.builds(
    Storage, st.sampled_from(INTEGERS), st.sampled_from(list(Scheme)), headroom=st.sampled_from([1, 2])
)


@st.composite
def edited(draw: st.DrawFn) -> tuple[Entry, frozenset[str], Storage, Measured]:
    """An entry with some fields edited so that the check of the cfg would accept them."""
    storage, (low, high), (a, b) = draw(storages), draw(ends), draw(ends)
    measured = Measured(Range(low, high), {"normal": {8: Range(low, high), 16: Range(low / 2, high / 2)}})
    assert storage.scheme
    fields: dict[str, object] = {"min": a, "max": b, "scale": draw(st.floats(2**-20, 2**6, width=32))}
    fields["qtype"] = draw(st.sampled_from(EXPRESSES[storage.scheme]))
    fields["zero_point"] = draw(st.integers(storage.dtype.qmin, storage.dtype.qmax))
    chosen = draw(st.sets(st.sampled_from(sorted(fields))))
    scheme = fields["qtype"] if "qtype" in chosen else storage.scheme
    if scheme is not Scheme.ASYMMETRIC:
        chosen -= {"zero_point"}
    if scheme is Scheme.DYNAMIC_FIXED_POINT:
        fields["scale"] = 2.0 ** draw(st.integers(-20, 6))
    entry = Entry(draw(st.sampled_from(INTEGERS)), algorithm="normal", min=low, max=high)
    return replace(entry, **{f: fields[f] for f in chosen}), frozenset(chosen), storage, measured  # type: ignore[arg-type]


@given(edited())
def test_saying_what_follows_changes_nothing(case: tuple[Entry, frozenset[str], Storage, Measured]) -> None:
    """An entry told as its tensor is stored has the parameters that it had, with the same edits and with all edited."""
    entry, fields, storage, measured = case
    if entry.dtype is not storage.dtype and fields - {"min", "max"}:
        return
    p = activation_params(entry, fields, storage, measured)
    told = activation_entry(entry, fields, storage, measured)
    assert activation_params(told, fields, storage, measured).same_as(p)
    whole = activation_params(told, frozenset({"qtype", "scale", "zero_point"}), storage, measured)
    assert whole.same_as(p)
    assert activation_entry(told, fields, storage, measured) == told


@given(edited())
def test_what_another_type_is_told_does_not_count(case: tuple[Entry, frozenset[str], Storage, Measured]) -> None:
    entry, fields, storage, measured = case
    found = activation_params(entry, fields, storage, measured)
    if entry.dtype is storage.dtype:
        for name in fields & {"scale", "zero_point"}:
            assert np.asarray(getattr(found, name)) == np.asarray(getattr(entry, name), getattr(found, name).dtype)
    else:
        assert found.scheme is storage.scheme
        assert found.same_as(activation_params(entry, fields & {"min", "max"}, storage, measured))


@given(edited())
def test_zero_is_exact(case: tuple[Entry, frozenset[str], Storage, Measured]) -> None:
    p = activation_params(*case)
    assert fake_quantize(np.zeros(1, np.float32), p)[0] == 0.0


def test_an_algorithm_that_was_not_recorded_is_no_other_one() -> None:
    measured = Measured(Range(-1, 2), {"normal": {8: Range(-1, 2), 16: Range(-1, 2)}})
    assert measured.chosen("normal", Precision.FLOAT32) == Range(-1, 2)
    with pytest.raises(ValueError, match="no range by 'mmse' was recorded, only by normal"):
        measured.chosen("mmse", Precision.UINT8)
    assert Measured(Range(0, 1), fixed=True).chosen(None, Precision.INT16) == Range(0, 1)


class TestWeights:
    VALUES = np.random.default_rng(3).normal(size=(4, 3, 3, 3)).astype(np.float32) - 3.0  # all negative

    @pytest.mark.parametrize("axis", [None, 0])
    def test_one_edited_end_keeps_the_other_as_it_is(self, axis: int | None) -> None:
        storage = Storage(Precision.UINT8, Scheme.ASYMMETRIC)
        low = -20.0 if axis is None else (-20.0, -21.0, -22.0, -23.0)
        entry = Entry(Precision.UINT8, Scheme.ASYMMETRIC, algorithm="normal", min=low)
        p = weight_params(entry, frozenset({"min"}), storage, axis, self.VALUES)
        high = np.maximum(self.VALUES.max(axis=None if axis is None else (1, 2, 3)), 0)
        np.testing.assert_allclose(p.scale, (high - np.asarray(low)) / 255, rtol=1e-6)

    def test_a_list_of_one_number_is_that_number(self) -> None:
        storage = Storage(Precision.INT8, Scheme.SYMMETRIC, per_channel=True)
        entry = Entry(Precision.INT8, Scheme.SYMMETRIC, "layer", "normal", scale=(0.25,))
        p = weight_params(entry, frozenset({"scale", "qmethod"}), storage, None, self.VALUES)
        assert (p.axis, p.scale.shape, float(p.scale)) == (None, (), 0.25)

    @given(st.sets(st.sampled_from(["min", "max", "scale", "zero_point"])), st.sampled_from(list(Scheme)))
    def test_edits_that_say_everything_need_no_values(self, fields: set[str], scheme: Scheme) -> None:
        if scheme is not Scheme.ASYMMETRIC:
            fields -= {"zero_point"}
        storage = Storage(Precision.INT8, scheme)
        entry = Entry(Precision.INT8, scheme, algorithm="normal", min=-8.0, max=4.0, scale=2.0**-4, zero_point=7)
        alone = weight_params_of_edits(entry, frozenset(fields), storage, None, 4)
        whole = weight_params(entry, frozenset(fields), storage, None, self.VALUES) if fields else None
        assert alone is None or (whole is not None and alone.same_as(whole))
        assert (alone is None) == (not fields >= {"min", "max"} and not self.is_said(fields, scheme))

    @staticmethod
    def is_said(fields: set[str], scheme: Scheme) -> bool:
        return "scale" in fields and (scheme.is_symmetric or bool(fields & {"zero_point", "min", "max"}))


def recorded(case: Case) -> QuantConfig:
    return QuantConfig(case.calibrated.target, {}, case.calibrated.entries, {})


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
@pytest.mark.parametrize("seed", range(12))
def test_the_cfg_says_what_the_plan_builds(seed: int, target: str) -> None:
    """Random models, precisions of layers, and one to three edited fields of many entries; see ``disagreements``."""
    chooser = random.Random(seed)
    feed = np.random.default_rng(seed).normal(size=(SAMPLES, *INPUT)).astype(np.float32)
    case = make_case(random_model(seed), {"x": feed}, target)
    plain = make_plan(case.model, case.calibrated, recorded(case), case.weights)
    entries, words = case.calibrated.entries, [str(p) for p in load(target).precisions]
    for _ in range(8):
        keys = chooser.sample(list(entries), chooser.randint(1, len(entries)))
        edits = {
            k: random_fields(chooser, entries[k], tuple(chooser.sample(FIELDS, chooser.randint(1, 3)))) for k in keys
        }
        named = chooser.sample([x.name for x in case.model.layers], chooser.randint(0, len(case.model.layers)))
        config = config_of(case.model, case.calibrated, edits, {n: chooser.choice(words) for n in named})
        plan = make_plan(case.model, case.calibrated, config, case.weights)
        effects = Effects(case.model, case.calibrated, config, case.weights, plan, plain)
        assert disagreements(effects) == []

"""An edited entry counts: what wins, what is computed anew, what is said of it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from helpers_config import PATH, config, layers, problems, small, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.config import check
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import float32_text
from hybridq.quant.qparams import QParams


def field(key: str, name: str, value: str, text: str | None = None) -> str:
    """The cfg with one field of one entry changed or added."""
    text = text or text_of()
    line = re.search(rf'^    "{re.escape(key)}": \{{.*$', text, re.M)
    assert line
    new, count = re.subn(rf"\b{name}: (\[[^\]]*\]|[^,}}]+)", f"{name}: {value}", line.group())
    return text.replace(line.group(), new if count else line.group().replace("}", f", {name}: {value}}}", 1))


def test_an_edited_dtype_asks_the_layers_of_the_tensor() -> None:
    found = config(field("conv1", "dtype", "int8"))
    assert {n: c.precision.value for n, c in found.choices.items()} == {"conv1": "int8", "/head/silu": "int8"}
    assert found.edited == {"conv1": {"dtype"}}
    assert config(field("128", "dtype", "int16", layers('"128": int16'))).choices["128"].precision is Precision.INT16


def test_an_edited_range_wins_and_the_rest_is_computed() -> None:
    found = config(field("128", "max", "6.0"))
    entry = found.entries["128"]
    assert found.edited["128"] == {"max"}
    assert entry.max == 6.0
    assert entry.min == small()[1].entries["128"].min
    scale = (6.0 - float(entry.min)) / 255  # type: ignore[arg-type]
    assert entry.scale == pytest.approx(scale, rel=1e-6)
    assert entry.zero_point == round(-float(entry.min) / scale)  # type: ignore[arg-type]
    assert found.edits[0] == type(found.edits[0])("128", "max", float32_text(2.54), "6.0", 23)


def test_an_edited_scale_wins_over_the_range() -> None:
    entry = config(field("128", "scale", "0.05")).entries["128"]
    assert entry.scale == pytest.approx(0.05)
    assert entry.zero_point == round(2.98 / 0.05)


def test_scale_with_the_upper_end() -> None:
    entry = config(field("128", "scale", "0.05", field("128", "max", "5"))).entries["128"]
    assert entry.zero_point == 255 - round(5 / 0.05)


def test_agreeing_edits_are_no_contradiction() -> None:
    text = field("128", "scale", "0.04", field("128", "min", "-4", field("128", "max", "6.2")))
    assert config(field("128", "zero_point", "100", text)).entries["128"].zero_point == 100


def test_a_range_goes_with_the_layer_to_int16() -> None:
    entry = config(field("128", "max", "6.0", layers('"128": int16'))).entries["128"]
    assert entry.scale == pytest.approx(12 / 32767, rel=1e-5)  # symmetric, with a headroom of 2
    assert entry.zero_point == 0


def test_a_scale_with_its_dtype() -> None:
    text = field("128", "scale", "0.001", field("128", "dtype", "int16"))
    entry = config(text).entries["128"]
    assert (entry.dtype, entry.scale, entry.zero_point) == (Precision.INT16, pytest.approx(0.001), 0)


def test_fl_is_a_power_of_two() -> None:
    text = field("128", "fl", "5", field("128", "dtype", "int16", text_of("rknn1")))
    entry = config(text, "rknn1").entries["128"]
    assert (entry.scale, entry.fl) == (2.0**-5, 5)


def test_another_algorithm_brings_its_range() -> None:
    found = config(field("128", "algorithm", "mmse"))
    assert found.edited["128"] == {"algorithm"}
    assert found.entries["128"].algorithm == "mmse"
    both = config(field("128", "algorithm", "mmse", field("128", "min", "-1"))).entries["128"]
    assert (both.min, both.max) == (-1.0, pytest.approx(2.54 * 0.9))


def test_gptq_may_be_asked_for_where_step1_rounded_weights_together() -> None:
    model, calibrated = small()
    text = field("conv1:weight", "algorithm", "gptq")
    found, said = check(text, PATH, model, replace(calibrated, rounded=("conv1",)))
    assert (found is not None, said) == (True, [])
    assert found.entries["conv1:weight"].algorithm == "gptq"  # type: ignore[union-attr]
    _, said = check(text, PATH, model, replace(calibrated, rounded=("/head/conv2",)))
    assert "step1 recorded no 'gptq' for it" in said[0].message
    assert "run step1 again with --weights-repair gptq" in said[0].hint


def test_a_word_for_another_type_is_refused_as_a_number_is() -> None:
    text = field("128", "qtype", "symmetric_affine", layers('"128": int8'))
    assert [p.code for p in problems(text)] == ["retyped"]
    agreeing = field("128", "qtype", "dynamic_fixed_point", layers('"128": int16', target="rknn1"))
    assert config(agreeing, "rknn1").entries["128"].qtype is Scheme.DYNAMIC_FIXED_POINT


def test_per_channel_numbers_of_a_weight() -> None:
    found = config(field("conv1:weight", "scale", "[0.1, 0.2, 0.3, 0.4]"))
    entry = found.entries["conv1:weight"]
    assert entry.scale == (0.1, 0.2, 0.3, 0.4)
    assert entry.zero_point == (0, 0, 0, 0)


def test_a_range_of_a_weight_becomes_its_scale() -> None:
    text = field(
        "conv1:weight", "min", "-1.27", field("conv1:weight", "max", "1", field("conv1:weight", "qmethod", "layer"))
    )
    found = config(text)
    assert found.entries["conv1:weight"].scale == pytest.approx(0.01)
    assert found.edited["conv1:weight"] == {"min", "max", "qmethod"}


def test_a_tensor_by_any_of_its_names_and_in_block_style() -> None:
    text = (
        text_of()
        + "    Conv_3:\n        max: [6.0]  # RKNN's way\n        min:\n        -   -3.5\n    w1: {algorithm: mmse}\n"
    )
    found = config(text)
    assert found.edited == {"128": {"min", "max"}, "conv1:weight": {"algorithm"}}
    assert (found.entries["128"].min, found.entries["128"].max) == (-3.5, 6.0)


def test_a_range_without_zero_is_widened_with_a_note() -> None:
    said = problems(field("128", "min", "0.5"))
    assert [(p.severity, p.code) for p in said] == [("note", "zero")]
    assert config(field("128", "min", "0.5")).entries["128"].min == 0.0


@pytest.mark.parametrize(("value", "code"), [("4000", "wide"), ("1e-3", "narrow")])
def test_odd_ranges_are_warned_of(value: str, code: str) -> None:
    said = problems(field("128", "max", value, field("128", "min", "0")))
    assert [(p.severity, p.code) for p in said] == [("warning", code)]


def test_a_lost_line_is_warned_of() -> None:
    text = "\n".join(x for x in text_of().splitlines() if '"128"' not in x)
    assert [(p.severity, p.code) for p in problems(text)] == [("warning", "missing")]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["min", "max", "scale", "zero_point", "qtype", "algorithm", "dtype"]),
    st.one_of(
        st.floats(-1e4, 1e4, width=32), st.sampled_from([*map(str, Precision), *map(str, Scheme), "mmse", "normal"])
    ),
)
def test_every_edit_lands_or_is_refused(name: str, value: object) -> None:
    """Any value in any field: refused with its line, or an edit whose entry has valid parameters."""
    text = field("128", name, float32_text(value) if isinstance(value, float) else str(value))
    line = next(i for i, x in enumerate(text.splitlines(), 1) if x.startswith('    "128": {'))
    found, said = check(text, PATH, *small())
    if found is None:
        assert any(p.line == line and p.severity == "error" for p in said)
        return
    changed = text != text_of()
    assert bool(found.edits) == changed or "0.0" in text
    entry = found.entries["128"]
    if entry.dtype.is_integer and found.edited.get("128", frozenset()) & {"min", "max", "scale", "zero_point"}:
        assert entry.qtype
        params = QParams(entry.dtype, entry.qtype, entry.scale, entry.zero_point)  # type: ignore[arg-type]
        assert params.range.min <= 0 <= params.range.max

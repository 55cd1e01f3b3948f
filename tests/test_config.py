"""The cfg: what step1 writes, what edits mean, which of them are refused, and who is meant by a selector."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers_config import PATH, SHA256, chain, small
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.config import check, read_cfg, to_github, to_json, write_cfg
from hybridq.config.names import Names
from hybridq.config.selectors import Rank, SelectorError, select
from hybridq.config.write import EMPTY
from hybridq.errors import ConfigError, Problem
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import float32_text
from hybridq.quant.qparams import QParams
from hybridq.quant.records import LayerChoice, QuantConfig


def text_of(target: str = "onnxruntime") -> str:
    return write_cfg(*small(target))


def layers(*lines: str, target: str = "onnxruntime") -> str:
    """The cfg with lines below ``customized_quantize_layers``."""
    return text_of(target).replace(EMPTY, "customized_quantize_layers:\n" + "\n".join(f"    {x}" for x in lines))


def field(key: str, name: str, value: str, text: str | None = None) -> str:
    """The cfg with one field of one entry changed or added."""
    text = text or text_of()
    line = re.search(rf'^    "{re.escape(key)}": \{{.*$', text, re.M)
    assert line
    new, count = re.subn(rf"\b{name}: (\[[^\]]*\]|[^,}}]+)", f"{name}: {value}", line.group())
    return text.replace(line.group(), new if count else line.group().replace("}", f", {name}: {value}}}", 1))


def config(text: str, target: str = "onnxruntime") -> QuantConfig:
    return read_cfg(text, PATH, *small(target))


def problems(text: str, target: str = "onnxruntime") -> list[Problem]:
    return check(text, PATH, *small(target))[1]


# -- what step1 writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_what_step1_writes_has_no_edits_and_no_problems(target: str) -> None:
    found, said = check(text_of(target), PATH, *small(target))
    assert said == []
    assert found is not None
    assert (found.choices, found.edited, found.edits) == ({}, {}, ())
    assert found.entries == small(target)[1].entries


def test_the_form() -> None:
    lines = text_of().splitlines()
    assert lines[:2] == ["%YAML 1.2", "---"]
    assert EMPTY in lines
    assert "format: hybridq.cfg/1" in lines
    assert f"model: {{name: small, sha256: {SHA256}}}" in lines
    entries = [x for x in lines[lines.index("quantize_parameters:") + 1 :] if x]
    assert len(entries) == len(small()[1].entries)
    assert all(re.match(r'    "[^"]+": \{dtype: \w+[^{}]*\}(  # .*)?$', x) for x in entries)
    fixed = next(x for x in text_of("rknn1").splitlines() if '"128"' in x)
    assert "fl:" not in fixed  # uint8 is no dynamic fixed point


def test_a_proposal_is_an_edit() -> None:
    model, calibrated = small()
    choices = {"128": LayerChoice(Precision.INT16), "conv1": LayerChoice(Precision.FLOAT32, Precision.INT8)}
    text = write_cfg(model, calibrated, choices, {"128": "costs 12 dB"})
    assert '    "128": int16  # costs 12 dB\n' in text
    found = config(text)
    assert found.choices["128"].precision is Precision.INT16
    assert found.choices["conv1"].weight_only is Precision.INT8


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_text_is_no_edit(value: float) -> None:
    model, calibrated = small()
    entry = calibrated.entries["128"]
    same = type(calibrated)(
        **{**vars(calibrated), "entries": {**calibrated.entries, "128": type(entry)(entry.dtype, min=value, max=value)}}
    )
    text = write_cfg(model, same)
    assert float32_text(value) in text
    assert check(text, PATH, model, same)[0].edits == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems(end: str) -> None:
    assert config(text_of().replace("\n", end)).edits == ()
    assert config("\N{ZERO WIDTH NO-BREAK SPACE}" + text_of()).edits == ()


# -- precisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "precision"),
    [
        ("int16", "int16"),
        ("float32", "float32"),
        ('"int8"', "int8"),
        ("asymmetric_affine-u8", "uint8"),
        ("asymmetric_quantized-u8", "uint8"),
        ("dynamic_fixed_point-i8", "int8"),
        ("dynamic_fixed_point-i16", "int16"),
    ],
)
def test_words_for_precisions(word: str, precision: str) -> None:
    found = config(layers(f'"128": {word}')).choices["128"]
    assert (found.precision, found.selector, found.line) == (Precision(precision), "128", 14)


def test_both_spellings_of_the_key() -> None:
    text = layers('"128": int16').replace("customized_quantize_layers", "custom_quantize_layers")
    assert config(text).choices["128"].precision is Precision.INT16


@pytest.mark.parametrize("name", ["conv1", "conv1_pre", "Conv_1", "Relu_1"])
def test_every_name_of_a_layer(name: str) -> None:
    assert set(config(layers(f"{name}: int16")).choices) == {"conv1"}


def test_an_unquoted_number_is_a_name() -> None:
    assert set(config(layers("128: int16")).choices) == {"128"}


def test_naming_the_absorbed_activation_says_so() -> None:
    said = problems(layers("Relu_1: int16"))
    assert [p.severity for p in said] == ["note"]
    assert "part of the layer 'conv1'" in said[0].message


def test_naming_a_moved_tensor_addresses_its_group_and_says_so() -> None:
    text = layers("cat: int16", "conv1: int8")
    assert {n: c.precision.value for n, c in config(text).choices.items()} == {"conv1": "int8", "/head/silu": "int16"}
    assert "its group's layers are meant: conv1, /head/silu" in problems(text)[0].message
    assert set(config(layers("Concat_1: int16")).choices) == {"conv1", "/head/silu"}


def test_a_name_wins_over_a_glob_over_an_operator_over_boundary() -> None:
    text = layers('"op:Conv": int8', '"/head/*": int16', '"/head/sig": uint8', '"boundary": float16', '"128": float32')
    found = {n: (c.precision.value, c.selector) for n, c in config(text).choices.items()}
    assert found == {
        "conv1": ("int8", "op:Conv"),
        "/head/conv2": ("int16", "/head/*"),
        "/head/sig": ("uint8", "/head/sig"),
        "/head/silu": ("int16", "/head/*"),
        "128": ("float32", "128"),
    }


def test_a_pattern_leaves_out_what_cannot_be_and_says_so() -> None:
    text = layers('"*": int16')
    assert "signs" not in config(text).choices
    assert any("'signs'" in p.message and p.severity == "note" for p in problems(text))


def test_weight_only() -> None:
    choice = config(layers('"conv1": {weight_only: int8}')).choices["conv1"]
    assert (choice.precision, choice.weight_only) == (Precision.FLOAT32, Precision.INT8)


def test_an_edited_dtype_asks_the_layers_of_the_tensor() -> None:
    found = config(field("conv1", "dtype", "int8"))
    assert {n: c.precision.value for n, c in found.choices.items()} == {"conv1": "int8", "/head/silu": "int8"}
    assert found.edited == {"conv1": {"dtype"}}
    assert config(field("128", "dtype", "int16", layers('"128": int16'))).choices["128"].precision is Precision.INT16


# -- entries -----------------------------------------------------------------------------------------------------------


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


# -- selectors ---------------------------------------------------------------------------------------------------------

ALL = ["conv1", "/head/conv2", "/head/sig", "/head/silu", "128", "signs", "cls"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv1", ["conv1"]),
        ("*", ALL),
        ("/head/*", ["/head/conv2", "/head/sig", "/head/silu"]),
        ("[0-9]??", ["128"]),
        ("Conv_*", ["conv1", "/head/conv2", "128"]),
        ("re:conv[0-9]$", ["conv1", "/head/conv2"]),
        ("re:^Conv_", ["conv1", "/head/conv2", "128"]),
        ("op:Conv", ["conv1", "/head/conv2", "128"]),
        ("op:Relu", ["conv1"]),
        ("op:Sigmoid", ["/head/sig"]),
        ("from:/head/conv2..to:cat", ["/head/conv2", "/head/sig", "/head/silu"]),
        ("from:input..to:conv1_pre", ["conv1"]),
        ("from:128", ["128", "signs", "cls"]),
        ("to:/head/conv2", ["conv1", "/head/conv2"]),
        ("group:cat", ["conv1", "/head/silu"]),
        ("group:conv1", ["conv1", "/head/silu"]),
        ("op:Conv and /head/*", ["/head/conv2"]),
        ("op:Conv and not /head/*", ["conv1", "128"]),
        ("not op:Conv", ["/head/sig", "/head/silu", "signs", "cls"]),
        ("op:Conv or op:Add and not cls", ["conv1", "/head/conv2", "128"]),
        ("( op:Conv or op:Add ) and not conv1", ["/head/conv2", "128", "cls"]),
        ("boundary", ["128", "signs", "cls", "conv1", "/head/silu"]),
    ],
)
def test_selectors(text: str, expected: list[str]) -> None:
    model, calibrated = small()
    precisions = {n: calibrated.default_of(n) for n in ALL}
    found = select(text, Names(model, calibrated.entries), {**precisions, "128": Precision.INT16})
    assert sorted(found.layers) == sorted(expected)
    assert list(found.layers) == [n for n in ALL if n in found.layers]


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("conv1", 4),
        ("Concat_1", 3),
        ("conv*", 2),
        ("op:Conv", 1),
        ("boundary", 0),
        ("op:Conv and not conv1", 2),
        ("group:cat", 2),
    ],
)
def test_ranks(text: str, rank: int) -> None:
    model, calibrated = small()
    assert select(text, Names(model, calibrated.entries), {"conv1": Precision.INT16}).rank == Rank(rank)


@pytest.mark.parametrize(
    "text", ["", " ", "and", "not", "( conv1", "conv1 )", "op:", "re:[", "from:..to:", "nope", "input"]
)
def test_selectors_that_mean_nothing(text: str) -> None:
    model, calibrated = small()
    with pytest.raises(SelectorError):
        select(text, Names(model, calibrated.entries), {})


def test_a_name_with_glob_characters_is_a_name() -> None:
    model, calibrated = chain(12)
    names = Names(model, calibrated.entries)
    model.names["a*[b]"] = model.layers[0].name
    try:
        assert select("a*[b]", names).layers == (model.layers[0].name,)
    finally:
        del model.names["a*[b]"]


# -- forms -------------------------------------------------------------------------------------------------------------


def test_json_has_ranges() -> None:
    rows = to_json(problems(layers("nope: int16")))
    assert json.loads(json.dumps(rows)) == [
        {
            "path": PATH,
            "line": 14,
            "column": 5,
            "end_line": 14,
            "end_column": 9,
            "severity": "error",
            "code": "unknown-layer",
            "message": "there is no layer or tensor 'nope'",
            "hint": "`hybridq list` shows the layers.",
        }
    ]


def test_github_annotations_are_escaped() -> None:
    shown = to_github([Problem("50% of\n'a:b'", "a,b.cfg", 3, 4, 6, "do: this", severity="note", code="x")])
    assert shown == "::notice file=a%2Cb.cfg,line=3,col=4,endColumn=6,title=x::50%25 of%0A'a:b'%0Ado: this"


def test_errors_print_place_line_caret_and_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        config(layers('"128": int61'))
    assert str(caught.value).splitlines() == [
        f"{PATH}:14:12: 'int61' is no precision",
        '        "128": int61',
        "               ^^^^^",
        "  Choose uint8, int8, int16, float16 or float32. Did you mean int16?",
    ]


def test_the_schema_names_every_key() -> None:
    schema = json.loads((Path(__file__).parents[1] / "schemas" / "cfg-1.schema.json").read_text())
    assert "customized_quantize_layers" in schema["properties"]

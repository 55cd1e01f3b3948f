"""The cfg: what step1 writes, what edits mean, which of them are refused, and who is meant by a selector."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers_config import PATH, SHA256, config, layers, problems, small, text_of
from hypothesis import given
from hypothesis import strategies as st

from hybridq.config import check, to_github, to_json, write_cfg
from hybridq.config.write import EMPTY
from hybridq.errors import ConfigError, Problem
from hybridq.quant.dtypes import Precision
from hybridq.quant.numerics import float32_text
from hybridq.quant.records import LayerChoice


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

"""set, unset, list, merge and import: only the intended characters change, and every edit lands or is listed."""

from __future__ import annotations

import difflib

import pytest
from helpers_config import PATH, chain, small
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.config import Change, check, is_edited, list_layers, merge, read_cfg, set_layers, unset_layers, write_cfg
from hybridq.config.write import EMPTY
from hybridq.errors import ConfigError
from hybridq.quant.dtypes import Precision


def text_of() -> str:
    return write_cfg(*small())


def set_(text: str, selector: str, precision: str | None = None, algorithm: str | None = None, **params: str) -> Change:
    return set_layers(text, PATH, *small(), selector, precision, params, algorithm)


def unset(text: str, selector: str) -> Change:
    return unset_layers(text, PATH, *small(), selector)


def diff(a: str, b: str) -> list[str]:
    """The changed lines."""
    lines = difflib.unified_diff(a.split("\n"), b.split("\n"), n=0, lineterm="")
    return [x for x in lines if x[:3] not in ("---", "+++") and x[0] in "+-"]


# -- set and unset -----------------------------------------------------------------------------------------------------


def test_set_makes_a_block_and_unset_the_braces_again() -> None:
    change = set_(text_of(), "conv1", "int16")
    assert diff(text_of(), change.text) == [f"-{EMPTY}", "+customized_quantize_layers:", '+    "conv1": int16']
    assert [(e.key, e.field, e.before, e.after) for e in change.edits] == [("conv1", "precision", "uint8", "int16")]
    again = unset(change.text, "conv1")
    assert again.text == text_of()
    assert [(e.before, e.after) for e in again.edits] == [("int16", "uint8")]


def test_a_later_set_wins() -> None:
    text = set_(set_(text_of(), "*", "int16").text, "op:Conv", "float32").text
    assert read_cfg(text, PATH, *small()).choices["conv1"].precision is Precision.FLOAT32
    assert diff(set_(text_of(), "*", "int16").text, text).count('+    "conv1": float32') == 1


def test_set_keeps_comments_order_and_quoting() -> None:
    before = text_of().replace(
        EMPTY, "customized_quantize_layers:\n    # mine\n    'Conv_1':   int8   # why\n\n    128: float32\n  # odd"
    )
    after = set_(before, "conv1", "int16").text
    assert diff(before, after) == ["-    'Conv_1':   int8   # why", "+    'Conv_1':   int16   # why"]
    after = set_(before, "/head/sig", "int16").text
    assert diff(before, after) == ['+    "/head/sig": int16']
    assert after.index("128: float32") < after.index('"/head/sig": int16') < after.index("  # odd")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_set_keeps_line_ends_and_byte_order_mark(end: str) -> None:
    before = "\N{ZERO WIDTH NO-BREAK SPACE}" + text_of().replace("\n", end)
    after = set_(before, "conv1", "int16", min="-1").text
    assert after.startswith("\N{ZERO WIDTH NO-BREAK SPACE}%YAML")
    assert after.count(end) == before.count(end) + 1
    assert len(after.split(end)) == len(after.splitlines()) + 1
    assert unset(after, "conv1").text == before


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("customized_quantize_layers: {conv1: int8}", 'customized_quantize_layers: {conv1: int8, "128": int16}'),
        (
            "customized_quantize_layers:",
            'customized_quantize_layers:\n    # "128": int16    # without the braces above\n    "128": int16',
        ),
        (
            "customized_quantize_layers: ~",
            'customized_quantize_layers:\n    # "128": int16    # without the braces above\n    "128": int16',
        ),
        (
            "custom_quantize_layers: { }  # none",
            'custom_quantize_layers:  # none\n    # "128": int16    # without the braces above\n    "128": int16',
        ),
        ("customized_quantize_layers:\n  conv1: int8", 'customized_quantize_layers:\n  conv1: int8\n  "128": int16'),
        (
            "customized_quantize_layers:\n  conv1:\n    weight_only: int8",
            'customized_quantize_layers:\n  conv1:\n    weight_only: int8\n  "128": int16',
        ),
    ],
)
def test_set_in_every_style(block: str, expected: str) -> None:
    before = text_of().replace(EMPTY, block)
    after = set_(before, "128", "int16").text
    assert expected in after
    assert read_cfg(after, PATH, *small()).choices["128"].precision is Precision.INT16
    assert read_cfg(unset(after, "128").text, PATH, *small()).choices == read_cfg(before, PATH, *small()).choices


def test_set_where_the_keys_are_missing() -> None:
    before = "".join(x for x in text_of().splitlines(keepends=True) if not x.startswith(EMPTY))
    assert "128" in read_cfg(set_(before, "128", "int16").text, PATH, *small()).choices
    head = text_of()[: text_of().index("customized")].rstrip()
    after = set_(head, "128", "int16", max="4").text
    found = read_cfg(after, PATH, *small())
    assert found.choices["128"].precision is Precision.INT16
    assert found.edited == {"128": {"max"}}


def test_fields_change_in_place_or_are_added() -> None:
    after = set_(text_of(), "conv1", max="6").text
    assert diff(text_of(), after)[1] == diff(text_of(), after)[0].replace("-    ", "+    ", 1).replace(
        "max: 6.31", "max: 6"
    )
    added = set_(text_of(), "conv1:weight", scale="[0.1, 0.2, 0.3, 0.4]").text
    assert "algorithm: normal, scale: [0.1, 0.2, 0.3, 0.4]}" in added
    block = text_of() + "    Conv_3:\n        max: 4\n"
    block = "".join(x for x in block.splitlines(keepends=True) if not x.startswith('    "128": {'))
    assert "    Conv_3:\n        max: 5\n        min: -1\n" in set_(block, "128", max="5", min="-1").text
    assert read_cfg(unset(set_(block, "128", max="5").text, "128").text, PATH, *small()).edited == {}


def test_parameters_of_inputs_and_an_algorithm() -> None:
    found = read_cfg(set_(text_of(), "input", max="200").text, PATH, *small())
    assert found.edited == {"input": {"max"}}
    change = set_(text_of(), "op:Conv and not conv1", algorithm="mmse")
    assert {e.key for e in change.edits} == {"/head/conv2", "128"}


def test_an_algorithm_for_all_leaves_the_ranges_that_no_algorithm_chose() -> None:
    change = set_(text_of(), "*", algorithm="mmse")
    known = {name for name, measured in small()[1].measured.items() if measured.fixed}
    assert known
    assert {e.key for e in change.edits} == {name for name in small()[1].measured if name not in {*known, "input"}}
    assert any("known without measuring" in p.message for p in change.problems)
    with pytest.raises(ConfigError, match="is not calibrated by an algorithm"):
        set_(text_of(), sorted(known)[0], algorithm="mmse")


def test_set_on_an_edited_dtype_takes_its_place() -> None:
    edited = text_of().replace('"128": {dtype: uint8', '"128": {dtype: int8')
    after = set_(edited, "128", "int16").text
    assert read_cfg(after, PATH, *small()).choices["128"].precision is Precision.INT16
    assert '"128": {dtype: uint8' in after


@pytest.mark.parametrize(
    ("selector", "precision", "params", "message"),
    [
        ("nope", "int16", {}, "no layer or tensor 'nope'"),
        ("conv1", "int61", {}, "no precision"),
        ("input", "int16", {}, "no layer"),
        ("conv1:weight", "int16", {}, "no layer"),
        ("signs", "int16", {}, "must stay float32"),
        ("op:Sigmoid", "weight_only:int8", {}, "has no weights"),
        ("conv1", None, {"mim": "0"}, "no field"),
        ("conv1", None, {"min": "0}, x: {"}, "no value for min"),
        ("conv1", None, {"min": "9"}, "above max"),
        ("conv1", None, {"scale": "0"}, "not above 0"),
        ("conv1", None, {"dtype": "int9"}, "no dtype"),
    ],
)
def test_what_set_refuses(selector: str, precision: str | None, params: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        set_(text_of(), selector, precision, None, **params)


def test_set_refuses_a_broken_cfg_and_names_its_lines() -> None:
    with pytest.raises(ConfigError, match=r"cfg:13:1: indented|cfg:14:1: indented"):
        set_(text_of().replace(EMPTY, EMPTY + "\n    x: int16"), "conv1", "int16")


def test_unset_of_what_a_pattern_gave_names_the_pattern() -> None:
    text = text_of().replace(EMPTY, 'customized_quantize_layers:\n    "op:Conv": int16')
    with pytest.raises(ConfigError, match="comes from 'op:Conv' on line 14"):
        unset(text, "conv1")
    assert unset(text, "op:Conv").text == text_of()


def test_set_leaves_out_what_cannot_be() -> None:
    change = set_(text_of(), "*", "int16")
    assert any("'signs'" in p.message for p in change.problems)
    assert '"signs": int16' not in change.text


WORDS = ["int16", "int8", "float32", "float16", "weight_only:int8"]
SELECTORS = ["*", "conv1", "/head/*", "op:Conv", "boundary", "128", "group:cat", "not op:Conv", "from:conv1..to:128"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SELECTORS), st.sampled_from(WORDS)), max_size=5))
def test_any_sets_can_be_taken_back(commands: list[tuple[str, str]]) -> None:
    text = text_of()
    for selector, word in commands:
        try:
            text = set_(text, selector, word).text
        except ConfigError:
            continue
        found, said = check(text, PATH, *small())
        assert found, [str(p) for p in said]
    assert unset(text, "*").text == text_of()


def test_list() -> None:
    config = read_cfg(set_(text_of(), "128", "int16").text, PATH, *small())
    rows = {str(r["name"]): r for r in list_layers(*small(), config)}
    assert list(rows) == [x.name for x in small()[0].layers]
    assert (rows["128"]["precision"], rows["128"]["op"], rows["128"]["shape"]) == ("int16", "Conv", [1, 2, 8, 8])
    assert (rows["cls"]["precision"], rows["signs"]["precision"]) == ("float32", "float32")
    assert all({"name", "op", "precision", "macs"} <= r.keys() for r in rows.values())


# -- merge -------------------------------------------------------------------------------------------------------------


def test_is_edited() -> None:
    assert not is_edited(text_of(), *small())
    assert not is_edited(text_of().replace("\n", "\r\n"), *small())
    assert is_edited(text_of() + "# mine\n", *small())


def test_merging_what_nobody_edited_is_writing_anew() -> None:
    assert merge(write_cfg(*chain(30)), PATH, chain(30), chain(30)) == (write_cfg(*chain(30)), [])
    assert merge(write_cfg(*small("rknn1")), PATH, small("rknn1"), small()) == (text_of(), [])


def test_merge_keeps_edits_and_comments_and_lists_what_is_lost() -> None:
    before, after = chain(30), chain(20)
    names = [x.name for x in before[0].layers]
    text = write_cfg(*before)
    text = set_layers(text, PATH, *before, names[0], "int16").text.replace(": int16\n", ": int16  # mine\n")
    text = set_layers(text, PATH, *before, names[25], "int16").text
    text = set_layers(text, PATH, *before, names[3], None, {"max": "9", "algorithm": "mmse"}).text
    text = set_layers(text, PATH, *before, names[26], None, {"max": "9"}).text
    text = text.replace(f'    "{names[5]}": {{', f'    # look here\n    "{names[5]}": {{')
    merged, said = merge(text, PATH, before, after)
    found = read_cfg(merged, PATH, *after)
    assert {n: c.precision for n, c in found.choices.items()} == {names[0]: Precision.INT16}
    assert found.edited == {names[3]: {"max", "algorithm"}}
    assert f'    "{names[0]}": int16  # mine\n' in merged
    assert f'    # look here\n    "{names[5]}": {{' in merged
    assert [p.code for p in said] == ["lost", "lost"]
    assert names[25] in said[0].message
    assert said[0].line == next(i for i, x in enumerate(text.split("\n"), 1) if f'"{names[25]}": int16' in x)
    assert merge(merged, PATH, after, after) == (merged, [])


def test_merge_refuses_a_broken_cfg() -> None:
    with pytest.raises(ConfigError):
        merge("a", PATH, small(), small())


def test_several_selectors_are_as_one_that_joins_them() -> None:
    model, calibrated = small()
    both = set_layers(text_of(), PATH, model, calibrated, ["conv1", "op:Sigmoid", "conv1"], "int16")
    assert both.text == set_(set_(text_of(), "conv1", "int16").text, "op:Sigmoid", "int16").text
    assert unset_layers(both.text, PATH, model, calibrated, ["op:Sigmoid", "conv1"]).text == text_of()
    fields = set_layers(text_of(), PATH, model, calibrated, ["input", "conv1"], None, {"max": "9"})
    assert fields.text == set_(set_(text_of(), "input", max="9").text, "conv1", max="9").text
    with pytest.raises(ConfigError, match="no layer or tensor 'nowhere'"):
        set_layers(text_of(), PATH, model, calibrated, ["conv1", "nowhere"], "int16")

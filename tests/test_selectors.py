"""Selectors name layers; the narrower one wins."""

from __future__ import annotations

import pytest
from helpers_config import chain, small

from hybridq.config.names import Names
from hybridq.config.selectors import Rank, SelectorError, select
from hybridq.quant.dtypes import Precision

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

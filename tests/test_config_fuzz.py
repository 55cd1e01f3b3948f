"""Whatever a person, an editor or a disk does to a cfg: a config that can be planned, or located errors."""

from __future__ import annotations

import random
import re
import time
from functools import cache

import numpy as np
import pytest
from helpers_config import PATH, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq import targets
from hybridq.config import check, decode, set_layers, write_cfg
from hybridq.errors import ConfigError
from hybridq.plan.plan import make_plan
from hybridq.quant.dtypes import Precision
from hybridq.storage.weights import Weights

LAYERS = 200
TEXT = """int16 int8 uint8 float32 float16 int61 INT16 on no null ~ true 128 1_0 1e-05 -1e-05 1e400 .nan .inf -.inf nan
0 -0.0 0x10 0o7 6,5 1.5.2 '' "" [] {} [1,2] {weight_only:_int8} [0.1] symmetric_affine dynamic_fixed_point
asymmetric_affine mmse normal channel layer @x *x &x !x |x >x %x `x #x - ? : --- ... * /model/* op:Conv op:Sigmoid re:(
re:Conv_1.* from:input..to:w1 boundary not_op:Conv group:input nope input 99999999999999999999 3.5e38 1e-46 -7 256
-129 32768 custom_quantize_layers quantize_parameters customized_quantize_layers: dtype scale zero_point min max fl
algorithm"""
WORDS = (*TEXT.split(), "\u00e9", "\u540d", "\u2028", "\t", "\0", "\ud7ff")
TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|[{}\[\],:#]|\s+|.')


@cache
def original() -> str:
    """A real cfg of 200 layers with some edits, in block and flow style."""
    model, calibrated = chain(LAYERS)
    text = write_cfg(model, calibrated)
    names = [x.name for x in model.layers]
    text = set_layers(text, PATH, model, calibrated, names[0], "int16").text
    text = set_layers(text, PATH, model, calibrated, "op:Sigmoid", "float32", {"min": "0"}).text
    return set_layers(text, PATH, model, calibrated, names[5], None, {"scale": "0.05"}).text


def mutate(text: str, rng: random.Random) -> str:
    """One to four changes of the kinds that people make."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = text.split("\n")
        at = rng.randrange(min(60, len(lines))) if rng.random() < 0.6 else rng.randrange(len(lines))
        change = rng.choice(CHANGES)
        text = change(lines, at, rng)
    return text


def _token(lines: list[str], at: int, rng: random.Random) -> str:
    tokens = TOKEN.findall(lines[at]) or [""]
    i = rng.randrange(len(tokens))
    other = rng.choice(WORDS).replace("_", " ") if rng.random() < 0.1 else rng.choice(WORDS)
    tokens[i] = rng.choice((other, "", tokens[i] * 2, f'"{other}"', tokens[rng.randrange(len(tokens))]))
    lines[at] = "".join(tokens)
    return "\n".join(lines)


def _number(lines: list[str], at: int, rng: random.Random) -> str:
    found = list(re.finditer(r"(?<=: )-?[0-9][0-9.e+-]*(?=[,}])", lines[at]))
    if found:
        m = rng.choice(found)
        value = float(m.group()) * rng.choice((-1.0, 0.0, 0.5, 2.0, 1e3, 1e-9, 1e38, 1.0000001))
        lines[at] = lines[at][: m.start()] + f"{value:g}" + lines[at][m.end() :]
    return "\n".join(lines)


def _word(lines: list[str], at: int, rng: random.Random) -> str:
    found = list(re.finditer(r"(?<=: )[a-z_0-9]+(?=[,}\n]|$)", lines[at]))
    if found:
        m = rng.choice(found)
        lines[at] = lines[at][: m.start()] + rng.choice(WORDS) + lines[at][m.end() :]
    return "\n".join(lines)


def _line(lines: list[str], at: int, rng: random.Random) -> str:
    other = lines[rng.randrange(len(lines))]
    new = rng.choice(
        (
            "",
            "\t",
            " ",
            other,
            f"    {rng.choice(WORDS)}: {rng.choice(WORDS)}",
            f"{rng.choice(WORDS)}: {rng.choice(WORDS)}",
        )
    )
    rng.choice((lambda: lines.insert(at, new), lambda: lines.pop(at), lambda: lines.__setitem__(at, new)))()
    return "\n".join(lines)


def _indent(lines: list[str], at: int, rng: random.Random) -> str:
    count = rng.choice((1, 1, 3))
    for i in range(at, min(at + count, len(lines))):
        lines[i] = rng.choice(("", " ", "  ", "    ", "\t", "        ")) + lines[i].lstrip()
    return "\n".join(lines)


def _character(lines: list[str], at: int, rng: random.Random) -> str:
    text = "\n".join(lines)
    i = rng.randrange(max(1, len(text)))
    return text[:i] + rng.choice(("", *"\"'{}[]:,#@%*&!|>?-\t\n\r\0é")) + text[i + rng.choice((0, 1, 1, 2)) :]


def _cut(lines: list[str], at: int, rng: random.Random) -> str:
    text = "\n".join(lines)
    return text[: rng.randrange(len(text) + 1)]


CHANGES = (_token, _token, _number, _number, _word, _word, _line, _indent, _character, _cut)


def survives(text: str, plan: bool) -> bool:
    """Check one text: whether it gave a config. Fails where it gives neither a sound config nor a located error."""
    model, calibrated = chain(LAYERS)
    start = time.perf_counter()
    config, problems = check(text, PATH, model, calibrated)
    assert time.perf_counter() - start < 10
    errors = [p for p in problems if p.severity == "error"]
    assert (config is None) == bool(errors)
    lines = text.count("\n") + text.count("\r") + 1
    assert all(
        p.path == PATH and 0 < p.line <= lines and p.column > 0 and p.message for p in problems if p.code != "more"
    )
    if config is None:
        return False
    target = targets.load(calibrated.target)
    assert all(name in model.layer and c.precision in target.precisions for name, c in config.choices.items())
    assert set(config.edited) <= set(config.entries) == set(calibrated.entries)
    if plan:
        weights = {w.tensor: np.ones(w.shape, np.float32) for x in model.layers for w in x.weights}
        made = make_plan(model, calibrated, config, Weights(weights))
        assert all(made.layers[n].asked is c.precision for n, c in config.choices.items())
        changed = config.choices or config.edited
        assert changed or all(made.layers[n].asked is calibrated.default_of(n) for n in made.layers)
    return True


def run(first: int, count: int) -> int:
    """Mutate with ``count`` seeds; how many files were still valid."""
    return sum(
        survives(mutate(original(), random.Random(seed)), plan=seed % 10 == 0) for seed in range(first, first + count)
    )


def test_mutated_cfgs() -> None:
    valid = run(0, 250)
    assert 10 < valid < 240  # the mutator makes both kinds


@pytest.mark.slow
def test_twenty_thousand_mutated_cfgs() -> None:
    assert 1000 < run(1000, 20_000) < 19_000


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    survives(text, plan=False)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        text = decode(data, PATH)
    except ConfigError as error:
        text = f"line {error.problems[0].line}"
    survives(text, plan=False)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x,x,x,x,x,x,x]\n"
        + "".join(f"k{i}: &k{i} [*{'a' if not i else f'k{i - 1}'},*a]\n" for i in range(20)),
        "quantize_parameters:\n" + '    "w0": {min: 0}\n' * 30_000,
        "customized_quantize_layers:\n" + "".join(f"    n{i}: int16\n" for i in range(50_000)),
        "customized_quantize_layers:\n" + "".join(f'    "*{i}": int16\n' for i in range(2_000)),
        'customized_quantize_layers:\n    "' + "not " * 50_000 + '*": int16\n',
        "{" * 100_000,
        "format: hybridq.cfg/1\n" + "# c\n" * 500_000,
        "x: "
        + "1" * 1_000_000
        + "\nquantize_parameters: {/model/model.0/cv0/conv/Conv_0_output_0: {zero_point: "
        + "9" * 100_000
        + "}}",
    ],
    ids=["bomb", "duplicates", "unknown", "globs", "nots", "braces", "comments", "digits"],
)
def test_large_files_end_soon(text: str) -> None:
    assert not survives(text, plan=False) or "# c" in text


def test_files_above_the_limit_are_not_read() -> None:
    with pytest.raises(ConfigError, match="at most 10 MB"):
        decode(b"a" * 10_000_001, PATH)


def test_every_precision_word_is_one_we_mutate_with() -> None:
    assert {str(p) for p in Precision} <= set(WORDS)

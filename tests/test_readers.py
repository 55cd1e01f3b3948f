"""Ranges that look at who reads a tensor: what readers make of it, and ends that cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_graphs import case_of, normal
from helpers_graphs import given as graph
from helpers_statistics import of_samples
from random_graphs import Case

from hybridq.calibration.ranges import choose
from hybridq.calibration.readers import Response, response
from hybridq.calibration.statistics import TensorStatistics
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import Range, qparams_of_ranges

UINT8 = (Precision.UINT8, Scheme.ASYMMETRIC)
WIDE = Range(-100.0, 130.0)
SCALARS = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "two": np.float32(2)}
Rows = list[tuple[Any, ...]]

SILU: Rows = [("Sigmoid", "a", "s"), ("Mul", "a s", "z")]
HARD_SWISH: Rows = [("Add", "a three", "b"), ("Clip", "b zero six", "c"), ("Mul", "a c", "d"), ("Div", "d six", "z")]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6


def case(rows: Rows, last: str = "z") -> Case:
    tensors = {"w": normal(8, 8, 1, 1), "v": normal(8, 8, 1, 1), **SCALARS}
    return case_of(graph([("Conv", "x w", "a"), *rows, ("Conv", f"{last} v", "y")], tensors, ["y"]))


def found(rows: Rows, last: str = "z", r: Range = WIDE) -> Response | None:
    held = case(rows, last)
    return response(held.model, held.weights, held.model.group_of["a"], r)


@pytest.mark.parametrize(
    ("rows", "function"),
    [
        (SILU, silu),
        (HARD_SWISH, hard_swish),
        ([("HardSwish", "a", "z")], hard_swish),
        ([("Abs", "a", "r"), ("Mul", "r two", "z")], lambda x: 2 * np.abs(x)),
        ([("Tanh", "a", "z")], np.tanh),
        ([("MaxPool", "a", "p", {"kernel_shape": [2, 2]}), ("Relu", "p", "z")], lambda x: np.maximum(x, 0)),
        ([("Transpose", "a", "t", {"perm": [0, 1, 3, 2]}), ("Sigmoid", "t", "z")], lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_readers_are_followed_number_by_number(rows: Rows, function: Any) -> None:
    known = found(rows)
    assert known is not None
    x = np.linspace(WIDE.min, WIDE.max, 1001)
    np.testing.assert_allclose(known.of(x)[0], function(x), atol=2e-3)


@pytest.mark.parametrize(
    "rows",
    [
        [("Sigmoid", "a", "s"), ("Conv", "a v", "c"), ("Mul", "c s", "z")],  # a Conv reads it as it is
        [("Softmax", "a", "z", {"axis": 1})],  # numbers depend on one another
        [("GlobalAveragePool", "a", "p"), ("Sigmoid", "p", "g"), ("Mul", "a g", "z")],
    ],
)
def test_whoever_else_reads_it_needs_all_of_it(rows: Rows) -> None:
    assert found(rows) is None


def test_values_may_move_before_they_are_read() -> None:
    """A Concat's parts share a range, and a Relu behind it makes nothing of what is below zero."""
    tensors = {"w": normal(8, 8, 1, 1), "u": normal(8, 8, 1, 1), "v": normal(8, 16, 1, 1)}
    rows: Rows = [("Conv", "x w", "a"), ("Conv", "x u", "b"), ("Concat", "a b", "c", {"axis": 1}), ("Relu", "c", "r")]
    held = case_of(graph([*rows, ("Conv", "r v", "y")], tensors, ["y"]))
    known = response(held.model, held.weights, held.model.group_of["c"], WIDE)
    assert known is not None
    assert choose("trimmed", wide(), *UINT8, readers=known).min == pytest.approx(0.0, abs=0.1)


def wide() -> TensorStatistics:
    """Mostly small values, and both far ends."""
    random = np.random.default_rng(3)
    values = np.concatenate([random.normal(0, 3, 20000), random.uniform(WIDE.min, WIDE.max, 2000), [-100, 130]])
    return of_samples(np.array_split(values.astype(np.float32), 4))


@pytest.mark.parametrize(("rows", "function"), [(SILU, silu), (HARD_SWISH, hard_swish)])
def test_the_end_to_which_readers_are_deaf_goes(rows: Rows, function: Any) -> None:
    stats = wide()
    trimmed = choose("trimmed", stats, *UINT8, readers=found(rows))
    whole = choose("normal", stats, *UINT8)
    assert whole.min == -100
    assert -20 < trimmed.min <= -2
    assert trimmed.max == whole.max  # no other end, and nothing that a reader would hear
    random = np.random.default_rng(5)
    x = np.concatenate([random.normal(0, 3, 50000), random.uniform(-300, 130, 500)])  # farther than calibration saw
    errors = []
    for r in (whole, trimmed):
        rounded = fake_quantize(x.astype(np.float32), qparams_of_ranges(r.min, r.max, *UINT8))
        errors.append(np.mean((function(rounded.astype(float)) - function(x)) ** 2))
    assert errors[1] < errors[0] / 2


def test_without_readers_and_in_16_bits_it_is_normal() -> None:
    stats, known = wide(), found(SILU)
    assert choose("trimmed", stats, *UINT8) == choose("normal", stats, *UINT8)
    wide_form = (Precision.INT16, Scheme.SYMMETRIC)
    assert choose("trimmed", stats, *wide_form, readers=known) == choose("normal", stats, *wide_form)

"""What is measured of all layers at once, in float32, is what each alone gives in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.compare.damages import Damages
from hybridq.compare.row_layout import BLOCK, ROW, RowLayout
from hybridq.quant.metrics import Damage

FIGURES = ("sqnr_db", "cosine", "mse", "euclidean", "normalized_euclidean")
SHAPES = [(3, 7001), (), (1, ROW), (2, 3, 5), (BLOCK * ROW + 1,), (ROW - 1,)]


def both(pairs: list[list[tuple[Any, Any]]]) -> list[tuple[Damage, Damage]]:
    """Samples of pairs of tensors: measured together, and each by itself."""
    layout = RowLayout([a.shape for a, _ in pairs[0]])
    together, alone = Damages(len(pairs[0])), [Damage() for _ in pairs[0]]
    rows = layout.array(), layout.array()
    every = np.arange(len(alone))
    for sample in pairs:
        for tensors, held in zip(zip(*sample, strict=True), rows, strict=True):
            for value, view in zip(tensors, layout.views(held), strict=True):
                view[...] = value
        for one, (a, b) in zip(alone, sample, strict=True):
            one.add(a, b)
        together.add_rows(every, layout, *rows, layout.squares(rows[0]), every >= 0)
    found = [together.of(i) for i in range(len(alone))]
    return [(one, other) for one, other in zip(found, alone, strict=True) if one is not None]


def random_pairs(seed: int, size: float, share: float) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    values = [np.asarray(size * rng.normal(size=shape), np.float32) for shape in SHAPES]
    return [(a, np.asarray(a + share * size * rng.normal(size=a.shape), np.float32)) for a in values]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(1e-6, 1e6), st.floats(1e-5, 1.0))
def test_sums_of_rows_are_the_exact_ones_to_a_millionth(seed: int, size: float, share: float) -> None:
    found = both([random_pairs(seed + i, size, share) for i in range(3)])
    assert len(found) == len(SHAPES)
    for one, exact in found:
        for name in FIGURES:
            near = pytest.approx(getattr(exact, name), rel=1e-6, abs={"sqnr_db": 1e-5, "cosine": 1e-6}.get(name, 0.0))
            assert getattr(one, name) == near, name
        assert (one.largest, one.samples, one.count) == (exact.largest, exact.samples, exact.count)
        assert (one.identical, one.nonfinite, one.mismatched) == (exact.identical, 0, 0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.integers(0, 99))
def test_of_equal_errors_the_first_is_the_largest(steps: list[int], seed: int) -> None:
    """On a coarse grid most errors are equal, and some tensors are identical."""
    rng = np.random.default_rng(seed)
    grid = [np.asarray(rng.integers(0, 3, shape), np.float32) for shape in SHAPES]
    samples = [[(a, np.asarray(np.roll(a, step), np.float32)) for a, step in zip(grid, steps, strict=True)]] * 2
    for one, exact in both(samples):
        assert one.largest == exact.largest
        assert one.identical == exact.identical


@pytest.mark.parametrize("odd", [np.inf, np.nan, 1e30, 1e-30, 0.0])
def test_what_float32_cannot_square_is_measured_in_float64(odd: float) -> None:
    a = np.full((2, 9000), 1e-3, np.float32)
    b = a.copy()
    b[0, 5:9] = a[1, 0] = odd
    faint = np.full((5,), odd, np.float32)
    for one, exact in both([[(a, b), (faint, faint / 2), (a, a)]]):
        assert one.nonfinite == exact.nonfinite
        assert one.sqnr_db == pytest.approx(exact.sqnr_db, rel=1e-6)
        assert one.identical == exact.identical
        assert one.largest == exact.largest


def test_parts_of_samples_make_up_the_whole() -> None:
    samples = [random_pairs(seed, 1.0, 0.1 * (seed + 1)) for seed in range(4)]
    first, second = (Damages(len(SHAPES)) for _ in range(2))
    for found, part in ((first, samples[:1]), (second, samples[1:])):
        for sample in part:
            for i, (a, b) in enumerate(sample):
                found.add(i, a, b)
    first.merge(second)
    for i, (_, exact) in enumerate(both(samples)):
        found = first.of(i)
        assert found is not None
        assert (found.largest, found.samples, found.count) == (exact.largest, exact.samples, exact.count)
        assert math.isclose(found.noise, exact.noise, rel_tol=1e-12)
    assert Damages(1).of(0) is None

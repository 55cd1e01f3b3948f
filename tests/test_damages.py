"""What is measured of all layers at once, in float32, is what each alone gives in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridq.compare.damages import Damages
from hybridq.compare.held import Held
from hybridq.compare.row_layout import BLOCK, ROW, RowLayout, Rows
from hybridq.compare.row_sums import OnePass
from hybridq.quant.metrics import Damage

FIGURES = ("sqnr_db", "cosine", "mse", "euclidean", "normalized_euclidean")
SHAPES = [(3, 7001), (), (1, ROW), (2, 3, 5), (BLOCK * ROW + 1,), (ROW - 1,)]


U8, S8, S16 = (np.dtype(kind) for kind in ("uint8", "int8", "int16"))
FORMS = [Held("x", U8, 0.03, 128), Held("x", S8, 0.05, 3), Held("x", S16, 1e-3, -7), Held("x", U8, 0.5, 0)]


def both(
    pairs: list[list[tuple[Any, Any]]], stored: list[Held] | None = None, at_once: int = 1
) -> list[tuple[Damage, Damage]]:
    """Samples of pairs of tensors: measured together, ``at_once``, and each by itself.

    ``stored`` says how the second of each pair is held.
    """
    held = stored or [Held("x")] * len(pairs[0])
    shapes = [a.shape for a, _ in pairs[0]]
    layout = RowLayout([s for s in shapes for _ in range(at_once)], [one.dtype for one in held for _ in range(at_once)])
    rows = Rows(layout, [Held("a")] * len(layout.shapes)), Rows(layout, [o for o in held for _ in range(at_once)])
    one_pass = OnePass(rows[0], rows[1:])
    together, alone = Damages(len(shapes)), [Damage() for _ in shapes]
    every = np.arange(len(shapes))
    place = every[None, :] * at_once + np.arange(at_once)[:, None]
    for start in range(0, len(pairs), at_once):
        some = pairs[start : start + at_once]
        fits = np.zeros(place.shape, bool)
        for sample, where, own in zip(some, place, fits, strict=False):
            own[:] = True
            for i, (pair, at) in enumerate(zip(sample, where.tolist(), strict=True)):
                for value, views in zip(pair, (rows[0].views, rows[1].views), strict=True):
                    view = views[at]
                    assert view is not None
                    view[...] = value
                alone[i].add(pair[0], held[i].real(pair[1]))
        sums = one_pass.sums()
        before = together.samples.copy()
        taken = together.add_rows(every, sums.signal, sums.gaps[0], place, fits)
        for n, sample in enumerate(some):
            for i in np.flatnonzero(~taken[n]).tolist():
                together.add(i, sample[i][0], held[i].real(sample[i][1]), int(before[i]) + n)
            for i, (a, _) in enumerate(sample):
                if np.isfinite(a).all():
                    assert (sums.least[place[n, i]], sums.most[place[n, i]]) == (a.min(), a.max())
    found = [together.of(i) for i in range(len(alone))]
    return [(one, other) for one, other in zip(found, alone, strict=True) if one is not None]


def random_pairs(seed: int, size: float, share: float) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    values = [np.asarray(size * rng.normal(size=shape), np.float32) for shape in SHAPES]
    return [(a, np.asarray(a + share * size * rng.normal(size=a.shape), np.float32)) for a in values]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(1e-6, 1e6), st.floats(1e-5, 1.0))
def test_sums_of_rows_are_the_exact_ones_to_a_millionth(seed: int, size: float, share: float) -> None:
    equals_exactly(both([random_pairs(seed + i, size, share) for i in range(3)]), len(SHAPES))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.sampled_from([1, 3, 4]), st.permutations(range(4)))
def test_integers_count_as_what_they_stand_for(seed: int, at_once: int, order: list[int]) -> None:
    """Sums of uint8, int8 and int16 against float, of several samples at once, are those of their real values."""
    rng = np.random.default_rng(seed)
    stored = sorted((FORMS[i] for i in order), key=lambda one: one.dtype.str)
    shapes = [(3, 7001), (BLOCK * ROW + 1,), (), (ROW - 1,)]
    samples = []
    for _ in range(5):
        floats = [np.asarray(rng.normal(size=shape), np.float32) for shape in shapes]
        samples.append([(a, quantized(a, one)) for a, one in zip(floats, stored, strict=True)])
    equals_exactly(both(samples, stored, at_once), len(stored))


def quantized(a: Any, one: Held) -> Any:
    ends = np.iinfo(one.dtype)
    return np.clip(np.rint(a / one.scale) + one.zero_point, ends.min, ends.max).astype(one.dtype)


def equals_exactly(found: list[tuple[Damage, Damage]], count: int) -> None:
    assert len(found) == count
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
        one = first.of(i)
        assert one is not None
        assert (one.largest, one.samples, one.count) == (exact.largest, exact.samples, exact.count)
        assert math.isclose(one.noise, exact.noise, rel_tol=1e-12)
    assert Damages(1).of(0) is None

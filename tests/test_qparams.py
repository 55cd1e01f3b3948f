"""Ranges and parameters: wrong values cannot be held."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import QParams, Range

ENDS = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted)
RANGES = ENDS.map(lambda e: Range(*e))


def params(scale: object = 1.0, zero_point: object = 0, axis: int | None = None) -> QParams:
    return QParams(Precision.UINT8, Scheme.ASYMMETRIC, np.float32(scale), np.int32(zero_point), axis)  # type: ignore[arg-type]


class TestRange:
    @given(RANGES, RANGES, RANGES)
    def test_union_is_associative_commutative_idempotent(self, a: Range, b: Range, c: Range) -> None:
        assert a.union(b) == b.union(a)
        assert a.union(b).union(c) == a.union(b.union(c))
        assert a.union(a) == a

    @given(RANGES)
    def test_zero_is_inside_and_nothing_is_lost(self, r: Range) -> None:
        wide = r.with_zero()
        assert wide.min <= 0 <= wide.max
        assert wide == wide.with_zero() == wide.union(r)
        assert wide.amax == max(abs(r.min), abs(r.max))

    @pytest.mark.parametrize("ends", [(1, 0), (math.nan, 0), (0, math.inf), (-math.inf, 0)])
    def test_refuses(self, ends: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="a range"):
            Range(*ends)

    def test_frozen(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Range(0, 1).min = 2  # type: ignore[misc]


class TestQParams:
    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_scale(self, scale: float) -> None:
        with pytest.raises(ValueError, match="scale must be finite and above 0"):
            params(scale)

    @pytest.mark.parametrize("zero_point", [-1, 256])
    def test_refuses_a_zero_point(self, zero_point: int) -> None:
        with pytest.raises(ValueError, match="does not fit uint8"):
            params(zero_point=zero_point)

    def test_refuses_float(self) -> None:
        with pytest.raises(ValueError, match="no quantization parameters"):
            QParams(Precision.FLOAT16, Scheme.SYMMETRIC, np.float32(1), np.int32(0))

    @pytest.mark.parametrize(("scale", "zero", "axis"), [([1, 2], [0, 0], None), (1, 0, 0), ([1, 2], [0], 0)])
    def test_refuses_shapes_that_do_not_fit(self, scale: object, zero: object, axis: int | None) -> None:
        with pytest.raises(ValueError, match="do not fit axis"):
            params(scale, zero, axis)

    def test_range_is_what_the_integers_say(self) -> None:
        assert params(0.5, 10).range == Range(-5.0, 122.5)
        assert params([0.5, 1.0], [0, 255], 0).range == Range(-255.0, 127.5)

    def test_sameness_is_of_every_integer(self) -> None:
        assert params(0.5, 3).same_as(params(0.5, 3))
        others = [params(0.25, 3), params(0.5, 4), params([0.5], [3], 0)]
        assert not any(params(0.5, 3).same_as(p) for p in others)


class TestPrecision:
    def test_numbers(self) -> None:
        assert (Precision.UINT8.qmin, Precision.UINT8.qmax) == (0, 255)
        for p in Precision:
            assert p.bits == p.numpy.itemsize * 8
            if p.is_integer:
                info = np.iinfo(p.value)
                assert (p.qmin, p.qmax) == (info.min, info.max)

    @pytest.mark.parametrize("p", [Precision.FLOAT16, Precision.FLOAT32])
    def test_floats_have_no_integers(self, p: Precision) -> None:
        with pytest.raises(ValueError, match="no integer range"):
            _ = p.qmin

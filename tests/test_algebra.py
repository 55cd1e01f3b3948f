"""Products and factors against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from hybridq.repair.algebra import factor, product


@pytest.mark.parametrize("size", [1, 9, 63, 64, 65, 200])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_factor_is_the_one_there_is(size: int, groups: int) -> None:
    x = np.random.default_rng(size).normal(size=(groups, size, 2 * size))
    wanted = np.linalg.cholesky(x @ x.transpose(0, 2, 1))
    np.testing.assert_allclose(factor(x @ x.transpose(0, 2, 1), 1), wanted, rtol=1e-9, atol=1e-9 * wanted.max())


@pytest.mark.parametrize("size", [3, 150])
def test_what_is_not_positive_definite_is_refused(size: int) -> None:
    matrix = np.eye(size)[None]
    matrix[0, -1, -1] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        factor(matrix, 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 70, 65, 130), (2, 5, 0, 70)])
def test_a_product_is_the_product(kind: type, shape: tuple[int, int, int, int]) -> None:
    groups, rows, inner, columns = shape
    random = np.random.default_rng(0)
    a, b = (
        random.normal(size=(groups, rows, inner)).astype(kind),
        random.normal(size=(groups, inner, columns)).astype(kind),
    )
    found = product(a, b, 1)
    assert found.dtype == kind
    np.testing.assert_allclose(found, a @ b, rtol=1e-4 if kind is np.float32 else 1e-12, atol=1e-5)

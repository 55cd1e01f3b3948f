"""Outputs lie where they were wanted, and are what a plain run gives."""

from __future__ import annotations

import numpy as np
import pytest
import qdq_models

from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.bound import Bound

FLOAT = qdq_models.two_heads()
NAMES = ["out", "score"]


def test_outputs_are_written_into_the_arrays_and_are_those_of_a_plain_run() -> None:
    one = runtime.session(FLOAT, threads=1)
    shapes = [value.shape for value in runtime.run(one, qdq_models.samples()[0], NAMES)]
    held = np.zeros(shapes[1], np.float32)
    for bound in (Bound(one, NAMES), Bound(one, NAMES[::-1], {"score": held})):
        for feed in qdq_models.samples():
            plain = dict(zip(NAMES, runtime.run(one, feed, NAMES), strict=True))
            found = bound.run(feed)
            assert {name: value.tobytes() for name, value in found.items()} == {
                name: value.tobytes() for name, value in plain.items()
            }
    assert found["score"] is held


def test_arrays_of_another_shape_are_left_and_new_ones_made() -> None:
    one, feed = runtime.session(FLOAT, threads=1), qdq_models.samples()[0]
    held = np.zeros((1, 2), np.float32)
    bound = Bound(one, NAMES, {"score": held})
    plain = runtime.run(one, feed, NAMES)
    for _ in range(2):
        found = bound.run(feed)
        assert all(np.array_equal(found[name], value) for name, value in zip(NAMES, plain, strict=True))
    assert not held.any()


def test_a_feed_that_does_not_fit_is_told_in_our_words() -> None:
    one = runtime.session(FLOAT, threads=1)
    bound = Bound(one, NAMES, {"score": np.zeros((1, 2), np.float32)})
    with pytest.raises(ModelError):
        bound.run({"x": np.zeros((1, 1), np.float32)})

"""What tests of built models share: their operators, and how near they are to each other and to float."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto
from random_graphs import Case, run
from random_models import Feed


def ops(model: ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def assert_same_at_all_levels(model: ModelProto, feed: Feed) -> None:
    """Optimization changes nothing but a tie of rounding here and there."""
    for fast, plain in zip(run(model, feed, "all"), run(model, feed, "none"), strict=True):
        assert np.mean(np.abs(fast - plain) > 1e-5 * np.abs(plain).max()) < 0.002


def assert_close_to_float(case: Case, model: ModelProto, decibel: float) -> None:
    for reference, found in zip(run(case.proto, case.feed), run(model, case.feed), strict=True):
        noise = float(np.mean((reference - found) ** 2))
        assert 10 * np.log10(float(np.mean(reference**2)) / max(noise, 1e-30)) > decibel

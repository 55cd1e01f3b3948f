"""What tests of repairs share: a model whose channels are of very different size, and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from helpers_graphs import given as graph

Array = np.ndarray[Any, Any]
SHAPE = (1, 4, 8, 8)


def uneven(end: str = "Relu") -> onnx.ModelProto:
    """Conv, ``end``, Conv: the first one's channels reach 1, 1/4, 1/16 and 1/64 as far."""
    random = np.random.default_rng(0)
    first = random.normal(size=(4, 4, 3, 3)).astype(np.float32) * np.array([1, 1 / 4, 1 / 16, 1 / 64]).reshape(
        4, 1, 1, 1
    )
    second = random.normal(size=(4, 4, 3, 3)).astype(np.float32) * np.array([1, 4, 16, 64]).reshape(1, 4, 1, 1)
    tensors = {"w0": first.astype(np.float32), "w1": second.astype(np.float32)}
    pads = {"pads": [1] * 4}
    return graph([("Conv", "x w0", "a", pads), (end, "a", "b", {}), ("Conv", "b w1", "y", pads)], tensors, ["y"], SHAPE)


def feeds(count: int = 8, seed: int = 1) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]

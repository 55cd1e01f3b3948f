"""``Held``: how a graph holds a tensor, as float32 or as integers that stand for real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor by name. Where ``dtype`` is one of integers, ``real = scale * (q - zero_point)`` in float32.

    That product is what ONNX Runtime's DequantizeLinear gives, bit for bit: the difference is exact in float32 up to
    16 bits.
    """

    tensor: str
    dtype: np.dtype[Any] = FLOAT
    scale: float = 1.0
    zero_point: int = 0

    def real(self, x: NDArray[Any]) -> NDArray[Any]:
        """What values stand for; those of another dtype, and floats, for themselves."""
        if self.dtype == FLOAT or x.dtype != self.dtype:
            return x
        found: NDArray[Any] = (x.astype(FLOAT) - FLOAT.type(self.zero_point)) * FLOAT.type(self.scale)
        return found

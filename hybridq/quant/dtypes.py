"""``Precision``: the choices a layer has, and the one place that knows their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

Real = NDArray[np.float32]


class Precision(StrEnum):
    """What a user may ask of a layer."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"

    @property
    def bits(self) -> int:
        """Width of one stored number in bits."""
        return _BITS[self]

    @property
    def is_integer(self) -> bool:
        """Whether numbers are stored as integers with a scale and a zero point."""
        return self in _LIMITS

    @property
    def qmin(self) -> int:
        """Smallest integer; ``ValueError`` for float precisions."""
        return self._limits()[0]

    @property
    def qmax(self) -> int:
        """Largest integer; ``ValueError`` for float precisions."""
        return self._limits()[1]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type of a stored number."""
        return np.dtype(self.value)

    @property
    def onnx(self) -> int:
        """The ONNX element type of a stored number."""
        return _ONNX[self]

    def _limits(self) -> tuple[int, int]:
        if self not in _LIMITS:
            raise ValueError(f"{self.value} has no integer range")
        return _LIMITS[self]


class Scheme(StrEnum):
    """How a range becomes a scale and a zero point (``qtype`` in the cfg)."""

    ASYMMETRIC = "asymmetric_affine"
    SYMMETRIC = "symmetric_affine"
    DYNAMIC_FIXED_POINT = "dynamic_fixed_point"

    @property
    def is_symmetric(self) -> bool:
        """Whether the real range is centred on zero."""
        return self is not Scheme.ASYMMETRIC


@dataclass(frozen=True, slots=True)
class Storage:
    """How one kind of tensor is stored at some precision. ``scheme`` is None for float.

    ``headroom`` is the factor by which a measured range is widened: what calibration did not see is not clipped. With
    ``headroom_alone`` a tensor has it only where no layer of fewer bits reads it, which would lose that bit: both have
    the range that was chosen for those bits then, which ``range_of`` names.
    """

    dtype: Precision
    scheme: Scheme | None
    per_channel: bool = False
    headroom: float = 1.0
    headroom_alone: bool = False
    range_of: Precision | None = None

    @property
    def ranged(self) -> Precision:
        """The precision whose range it has."""
        return self.range_of or self.dtype


class Granularity(StrEnum):
    """What shares one scale (``qmethod`` in the cfg): a whole tensor, or each output channel of a weight."""

    LAYER = "layer"
    CHANNEL = "channel"


_BITS = {Precision.FLOAT32: 32, Precision.FLOAT16: 16, Precision.INT16: 16, Precision.INT8: 8, Precision.UINT8: 8}
_WIDTHS = {Precision.FLOAT32: 4, Precision.FLOAT16: 3, Precision.INT16: 2, Precision.INT8: 1, Precision.UINT8: 1}
_LIMITS = {Precision.INT16: (-32768, 32767), Precision.INT8: (-128, 127), Precision.UINT8: (0, 255)}
_ONNX = {
    Precision.FLOAT32: TensorProto.FLOAT,
    Precision.FLOAT16: TensorProto.FLOAT16,
    Precision.INT16: TensorProto.INT16,
    Precision.INT8: TensorProto.INT8,
    Precision.UINT8: TensorProto.UINT8,
}


def widest(precisions: list[Precision]) -> Precision:
    """The precision with the most bits; among equals float before int, then the order of the list."""
    return max(precisions, key=lambda p: _WIDTHS[p])


def narrowest(precisions: list[Precision]) -> Precision:
    """The precision with the fewest bits; among equals int before float, then the order of the list."""
    return min(precisions, key=lambda p: _WIDTHS[p])

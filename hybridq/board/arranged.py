"""A captured tensor laid out as the model has it: many devices keep the channels last, and flat files say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from hybridq.board.records import Captured

BETTER = 0.01  # of the noise: a layout that leaves no more is the right one
TURNED = "channels last on the device: turned"
OTHER_AXES = "axes in another order on the device: turned"

Values = NDArray[np.float32]


@dataclass
class Arranger:
    """Lays tensors out; ``turned`` and ``straight`` count what was found, which decides where nothing else does."""

    turned: int = 0
    straight: int = 0

    def arrange(self, captured: Captured, values: Values, reference: Values) -> tuple[Values, str]:
        """``values`` in the shape of ``reference``, the same number of elements, and what was done to them.

        Where the form does not tell the layout, channels last is taken where the device's own shape says so, or where
        it leaves a hundredth of the noise against ``reference``; any other order of axes only where that holds. A
        toolchain that moves a Transpose behind a layer computes the layer so.
        """
        if reference.ndim < 3:
            return values.reshape(reference.shape), ""
        straight, turned = values.reshape(reference.shape), _turned(values, reference.shape)
        last = self._is_last(captured, values, reference, straight, turned)
        self.turned, self.straight = self.turned + last, self.straight + (not last)
        found = turned if last else straight
        other = _reordered(values, reference, BETTER * _noise(reference, found))
        return (other, OTHER_AXES) if other is not None else (found, TURNED if last else "")

    def _is_last(self, captured: Captured, values: Values, reference: Values, straight: Values, turned: Values) -> bool:
        if captured.nhwc is not None:
            return captured.nhwc
        a, b = _noise(reference, straight), _noise(reference, turned)
        if b < BETTER * a or a < BETTER * b:
            return b < a
        own, shape = captured.shape or values.shape, reference.shape
        if len(own) == len(shape) and own != shape:
            return own == (shape[0], *shape[2:], shape[1])
        return own != shape and self.turned > self.straight


def _turned(values: Values, shape: tuple[int, ...]) -> Values:
    """Channels last taken to where ONNX has them, behind the batch."""
    return np.moveaxis(values.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _reordered(values: Values, reference: Values, most: float) -> Values | None:
    """``values`` with their axes in the order that leaves least noise, at most ``most``; None where none does."""
    if most <= BETTER**2 * float(np.square(reference, dtype=np.float64).sum()):
        return None  # near enough as it is
    orders = permutations(range(reference.ndim))
    tried = (values.reshape([reference.shape[i] for i in o]).transpose(np.argsort(o)) for o in orders)
    noise, found = min(((_noise(reference, x), x) for x in tried), key=lambda pair: pair[0])
    return found if noise < most else None


def _noise(reference: Values, x: Values) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        found = float(np.square(reference.astype(np.float64) - x).sum())
    return found if np.isfinite(found) else np.inf

"""Why a device's tensor is not the planned one: what the two arrays alone tell. One check a cause, the surest first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

EXPLAINS = 0.05  # of the noise: what leaves no more of it explains the rest
FEW = 0.25  # of the channels
MOST = 0.9  # of the noise
EDGE = 1  # elements at each border of a picture
SHOWN = 4

Values = NDArray[np.float64]
Check = Callable[[Values, Values], str]


def cause_of(op: str, precision: str, planned: NDArray[np.float32], device: NDArray[np.float32]) -> str:
    """What differs, and what to look at, in one clause each: arrays of one shape, real values."""
    a, b = planned.astype(np.float64), device.astype(np.float64)
    for check in CHECKS:
        found = check(a, b) if a.size else ""
        if found:
            return found
    hint = "" if precision in ("float32", "float16") else ", or give it float16 there"
    return f"no simple relation between the two: look at how the device's toolkit computes a {op} in {precision}{hint}"


def _not_finite(a: Values, b: Values) -> str:
    count = int((~np.isfinite(b)).sum())
    return f"{count} of {b.size} values are NaN or infinite: look for an overflow, float16 reaches 65,504" * bool(count)


def _constant(a: Values, b: Values) -> str:
    if a.size > 1 and float(np.ptp(a)) > 0.0 and float(np.ptp(b)) == 0.0:
        return f"every value is {b.flat[0]:.4g}: it was not computed, or not copied from the device"
    return ""


def _scaled(a: Values, b: Values) -> str:
    """``device = factor * planned + offset``: another scale, another zero point, or both."""
    noise = float(np.square(a - b).sum())
    spread = float(np.square(a - a.mean()).sum())
    if noise == 0.0 or spread == 0.0:
        return ""
    factor = float(((a - a.mean()) * (b - b.mean())).sum()) / spread
    offset = float(b.mean() - factor * a.mean())
    if float(np.square(factor * a + offset - b).sum()) > EXPLAINS * noise:
        return ""
    told = [f"{factor:.4g} times the planned values"] if abs(factor - 1.0) > 1e-3 else []
    told += [f"{offset:+.4g}"] if abs(offset) > 1e-3 * float(np.abs(a).max()) else []
    what = "scale" if len(told) == 1 and told[0].endswith("values") else "zero point or bias" if len(told) == 1 else (
        "scale and zero point")  # fmt: skip
    return f"the values are {' and '.join(told) or 'shifted'}: look at its {what} there, and at its range in the cfg"


def _clipped(a: Values, b: Values) -> str:
    """The planned values cut to the device's own ends."""
    low, high = float(b.min()), float(b.max())
    noise, left = float(np.square(a - b).sum()), float(np.square(np.clip(a, low, high) - b).sum())
    if left <= EXPLAINS * noise and (a.min() < low or a.max() > high):
        return (
            f"the values are cut to [{low:.4g}, {high:.4g}], planned [{a.min():.4g}, {a.max():.4g}]: "
            "give it the planned range in the toolkit's cfg"
        )
    return ""


def _channels(a: Values, b: Values) -> str:
    """Channels in another order, or the noise in a few of them."""
    if a.ndim < 3 or a.shape[1] < 2:
        return ""
    noise = np.square(a - b).sum(axis=tuple(i for i in range(a.ndim) if i != 1))
    if float(np.square(a - b[:, ::-1]).sum()) <= EXPLAINS * float(noise.sum()):
        return "its channels are reversed: look at rgb and bgr"
    worst = np.argsort(noise)[::-1]
    few = int(np.searchsorted(np.cumsum(noise[worst]), MOST * float(noise.sum()))) + 1
    if few <= FEW * a.shape[1]:
        named = ", ".join(map(str, sorted(worst[:few].tolist())[:SHOWN])) + (", ..." if few > SHOWN else "")
        return (
            f"{MOST:.0%} of the difference is in channels {named}: look at the scales of its weights and its bias there"
        )
    return ""


def _border(a: Values, b: Values) -> str:
    """The noise at the borders of a picture."""
    if a.ndim != 4 or min(a.shape[2:]) < 6:
        return ""
    noise = np.square(a - b)
    inner = float(noise[:, :, EDGE:-EDGE, EDGE:-EDGE].sum())
    return "only the borders differ: look at its padding" if inner <= EXPLAINS * float(noise.sum()) else ""


CHECKS: tuple[Check, ...] = (_not_finite, _constant, _clipped, _scaled, _channels, _border)

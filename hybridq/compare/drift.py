"""Values outside the calibrated ranges, or lost within them: the model sees data its calibration set did not cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.compare.results import Drift

SHARE = 1e-3  # of a tensor's elements outside its range: more is significant if some lie farther out than NEAR
NEAR = 0.05  # widths of the range
FAR = 1.0  # widths of the range that any single element lies outside: more is significant
FILLS = 0.1  # of an input's range: samples that fill less are of another scale

Ends = tuple[float, float]


def ends_of(x: NDArray[Any]) -> Ends:
    """The least and the largest value of a tensor that is not empty; both NaN where one is no number."""
    flat = x.reshape(-1)
    return float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))


@dataclass(slots=True)
class DriftWatch:
    """Watches float tensors against ``ranges`` (tensor to real (min, max)); ``layers`` names who writes each."""

    ranges: Mapping[str, tuple[float, float]]
    layers: Mapping[str, str] = field(default_factory=dict)
    seen: dict[str, tuple[float, float, int, int]] = field(default_factory=dict)

    def add(self, tensor: str, x: NDArray[Any], ends: Ends | None = None) -> None:
        """Take in one sample's values of a tensor, whose ``ends_of`` may be known; empty ones are passed over."""
        if tensor not in self.ranges or not x.size:
            return
        low, high = self.ranges[tensor]
        (least, most), finite = ends or ends_of(x), x
        if not (np.isfinite(least) and np.isfinite(most)):
            finite = x[np.isfinite(x)]
            least, most = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
        outside = x.size - finite.size
        outside += int(np.count_nonzero(finite < low)) if least < low else 0
        outside += int(np.count_nonzero(finite > high)) if most > high else 0
        before = self.seen.get(tensor, (np.inf, -np.inf, 0, 0))
        self.seen[tensor] = (min(before[0], least), max(before[1], most), before[2] + outside, before[3] + x.size)

    def add_within(self, tensor: str, ends: Ends, count: int) -> bool:
        """Take in ``count`` values of a tensor between these ends where all lie in its range; whether they do."""
        low, high = self.ranges[tensor]
        within = low <= ends[0] <= ends[1] <= high
        if within:
            before = self.seen.get(tensor, (np.inf, -np.inf, 0, 0))
            self.seen[tensor] = min(before[0], ends[0]), max(before[1], ends[1]), before[2], before[3] + count
        return within

    def merge(self, later: DriftWatch) -> None:
        """Take in what was seen of other samples."""
        for tensor, (least, most, outside, count) in later.seen.items():
            before = self.seen.get(tensor, (np.inf, -np.inf, 0, 0))
            self.seen[tensor] = min(before[0], least), max(before[1], most), before[2] + outside, before[3] + count

    def found(self) -> tuple[Drift, ...]:
        """Every tensor with values outside its range, in the order of ``ranges``."""
        drifts = (self._drift(name) for name in self.ranges if name in self.seen)
        return tuple(one for one in drifts if one.share > 0.0)

    def _drift(self, name: str) -> Drift:
        (low, high), (least, most, outside, count) = self.ranges[name], self.seen[name]
        share = outside / count
        beyond = max(low - least, most - high, 0.0)
        excess = beyond / (high - low) if high > low else float("inf") if beyond else 0.0
        significant = (share > SHARE and excess > NEAR) or excess > FAR
        return Drift(name, self.layers.get(name, ""), low, high, least, most, share, excess, significant)


def quantized(graph: onnx.GraphProto) -> set[str]:
    """The float tensors that integers hold somewhere in a QDQ graph: what is quantized, and what comes of it again."""
    made = {n.output[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    read = {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    return read | {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in made}


def drift_warning(drifts: tuple[Drift, ...], watched: int) -> str:
    """One line for the user when the drift is significant, else empty."""
    significant = [one for one in drifts if one.significant]
    if not significant:
        return ""
    worst = max(significant, key=lambda one: (one.share, one.excess))
    return (
        f"{len(significant)} of {watched} tensors left the range that calibration saw; most '{worst.tensor}': "
        f"{worst.share:.2%} outside [{worst.min:.4g}, {worst.max:.4g}], seen [{worst.seen_min:.4g}, "
        f"{worst.seen_max:.4g}]. Add samples like these to step1's dataset."
    )


def scale_warnings(watch: DriftWatch, inputs: Iterable[str]) -> list[str]:
    """Inputs of which the samples fill next to nothing of the calibrated range, one line each."""
    found = []
    for name in inputs:
        low, high = watch.ranges.get(name, (0.0, 0.0))
        least, most, *_ = watch.seen.get(name, (low, high))  # not seen: nothing to say
        if high > low and most - least < FILLS * (high - low):
            share = (most - least) / (high - low)
            found.append(
                f"input '{name}' fills {share:.1%} of its calibrated range: [{least:.3g}, {most:.3g}], "
                f"not [{low:.3g}, {high:.3g}]; the same mean and std?"
            )
    return found

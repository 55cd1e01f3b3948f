"""The models' own outputs: what a user of the hybrid model gets instead of the float model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference

from hybridq.compare.error_over_time import LoopWatch
from hybridq.compare.metric import Metric, Outputs, bound, evaluate, metric_name
from hybridq.compare.results import MetricReport, OutputReport, SliceReport, TensorFigures, kept_slices
from hybridq.graph.edit import producers
from hybridq.graph.joined import joined
from hybridq.graph.operators import row_of
from hybridq.graph.outside import without_outside
from hybridq.graph.runtime import Feed
from hybridq.graph.states import States
from hybridq.quant.metrics import CenteredDamage, Damage, Parts, SliceDamage

Watch = Callable[[Feed, Outputs, Outputs], object]


@dataclass
class OutputSums:
    """Sums over the untouched models' outputs, sample by sample; the arrays are kept only for a user's metric.

    ``watch`` is shown every sample: what was fed, float's outputs, the hybrid model's.
    """

    parts: Mapping[str, Parts]
    keep: bool
    states: States
    watch: Watch | None = None
    samples: int = 0
    shapes: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    whole: dict[str, Damage] = field(default_factory=dict)
    cut: dict[str, SliceDamage] = field(default_factory=dict)
    centered: dict[str, CenteredDamage] = field(default_factory=dict)
    kept: tuple[list[Outputs], list[Outputs]] = field(default_factory=lambda: ([], []))
    equal: dict[str, tuple[int, int]] = field(default_factory=dict)  # of integers and booleans: equal ones, all
    odd: dict[str, None] = field(default_factory=dict)
    loop: LoopWatch = field(init=False)

    def __post_init__(self) -> None:
        self.loop = LoopWatch(self.states)

    def add(self, feed: Feed, begins: bool, a: Outputs, b: Outputs) -> None:
        """Take in one sample: what float was fed, whether that began anew, float's outputs, the hybrid model's."""
        if self.states:
            self.loop.add(begins, a, b)
        states = set(self.states.values())
        for name in [n for n in a if n not in states] or list(a):
            if _is_numeric(a[name]) and _is_numeric(b[name]):
                self._add(name, a[name], b[name])
            else:
                self.odd[name] = None
        if self.watch is not None:
            self.watch(feed, a, b)
        if self.keep:
            self.kept[0].append(a)
            self.kept[1].append(b)
        self.samples += 1

    def reports(self) -> tuple[OutputReport, ...]:
        """Every numeric output, in the model's order."""
        return tuple(self._report(name) for name in self.whole)

    def metric(self, metric: Metric) -> MetricReport:
        """The user's figure for both models."""
        name, metric = metric_name(metric), bound(metric, self.kept[0])
        one, other = (evaluate(metric, outputs, name) for outputs in self.kept)
        return MetricReport(name, one, other, one - other)

    def warnings(self) -> list[str]:
        """What a reader of the figures must know."""
        found = [f"output '{name}' holds no numbers and was not compared" for name in self.odd]
        for name, damage in self.whole.items():
            if damage.mismatched:
                found.append(f"output '{name}' had another shape in {damage.mismatched} of {self.samples} samples")
            if damage.nonfinite:
                found.append(f"output '{name}' has {damage.nonfinite} NaN or infinite values in one model only")
        return found

    def _add(self, name: str, a: NDArray[Any], b: NDArray[Any]) -> None:
        self.shapes.setdefault(name, (str(a.dtype), a.shape))
        if a.dtype.kind != "f":
            same, count = self.equal.get(name, (0, 0))
            found = int((a == b).sum()) if a.shape == b.shape else 0
            self.equal[name] = same + found, count + a.size
        else:
            self.centered.setdefault(name, CenteredDamage()).add(a, b)
        self.whole.setdefault(name, Damage()).add(a, b)
        self.cut.setdefault(name, SliceDamage(self.parts.get(name))).add(a, b)

    def _report(self, name: str) -> OutputReport:
        dtype, shape = self.shapes[name]
        cut = self.cut[name]
        figures, worst = TensorFigures.of(self.whole[name]), SliceReport.of(cut.worst())
        slices = kept_slices(cut.slices()) if name not in self.equal else ()
        same, count = self.equal.get(name, (0, 0))
        equal = (same / count if count else 1.0) if name in self.equal else None
        centered = self.centered[name].sqnr_db if name in self.centered else None
        return OutputReport(name, dtype, shape, figures.sqnr_db, worst.sqnr_db, figures, worst, slices, equal, centered)


def concatenated(proto: onnx.ModelProto) -> dict[str, Parts]:
    """The outputs that a Concat joins, and the sizes of what it joins, as far as shapes can be inferred."""
    graph = proto.graph
    if not any(row_of(node).moves_all for node in graph.node):
        return {}
    known = shape_inference.infer_shapes(without_outside(proto)).graph
    values = (*known.value_info, *known.input, *known.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    writers = producers(graph.node)
    behind = {v.name: joined(v.name, writers, shapes) for v in graph.output}
    return {n: Parts(found[0], tuple(size for _, size in found[1])) for n, found in behind.items() if found}


def _is_numeric(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"

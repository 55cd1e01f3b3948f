"""What step 1 chooses by, unasked: a candidate is built with every layer at its default, and its damage is measured.

The damage is the one that a search uses (``measuring.damage``), on the first samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hybridq.calibration.statistics import CalibrationStats
from hybridq.execution.progress import Progress, no_progress
from hybridq.graph.chance import seeded
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed, session
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.search.choice import Choice
from hybridq.search.measuring.damage import Objective, Reference, measure_reference
from hybridq.search.measuring.joint import Bench
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.record_json import to_json
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights, size_of

BIG = 1 << 30  # bytes of weights of a model that is too large to be built and run several times
FEW = 32  # samples by which step1 chooses


@dataclass(frozen=True)
class Calibration:
    """One way to calibrate a model. ``repairs`` says in words what was done to its weights."""

    weights: Weights
    calibrated: Calibrated
    stats: CalibrationStats
    repairs: tuple[str, ...] = ()


def is_big(weights: Weights) -> bool:
    """Whether a model is too large to be built and run several times."""
    return size_of(weights) > BIG


@dataclass(frozen=True)
class Bed:
    """What repairs are made and measured with: model, samples, threads of ONNX Runtime, whom to tell, what was kept.

    ``ranges``: another algorithm that may choose the ranges, where it serves better; none where one was asked for.
    """

    model: Model
    feeds: Sequence[Feed]
    threads: int
    progress: Progress = no_progress
    kept: Kept = NOTHING
    ranges: str = ""

    @property
    def words(self) -> dict[str, Any]:
        """How a repair goes about it."""
        return {"threads": self.threads, "progress": self.progress, "kept": self.kept}


def planned(model: Model, found: Calibration) -> QuantPlan:
    """The plan of a candidate, every layer at its default."""
    config = QuantConfig(found.calibrated.target, {}, found.calibrated.entries, {})
    return make_plan(model, found.calibrated, config, found.weights)


@dataclass
class Measure:
    """What a candidate does to the outputs; each is measured once, beside ``first``. ``expected``: so many, at most."""

    bed: Bed
    first: Calibration
    expected: int
    known: list[tuple[Calibration, float]] = field(default_factory=list)

    def __call__(self, one: Calibration) -> float:
        """The damage that a candidate does."""
        for other, found in self.known:
            if other is one:
                return found
        kept, key = self.bed.kept, self._key(one)
        held = kept.get(key, (), np.float64)
        found = float(held) if held is not None else self._damage(one)
        kept.put(key, np.array(found))
        self.known.append((one, found))
        self.bed.progress("comparing repairs", len(self.known), max(self.expected, len(self.known)))
        return found

    def _damage(self, one: Calibration) -> float:
        reference, aim = self._aim
        return (
            Bench(self.bed.model, one.weights, one.calibrated, reference, self.bed.threads, aim=aim)
            .measure(Choice())
            .damage
        )

    @cached_property
    def _aim(self) -> tuple[Reference, Objective]:
        model, first, threads = self.bed.model, self.first, self.bed.threads
        float_model = session(seeded(assemble(model.proto, first.weights)), threads=threads)
        reference = measure_reference(float_model, self.bed.feeds, model)
        return reference, Bench(model, first.weights, first.calibrated, reference, threads).aim_of()

    def _key(self, one: Calibration) -> str:
        """All that the damage hangs on."""
        if self.bed.kept.folder is None:
            return ""
        both = [(c.weights, c.weights.biases, c.weights.rounded, to_json(c.calibrated)) for c in (self.first, one)]
        return self.bed.kept.key("damage", self.bed.model.sha256, both, self.bed.feeds)

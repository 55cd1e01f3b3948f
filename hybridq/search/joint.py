"""The truth: build the model that a choice gives, run it in ONNX Runtime on the samples, look at its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.compare.metric import Metric, Outputs, evaluate, metric_name
from hybridq.graph.model import Model
from hybridq.graph.runtime import run, session
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.shares import high_fraction
from hybridq.quant.dtypes import Precision
from hybridq.quant.params import TOGETHER
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, LayerChoice, QuantConfig
from hybridq.search.alone import chunks, noise_of
from hybridq.search.damage import Doubles, Objective, Reference, Sqnr, objective, one_row
from hybridq.search.growing import Forms
from hybridq.storage.weights import Weights

Progress = Callable[[int], object]


BIAS, CORRECTED = ":bias", "corrected"  # how a choice names a layer's bias, and what becomes of it


@dataclass(frozen=True)
class Choice:
    """What a search decides: precisions of layers, and an algorithm by entry.

    An entry is a group, ``LAYER:weight``, or ``LAYER:bias`` for a corrected bias. What is done to weights and biases
    counts while the layer has 8 bits.
    """

    layers: Mapping[str, Precision] = field(default_factory=dict)
    algorithms: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A text that is the same for the same choice."""
        return "|".join(",".join(f"{k}={v}" for k, v in sorted(x.items())) for x in (self.layers, self.algorithms))


class Figures(NamedTuple):
    """What a choice measures: damage, share of MACs above 8 bits, two SQNRs in dB by output, the user's metric.

    ``sqnr_db`` is of the whole output, signal power over noise power; ``worst_sqnr_db`` of its worst slice, that
    slice's variance over its noise.
    """

    damage: float
    high: float
    sqnr_db: dict[str, float]
    worst_sqnr_db: dict[str, float]
    metric: float | None = None

    @property
    def least(self) -> float:
        """``sqnr_db`` of the worst output."""
        return min(self.sqnr_db.values(), default=200.0)

    @property
    def least_worst(self) -> float:
        """``worst_sqnr_db`` of the worst output."""
        return min(self.worst_sqnr_db.values(), default=200.0)


@dataclass
class Bench:
    """Everything needed to measure a choice, and what was measured already."""

    model: Model
    weights: Weights
    calibrated: Calibrated
    reference: Reference
    threads: int = 1
    workers: int = 1
    metric: Metric | None = None
    corrections: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rounded: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    aim: Objective | None = None
    known: dict[str, Figures] = field(default_factory=dict)
    alone: dict[str, list[float]] = field(default_factory=dict)
    save: Callable[[], None] | None = None

    def plan(self, choice: Choice) -> tuple[QuantPlan, Weights]:
        """The plan of a choice and the weights that go with it."""
        entries = dict(self.calibrated.entries)
        named = {k: a for k, a in choice.algorithms.items() if k in entries}
        entries.update({k: replace(entries[k], algorithm=a, scale=None, zero_point=None) for k, a in named.items()})
        layers = {k: LayerChoice(v) for k, v in choice.layers.items()}
        config = QuantConfig(self.calibrated.target, layers, entries, {})
        weights = self.weights.repaired(rounded={n: self.rounded[n] for n in self.together(choice)})
        plan = make_plan(self.model, self.calibrated, config, weights)
        biases = self.biases(choice, plan)
        if biases:
            weights = weights.changed({self.model.layer[n].bias: b for n, b in biases.items()})
            plan = make_plan(self.model, self.calibrated, config, weights)
        return plan, weights

    def together(self, choice: Choice) -> list[str]:
        """Layers whose weights a choice rounds together."""
        wanted = (k.removesuffix(WEIGHT_SUFFIX) for k, a in choice.algorithms.items() if a == TOGETHER)
        return [n for n in wanted if n in self.rounded]

    def biases(self, choice: Choice, plan: QuantPlan) -> dict[str, NDArray[Any]]:
        """The corrected biases that a choice uses, by layer."""
        wanted = [k.removesuffix(BIAS) for k in choice.algorithms if k.endswith(BIAS)]
        return {n: self.corrections[n] for n in wanted if n in self.corrections and plan.layers[n].done.bits == 8}

    def aim_of(self) -> Objective:
        """The objective; all layers in 8 bits are measured first."""
        if self.aim is None:
            self.aim = objective(self.reference, self._noise(Choice())[0])
        return self.aim

    def build(self, choice: Choice) -> onnx.ModelProto:
        """The ONNX model of a choice."""
        plan, weights = self.plan(choice)
        return build(self.model, plan, weights).assemble()

    def measure(self, choice: Choice) -> Figures:
        """Build and run a choice on every sample, or recall what was measured."""
        if choice.key not in self.known:
            aim = self.aim_of()
            noise, kept, high, sqnr = self._noise(choice)
            damage = float(sum(aim.of(i, row[None])[0] for i, row in enumerate(noise)))
            figures = Figures(damage, high, sqnr.whole, sqnr.worst, self._metric(kept))
            self.known[choice.key] = figures
            if self.save is not None:
                self.save()
        return self.known[choice.key]

    def measure_all(self, choices: Sequence[Choice]) -> list[Figures]:
        """Several choices, ``workers`` at a time; the result is the same as one by one."""
        self.aim_of()
        if self.workers < 2:
            return [self.measure(c) for c in choices]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self.measure, choices))

    def damages(
        self, stage: str, variants: Sequence[Forms], samples: Sequence[int], progress: Progress | None = None
    ) -> Doubles:
        """Damage of variants of the float model, kept under the name of a stage and resumed there."""
        kept = self.alone.setdefault(stage, [])
        for start, chunk in chunks(self.model, variants):
            if start >= len(kept):
                noise = noise_of(self.model, self.weights, {}, chunk, self.reference, samples, threads=self.threads)
                kept.extend(self._damage(noise[:, 1:], samples).tolist())
                if self.save is not None:
                    self.save()
            if progress is not None:
                progress(start + len(chunk))
        return np.array(kept[: len(variants)])

    def _damage(self, noise: Doubles, samples: Sequence[int]) -> Doubles:
        """Damage of noise (samples, rows, slices), as if these samples were all there are."""
        total = np.sum([self.aim_of().of(i, rows) for i, rows in zip(samples, noise, strict=True)], axis=0)
        found: Doubles = total * (len(self.reference.feeds) / len(samples))
        return found

    def _noise(self, choice: Choice) -> tuple[Doubles, list[Outputs], float, Sqnr]:
        plan, weights = self.plan(choice)
        one = session(build(self.model, plan, weights).assemble(), threads=self.threads)
        names, kept, noise = list(self.reference.names), [], []

        def outputs() -> Iterator[list[NDArray[Any]]]:
            for i, feed in enumerate(self.reference.feeds):
                found = run(one, feed, names)
                noise.append(self.reference.noise(i, [one_row(x) for x in found])[0])
                if self.metric is not None:
                    kept.append(dict(zip(names, found, strict=True)))
                yield found

        sqnr = self.reference.compared(outputs())
        return np.stack(noise), kept, high_fraction(self.model, plan), sqnr

    def _metric(self, outputs: list[Outputs]) -> float | None:
        return None if self.metric is None else evaluate(self.metric, outputs, metric_name(self.metric))

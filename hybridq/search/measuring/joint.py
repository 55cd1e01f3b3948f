"""The truth: build the model that a choice gives, run it in ONNX Runtime on the samples, look at its outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.compare.metric import Metric, Outputs, evaluate, metric_name
from hybridq.execution.pool import HERE, Pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.execution.shared import Shared
from hybridq.graph.chance import random_nodes, seeded
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, session
from hybridq.plan.plan import done_precisions, make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.separate import separate
from hybridq.plan.share_of_macs import high_fraction
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, LayerChoice, QuantConfig
from hybridq.search.choice import Choice, Figures
from hybridq.search.measuring.alone import Variants, chunks, fingerprint, grows, noise_of
from hybridq.search.measuring.answers import Passed, changed
from hybridq.search.measuring.damage import Doubles, Objective, Reference, objective, one_row
from hybridq.search.measuring.figures import Sqnr, Sums
from hybridq.search.measuring.growing import Forms
from hybridq.search.measuring.quantizers import sources
from hybridq.search.work import Effort, Prices, TimeUp
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.weights import Weights

Stopwatch = Callable[[QuantConfig, QuantPlan, Weights, Feed], float]  # float time over the result's, elsewhere


class Joint(NamedTuple):
    """What a joint model did: noise by sample and slice, the outputs that are looked at whole, and sums over all."""

    noise: Doubles
    kept: list[Outputs]
    high: float
    sqnr: Sqnr
    passed: Mapping[str, float]


@dataclass
class Bench:
    """Everything needed to measure a choice, and what was measured already.

    ``weights`` are the given ones and ``calibrated`` has them rounded one by one; ``rounded``, ``corrections`` and
    ``behind`` hold the repairs that a choice may use, by layer: weights rounded together, biases corrected for weights
    rounded one by one, and for those rounded together.

    ``elsewhere`` has what is known where other Concats are separate, by ``mark`` and key.
    ``known`` and ``tried`` go by the key of a choice, ``alone`` by the
    fingerprint of a quantizer: its damage on each of the samples that quantizers are measured on, in their order.
    Whatever is asked for has its price, whether it was measured before (``paid``: samples by fingerprint) or not: a
    search that goes on where it was killed comes as far as one that was not. ``stopwatch`` times a choice in another
    ``runtime``.
    """

    model: Model
    weights: Weights
    calibrated: Calibrated
    reference: Reference
    threads: int = 1
    pool: Pool = HERE
    metric: Metric | None = None
    corrections: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    behind: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rounded: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    aim: Objective | None = None
    known: dict[str, Figures] = field(default_factory=dict)
    tried: dict[str, Choice] = field(default_factory=dict)
    elsewhere: dict[str, Figures] = field(default_factory=dict)
    alone: dict[str, list[float]] = field(default_factory=dict)
    save: Callable[[], None] | None = None
    effort: Effort = field(default_factory=Effort)
    paid: dict[str, int] = field(default_factory=dict)
    progress: Progress = no_progress
    stopwatch: Stopwatch | None = None
    runtime: str = ""
    kept: Kept = NOTHING  # repairs that a search which was killed had made
    given: tuple[tuple[Any, ...], Any] | None = None  # what workers hold, and of which repairs it is

    @property
    def mark(self) -> str:
        """What tells measurements with these Concats separate from others."""
        return "".join(f"separate {name}|" for name in self.calibrated.separate)

    @property
    def measured(self) -> dict[str, Figures]:
        """All that is known, by mark and key."""
        return {**self.elsewhere, **{self.mark + key: figures for key, figures in self.known.items()}}

    def separated(self, concats: Collection[str]) -> Bench:
        """The same with these Concats separate, measured against the same aim; none is yet."""
        model, calibrated = separate(self.model, self.calibrated, concats)
        other = replace(self, model=model, calibrated=calibrated, aim=self.aim_of(), tried={}, given=None)
        return other.recalled(self.measured)

    def recalled(self, measured: Mapping[str, Figures]) -> Bench:
        """The same with what is known of it, and of others."""
        own = {k.removeprefix(self.mark): f for k, f in measured.items() if _mark_of(k) == self.mark}
        return replace(self, known=own, elsewhere={k: f for k, f in measured.items() if _mark_of(k) != self.mark})

    def plan(self, choice: Choice) -> tuple[QuantPlan, Weights]:
        """The plan of a choice and the weights that go with it."""
        return self.settled(choice)[1:]

    def settled(self, choice: Choice) -> tuple[QuantConfig, QuantPlan, Weights]:
        """A choice as a cfg says it, its plan, and the weights that go with it."""
        config = self._config(choice)
        weights = self.weights.repaired(rounded={n: self.rounded[n] for n in self.together(choice)})
        biases = self._biases(choice, config)
        if biases:
            weights = weights.changed({self.model.layer[n].bias: b for n, b in biases.items()})
        return config, make_plan(self.model, self.calibrated, config, weights), weights

    def _config(self, choice: Choice) -> QuantConfig:
        """A choice as a cfg says it."""
        tuning = choice.tuning
        entries = dict(self.calibrated.entries)
        named = {**tuning.ranges, **{n + WEIGHT_SUFFIX: how for n, how in tuning.weights.items()}}
        for key, algorithm in named.items():
            if key in entries:
                entries[key] = replace(entries[key], algorithm=algorithm, scale=None, zero_point=None)
        layers = {k: LayerChoice(v) for k, v in choice.layers.items()}
        return QuantConfig(self.calibrated.target, layers, entries, {})

    def together(self, choice: Choice) -> list[str]:
        """Layers whose weights a choice rounds together."""
        return [n for n in choice.tuning.together if n in self.rounded]

    def biases(self, choice: Choice) -> dict[str, NDArray[Any]]:
        """The corrected biases that a choice uses, by layer."""
        return self._biases(choice, self._config(choice))

    def _biases(self, choice: Choice, config: QuantConfig) -> dict[str, NDArray[Any]]:
        if not choice.tuning.biases:
            return {}
        together = set(self.together(choice))
        done = done_precisions(self.model, self.calibrated, config, self.weights)
        low = [n for n in sorted(choice.tuning.biases) if done[n].bits == 8]
        held = {n: self.behind if n in together else self.corrections for n in low}
        return {n: held[n][n] for n in low if n in held[n]}

    def aim_of(self) -> Objective:
        """The objective; all layers in 8 bits are measured first."""
        if self.aim is None:
            self.aim = objective(self.reference, self._noise(Choice()).noise)
        return self.aim

    def build(self, choice: Choice) -> onnx.ModelProto:
        """The ONNX model of a choice."""
        plan, weights = self.plan(choice)
        return build(self.model, plan, weights).assemble()

    @cached_property
    def prices(self) -> Prices:
        """What measuring costs."""
        return Prices.of(self.model)

    @cached_property
    def grows(self) -> bool:
        """Whether one graph can carry many quantizers."""
        plan, weights = self.plan(Choice())
        variants = [s.forms for s in sources(self.model, plan, weights)]
        return grows(self.model, self.weights, variants, self.reference)

    def measure(self, choice: Choice) -> Figures:
        """Build and run a choice on every sample, or recall what was measured. Raises TimeUp."""
        self._pay(choice)
        return self._measured(choice)

    def figures(self, choice: Choice) -> Figures:
        """``measure``, whether there is time or not."""
        self.tried.setdefault(choice.key, choice)
        return self._measured(choice, must=True)

    def measure_all(self, choices: Sequence[Choice], what: str = "measuring joint models") -> list[Figures]:
        """Several choices, wherever there are workers; the result is the same as one by one. Raises TimeUp.

        Where there is no time for all, the first are measured.
        """
        self.aim_of()
        paid = list(takewhile(self._affords, choices))
        new = list({c.key: c for c in paid if c.key not in self.known}.values())
        shared, wanted = self._shared(), self._wanted()
        ran = self.pool.over(measure_joint, ((shared, c, wanted) for c in new))
        found: list[Figures] = []
        for choice in paid:
            if choice.key not in self.known:
                self._in_time()
                self._settle(choice, next(ran))
            found.append(self.known[choice.key])
            self.progress(what, len(found), len(choices))
        if len(paid) < len(choices):
            raise TimeUp
        return found

    def _pay(self, choice: Choice) -> None:
        if choice.key not in self.tried:
            self.effort.spend(self.prices.joint(len(self.reference.feeds)))
            self.tried[choice.key] = choice

    def _affords(self, choice: Choice) -> bool:
        try:
            self._pay(choice)
        except TimeUp:
            return False
        return True

    def _measured(self, choice: Choice, *, must: bool = False) -> Figures:
        if choice.key not in self.known:
            if not must:
                self._in_time()
            self.aim_of()
            self._settle(choice, self._noise(choice, self._wanted()))
        return self.known[choice.key]

    def _in_time(self) -> None:
        if self.effort.deadline.over:
            raise TimeUp

    def _settle(self, choice: Choice, measured: Joint) -> None:
        """Keep what a joint model did."""
        aim = self.aim_of()
        damage = [float(aim.of(i, row[None])[0]) for i, row in enumerate(measured.noise)]
        self.known[choice.key] = Figures(
            float(sum(damage)),
            measured.high,
            measured.sqnr.whole,
            measured.sqnr.worst,
            self._metric(measured.kept),
            self._changed(measured.kept),
            (float(sum(damage[::2])), float(sum(damage[1::2]))),
            measured.passed,
        )
        if self.save is not None:
            self.save()

    def damages(self, variants: Sequence[Forms], samples: Sequence[int], what: str = "each quantizer alone") -> Doubles:
        """Damage of variants of the float model, each as if ``samples`` were all there are; kept and resumed.

        ``samples`` are always the first of one and the same row of samples. Raises TimeUp.
        """
        keys = [fingerprint(v) for v in variants]
        self._pay_alone(keys, len(samples))
        missing = {k: v for k, v in zip(keys, variants, strict=True) if len(self.alone.get(k, ())) < len(samples)}
        for start, chunk, rows in self._alone(missing, samples):
            for done, row in enumerate(rows, start=1):
                self._in_time()
                for key, damage in zip(chunk, row, strict=True):
                    held = self.alone.setdefault(key, [])
                    if len(held) < done:
                        held.append(damage)
                if self.save is not None:
                    self.save()
                self.progress(what, start * len(samples) + done * len(chunk), len(missing) * len(samples))
        scale = len(self.reference.feeds) / len(samples)
        return np.array([scale * sum(self.alone[k][: len(samples)]) for k in keys])

    def _pay_alone(self, keys: Sequence[str], samples: int) -> None:
        unpaid = [k for k in dict.fromkeys(keys) if self.paid.get(k, 0) < samples]
        if unpaid:
            self.effort.spend(len(unpaid) * self.prices.alone(samples, together=self.grows))
        self.paid.update(dict.fromkeys(unpaid, samples))

    def _alone(
        self, missing: Mapping[str, Forms], samples: Sequence[int]
    ) -> Iterator[tuple[int, Sequence[str], Iterator[list[float]]]]:
        """Chunk by chunk, sample by sample what each variant adds to the damage, with the number of the first."""
        parts = list(chunks(self.model, list(missing)))
        self.aim_of()
        if self.pool is HERE:
            for start, chunk in parts:
                yield start, chunk, self.rows([missing[k] for k in chunk], samples)
            return
        shared, pieces = self._shared(), self._pieces(samples, len(parts))
        shards = ((shared, [missing[k] for k in chunk], piece) for _, chunk in parts for piece in pieces)
        found = self.pool.over(measure_alone, shards)
        for start, chunk in parts:
            yield start, chunk, (row for _ in pieces for row in next(found))

    def _pieces(self, samples: Sequence[int], parts: int) -> list[Sequence[int]]:
        """Samples cut where there are fewer graphs than workers; those that hang on the ones before stay together."""
        count = max(1, -(-2 * self.pool.workers // max(1, parts)))
        if self.model.states or random_nodes(self.model.proto.graph):
            count = 1
        step = max(1, -(-len(samples) // count))
        return [samples[start : start + step] for start in range(0, len(samples), step)]

    def rows(self, variants: Sequence[Forms], samples: Sequence[int]) -> Iterator[list[float]]:
        """Sample by sample what each variant adds to the damage."""
        aim = self.aim_of()
        asked = Variants(self.model, self.weights, {}, variants, self.reference)
        noise = noise_of(asked, samples, threads=self.threads, between=self._in_time)
        return (aim.of(i, rows[1:]).tolist() for i, rows in zip(samples, noise, strict=True))

    def _shared(self) -> Any:
        """What workers measure on, given to them once, and again when there are new repairs."""
        known = (self.corrections, self.behind, self.rounded)
        if self.given is None or any(a is not b for a, b in zip(self.given[0], known, strict=True)):
            self.given = known, self.pool.share(self.bare())
        return self.given[1]

    def bare(self) -> Bench:
        """What it takes to measure, without what was measured and whoever is told."""
        nothing: Any = {
            "known": {},
            "tried": {},
            "elsewhere": {},
            "alone": {},
            "paid": {},
            "save": None,
            "metric": None,
            "given": None,
            "stopwatch": None,
            "kept": NOTHING,
        }
        model = replace(self.model)  # without what was looked up in it
        return replace(self, model=model, pool=HERE, effort=Effort(), progress=no_progress, **nothing)

    def _wanted(self) -> frozenset[str]:
        """Outputs that are looked at whole."""
        return frozenset(self.reference.names) if self.metric is not None else self.reference.classes

    def _noise(self, choice: Choice, wanted: Collection[str] = ()) -> Joint:
        plan, weights = self.plan(choice)
        one = session(seeded(build(self.model, plan, weights).assemble()), threads=self.threads)
        rolled = Rolled(one, self.model.states)
        names, kept, noise, told = list(self.reference.names), [], [], Sums(self.reference.told)
        passed: dict[str, Passed] = {}
        for i, feed in enumerate(self.reference.feeds):
            outputs = rolled.run(feed, names)
            noise.append(self.reference.noise(i, [one_row(x) for x in outputs], told)[0])
            self.reference.passed(i, dict(zip(names, outputs, strict=True)), passed)
            kept.append({n: x for n, x in zip(names, outputs, strict=True) if n in wanted})
        shares = {n: x.changed for n, x in passed.items()}
        return Joint(np.stack(noise), kept, high_fraction(self.model, plan), told.sqnr(), shares)

    def _changed(self, kept: list[Outputs]) -> dict[str, float]:
        """Of every classification the expected share of answers that differ from float's."""
        reference = self.reference
        place = {n: i for i, n in enumerate(reference.names)}
        return {
            n: changed([s[place[n]] for s in reference.given], [k[n] for k in kept], logarithms=n in reference.logs)
            for n in sorted(reference.classes)
        }

    def _metric(self, outputs: list[Outputs]) -> float | None:
        return None if self.metric is None else evaluate(self.metric, outputs, metric_name(self.metric))


def _mark_of(key: str) -> str:
    """The mark that a key of ``Bench.measured`` begins with."""
    return "".join(takewhile(lambda part: part.startswith("separate "), (f"{x}|" for x in key.split("|"))))


def measure_joint(shared: Shared[Bench], choice: Choice, wanted: Collection[str]) -> Joint:
    """What the model of a choice does, in any process."""
    return shared.value._noise(choice, wanted)


def measure_alone(shared: Shared[Bench], variants: Sequence[Forms], samples: Sequence[int]) -> list[list[float]]:
    """What each of some variants adds to the damage, sample by sample, in any process."""
    return list(shared.value.rows(variants, samples))

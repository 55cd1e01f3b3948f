"""One run of step 1: from the prepared model and samples to the state that is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hybridq.calibration.calibrate import PAIRS_ONLY
from hybridq.calibration.convergence import convergence
from hybridq.calibration.datafree import data_free
from hybridq.calibration.ranges import ALGORITHMS, RangeAlgorithm
from hybridq.calibration.statistics import CalibrationStats
from hybridq.dataset import AuditRow, Dataset, input_specs, open_dataset
from hybridq.errors import DatasetError, HybridqError, Problem
from hybridq.execution.progress import Progress
from hybridq.graph.rolling import follower, in_a_row
from hybridq.graph.runtime import Feed
from hybridq.graph.states import States
from hybridq.linting import Finding, lint
from hybridq.plan.as_given import as_given
from hybridq.plan.defaults import LoopDefaults
from hybridq.plan.record import Request, decide, record, with_weights
from hybridq.quant.records import Calibrated
from hybridq.repair.equalization import NOTHING as UNEQUALIZED
from hybridq.repair.equalization import Equalizations, equalizations
from hybridq.search.for_step1.measure import FEW, Bed, Calibration, is_big
from hybridq.search.for_step1.range_algorithm import choose_algorithm
from hybridq.search.for_step1.recurrent import ENOUGH_DB, SEARCHED_DB, choose_loop
from hybridq.search.for_step1.weight_repair import (
    EQUALIZED,
    Repair,
    repaired,
    rounded_operands,
    said_of_repair,
)
from hybridq.search.work import Deadline
from hybridq.steps.one_pass import Pass
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.prepare import Prepared, Seen
from hybridq.steps.quantized import not_as_given, said_as_given
from hybridq.storage import state as storage
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.state import State
from hybridq.storage.weights import Weights, size_of
from hybridq.targets import Target

REPAIR_SAMPLES = 64
REPAIRED, REPAIRED_SECONDS = 0.3, 3.0  # of the time that is left, if it was set, or so many seconds: for weights,
SEARCHED = 2  # where there is more of it than so many times what has passed: a search can follow that does more
LOOP_STEPS = 320  # of the first sequences, on which defaults are measured in the loop
GROWING = "unsettled"  # the finding that tells of ranges what a remark would tell once more
EVEN_SAMPLES = 8  # fewer do not tell how loud a channel may become


@dataclass(frozen=True)
class Step1Result:
    """What step1 found: the audit of what entered the model, warnings, remarks, and the state it wrote.

    ``findings`` say which layers 8 bits will harm; they are not kept with the state.
    ``pace``: seconds that a sample took.
    """

    directory: Path
    state: State
    rows: list[AuditRow]
    problems: list[Problem]
    remarks: list[str] = field(default_factory=list)
    canonical_difference: float = 0.0
    stats: CalibrationStats | None = None
    findings: tuple[Finding, ...] = ()
    pace: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Step1Run:
    """One run of step 1, from the prepared model to the state to be written."""

    prepared: Prepared
    options: Step1Options
    target: Target
    progress: Progress
    deadline: Deadline
    equalized: tuple[str, ...] = ()  # layers whose channels were
    loop: LoopDefaults | None = None
    kept: Kept = NOTHING

    def with_data(self, dataset: Any, executor: Executor | None, directory: Path) -> Step1Result:
        """Measure ranges on samples."""
        options = self.options
        specs = input_specs(self.prepared.model)
        follow = follower(self.prepared.proto, self.prepared.model.states, threads=options.threads)
        data = open_dataset(dataset, specs, options.preprocessing, options.samples, options.sequence, follow)
        began = time.perf_counter()
        stats, looked = self._pass(executor).over(data)
        pace = (time.perf_counter() - began) / max(1, stats.samples)
        audit = looked.audit
        audit.check()
        work = replace(self, prepared=self.prepared.of_shapes(looked.seen, options.threads))
        result = work._chosen(stats, data, looked.seen, executor)
        problems = [
            *audit.problems,
            *self.prepared.problems(result.canonical_difference),
            *result.problems,
        ]
        told = [*_loop(self.prepared.model.states, stats.samples, looked.seen.sequences), *result.remarks]
        return replace(result, directory=directory, rows=audit.rows, problems=problems, remarks=told, pace=pace)

    def _chosen(self, stats: CalibrationStats, data: Dataset, seen: Seen, executor: Executor | None) -> Step1Result:
        """Ranges and weights for what was measured."""
        self.progress("choosing ranges", 0, None)
        model, options, first = self.prepared.model, self.options, seen.first or {}
        difference = self.prepared.difference(first, options.threads)
        own = replace(self, loop=self._in_loop(stats, data))
        found, feeds = own._repaired(own._candidate(stats), data, self._feeds(data, [first]), executor)
        weights, calibrated, left = found.weights, found.calibrated, list[Problem]()
        if options.by is RangeAlgorithm.AUTO and not is_big(weights):
            self.progress("comparing algorithms", 0, None)
            names = self._algorithms()
            calibrated = choose_algorithm(
                model, weights, calibrated, self.target, names, feeds, threads=options.threads
            )
        if self.prepared.recovered is not None:
            calibrated, left = as_given(
                calibrated, model, self.prepared.recovered, self.target, str(self.prepared.path)
            )
            work = (self.prepared.path, self.prepared.recovered, model, calibrated, weights)
            left += not_as_given(*work, first, options.threads)
        state = State(
            model, weights, calibrated, data.preprocessing.to_json(), stats.samples, options.sequence, dict(first)
        )
        findings = lint(model, weights, calibrated, self.target, found.stats.tensors)
        growing = any(f.code == GROWING for f in findings)
        measured = stats.of(s for group in model.groups for s in group.sources)
        if self.prepared.recovered is not None:
            remarks = said_as_given(self.prepared.recovered, options)
        else:
            remarks = [] if growing else [convergence(measured).summary]
            remarks += _ranges(options.by, calibrated.algorithm)
            remarks += said_of_repair(weights, options.repair, found.repairs)
        return Step1Result(Path(), state, [], left, remarks, difference, found.stats, findings)

    def without_data(self, directory: Path) -> Step1Result:
        """Take ranges from the BatchNorm parameters."""
        options, model = self.options, self.prepared.model
        preprocessing, inputs = options.preprocessing, input_specs(model)
        if wrong := preprocessing.problems(inputs):
            raise DatasetError(wrong)
        found = data_free(self.prepared.given, self.prepared.proto, preprocessing.pixel_ranges(inputs))
        weights = storage.weights_of(self.prepared.proto)
        calibrated = record(model, weights, found.measured(model), self._request())
        state = State(model, weights, calibrated, preprocessing.to_json())
        findings = lint(model, weights, calibrated, self.target)
        problems = self.prepared.problems(0.0)
        return Step1Result(directory, state, [], problems, found.remarks(model), findings=findings)

    def _pass(self, executor: Executor | None) -> Pass:
        return Pass(self.prepared, self.options, self.progress, executor)

    def _algorithms(self) -> list[str]:
        """Every algorithm the pass can serve: those without a histogram cost less."""
        few = self.options.by in PAIRS_ONLY and not self.options.every_algorithm
        return sorted(PAIRS_ONLY) if few else list(ALGORITHMS)

    def _request(self, loop: LoopDefaults | None = None) -> Request:
        """What is asked for, in the plan's words."""
        options = self.options
        words = (options.by, options.weights, options.weights_algorithm)
        return Request(self.target, options.default, *words, literal=options.literal, loop=loop)

    def _decide(self, weights: Weights, stats: CalibrationStats, loop: LoopDefaults | None = None) -> Calibrated:
        found = stats.tensors, self._request(loop), self._algorithms(), self.options.ranges
        return decide(self.prepared.model, weights, *found)

    def _in_loop(self, stats: CalibrationStats, data: Dataset) -> LoopDefaults | None:
        """What is different in a recurrent model, measured; nothing where a precision was asked for."""
        model, options = self.prepared.model, self.options
        if not model.states or options.literal or not self.target.latency_aware or self.prepared.recovered is not None:
            return None
        weights = storage.weights_of(self.prepared.proto)
        if is_big(weights):
            return None
        try:
            feeds = in_a_row([sample.feed for sample in data.part(0, LOOP_STEPS)], model.states)
        except DatasetError:
            return None
        self.progress("measuring the loop", 0, None)

        def made(loop: LoopDefaults) -> Calibrated:
            return self._decide(weights, stats, loop)

        enough = SEARCHED_DB if options.every_algorithm else ENOUGH_DB
        return choose_loop(model, weights, made, feeds, enough=enough, threads=options.threads)

    def _feeds(self, data: Dataset, first: list[Feed]) -> list[Feed]:
        """The first samples again; one alone where they came from an iterator, which is used up."""
        if self.options.repair is Repair.NONE and self.options.by is not RangeAlgorithm.AUTO:
            return first
        try:
            return [sample.feed for sample in data.part(0, REPAIR_SAMPLES)]
        except DatasetError:
            return first

    def _candidate(self, stats: CalibrationStats, known: Calibrated | None = None) -> Calibration:
        """The model with its weights; ``known`` is the record of one that computes the same within the same ranges."""
        model, weights = self.prepared.model, storage.weights_of(self.prepared.proto)
        if known is None:
            decided = self._decide(weights, stats, self.loop)
        else:
            decided = with_weights(model, known, weights, self._request(self.loop))
        calibrated = replace(decided, equalized=self.equalized)
        said = (f"channels of {len(self.equalized)} layers equalized",) if self.equalized else ()
        return Calibration(weights, calibrated, stats, said)

    def _repaired(
        self, plain: Calibration, data: Dataset, feeds: list[Feed], executor: Executor | None
    ) -> tuple[Calibration, list[Feed]]:
        """The weights as ``weights_repair`` says, and the samples on which they were measured."""
        options = self.options
        if options.repair is Repair.NONE or is_big(plain.weights) or self.prepared.recovered is not None:
            return plain, feeds
        self.progress("repairing weights", 0, None)
        others = "" if options.algorithm or options.literal else RangeAlgorithm.MMSE
        bed = Bed(self.prepared.model, feeds, options.threads, self.progress, self.kept, others)
        if options.repair is not Repair.BETTER:
            equal = partial(self._equalized, plain, data, feeds, executor)
            return repaired(bed, plain, equal, options.repair, self._time_for_weights()), feeds
        made = self._equalizations(plain, feeds[:FEW])
        start = self._within_ranges(plain, made.harmless if options.weights == "channel" else {})
        more = partial(self._within_ranges, plain, made.every) if made.differ else lambda: None
        return repaired(bed, start or plain, more, options.repair, self._time_for_weights()), feeds

    def _time_for_weights(self) -> Deadline:
        """A share of what a search needs; all that it takes where no search can follow."""
        if self.deadline.left < SEARCHED * self.deadline.passed:
            return Deadline()
        return self.deadline.part(REPAIRED, REPAIRED_SECONDS)

    def _equalized(
        self, plain: Calibration, data: Dataset, feeds: list[Feed], executor: Executor | None
    ) -> Calibration | None:
        """The model with equalized channels, calibrated anew; None where no channel can be."""
        if size_of(plain.weights) > EQUALIZED:
            return None
        made = self._equivalent(plain, feeds).every
        try:
            other = self._changed(plain.weights, made)
            return other._candidate(other._pass(executor).over(data)[0]) if made else None
        except DatasetError:  # samples from an iterator, which is used up
            return None

    def _equalizations(self, plain: Calibration, feeds: list[Feed]) -> Equalizations:
        """What can be equalized unasked; nothing where samples are too few, or the model is too large."""
        if len(feeds) < EVEN_SAMPLES or size_of(plain.weights) > EQUALIZED:
            return UNEQUALIZED
        try:
            return self._equivalent(plain, feeds)
        except (HybridqError, ValueError):  # samples of other shapes, tensors that cannot be looked at: nothing is lost
            return UNEQUALIZED

    def _equivalent(self, plain: Calibration, feeds: list[Feed]) -> Equalizations:
        model, threads = self.prepared.model, self.options.threads
        return equalizations(model, plain.weights, feeds, rounded=rounded_operands(model, plain), threads=threads)

    def _within_ranges(self, plain: Calibration, made: Mapping[str, NDArray[Any]]) -> Calibration | None:
        """The model with equalized channels within the ranges that were measured; None where nothing changes.

        Its strongest channels stay as they are and no other outgrows them, so ranges hold without another pass.
        """
        return self._changed(plain.weights, made)._candidate(plain.stats, plain.calibrated) if made else None

    def _changed(self, weights: Weights, made: Mapping[str, NDArray[Any]]) -> Step1Run:
        """The run with other weights that compute the same."""
        model = self.prepared.model
        proto, changed = storage.assemble(model.proto, weights.changed(made)), set(made)
        layers = tuple(x.name for x in model.layers if changed & {x.bias, *(w.tensor for w in x.weights)})
        return replace(self, prepared=replace(self.prepared, proto=proto), equalized=layers)


def _ranges(asked: str, chosen: str) -> list[str]:
    """Ranges that are not by the algorithm that was to choose them, in words."""
    if asked in (RangeAlgorithm.AUTO, chosen):
        return []
    return [f"Ranges by {chosen}: measured, they serve this model better than those by {asked}."]


def _loop(states: States, steps: int, sequences: int) -> list[str]:
    """What goes round in a recurrent model, in words."""
    if not states:
        return []
    pairs = ", ".join(f"'{name}' is '{output}'" for name, output in states.items())
    parts = f"{steps} steps in {sequences} sequence{'' if sequences == 1 else 's'}"
    return [f"States: {pairs} of the step before, {parts} (--state none: samples stand alone)."]

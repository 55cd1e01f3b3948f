"""Which layers need more bits: the best choice of precisions for a budget, measured. RKNN's ``auto_hybrid``.

Everything measured is kept in ``search.json``; given that file the result is the same to the last bit. The steps are in
``search.engine``; this module takes the question, checks it, and recalls what is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import onnxruntime

from hybridq import __version__, targets
from hybridq.compare.metric import Metric, bound, metric_digest, metric_name
from hybridq.errors import ConfigError, DatasetError
from hybridq.execution.pool import HERE, Pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.seal import text_digest
from hybridq.graph.chance import seeded
from hybridq.graph.model import Model
from hybridq.graph.rolling import picked, stretches
from hybridq.graph.runtime import Feed, run, session
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.records import Calibrated
from hybridq.search.allocation.costs import Times
from hybridq.search.budget import Budget
from hybridq.search.choice import Choice, as_recorded, unrepaired
from hybridq.search.engine import SearchEngine, SearchResult
from hybridq.search.judge import judge_of
from hybridq.search.measuring.damage import measure_reference
from hybridq.search.measuring.joint import Bench, Stopwatch
from hybridq.search.result import content, recall
from hybridq.search.work import KEPT, TOLD, Deadline, Effort, Prices, Work, allowed, planned, slowness
from hybridq.storage.kept import NOTHING, Kept
from hybridq.storage.record_json import to_json
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

MOST_SAMPLES = 100_000
REPAIR_SAMPLES = 32  # from which weights are repaired, about

Save = Callable[[dict[str, Any]], object]
Remedy = Mapping[str, Precision]  # by layer


@dataclass(frozen=True)
class SearchOptions:
    """How a search goes about a question.

    ``precisions``: 8 bits and what layers may rise to; by default those that make sense on the target. ``remedies`` are
    choices that somebody believes in (the lint's): they are measured with the others. ``samples`` of the feeds (0: as
    many as are quick) are used. ``threads`` are those of timed models; what is only measured runs on one thread a
    worker of ``pool``, with the same result for any number. ``board``: microseconds by layer on
    the device. ``previous`` is the content of an earlier ``search.json`` of the same question: what it measured is not
    measured again. ``save`` is called with the content so far after each measurement, ``progress`` with what is done,
    how much of it, and of how much. ``stopwatch`` times joint models in another ``runtime``. Repairs that take long
    are ``kept``, for a search that is killed.
    """

    metric: Metric | None = None
    precisions: Sequence[Precision] = ()
    remedies: Sequence[Remedy] = ()
    samples: int = 0
    seed: int = 0
    threads: int = 1
    pool: Pool = HERE
    deadline: Deadline | None = None
    board: Mapping[str, float] = field(default_factory=dict)
    previous: Mapping[str, Any] | None = None
    save: Save | None = None
    stopwatch: Stopwatch | None = None
    runtime: str = ""
    kept: Kept = NOTHING
    progress: Progress = field(default=no_progress, repr=False)


def search(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    feeds: Iterable[Feed],
    budget: Budget | None = None,
    options: SearchOptions | None = None,
) -> SearchResult:
    """Find the layers that need more than 8 bits; ``feeds`` are calibration samples.

    Raises ConfigError for impossible precisions and DatasetError without samples.
    """
    budget, options = budget or Budget(), options or SearchOptions()
    _need_metric(budget, options.metric)
    high = _high_precisions(calibrated, options.precisions)
    deadline = options.deadline or Deadline(budget.time).keeping((1 - KEPT) * (budget.time or 0.0))
    whole = list(islice(feeds, MOST_SAMPLES))
    worth = allowed(Prices.of(model), budget.time, min(len(whole), REPAIR_SAMPLES))
    seconds = worth if deadline.seconds is None or not whole else _left(model, weights, whole[0], deadline, worth)
    work = planned(model, options.samples or len(whole), seconds)
    chosen = _spread(whole, options.samples or work.samples, model)
    options.progress("running the float model", 0, None)
    bench = _bench(model, weights, calibrated, chosen, options)
    bench.effort = Effort(worth, deadline, reserve=TOLD * worth)
    work = planned(model, work.samples, seconds, together=bench.grows)
    question = _question(bench, high, options.seed, work.alone)
    given = Choice({}, as_recorded(calibrated, weights, (x.name for x in model.layers)))
    engine = _engine(bench, budget, options, work, high, given, recall(bench, question, options.previous))
    bench.progress = engine.say
    if options.save is not None:
        bench.save = partial(_save, options.save, engine, question)
    return engine.run(question)


def _left(model: Model, weights: Weights, feed: Feed, deadline: Deadline, worth: float) -> float:
    """Seconds' worth of work that the clock leaves, on the machine as it is now."""

    def runs(times: int) -> None:
        one = session(seeded(assemble(model.proto, weights.plain())), threads=1)
        for _ in range(times):
            run(one, feed)

    return max(0.0, min(worth, deadline.left / slowness(Prices.of(model), runs)))


def _engine(
    bench: Bench,
    budget: Budget,
    options: SearchOptions,
    work: Work,
    high: tuple[Precision, ...],
    given: Choice,
    times: Times | None,
) -> SearchEngine:
    return SearchEngine(
        bench,
        judge_of(budget, bench.metric, bench.reference),
        work,
        high,
        given,
        options.remedies,
        options.threads,
        targets.load(bench.calibrated.target),
        options.progress,
        times,
        options.board,
    )


def _need_metric(budget: Budget, metric: Metric | None) -> None:
    if budget.max_drop is not None and metric is None:
        raise ConfigError("max_drop says how much a metric may drop", hint="Give it: --metric module.py:function.")


def _save(save: Save, engine: SearchEngine, question: Mapping[str, Any]) -> None:
    save(content(engine.bench, question, engine.times))


def _bench(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    feeds: Sequence[Feed],
    options: SearchOptions,
) -> Bench:
    """Where choices are measured."""
    one = session(seeded(assemble(model.proto, weights.plain())), threads=1)
    reference = measure_reference(one, feeds, model)
    given = [dict(zip(reference.names, sample, strict=True)) for sample in reference.given]
    together = set(as_recorded(calibrated, weights, (x.name for x in model.layers)).together)
    return Bench(
        model,
        weights.plain(),
        unrepaired(calibrated),
        reference,
        1,
        options.pool,
        bound(options.metric, given) if options.metric else None,
        corrections={n: b for n, b in weights.biases.items() if n not in together},
        behind={n: b for n, b in weights.biases.items() if n in together},
        rounded=weights.rounded,
        stopwatch=options.stopwatch,
        runtime=options.runtime,
        kept=options.kept,
    )


def _question(bench: Bench, high: Sequence[Precision], seed: int, alone: int) -> dict[str, Any]:
    """What the measurements depend on."""
    calibrated = bench.calibrated
    biases = sorted({*bench.corrections, *bench.behind})
    recorded = {"record": to_json(calibrated), "biases": biases, "rounded": sorted(bench.rounded)}
    return {
        "hybridq": __version__,
        "model": bench.model.sha256,
        "target": calibrated.target,
        "precision": ",".join(high),
        "samples": len(bench.reference.feeds),
        "samples_alone": alone,
        "seed": seed,
        "default": str(calibrated.default),
        "algorithm": calibrated.algorithm,
        "calibration": text_digest(json.dumps(recorded)),
        "metric": metric_name(bench.metric) if bench.metric else "",
        "metric_digest": metric_digest(bench.metric) if bench.metric else "",
        "samples_digest": _samples_digest(bench.reference.feeds),
        "onnxruntime": onnxruntime.__version__ + (f", times of {bench.runtime}" if bench.runtime else ""),
    }


def _samples_digest(feeds: Sequence[Feed]) -> str:
    """The samples themselves: other values of the same number and shape are another question."""
    digest = hashlib.sha256()
    for feed in feeds:
        for name, values in sorted(feed.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _high_precisions(calibrated: Calibrated, precisions: Sequence[Precision]) -> tuple[Precision, ...]:
    """What layers may rise to, the widest first."""
    target = targets.load(calibrated.target)
    wanted = [p for p in precisions or target.search if p.bits > 8]
    low = [p for p in precisions if p.bits <= 8 and p is not calibrated.default]
    if low:
        message = f"the layers left alone have {calibrated.default}, not {low[0]}"
        raise ConfigError(message, hint=f"Step1 decides that: --dtype {low[0]}.")
    missing = [p for p in wanted if p not in target.precisions]
    if missing:
        raise ConfigError(f"{target.name} has no {missing[0]}", hint=f"It has {', '.join(target.precisions)}.")
    if not wanted:
        raise ConfigError("no precision above 8 bits to choose from", hint="Add one, as in --precisions uint8,float32.")
    found = []
    while wanted:
        found.append(widest(wanted))
        wanted = [p for p in wanted if p is not found[-1]]
    return tuple(found)


def _spread(whole: Sequence[Feed], samples: int, model: Model) -> list[Feed]:
    """Samples spread evenly over the dataset; of a recurrent model sequences, as far as they go."""
    if not whole:
        raise DatasetError("the search needs at least one sample", hint="Give it the calibration dataset.")
    return [whole[i] for i in picked(map(len, stretches(whole, model.states)), samples)]


__all__ = ["Budget", "SearchOptions", "SearchResult", "search"]

"""``step3 --what-if``: what the page needs to predict other choices of precisions than the one that was built."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice

import numpy as np

from hybridq import targets
from hybridq.build.builder import build
from hybridq.dataset import Dataset
from hybridq.execution.progress import Progress
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed
from hybridq.linting.facts import Facts
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import QuantConfig
from hybridq.report.known import Remedy
from hybridq.report.prediction import Prediction
from hybridq.search.allocation.costs import Times, times_of
from hybridq.search.allocation.profiles import board_times
from hybridq.search.measuring.quantizers import units_of
from hybridq.search.whatif import Question, predict
from hybridq.search.work import planned
from hybridq.storage.state import State, assemble
from hybridq.targets import Target

MOST = 64  # samples of the joint models
MOST_BYTES = 1 << 28  # of these


def what_if(state: State, config: QuantConfig, data: Dataset, threads: int, progress: Progress) -> Prediction | None:
    """Measure every quantizer alone and some joint models on samples of ``data``; None without an output of floats."""
    target = targets.load(config.target)
    asked = _asked(state, config, target)
    work = planned(state.model, MOST)
    feeds = _spread(data, min(work.samples, MOST))
    times = partial(_times, asked, target, feeds[0], threads)
    return predict(asked, feeds, alone=work.alone, threads=threads or 1, times=times, progress=progress)


def remedy_of(made: Prediction) -> Remedy | None:
    """What the prediction would raise, with the lowest SQNR of a whole output that it expects."""
    raised = made.promising()
    layers = tuple(n for u in raised if not made.units[u].raised for n in made.units[u].layers)
    if not layers:
        return None
    after = zip(made.figures, made.decibels(raised), strict=True)
    told = f"raise '{layers[0]}'" if len(layers) == 1 else f"raise {len(layers)} layers"
    return Remedy(layers, made.high, told, min(db for f, db in after if not f.label))


def _asked(state: State, config: QuantConfig, target: Target) -> Question:
    default = state.calibrated.default
    low = default if default.bits == 8 else next(p for p in target.precisions if p.bits == 8)
    model, weights, calibrated = state.model, state.weights, state.calibrated
    asked = Question(model, weights, calibrated, config, low, Precision.FLOAT32)
    facts = Facts(model, weights, calibrated, target, asked.built, {})
    return Question(model, weights, calibrated, config, low, facts.raised)


def _spread(data: Dataset, most: int) -> list[Feed]:
    """Samples spread over the dataset where it knows its length, else the first; not more than memory should hold."""
    count = None if data.recurrent else data.count
    at = None if count is None else set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist())
    feeds: Iterable[Feed] = (s.feed for i, s in enumerate(data) if at is None or i in at)
    found: list[Feed] = []
    room = MOST_BYTES
    for feed in islice(feeds, most):
        found.append(feed)
        room -= sum(x.nbytes for x in feed.values())
        if room < 0:
            break
    return found


def _times(asked: Question, target: Target, feed: Feed, threads: int) -> Times | None:
    """Microseconds by layer: measured here where the model is to run here, else by the target's data."""
    model: Model = asked.model
    if not target.latency_aware:
        return board_times(model, target, asked.high, {})
    lowest = asked.plan(())
    layers = [n for g in units_of(model, lowest) for n in g.layers]
    low, high = (build(model, plan, asked.weights).assemble() for plan in (lowest, asked.plan(layers)))
    return times_of(model, layers, low, high, assemble(model.proto, asked.weights.plain()), feed, threads or 1)

"""``--algorithm auto``: which range algorithm serves the whole model best, measured at its outputs.

The least error in each tensor is one of the candidates, not the answer: a clipped tail that means little inside a
tensor may carry the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.graph import runtime
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, Session
from hybridq.plan.plan import make_plan
from hybridq.plan.record import activation_entry
from hybridq.quant.metrics import sqnr_db
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights
from hybridq.targets import Target

ENOUGH_DB = 80.0  # what is better than this counts no more


def choose_algorithm(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    target: Target,
    candidates: Sequence[str],
    feeds: Iterable[Feed],
    *,
    threads: int = 0,
) -> Calibrated:
    """``calibrated`` with the algorithm whose model has the highest SQNR, the mean in dB over outputs and samples.

    Ties keep the earlier candidate. Every candidate's ranges must be recorded in ``calibrated.measured``.
    """
    samples = list(feeds)
    reference = _outputs(model, runtime.session(assemble(model.proto, weights), threads=threads), samples)
    best, best_db = calibrated, -np.inf
    for name in candidates:
        found = with_algorithm(model, calibrated, target, name)
        plan = make_plan(model, found, QuantConfig(target.name, {}, found.entries, {}), weights)
        session = runtime.session(build(model, plan, weights).assemble(), threads=threads)
        db = _mean_db(reference, _outputs(model, session, samples))
        if db > best_db:
            best, best_db = found, db
    return best


def with_algorithm(model: Model, calibrated: Calibrated, target: Target, algorithm: str) -> Calibrated:
    """The same measurements with the ranges that another algorithm chose."""
    entries = dict(calibrated.entries)
    for name in model.group:
        entries[name] = activation_entry(calibrated.measured[name], entries[name].dtype, algorithm, target)
    return replace(calibrated, algorithm=algorithm, entries=entries)


def _outputs(model: Model, session: Session, feeds: Sequence[Feed]) -> list[list[NDArray[np.generic]]]:
    rolled = Rolled(session, model.states)
    return [rolled.run(feed, list(model.answers)) for feed in feeds]


def _mean_db(
    reference: Sequence[Sequence[NDArray[np.generic]]], found: Sequence[Sequence[NDArray[np.generic]]]
) -> float:
    figures = [
        min(sqnr_db(a, b), ENOUGH_DB)
        for one, other in zip(reference, found, strict=True)
        for a, b in zip(one, other, strict=True)
        if np.issubdtype(a.dtype, np.floating) and a.any()
    ]
    return float(np.mean(figures)) if figures else 0.0

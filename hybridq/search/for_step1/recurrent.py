"""What step 1 leaves of a recurrent model by default: measured in the loop, since errors come back with the states.

On ``onnxruntime`` weights alone may be stored in 8 or 16 bits while their layers compute in float: in 8 where that
keeps enough, or hardly less than 16; a search, which is to find what keeps most, is content with less only where no
answer shows it. Where a step is enough work for integers to save time, layers run in 8 bits as
usual, and what makes a state computes in float where rounding it at every step costs clearly more than it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.graph.chance import seeded
from hybridq.graph.model import Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, session
from hybridq.plan.defaults import LoopDefaults, is_little_work
from hybridq.plan.plan import make_plan
from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import sqnr_db
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

ENOUGH_DB = 40.0  # of the answer that keeps least: as good as float's
SEARCHED_DB = 80.0  # likewise where a search asks: about what all layers in 16 bits keep
CLEAR_DB = 1.0  # what a choice that costs size or time must bring
LEAST_DB, MOST_DB = -60.0, 120.0

Decide = Callable[[LoopDefaults], Calibrated]
Outputs = list[list[NDArray[np.generic]]]


def choose_loop(
    model: Model,
    weights: Weights,
    decide: Decide,
    feeds: Sequence[Feed],
    *,
    enough: float = ENOUGH_DB,
    threads: int = 1,
) -> LoopDefaults:
    """What is different in a recurrent model, as serves it best; ``decide`` makes the record of each.

    ``feeds`` are steps in order, the first of which begins a sequence; ``enough`` dB in the loop are as good as more.
    """
    reference = _outputs(model, assemble(model.proto, weights), feeds, threads)
    everywhere = is_little_work(model)
    small, large = (LoopDefaults(p, everywhere) for p in (Precision.INT8, Precision.INT16))
    tried = [small, large] if everywhere else [small, LoopDefaults(Precision.INT8, float_states=True), large]
    best, kept = small, -np.inf
    for loop in tried:
        found = decide(loop)
        plan = make_plan(model, found, QuantConfig(found.target, {}, found.entries, {}), weights)
        db = _least_db(reference, _outputs(model, build(model, plan, weights).assemble(), feeds, threads))
        if db > kept + CLEAR_DB:
            best, kept = loop, db
        if kept >= enough:
            break
    return best


def _outputs(model: Model, proto: onnx.ModelProto, feeds: Sequence[Feed], threads: int) -> Outputs:
    """The answers of every step, in the loop."""
    rolled = Rolled(session(seeded(proto), threads=threads), model.states)
    return [rolled.run(feed, list(model.answers)) for feed in feeds]


def _least_db(reference: Outputs, found: Outputs) -> float:
    """The SQNR in dB of the answer that keeps least, over all steps."""
    figures = []
    for one, other in zip(zip(*reference, strict=True), zip(*found, strict=True), strict=True):
        if np.issubdtype(one[0].dtype, np.floating):
            whole = (np.concatenate([x.reshape(-1) for x in part]) for part in (one, other))
            figures.append(float(np.clip(np.nan_to_num(sqnr_db(*whole), nan=LEAST_DB), LEAST_DB, MOST_DB)))
    return min(figures, default=MOST_DB)

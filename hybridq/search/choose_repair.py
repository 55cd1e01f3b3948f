"""What step 1 does to weights so that 8 bits harm less, at no cost at run time: the best repair, measured.

A candidate is a float model (as given, or with channels equalized), its ranges, and a treatment of its rounded weights.
All are built with every layer at its default precision and compared at the outputs, by the damage that the search uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from hybridq.calibration.calibrate import CalibrationStats
from hybridq.graph.chance import seeded
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed, session
from hybridq.plan.layer_weights import entry_key
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.params import TOGETHER
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.repair.bias_correction import corrected_biases
from hybridq.repair.gptq import compensated_weights
from hybridq.search.choice import Choice
from hybridq.search.damage import measure_reference
from hybridq.search.joint import Bench
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights


class Repair(StrEnum):
    """What is done to weights so that 8 bits harm less, at no cost at run time."""

    NONE = "none"
    BIAS = "bias"  # biases take back the mean error
    GPTQ = "gptq"  # weights are rounded together
    EQUALIZE = "equalize"  # channels share their tensor's range more evenly
    AUTO = "auto"  # the best of all, measured


WORTH = 0.97  # an alternative must bring the damage below this share of what it was


@dataclass(frozen=True)
class Candidate:
    """One way to calibrate a model. ``repairs`` says in words what was done to its weights."""

    weights: Weights
    calibrated: Calibrated
    stats: CalibrationStats
    repairs: tuple[str, ...] = ()


def repaired(
    model: Model,
    plain: Candidate,
    equalize: Callable[[], Candidate | None],
    repair: Repair,
    feeds: Sequence[Feed],
    threads: int,
) -> Candidate:
    """The candidate that ``repair`` asks for; ``auto`` measures all.

    ``equalize`` makes the candidate with equalized channels, None where the model has none to equalize.
    """
    if repair is Repair.NONE:
        return plain
    if repair is Repair.BIAS:
        return with_biases(model, plain, feeds, threads)
    if repair is Repair.GPTQ:
        return with_rounding(model, plain, feeds, threads)
    equal = equalize()
    if repair is Repair.EQUALIZE:
        return with_biases(model, equal or plain, feeds, threads)
    made = [
        treat(model, start, feeds, threads)
        for start in ([plain, equal] if equal else [plain])
        for treat in (with_biases, with_rounding)
    ]
    return _best(model, [plain, *made], feeds, threads)


def with_biases(model: Model, found: Candidate, feeds: Sequence[Feed], threads: int) -> Candidate:
    """Biases take back the mean error of the rounded weights."""
    made = corrected_biases(model, _plan(model, found), found.weights, feeds, threads=threads)
    text = f"{len(made)} corrected biases"
    return replace(
        found,
        weights=found.weights.repaired(biases=made),
        repairs=(*found.repairs, *([text] if made else [])),
    )


def with_rounding(model: Model, found: Candidate, feeds: Sequence[Feed], threads: int) -> Candidate:
    """Weights are rounded together; their entries say so."""
    usual = [x for x in model.layers if (e := found.calibrated.entries.get(entry_key(x))) and e.algorithm == "normal"]
    made = compensated_weights(model, _plan(model, found), found.weights, feeds, threads=threads)
    kept = {x.name: made[x.name] for x in usual if x.name in made}
    entries = dict(found.calibrated.entries)
    for name in kept:
        key = entry_key(model.layer[name])
        entries[key] = replace(entries[key], algorithm=TOGETHER)
    text = f"{len(kept)} layers' weights rounded together (gptq)"
    return replace(
        found,
        weights=found.weights.repaired(rounded=kept),
        calibrated=replace(found.calibrated, entries=entries, rounded=tuple(kept)),
        repairs=(*found.repairs, *([text] if kept else [])),
    )


def _plan(model: Model, found: Candidate) -> QuantPlan:
    config = QuantConfig(found.calibrated.target, {}, found.calibrated.entries, {})
    return make_plan(model, found.calibrated, config, found.weights)


def _best(model: Model, candidates: Sequence[Candidate], feeds: Sequence[Feed], threads: int) -> Candidate:
    """The candidate with the least damage at the outputs; the first unless another is clearly better."""
    first = candidates[0]
    reference = measure_reference(session(seeded(assemble(model.proto, first.weights)), threads=threads), feeds, model)
    aim = Bench(model, first.weights, first.calibrated, reference, threads).aim_of()
    benches = [Bench(model, c.weights, c.calibrated, reference, threads, aim=aim) for c in candidates]
    damages = [b.measure(Choice()).damage for b in benches]
    best = min(range(len(candidates)), key=lambda i: (damages[i], i))
    return candidates[best] if damages[best] < WORTH * damages[0] else first

"""What step 1 does to weights so that 8 bits harm less, at no cost at run time: the best repair, measured.

A candidate is a float model (as given, or with channels equalized), its ranges, and a treatment of its rounded weights.
All are built with every layer at its default precision and compared at the outputs, by the damage that the search uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from hybridq import targets
from hybridq.graph.model import Model
from hybridq.graph.operators import Layout, lookup
from hybridq.plan.layer_weights import entry_key
from hybridq.quant.entry_params import TOGETHER
from hybridq.repair.bias_correction import corrected_biases
from hybridq.repair.gptq import DAMPING, compensations
from hybridq.search.for_step1.measure import FEW, Bed, Calibration, Measure, is_big, planned
from hybridq.search.for_step1.range_algorithm import with_algorithm
from hybridq.search.work import Deadline, TimeUp
from hybridq.storage.weights import Weights, size_of


class Repair(StrEnum):
    """What is done to weights so that 8 bits harm less, at no cost at run time."""

    NONE = "none"
    BIAS = "bias"  # biases take back the mean error
    GPTQ = "gptq"  # weights are rounded together
    BETTER = "better"  # biases, rounding together, or both, channels equalized before: what measures better
    EQUALIZE = "equalize"  # channels share their tensor's range more evenly
    AUTO = "auto"  # the best of all, measured


EQUALIZED = 1 << 28  # bytes of weights up to which channels are equalized: the others then lie in memory
DAMPINGS = (0.01, 0.1)  # little trust in few samples, or more of it
CLEAR = 0.8  # of what corrected biases leave: 1 dB, or channels that were equalized on few samples are not worth it
MORE = 0.95  # and of what is left without them, with biases alone and at best: else it is the luck of rounding
TREATED = 2 + len(DAMPINGS)  # candidates of one start: biases, roundings, biases of what the best of these leaves
WORTH = 0.97  # an alternative must bring the damage below this share of what it was


def said_of_repair(weights: Weights, repair: Repair, done: tuple[str, ...]) -> list[str]:
    """What was done to the weights, in words, or why less than was asked for."""
    if repair is Repair.NONE or (repair is Repair.BIAS and not is_big(weights)):
        return []
    large = f"their {size_of(weights) / 1e6:.0f} MB would be in memory several times"
    if is_big(weights):
        return [f"Weights are as given: repairing them was left out, {large}."]
    left = f"; channels were not equalized, {large}" if size_of(weights) > EQUALIZED else ""
    return [f"Weights repaired: {', '.join(done) or 'nothing helped'}{left}."]


def rounded_operands(model: Model, found: Calibration) -> set[str]:
    """The constants of layers without weights that are stored in 8 bits."""
    layers = planned(model, found).layers
    plain = (x for x in model.layers if lookup(x.op).layout is Layout.NONE)
    return {w.tensor for x in plain for w in layers[x.name].weights if w.qparams is not None}


def repaired(
    bed: Bed, plain: Calibration, equalize: Callable[[], Calibration | None], repair: Repair, deadline: Deadline
) -> Calibration:
    """The candidate that ``repair`` asks for; ``better`` and ``auto`` measure several.

    ``equalize`` makes the candidate with equalized channels, None where the model has none to equalize. When the
    ``deadline`` is over, the best that was found is taken.
    """
    found = plain
    bed = replace(bed, progress=deadline.ending(bed.progress))
    try:
        for better in _repairs(bed, plain, equalize, repair):
            found = better
    except TimeUp:
        return replace(found, repairs=(*found.repairs, "no time for more"))
    return found


def _repairs(
    bed: Bed, plain: Calibration, equalize: Callable[[], Calibration | None], repair: Repair
) -> Iterator[Calibration]:
    """Candidates, each better than those before, as far as it was measured."""
    if repair is Repair.NONE:
        return
    if repair is Repair.BIAS or not _has_numbers(bed.model):
        yield with_biases(bed, plain)
    elif repair is Repair.GPTQ:
        yield with_rounding(bed, plain)
    elif repair is Repair.BETTER:
        yield from _better(replace(bed, feeds=bed.feeds[:FEW]), plain, equalize)
    elif repair is Repair.EQUALIZE:
        yield with_biases(bed, equalize() or plain)
    else:
        yield _best_of_all(bed, plain, equalize())


def _best_of_all(bed: Bed, plain: Calibration, equal: Calibration | None) -> Calibration:
    made = [
        treat(bed, start) for start in ([plain, equal] if equal else [plain]) for treat in (with_biases, with_rounding)
    ]
    return _best([plain, *made], Measure(bed, plain, 1 + len(made)))


def _has_numbers(model: Model) -> bool:
    """Whether an output can be measured; sequences cannot."""
    return any(o.type.HasField("tensor_type") for o in model.proto.graph.output)


def _better(bed: Bed, plain: Calibration, equalize: Callable[[], Calibration | None]) -> Iterator[Calibration]:
    """The best treatment of the weights; of equalized channels where that brings clearly less damage."""
    first = with_biases(bed, plain)
    yield first
    measure = Measure(bed, first, TREATED)
    serving, first = _serving(bed, plain, first, measure)
    given = _treated(bed, serving, first, measure)
    yield given
    equal = equalize()
    if equal is None:
        return
    measure.expected += 1
    equal = _within(bed, equal, serving.calibrated.algorithm)
    even = with_biases(bed, equal)
    if measure(even) >= MORE * measure(first):
        return
    measure.expected += TREATED - 1
    other = _treated(bed, equal, even, measure)
    if measure(other) < min(CLEAR * measure(first), MORE * measure(given)):
        yield other


def _serving(bed: Bed, plain: Calibration, first: Calibration, measure: Measure) -> tuple[Calibration, Calibration]:
    """What was calibrated, plain and with corrected biases: within other ranges where these do clearly less damage."""
    if bed.ranges:
        measure.expected += 1
        other = _within(bed, plain, bed.ranges)
        repaired = with_biases(bed, other)
        if measure(repaired) < MORE * measure(first):
            return other, repaired
    return plain, first


def _within(bed: Bed, found: Calibration, algorithm: str) -> Calibration:
    """The same within the ranges that an algorithm chose."""
    if algorithm == found.calibrated.algorithm:
        return found
    calibrated = with_algorithm(bed.model, found.calibrated, targets.load(found.calibrated.target), algorithm)
    return replace(found, calibrated=calibrated)


def _treated(bed: Bed, start: Calibration, first: Calibration, measure: Measure) -> Calibration:
    """Corrected biases (``first``), weights rounded together, or biases of what that leaves."""
    together = with_roundings(bed, start, DAMPINGS)
    if not together[0].weights.rounded:
        return first
    rounded = min(together, key=measure)
    return _best([first, rounded, with_biases(bed, rounded)], measure)


def with_biases(bed: Bed, found: Calibration) -> Calibration:
    """Biases take back the mean error of the rounded weights."""
    made = corrected_biases(bed.model, planned(bed.model, found), found.weights, bed.feeds, **bed.words)
    text = f"{len(made)} corrected biases"
    return replace(
        found,
        weights=found.weights.repaired(biases=made),
        repairs=(*found.repairs, *([text] if made else [])),
    )


def with_rounding(bed: Bed, found: Calibration) -> Calibration:
    """Weights are rounded together; their entries say so."""
    return with_roundings(bed, found, (DAMPING,))[0]


def with_roundings(bed: Bed, found: Calibration, dampings: Sequence[float]) -> list[Calibration]:
    """Weights rounded together, once for each damping."""
    model = bed.model
    usual = [x for x in model.layers if (e := found.calibrated.entries.get(entry_key(x))) and e.algorithm == "normal"]
    made = compensations(model, planned(model, found), found.weights, bed.feeds, dampings, **bed.words)
    return [_together(model, found, {x.name: one[x.name] for x in usual if x.name in one}) for one in made]


def _together(model: Model, found: Calibration, rounded: Mapping[str, NDArray[Any]]) -> Calibration:
    entries = dict(found.calibrated.entries)
    for name in rounded:
        key = entry_key(model.layer[name])
        entries[key] = replace(entries[key], algorithm=TOGETHER)
    text = f"{len(rounded)} layers' weights rounded together (gptq)"
    return replace(
        found,
        weights=found.weights.repaired(rounded=rounded),
        calibrated=replace(found.calibrated, entries=entries, rounded=tuple(rounded)),
        repairs=(*found.repairs, *([text] if rounded else [])),
    )


def _best(candidates: Sequence[Calibration], damage: Measure) -> Calibration:
    """The candidate with the least damage at the outputs; the first unless another is clearly better."""
    best = min(candidates, key=damage)
    return best if damage(best) < WORTH * damage(candidates[0]) else candidates[0]

"""The precision that each layer and each group ends with: what is asked, lifted to the widest of what is shared.

The check of a cfg and the plan call the same functions, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hybridq import targets
from hybridq.graph.model import Group, Model
from hybridq.graph.operators import row_of
from hybridq.quant.dtypes import Precision, Storage, narrowest, widest
from hybridq.quant.records import UNBOUNDED, Calibrated

FLOAT = Precision.FLOAT32
HALF_END = 65504.0  # the largest float16


@dataclass(frozen=True)
class Precisions:
    """The precision of every layer, and why it is another than the one asked for (only where it is)."""

    done: Mapping[str, Precision]
    why: Mapping[str, str]


def resolve(model: Model, calibrated: Calibrated, asked: Mapping[str, Precision]) -> Precisions:
    """What every layer ends with, given what is asked of each, defaults included."""
    done, why = dict(asked), {}
    for group in model.groups:
        members = [n for n in group.layers if not model.layer[n].float_only] or list(group.layers)
        if not members:
            continue
        wide = widest([asked[n] for n in members])
        for name in members:
            if wide is not asked[name]:
                because = next(n for n in members if asked[n] is wide)
                why[name] = f"shares its parameters with '{because}', which is {wide}"
                done[name] = wide
            if wide is Precision.FLOAT16 and not fits_half(group, calibrated):
                why[name] = f"its values reach {calibrated.measured[group.name].range.amax:.3g}, float16 ends at 65504"
                done[name] = FLOAT
    for group in model.groups:
        for name in group.layers if calibrated.measured[group.name].unbounded else ():
            if done[name].is_integer:
                done[name], why[name] = targets.load(calibrated.target).float_precision, UNBOUNDED
    return Precisions(done, why)


def group_precision(model: Model, group: Group, calibrated: Calibrated, done: Mapping[str, Precision]) -> Precision:
    """The widest precision among the layers that write a group or, for a model input, that read it.

    What steers an operator stays float32; what holds infinities that are meant stays float.
    """
    if group.float_only:
        return FLOAT
    if group.layers:
        return widest([done[n] for n in group.layers])
    readers = readers_precisions(model, group, calibrated, done)
    target = targets.load(calibrated.target)
    choose = narrowest if target.narrow_inputs else widest
    found = choose(readers) if readers and group.name in model.inputs else FLOAT
    if found is FLOAT and calibrated.as_given and _is_read_as_given(model, group, calibrated, done):
        return calibrated.entries[group.name].dtype
    endless = calibrated.measured[group.name].unbounded and found.is_integer
    return target.float_precision if endless else found


def _is_read_as_given(model: Model, group: Group, calibrated: Calibrated, done: Mapping[str, Precision]) -> bool:
    """Whether all layers that read a model input in float arrived so: it keeps the quantizer that it came with."""
    in_float = [x.name for x in model.readers.get(group.name, ()) if done[x.name] is FLOAT]
    return group.name in model.inputs and all(calibrated.layers[n].precision is FLOAT for n in in_float)


def readers_precisions(
    model: Model, group: Group, calibrated: Calibrated, done: Mapping[str, Precision]
) -> list[Precision]:
    """In which precision each layer that reads a group would read it."""
    found = [done[x.name] for x in model.readers.get(group.name, ())]
    return found if fits_half(group, calibrated) else [FLOAT if p is Precision.FLOAT16 else p for p in found]


def group_storage(
    model: Model, group: Group, calibrated: Calibrated, done: Mapping[str, Precision], kept: Precision
) -> Storage:
    """How a target stores a group in ``kept``: on some, 16 bits have headroom only where no 8-bit layer reads them."""
    storage = targets.load(calibrated.target).activation(kept)
    narrower = [p for p in readers_precisions(model, group, calibrated, done) if p.bits < kept.bits]
    if not storage.headroom_alone or not (narrower or _is_joined_tightly(model, group, calibrated, done)):
        return storage
    if not narrower:
        return replace(storage, headroom=1.0)
    return replace(storage, headroom=1.0, range_of=min(narrower, key=lambda p: p.bits))


def _is_joined_tightly(model: Model, group: Group, calibrated: Calibrated, done: Mapping[str, Precision]) -> bool:
    """Whether a Concat with a range of its own reads the group, and that range has no headroom: it would clip it."""
    for layer in model.readers.get(group.name, ()):
        result = model.group[layer.group]
        joined = result is not group and row_of(model.nodes[layer.node]).moves_all
        if joined and group_storage(model, result, calibrated, done, done[layer.name]).headroom == 1.0:
            return True
    return False


def fits_half(group: Group, calibrated: Calibrated) -> bool:
    """Whether float16 can hold the group's values: beyond its end they would become infinite."""
    return calibrated.measured[group.name].range.amax <= HALF_END

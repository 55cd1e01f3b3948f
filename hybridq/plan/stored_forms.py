"""The stored form of every group of tensors, and its conversions for layers that read it otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from hybridq.config.precisions import group_precision, group_storage, readers_precisions
from hybridq.graph import operators
from hybridq.graph.model import Group, Model
from hybridq.graph.operators import Role, row_of
from hybridq.plan.context import Context
from hybridq.plan.quant_plan import FLOAT, GroupPlan, Stored
from hybridq.quant.dtypes import Precision, Storage, widest
from hybridq.quant.entry_params import activation_params
from hybridq.quant.records import UNBOUNDED


def group_plans(context: Context, done: Mapping[str, Precision]) -> dict[str, GroupPlan]:
    """The plan of every group, from the final precisions of all layers."""
    return {group.name: _group_plan(context, group, done) for group in context.model.groups}


def _group_plan(context: Context, group: Group, done: Mapping[str, Precision]) -> GroupPlan:
    wanted = readers_precisions(context.model, group, context.calibrated, done)
    precision = group_precision(context.model, group, context.calibrated, done)
    if context.calibrated.measured[group.name].unbounded:  # all read it as it is: a saturated mask would no longer lose
        return GroupPlan(group.name, precision, Stored(precision), {}, UNBOUNDED)
    kept = _kept(context, group, precision, wanted, done)
    other = sorted({p for p in wanted if p.bits < kept.bits or _is_converted(context, kept, p)})
    if (precision is FLOAT or not group.layers) and _floats_as_given(context, group):
        kept, other = FLOAT, []

    def held(p: Precision) -> Stored:
        return _stored(context, group, group_storage(context.model, group, context.calibrated, done, p))

    return GroupPlan(group.name, precision, held(kept), {p: held(p) for p in other}, group.float_only)


def _is_converted(context: Context, kept: Precision, wanted: Precision) -> bool:
    """Whether a target converts integers for a float16 layer, and float16 for one that reads integers."""
    half = Precision.FLOAT16
    return context.target.converts_kinds and (wanted if kept.is_integer else kept) is half and kept is not wanted


def _floats_as_given(context: Context, group: Group) -> bool:
    """Whether a model that arrived quantized has no quantizer here, for whoever reads it."""
    return context.calibrated.as_given and context.calibrated.entries[group.name].dtype is FLOAT


def _kept(
    context: Context, group: Group, precision: Precision, wanted: list[Precision], done: Mapping[str, Precision]
) -> Precision:
    """What a group of ``precision`` is stored in: fewer bits at once where nobody reads more."""
    model = context.model
    leaves = any(t in model.outputs for t in group.tensors if t not in model.inputs)
    passes = not group.layers and (leaves or group.name not in model.inputs)  # an input comes out as it went in
    if group.float_only or passes:
        return FLOAT
    kept = precision
    if wanted and context.target.narrows_at_once and not leaves and not _has_outside_readers(model, group):
        kept = min(precision, widest(wanted), key=lambda p: p.bits)
    may = group.layers and kept.bits == 8 and not context.calibrated.as_given
    if may and _gives_float(context, group, done):
        return FLOAT
    return kept


def _has_outside_readers(model: Model, group: Group) -> bool:
    """Whether something else than layers and the group's own data movement reads it.

    A subgraph does, and a Concat that runs in float. Shape and Size read no values.
    """
    for tensor in group.tensors:
        for node in model.consumers.get(tensor, ()):
            layer = model.layer_of.get(node.name)
            moves = any(model.group_of.get(o) is group for o in node.output)
            roles = row_of(node).inputs
            measures = {roles[i] for i, name in enumerate(node.input) if name == tensor} == {Role.SHAPE}
            if not (layer and tensor in layer.inputs) and not moves and not measures:
                return True
    return False


def _gives_float(context: Context, group: Group, done: Mapping[str, Precision]) -> bool:
    """Whether integer matrix products may give their float result unrounded, since nothing reads it as integers."""
    model = context.model
    products = all(operators.lookup(model.layer[n].op).float_result and model.layer[n].weights for n in group.layers)
    in_float = all(done[x.name] is FLOAT for x in model.readers.get(group.name, ()))
    return context.target.latency_aware and products and in_float


def _stored(context: Context, group: Group, storage: Storage) -> Stored:
    if not storage.dtype.is_integer:
        return Stored(storage.dtype)
    config, measured = context.config, context.calibrated.measured[group.name]
    entry, edited = config.entries[group.name], config.edited.get(group.name, frozenset())
    return Stored(storage.dtype, activation_params(entry, edited, storage, measured))

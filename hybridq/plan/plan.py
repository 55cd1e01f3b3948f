"""Statistics and cfg give the ``QuantPlan``: what every tensor and weight becomes. All decisions are made here.

The order of thought: a precision for every layer, lifted to the widest of its group; a stored form for every group; a
conversion for consumers with fewer bits; parameters for weights and biases; last, where ONNX Runtime would silently
change a layer, a barrier (``docs/onnxruntime.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridq import targets
from hybridq.config.precisions import group_precision, readers_precisions, resolve
from hybridq.graph import operators
from hybridq.graph.model import Group, Layer, Model
from hybridq.graph.operators import Kernel, Kind
from hybridq.plan.defaults import default_precisions, fast_kernel
from hybridq.plan.layer_weights import BiasPlan, WeightPlan, bias_plan, suits_integers, weight_plans
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.params import activation_params
from hybridq.quant.qparams import QParams
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.storage.weights import Weights
from hybridq.targets import Target

FLOAT = Precision.FLOAT32


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor is stored: float32, float16, or integers with parameters."""

    precision: Precision
    qparams: QParams | None = None

    @property
    def is_float(self) -> bool:
        """Whether the tensor stays as the operators computed it."""
        return self.precision is FLOAT


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """``precision`` is what the group's layers ended with; ``conversions`` serve consumers with fewer bits."""

    name: str
    precision: Precision
    stored: Stored
    conversions: Mapping[Precision, Stored]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What was asked, what is done, and why the two differ (or why the layer is not at the default).

    ``native``: ONNX Runtime computes with integers. ``rewritable``: it must not, but would if a QuantizeLinear read the
    result; ``barrier``: one does.
    """

    name: str
    asked: Precision
    done: Precision
    why: str
    weights: tuple[WeightPlan, ...]
    bias: BiasPlan | None
    native: bool
    rewritable: bool
    barrier: bool
    weight_only: Precision | None = None


@dataclass(frozen=True)
class QuantPlan:
    """Every decision; the builder only obeys."""

    target: str
    layers: Mapping[str, LayerPlan]
    groups: Mapping[str, GroupPlan]

    def read(self, group: str, layer: str) -> Stored:
        """The form in which a layer reads a tensor of a group."""
        plan = self.groups[group]
        return plan.conversions.get(self.layers[layer].done, plan.stored)


def make_plan(model: Model, calibrated: Calibrated, config: QuantConfig, weights: Weights) -> QuantPlan:
    """Decide everything. ``config`` is checked already, so nothing here can be wrong, only without effect."""
    target = targets.load(config.target)
    asked, defaults = _asked(model, calibrated, config, target)
    resolved = resolve(model, calibrated, asked)
    done, why = resolved.done, defaults | dict(resolved.why)
    groups = {g.name: _group_plan(model, g, done, calibrated, config, target) for g in model.groups}
    layers = {}
    for layer in model.layers:
        choice = config.choices.get(layer.name)
        weight_only = choice.weight_only if choice else None
        forms = [_read(groups, model, layer, done[layer.name], name) for name in layer.inputs]
        out = groups[layer.group].stored
        native = is_native(model, layer, done[layer.name], forms, out) and suits_integers(layer, weights, model)
        found = weight_plans(layer, weight_only or done[layer.name], native, weights, calibrated, config, target)
        bias = bias_plan(layer, native, forms[0].qparams if forms else None, found, weights, calibrated)
        if bias is not None:
            found = bias.floored
        rewritable = _is_rewritable(layer, native, forms)
        layers[layer.name] = LayerPlan(
            name=layer.name,
            asked=asked[layer.name],
            done=done[layer.name],
            why=why[layer.name],
            weights=found,
            bias=bias,
            native=native,
            rewritable=rewritable,
            barrier=rewritable and out.qparams is not None,
            weight_only=weight_only,
        )
    return QuantPlan(config.target, layers, groups)


def _asked(
    model: Model, calibrated: Calibrated, config: QuantConfig, target: Target
) -> tuple[dict[str, Precision], dict[str, str]]:
    """What is asked of every layer, and why a default is another than the usual one."""
    defaults = calibrated.layers or default_precisions(model, target, calibrated.default)
    asked = {n: config.choices[n].precision if n in config.choices else d.precision for n, d in defaults.items()}
    return asked, {n: "" if n in config.choices else d.why for n, d in defaults.items()}


def _group_plan(
    model: Model,
    group: Group,
    done: Mapping[str, Precision],
    calibrated: Calibrated,
    config: QuantConfig,
    target: Target,
) -> GroupPlan:
    readers = model.readers.get(group.name, ())
    wanted = readers_precisions(model, group, calibrated, done)
    leaves = any(t in model.outputs for t in group.tensors if t not in model.inputs)
    kept = precision = group_precision(model, group, calibrated, done)
    if wanted and not leaves and not _outside_readers(model, group):
        kept = min(precision, widest(wanted), key=lambda p: p.bits)
    if group.layers and kept.bits == 8 and _float_result(model, group, readers, done, target):
        kept = FLOAT
    passes = not group.layers and (leaves or group.name not in model.inputs)  # an input comes out as it went in
    if group.float_only or passes:
        precision, kept = (FLOAT if group.float_only else precision), FLOAT
    narrower = {p for p in wanted if p.bits < kept.bits}
    return GroupPlan(
        group.name,
        precision,
        _stored(group, kept, calibrated, config, target),
        {p: _stored(group, p, calibrated, config, target) for p in sorted(narrower)},
    )


def _outside_readers(model: Model, group: Group) -> bool:
    """Whether something other than layers and the group's own movers reads the group: Shape, If, a float Concat."""
    for tensor in group.tensors:
        for node in model.consumers.get(tensor, ()):
            absorbed = any(o in model.group_of and model.group_of[o] is group for o in node.output)
            if node.name not in model.layer_of and not absorbed and node.op_type not in ("Shape", "Size"):
                return True
    return False


def _float_result(
    model: Model, group: Group, readers: Sequence[Layer], done: Mapping[str, Precision], target: Target
) -> bool:
    """Whether integer matrix products may give their float result unrounded, since nothing reads it as integers."""
    products = all(operators.lookup(model.layer[n].op).float_result and model.layer[n].weights for n in group.layers)
    return target.latency_aware and products and all(done[x.name] is FLOAT for x in readers)


def _stored(group: Group, precision: Precision, calibrated: Calibrated, config: QuantConfig, target: Target) -> Stored:
    if not precision.is_integer:
        return Stored(precision)
    entry, edited = config.entries[group.name], config.edited.get(group.name, frozenset())
    storage = target.activation(precision)
    return Stored(precision, activation_params(entry, edited, storage, calibrated.measured[group.name]))


def _read(groups: Mapping[str, GroupPlan], model: Model, layer: Layer, done: Precision, tensor: str) -> Stored:
    group = model.group_of.get(tensor)
    if group is None:
        return Stored(FLOAT)
    return groups[group.name].conversions.get(done, groups[group.name].stored)


def is_native(model: Model, layer: Layer, done: Precision, forms: list[Stored], out: Stored) -> bool:
    """Whether ONNX Runtime computes the layer with integers: 8 bits of one kind on every edge, a fast kernel."""
    if done.bits != 8 or not fast_kernel(model, layer) or not forms:
        return False
    results = (done, FLOAT) if operators.lookup(layer.op).float_result else (done,)
    return all(f.precision is done for f in forms) and out.precision in results


def _is_rewritable(layer: Layer, native: bool, forms: list[Stored]) -> bool:
    """Whether ONNX Runtime would turn this float computation into an integer one behind our back."""
    row = operators.lookup(layer.op)
    product = layer.op == "MatMul" and not layer.weights  # two activations: nothing to rewrite
    could = (row.kernel is not Kernel.NONE or row.kind is Kind.COMPUTE) and not product
    return could and not native and any(f.qparams is not None for f in forms)

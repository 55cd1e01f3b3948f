"""What will go wrong in few bits, seen without running anything: ranges and weights say enough.

Each finding names the layer, says in one sentence what will happen, with figures, and what to set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridq import operators, targets
from hybridq.analysis import attribute
from hybridq.dtypes import Scheme
from hybridq.errors import Problem
from hybridq.model import Group, Layer, Model
from hybridq.numerics import activation_qparams
from hybridq.operators import Kind
from hybridq.qparams import QParams, Range
from hybridq.records import Calibrated, Measured
from hybridq.searching.outputs import SCORES
from hybridq.storage import Weights
from hybridq.targets import Target

FACTOR = 16.0  # between ranges that share one scale: the smaller keeps 4 bits
SEVERE = 50.0  # the smaller keeps about 5 steps: what it holds is lost
SPREAD = 100.0  # between the channels of a depthwise weight
USEFUL = {"Sigmoid": 16.0, "HardSigmoid": 4.0, "Softmax": 40.0, "Tanh": 8.0}  # beyond it the result does not change
FEW = 10  # calibration samples

WARNING, NOTE = "warning", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """``message`` says what will happen, ``remedy`` what to set. ``layer`` is empty where none is to blame."""

    layer: str
    code: str
    message: str
    remedy: str
    severity: str = WARNING

    def problem(self, path: str = "") -> Problem:
        """As the command line prints it."""
        where = f"{self.layer}: " if self.layer else ""
        return Problem(where + self.message, path=path, hint=self.remedy, severity=self.severity, code=self.code)


@dataclass(frozen=True)
class _Case:
    model: Model
    weights: Weights
    calibrated: Calibrated
    target: Target
    samples: int | None
    ranges: Mapping[str, Range]

    def measured(self, tensor: str) -> Measured | None:
        """What calibration knows of a tensor's group."""
        group = self.model.group_of.get(tensor)
        return self.calibrated.measured.get(group.name) if group else None

    def qparams(self, group: str) -> QParams | None:
        """The 8-bit parameters that a group has by default."""
        precision = self.calibrated.default
        known = self.calibrated.measured.get(group)
        if known is None or precision.bits != 8 or precision not in self.target.precisions:
            return None
        algorithm = self.calibrated.entries[group].algorithm or self.calibrated.algorithm
        chosen = known.ranges.get(algorithm, {}).get(8, known.range)
        scheme = self.target.precisions[precision].activation.scheme or Scheme.ASYMMETRIC
        return activation_qparams(chosen, precision, scheme)

    @property
    def wide(self) -> str:
        """What to raise a layer to on this target."""
        return str(next((p for p in self.target.search if p.bits > 8), "float32"))

    @property
    def producers(self) -> dict[str, str]:
        """The operator that writes each tensor."""
        return {o: n.op_type for n in self.model.proto.graph.node for o in n.output}


Rule = Callable[[_Case], Iterator[Finding]]


def lint(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    target: Target | str,
    *,
    samples: int | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> list[Finding]:
    """Everything that ranges and weights warn of, the most severe first.

    ``samples``: how many were calibrated on. ``ranges``: what calibration saw of single tensors, as far as it is still
    known; without it the members of a group are told apart by their operators.
    """
    known = targets.load(target) if isinstance(target, str) else target
    case = _Case(model, weights, calibrated, known, samples, ranges or {})
    found = [f for rule in RULES for f in rule(case)]
    return sorted(dict.fromkeys(found), key=lambda f: (f.severity != WARNING, f.code, f.layer))


def _shared_ranges(case: _Case) -> Iterator[Finding]:
    """Values of different size that share one scale: a Concat (or another mover) ties them, or one Add joins them."""
    for group in case.model.groups:
        parts = _parts(case, group)
        params = case.qparams(group.name)
        if len(parts) < 2 or params is None:
            continue
        (small, low), (large, high) = min(parts, key=lambda p: p[1].amax), max(parts, key=lambda p: p[1].amax)
        if high.amax < FACTOR * max(low.amax, 1e-12):
            continue
        message = _sharing(case, small, low, large, high, params)
        outputs = any(t in case.model.outputs for t in group.tensors)
        remedy = f'Set "{_layer_of(case, small)}": {case.wide}' + (
            ", or cut the Concat off with --outputs and quantize its inputs apart."
            if outputs
            else f', or keep "{_layer_of(case, large)}" apart in {case.wide}.'
        )
        severity = WARNING if high.amax >= SEVERE * max(low.amax, 1e-12) else NOTE
        yield Finding(_layer_of(case, small), "shared-range", message, remedy, severity)


def _parts(case: _Case, group: Group) -> list[tuple[str, Range]]:
    """Sources of a group whose own range is known: a fixed one by their operator, or by the layer behind them."""
    found = []
    for source in group.sources:
        own = _own_range(case, source, group)
        if own is not None:
            found.append((source, own))
    return found


def _own_range(case: _Case, source: str, group: Group) -> Range | None:
    if source in case.ranges:
        return case.ranges[source]
    op = case.producers.get(source, "")
    fixed = operators.FIXED_RANGES.get(op)
    if fixed is not None:
        return Range(*fixed)
    layer = case.model.layer.get(source)
    bound = _bound(case, layer) if layer is not None else None
    whole = case.calibrated.measured[group.name].range if group.name in case.calibrated.measured else None
    if bound is not None and whole is not None:
        return Range(max(bound.min, whole.min), min(bound.max, whole.max)) if bound.amax < whole.amax else whole
    return whole


def _bound(case: _Case, layer: Layer) -> Range | None:
    """A range that a layer cannot leave: scaling by one constant, clipping."""
    node = case.model.nodes[layer.node]
    if layer.op == "Mul" and len(layer.inputs) == 1 and layer.weights:
        before = case.measured(layer.inputs[0])
        factor = np.asarray(case.weights[layer.weights[0].tensor])
        if before is not None and factor.size == 1:
            ends = sorted(
                (before.range.min * float(factor.reshape(-1)[0]), before.range.max * float(factor.reshape(-1)[0]))
            )
            return Range(ends[0], ends[1])
    if "Clip" in (layer.op, layer.activation_op):
        clip = case.model.nodes[layer.activation] if layer.activation_op == "Clip" else node
        held = [case.weights.get(n) if n else None for n in [*clip.input[1:3], "", ""][:2]]
        low, high = (None if h is None else float(np.asarray(h).reshape(-1)[0]) for h in held)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
            return Range(low, high)
    return None


def _sharing(case: _Case, small: str, low: Range, large: str, high: Range, params: QParams) -> str:
    scale = float(params.scale)
    steps = (low.max - low.min) / scale
    if case.producers.get(small) in SCORES:
        score = 0.98
        told = round(score / scale) * scale
        becomes = f"a score of {score} becomes {told:.3g}"
    else:
        value = low.max if abs(low.max) >= abs(low.min) else low.min
        becomes = f"its largest value {value:.4g} becomes {round(value / scale) * scale:.4g}"
    return (
        f"it shares one scale ({scale:.3g}) with '{_layer_of(case, large)}' ({high.min:.4g} to {high.max:.4g}), which "
        f"leaves its own range ({low.min:.4g} to {low.max:.4g}) {max(steps, 0):.1f} of 255 steps: {becomes}"
    )


def _layer_of(case: _Case, source: str) -> str:
    return source if source in case.model.layer else next(iter(case.model.group_of[source].layers), source)


def _mixed_outputs(case: _Case) -> Iterator[Finding]:
    """Outputs that hold boxes and scores, whose parts would share a scale on this target or did not fit one."""
    producers = {o: n for n in case.model.proto.graph.node for o in n.output}
    for output in case.model.outputs:
        node = producers.get(output)
        while node is not None and operators.lookup(node.op_type).kind is Kind.MOVES and node.op_type != "Concat":
            node = producers.get(node.input[0])
        if node is None or node.op_type != "Concat":
            continue
        known = [(i, m.range) for i in node.input if (m := case.measured(i)) is not None]
        groups = {case.model.group_of[i].name for i, _ in known}
        if len(groups) < 2:
            continue  # one group: the shared range says it already
        (small, low), (large, high) = min(known, key=lambda p: p[1].amax), max(known, key=lambda p: p[1].amax)
        if high.amax < FACTOR * max(low.amax, 1e-12):
            continue
        scale = high.amax / 255.0
        yield Finding(
            _layer_of(case, small),
            "mixed-output",
            f"output '{output}' joins it ({low.min:.4g} to {low.max:.4g}) with '{_layer_of(case, large)}' "
            f"({high.min:.4g} to {high.max:.4g}): here they keep their own scales, but a toolchain that gives the "
            f"output one scale ({scale:.3g}) turns {low.max:.3g} into {round(low.max / scale) * scale:.3g}",
            "For an NPU cut the model before that Concat with --outputs.",
            NOTE,
        )


def _unlike_addends(case: _Case) -> Iterator[Finding]:
    """An Add whose operands differ so much that the smaller one vanishes in the result's steps."""
    for layer in case.model.layers:
        if layer.op not in ("Add", "Sub") or len(layer.inputs) < 2:
            continue
        known = [(i, m.range) for i in layer.inputs if (m := case.measured(i)) is not None]
        params = case.qparams(layer.group)
        if len(known) < 2 or params is None:
            continue
        (small, low), (large, high) = min(known, key=lambda p: p[1].amax), max(known, key=lambda p: p[1].amax)
        if high.amax < FACTOR * max(low.amax, 1e-12) or case.model.group_of[small] is case.model.group_of[large]:
            continue
        steps = (low.max - low.min) / float(params.scale)
        yield Finding(
            layer.name,
            "unlike-addends",
            f"it adds '{small}' ({low.min:.4g} to {low.max:.4g}) to '{large}' ({high.min:.4g} to {high.max:.4g}): of "
            f"the smaller one {max(steps, 0):.0f} of 255 steps remain in the result",
            f'Set "{layer.name}": {case.wide}.',
            WARNING if steps < SEVERE / 10 else NOTE,
        )


def _scaled_channels(case: _Case) -> Iterator[Finding]:
    """Channels that a constant (or a last convolution) makes so unlike that one scale cannot serve them."""
    for layer in case.model.layers:
        params = case.qparams(layer.group)
        widths = _channel_widths(case, layer) if params is not None else None
        if params is None or widths is None or len(widths) < 2 or widths.min() <= 0:
            continue
        factor = float(widths.max() / widths.min())
        if factor < SEVERE:
            continue
        whole = case.calibrated.measured[layer.group].range.amax
        scale, small = float(params.scale), whole / factor
        becomes = round(small / scale) * scale
        yield Finding(
            layer.name,
            "unlike-channels",
            f"its channels differ {factor:.0f} times in size and share one scale ({scale:.3g}): a value of {small:.3g} "
            f"in the smallest becomes {becomes:.3g}",
            f'Set "{layer.name}": {case.wide}, or cut the model before it with --outputs.',
        )


def _channel_widths(case: _Case, layer: Layer) -> NDArray[np.float64] | None:
    """How large each channel of a result is, up to a factor: of a constant's product, of the last convolution."""
    if layer.op == "Mul" and len(layer.inputs) == 1 and layer.weights:
        values = np.abs(np.asarray(case.weights[layer.weights[0].tensor], np.float64)).reshape(-1)
        return values if values.size > 1 else None
    leaves = any(t in case.model.outputs for t in case.model.group[layer.group].tensors)
    if layer.op == "Conv" and leaves and layer.weights:
        values = np.asarray(case.weights[layer.weights[0].tensor], np.float64)
        bias = np.abs(np.asarray(case.weights[layer.bias], np.float64)).reshape(-1) if layer.bias else 0.0
        found: NDArray[np.float64] = np.linalg.norm(values.reshape(len(values), -1), axis=1) + bias
        return found
    return None


def _depthwise_spread(case: _Case) -> Iterator[Finding]:
    """Channels of a depthwise weight that differ by more than ``SPREAD``."""
    for layer in case.model.layers:
        if not _is_depthwise(case.model, layer):
            continue
        values = np.abs(np.asarray(case.weights[layer.weights[0].tensor], np.float64))
        widths = values.reshape(len(values), -1).max(1)
        alive = widths[widths > widths.max(initial=0.0) * 1e-6]
        spread = float(alive.max(initial=0.0) / alive.min()) if len(alive) else 1.0
        if spread <= SPREAD:
            continue
        per_channel = case.target.precisions[case.calibrated.default].weight.per_channel
        kept = per_channel and case.calibrated.weights_per == "channel"
        lost = int((alive < alive.max() / 255).sum())
        message = f"its depthwise weights differ by {spread:.0f} times between channels: "
        if kept:
            message += "each channel has its own scale, so only the channels' outputs share one"
        else:
            message += f"with one scale for all, {lost} of {len(widths)} channels become 0"
        remedy = f'Set "{layer.name}": {case.wide}, or repair the weights with --weights-repair auto.'
        yield Finding(layer.name, "depthwise-spread", message, remedy, NOTE if kept else WARNING)


def _saturated(case: _Case) -> Iterator[Finding]:
    """Inputs of a Sigmoid, Softmax or Tanh whose range is mostly where the function is flat."""
    for layer in case.model.layers:
        limit = USEFUL.get(layer.op)
        known = case.measured(layer.inputs[0]) if limit and layer.inputs else None
        params = case.qparams(case.model.group_of[layer.inputs[0]].name) if known is not None else None
        if limit is None or known is None or params is None or known.fixed or known.range.amax <= limit:
            continue
        scale = float(params.scale)
        remedy = f'Set "{layer.inputs[0]}": {case.wide}, or a narrower min and max for it in quantize_parameters.'
        if layer.op == "Softmax":
            message = f"reads values from {known.range.min:.4g} to {known.range.max:.4g} in steps of {scale:.3g}: two "
            message += f"classes one step apart differ {math.exp(min(scale, 50.0)):.3g} times"
            if scale < 0.1:
                continue
        else:
            middle = _slope(layer.op, scale)
            message = f"reads values from {known.range.min:.4g} to {known.range.max:.4g}, of which only -{limit:g} to "
            message += f"{limit:g} matter: its steps of {scale:.3g} move the result by up to {middle:.3f}"
        yield Finding(layer.name, "saturated", message, remedy, WARNING if scale > 0.25 else NOTE)


def _slope(op: str, step: float) -> float:
    """The largest change of a result when its input moves by one step around zero."""
    if op == "Tanh":
        return 2 * math.tanh(step / 2)
    return min(1.0, step / 6) if op == "HardSigmoid" else 2 / (1 + math.exp(-step / 2)) - 1


def _slow(case: _Case) -> Iterator[Finding]:
    """Operators that 8 bits slow down on the target, once an operator."""
    names: dict[str, list[str]] = {}
    for layer in case.model.layers:
        entry = case.calibrated.entries.get(layer.group)
        if entry is not None and entry.dtype.bits == 8:
            kind = "DepthwiseConv" if _is_depthwise(case.model, layer) else layer.op
            names.setdefault(kind, []).append(layer.name)
    for kind, layers in names.items():
        speed = case.target.slow_8bit.get(kind)
        if speed:
            rest = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
            yield Finding(
                layers[0],
                "slow-8bit",
                f"{kind} ('{layers[0]}'{rest}) runs at {speed} in 8 bits on {case.target.title}",
                f"Where speed counts, let a search decide: --proposal --min-speedup 1 raises them to {case.wide}.",
                NOTE,
            )


def _is_depthwise(model: Model, layer: Layer) -> bool:
    if layer.op != "Conv" or not layer.weights or layer.weights[0].shape[1] != 1:
        return False
    return attribute(model.nodes[layer.node], "group", 1) != 1


def _few_samples(case: _Case) -> Iterator[Finding]:
    if case.samples is not None and 0 < case.samples < FEW:
        s = "" if case.samples == 1 else "s"
        yield Finding(
            "",
            "few-samples",
            f"ranges come from {case.samples} sample{s}: what another picture holds beyond them will be clipped",
            f"Calibrate on {FEW} to 100 samples that look like the real ones.",
        )


RULES: tuple[Rule, ...] = (
    _shared_ranges,
    _mixed_outputs,
    _unlike_addends,
    _scaled_channels,
    _depthwise_spread,
    _saturated,
    _slow,
    _few_samples,
)

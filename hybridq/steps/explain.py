"""``explain``: all that is known of one layer, from the model, the cfg, the plan, the report and the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hybridq import targets
from hybridq.compare.results import plain
from hybridq.config.names import Names
from hybridq.errors import ConfigError
from hybridq.graph.model import Layer, Model
from hybridq.linting.facts import Facts, Finding
from hybridq.linting.run import lint
from hybridq.plan.layer_weights import entry_key
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import LayerPlan, QuantPlan, Stored
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Edit, QuantConfig
from hybridq.quant.words import nearest_hint
from hybridq.report.commands import set_command, unset_command
from hybridq.report.words import size
from hybridq.steps.common import REPORT, REPORT_JSON, SEARCH, read_config, read_result, read_state
from hybridq.storage.state import State


@dataclass(frozen=True, slots=True)
class OutputValues:
    """A layer's output: what calibration saw, the range chosen and by what, how it is stored.

    ``seen`` and ``chosen`` are real (min, max); ``step`` is the scale, None where the tensor is stored in float.
    ``shares`` are the other layers that write tensors with the same parameters.
    """

    seen: tuple[float, float]
    algorithm: str
    chosen: tuple[float, float] | None
    stored: str
    step: float | None
    zero_point: int | None
    shares: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WeightValues:
    """One weight: its real range, how it is stored, the smallest and largest scale over its channels."""

    tensor: str
    shape: tuple[int, ...]
    range: tuple[float, float]
    algorithm: str
    stored: str
    channels: int
    scales: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A tensor that the layer reads, or a layer that reads it; ``boundary`` says what happens between precisions."""

    name: str
    precision: str
    boundary: str = ""


@dataclass(frozen=True)
class Explanation:
    """One layer, and what would help it.

    ``why`` is the reason for ``done``; ``alone_db`` and ``inside_db`` are step3's SQNR, individual and entire, None
    where not measured, and ``blamed_below_db`` what a layer to blame is below alone; ``board`` says what a device
    computed, ``search`` the search's reason for its choice, both are empty without one.
    ``raised`` says of a layer with more bits than step1 gave it what it was, what it costs and what it brought.
    ``findings`` are the lint's, ``help`` are commands.
    """

    name: str
    op: str
    activation: str
    aliases: tuple[str, ...]
    shape: tuple[int | str, ...] | None
    macs: int
    macs_share: float
    asked: str
    done: str
    why: str
    values: OutputValues
    weights: tuple[WeightValues, ...]
    edits: tuple[Edit, ...]
    reads: tuple[Neighbour, ...]
    read_by: tuple[Neighbour, ...]
    alone_db: float | None
    inside_db: float | None
    blamed_below_db: float | None
    board: str
    search: str
    raised: tuple[str, ...]
    findings: tuple[str, ...]
    help: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is infinite is null."""
        found: dict[str, Any] = plain(asdict(self))
        return found


@dataclass(frozen=True)
class Ground:
    """What explanations of a folder's layers stand on, worked out once. ``report`` is what step3 wrote, or empty."""

    folder: Path
    state: State
    config: QuantConfig
    plan: QuantPlan
    facts: Facts
    findings: tuple[Finding, ...]
    report: Mapping[str, Any]
    reasons: Mapping[str, Any]

    def explain(self, layer: Layer) -> Explanation:
        """One layer."""
        return _explained(self, layer)

    @cached_property
    def unedited(self) -> QuantPlan:
        """The plan of what step1 left."""
        calibrated = self.state.calibrated
        plain = QuantConfig(calibrated.target, {}, calibrated.entries, {})
        return make_plan(self.state.model, calibrated, plain, self.state.weights)


def ground_of(folder: Path, state: State, config: QuantConfig, report: Mapping[str, Any]) -> Ground:
    """What explanations stand on."""
    model, weights, calibrated = state.model, state.weights, state.calibrated
    target, plan = targets.load(calibrated.target), make_plan(model, calibrated, config, weights)
    findings = tuple(lint(model, weights, calibrated, target))
    reasons = read_result(folder, SEARCH).get("chosen", {}).get("reasons", {})
    facts = Facts(model, weights, calibrated, target, plan, {})
    return Ground(folder, state, config, plan, facts, findings, report, reasons)


def explain(directory: Path | str, layer: str) -> Explanation:
    """Why a layer of a folder has its precision, what that does to it, and what would help.

    ``layer`` is any of its names. Raises ConfigError where there is no such layer, or where a name stands for several.
    """
    folder = Path(directory)
    state = read_state(folder)
    config, _ = read_config(folder, state)
    found = state.model.layer[_name(layer, state, folder)]
    return ground_of(folder, state, config, read_result(folder / REPORT, REPORT_JSON)).explain(found)


def _name(word: str, state: State, folder: Path) -> str:
    names = Names(state.model, state.calibrated.entries)
    found = names.layers(word)
    if word in state.model.inputs:
        raise ConfigError(f"'{word}' is a model input, no layer", path=str(folder), hint="Name a layer that reads it.")
    if not found:
        hint = nearest_hint(word, names.known) or f"`hybridq list {folder}` shows the layers."
        raise ConfigError(f"there is no layer '{word}'", path=str(folder), hint=hint)
    if len(found) > 1:
        told = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise ConfigError(f"'{word}' stands for {len(found)} layers", path=str(folder), hint=f"Name one: {told}.")
    return found[0]


def _explained(ground: Ground, layer: Layer) -> Explanation:
    state, config, plan, model = ground.state, ground.config, ground.plan, ground.state.model
    planned, tensor = plan.layers[layer.name], model.tensors.get(layer.name)
    alone, inside = _damage(ground.report, layer.name)
    edits = tuple(e for e in config.edits if e.key in (layer.name, layer.group, entry_key(layer)))
    findings, remedies = _advice(ground, planned, edits)
    return Explanation(
        name=layer.name,
        op=layer.op,
        activation=layer.activation_op,
        aliases=tuple(a for a in layer.aliases if a != layer.name),
        shape=tensor.shape if tensor else None,
        macs=layer.macs,
        macs_share=layer.macs / max(model.macs, 1),
        asked=str(planned.asked),
        done=f"weight_only {planned.weight_only}" if planned.weight_only else str(planned.done),
        why=planned.why or _asked(config, layer),
        values=_values(state, config, plan, layer),
        weights=tuple(_weights(state, config, planned, layer)),
        edits=edits,
        reads=_reads(model, plan, layer),
        read_by=_read_by(model, plan, layer),
        alone_db=alone,
        inside_db=inside,
        blamed_below_db=(ground.report.get("verdict") or {}).get("blamed_below_db"),
        board=_board(ground.report, layer.name),
        search=str(ground.reasons.get(layer.name, "")),
        raised=tuple(_raised(ground, layer)),
        findings=findings,
        help=remedies,
    )


def _asked(config: QuantConfig, layer: Layer) -> str:
    choice = config.choices.get(layer.name)
    if choice is None:
        return "the default"
    where = f", line {choice.line}" if choice.line else ""
    return f"asked for in the cfg{where}" + (f", by '{choice.selector}'" if choice.selector else "")


def _values(state: State, config: QuantConfig, plan: QuantPlan, layer: Layer) -> OutputValues:
    measured, entry = state.calibrated.measured[layer.group], config.entries[layer.group]
    stored = plan.groups[layer.group].stored
    q = stored.qparams
    chosen = (q.range.min, q.range.max) if q else None
    others = tuple(n for n in state.model.group[layer.group].layers if n != layer.name)
    algorithm = "known without measuring" if measured.fixed else entry.algorithm or state.calibrated.algorithm
    return OutputValues(
        (measured.range.min, measured.range.max),
        algorithm,
        chosen,
        str(stored.precision),
        float(q.scale) if q else None,
        int(q.zero_point) if q else None,
        others,
    )


def _weights(state: State, config: QuantConfig, planned: LayerPlan, layer: Layer) -> list[WeightValues]:
    entry = config.entries.get(entry_key(layer))
    found = []
    for weight in planned.weights:
        values, q = state.weights[weight.tensor], weight.qparams
        ends = (float(values.min(initial=0.0)), float(values.max(initial=0.0)))
        algorithm = (entry.algorithm if entry else None) or "normal"
        scales = (float(q.scale.min()), float(q.scale.max())) if q else None
        channels = int(q.scale.size) if q and q.axis is not None else 1
        stored = str(weight.precision)
        found.append(WeightValues(weight.tensor, values.shape, ends, algorithm, stored, channels, scales))
    return found


def _reads(model: Model, plan: QuantPlan, layer: Layer) -> tuple[Neighbour, ...]:
    """The tensors a layer reads, in the form in which it reads them."""
    between = {b.tensor: b for b in plan.boundaries_of(layer)}
    found = []
    for tensor in dict.fromkeys(layer.inputs):
        group = model.group_of.get(tensor)
        held = plan.groups[group.name].stored.precision if group else Precision.FLOAT32
        edge = between.get(tensor)
        told = f"converted to {edge.wanted}: {edge.why}" if edge and edge.conversion is not None else ""
        found.append(Neighbour(tensor, str(held), told.removesuffix(": ")))
    return tuple(found)


def _read_by(model: Model, plan: QuantPlan, layer: Layer) -> tuple[Neighbour, ...]:
    """The layers that read this one's group, each with its precision."""
    stored, found = plan.groups[layer.group].stored, []
    for reader in model.readers.get(layer.group, ()):
        as_read: Stored = plan.read(layer.group, reader.name)
        told = "" if as_read.precision is stored.precision else f"reads it as {as_read.precision}"
        found.append(Neighbour(reader.name, str(plan.layers[reader.name].done), told))
    return tuple(found)


def _damage(report: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    """SQNR in dB, individual and entire, as the last step3 measured them."""
    for layer in report.get("layers") or ():
        if layer.get("name") == name:
            alone, inside = (layer.get(k) or {} for k in ("individual", "entire"))
            return alone.get("sqnr_db"), inside.get("sqnr_db")
    return None, None


def _raised(ground: Ground, layer: Layer) -> Iterator[str]:
    """What a layer was before it got more bits, what those cost, what they brought; nothing of other layers."""
    before, now = ground.unedited.layers[layer.name], ground.plan.layers[layer.name]
    if before.done.bits != 8 or now.done.bits <= 8:
        return
    stored = ground.unedited.groups[layer.group].stored
    step = f", a step of {float(stored.qparams.scale):.4g}" if stored.qparams is not None else ""
    seen = ground.state.calibrated.measured[layer.group].range
    yield f"was {before.done}: values {seen.min:.4g} .. {seen.max:.4g}{step}"
    bytes_before, bytes_now = (_weight_bytes(ground.state, plan) for plan in (before, now))
    share = layer.macs / max(ground.state.model.macs, 1)
    yield f"costs {share:.1%} of the MACs above 8 bits, {size(bytes_now)} of weights for {size(bytes_before)}"
    told = str(ground.reasons.get(layer.name, ""))
    unset = f"`{unset_command(str(ground.folder), [layer.name])}`, then step2 and step3, show it"
    yield f"brought {told}" if "->" in told else f"brought: not measured alone; {unset}"


def _weight_bytes(state: State, planned: LayerPlan) -> int:
    """Bytes that a layer's weights take."""
    return sum(int(np.size(state.weights[w.tensor])) * w.precision.bits // 8 for w in planned.weights)


def _board(report: Mapping[str, Any], name: str) -> str:
    """What the last step3 says that a device computed of a layer, and what to look at where it parts from the plan."""
    captured = report.get("board") or {}
    found = next((x for x in captured.get("layers", ()) if x.get("name") == name), None)
    if found is None:
        return ""
    figures = [found[key]["sqnr_db"] for key in ("against_float", "planned")]
    told = "{} against float, planned {}".format(*("no figure" if f is None else f"{f:.1f} dB" for f in figures))
    if captured.get("first_apart") == name:
        return f"{told}: the first layer that is not as planned; {captured.get('cause', '')}"
    return f"{told}: {'as planned' if found['as_planned'] else 'not as planned'}"


def _advice(ground: Ground, planned: LayerPlan, edits: tuple[Edit, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the lint says of a layer, and the commands that would help or take back what was asked."""
    folder, model, name = str(ground.folder), ground.state.model, planned.name
    told = [f for f in ground.findings if name in (f.layer, *f.layers)]
    commands = [unset_command(folder, [name])] if edits else []
    if planned.done.bits == 8:
        remedies = [(ground.facts.whole(f.layers or (f.layer,)), f.precision) for f in told if f.precision is not None]
        together = ground.facts.keeping(model.group[model.layer[name].group])
        remedies.append((ground.facts.whole((name, *together)), ground.facts.raised))
        commands += [set_command(folder, layers, str(precision)) for layers, precision in remedies]
    return tuple(f.message for f in told), tuple(dict.fromkeys(commands))

"""What a foreign file asks for, written into our cfg: only what differs from what the cfg gives already.

First the layers get their precisions; then a plan made from that says what every tensor and weight becomes by itself,
and numbers are written where the file has others. What differs by less than ``NOISE`` of itself is the same number,
printed by another program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hybridq import config
from hybridq.config.change import Change, Draft, difference
from hybridq.config.write import quote, value_text
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.records import Wanted
from hybridq.plan.layer_weights import WeightPlan
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan, Stored
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import float32_text
from hybridq.quant.qparams import QParams, Range
from hybridq.quant.records import WEIGHT_SUFFIX, QuantConfig
from hybridq.storage.state import State

NOISE = 1e-6
WITHIN = 0.99
SHOWN = 10  # reasons why an entry was not mapped, where none was


@dataclass
class _Draft:
    """Our cfg in the making; each step edits ``text`` and finds what then holds."""

    text: str
    path: str
    state: State

    def __post_init__(self) -> None:
        self.before = self.config()
        self.remarks: tuple[Problem, ...] = ()

    def config(self) -> QuantConfig:
        """The cfg as it is now."""
        found, problems = config.check(self.text, self.path, self.state.model, self.state.calibrated)
        if found is None:
            raise ConfigError(problems)
        return found

    def plan(self) -> QuantPlan:
        """What it gives."""
        return make_plan(self.state.model, self.state.calibrated, self.config(), self.state.weights)

    def edit(self, step: Callable[[Draft], None]) -> None:
        """Let ``step`` edit the text."""
        draft = Draft(self.text, self.path, self.state.model, self.state.calibrated)
        step(draft)
        done = draft.done()
        self.text, self.remarks = done.text, done.problems

    def put(self, fields: Mapping[str, Mapping[str, str]]) -> None:
        """Write fields of entries."""

        def step(draft: Draft) -> None:
            for key, values in fields.items():
                draft.put([key], values)

        if fields:
            self.edit(step)


def take(wanted: Wanted, state: State, text: str, path: str, source: str) -> Change:
    """Our cfg ``text`` with what ``wanted`` asks. Raises ConfigError where nothing of the file ``source`` fits."""
    if not wanted.seen:
        raise ConfigError([_nothing(wanted, state, source), *wanted.problems[:SHOWN]])
    draft = _Draft(text, path, state)
    draft.edit(lambda draft: _ask(draft, wanted, state))
    lifted = _by_storage(wanted, draft.plan(), state)
    draft.edit(lambda draft: _ask_layers(draft, lifted))
    draft.put({**wanted.edits, **_ranges(wanted, draft.plan(), state)})
    draft.put(_numbers(wanted, draft.plan(), state))
    return Change(draft.text, difference(draft.before, draft.config()), draft.remarks)


def _ask(draft: Draft, wanted: Wanted, state: State) -> None:
    """Write the selectors as they are, and each layer whose precision is not the one it has."""
    draft.ask_selectors(wanted.selectors, wanted.line)
    current = {n: c.precision for n, c in draft.before.choices.items()}
    new = {
        n: p
        for n, p in wanted.layers.items()
        if p is not current.get(n, state.calibrated.default_of(n)) and not state.model.layer[n].float_only
    }
    _ask_layers(draft, new)


def _ask_layers(draft: Draft, layers: Mapping[str, Precision]) -> None:
    for precision in dict.fromkeys(layers.values()):
        draft.ask([n for n, p in layers.items() if p is precision], str(precision))


def _by_storage(wanted: Wanted, plan: QuantPlan, state: State) -> dict[str, Precision]:
    """Layers whose output the file stores otherwise than the plan does, where the file says nothing of the layer."""
    found: dict[str, Precision] = {}
    for key, stored in wanted.parameters.items():
        if plan.groups[key].stored.precision is stored.precision:
            continue
        for name in state.model.group[key].layers or _readers(key, state):
            layer = state.model.layer[name]
            free = not layer.float_only and name not in wanted.layers
            if free and plan.layers[name].done is not stored.precision:
                found[name] = stored.precision
    return found


def _readers(key: str, state: State) -> tuple[str, ...]:
    """The layers that read a model input, whose precision it has."""
    tensors = set(state.model.group[key].tensors)
    return tuple(x.name for x in state.model.layers if not tensors.isdisjoint(x.inputs))


def _ranges(wanted: Wanted, plan: QuantPlan, state: State) -> dict[str, dict[str, str]]:
    """Ranges that differ from those the plan gives, by key."""
    return {
        key: {"min": float32_text(r.min), "max": float32_text(r.max)}
        for key, r in wanted.ranges.items()
        if not _same_range(r, key, plan, state)
    }


def _numbers(wanted: Wanted, plan: QuantPlan, state: State) -> dict[str, dict[str, str]]:
    """Scales and zero points that differ from those the plan gives, by key."""
    found = {k: _stored_fields(k, s, plan, state, wanted) for k, s in wanted.parameters.items()}
    found |= {k: _weight_fields(k, p, plan, state, wanted) for k, p in wanted.weights.items()}
    return {k: v for k, v in found.items() if v}


def _same_range(r: Range, key: str, plan: QuantPlan, state: State) -> bool:
    """Whether a range is the one that a group has: as chosen, or as its integers can say it."""
    entry, p = state.calibrated.entries[key], plan.groups[key].stored.qparams
    known = [p.range] if p is not None else []
    if isinstance(entry.min, float | int) and isinstance(entry.max, float | int):
        known.append(Range(float(entry.min), float(entry.max)))
    for other in known:
        width = max(other.max - other.min, 1e-30)
        if abs(other.min - r.min) <= NOISE * width and abs(other.max - r.max) <= NOISE * width:
            return True
    return False


def close(a: QParams, b: QParams) -> bool:
    """Whether two parameters are the same but for noise in the scale."""
    return (
        a.precision is b.precision
        and (a.axis == b.axis or a.scale.size == b.scale.size == 1)
        and a.scale.size == b.scale.size
        and bool(np.allclose(a.scale.reshape(-1), b.scale.reshape(-1), rtol=NOISE, atol=0))
        and np.array_equal(a.zero_point.reshape(-1), b.zero_point.reshape(-1))
    )


def _stored_fields(key: str, stored: Stored, plan: QuantPlan, state: State, wanted: Wanted) -> dict[str, str]:
    """The fields that give a group the file's parameters."""
    p, planned = stored.qparams, plan.groups[key].stored
    if p is None or planned.qparams is None or close(p, planned.qparams):
        return {}
    if p.precision is not planned.precision:
        wanted.problems.append(_stays(key, f"it is stored in {planned.precision} here, not {p.precision}"))
        return {}
    layers = [state.model.layer[n] for n in state.model.group[key].layers]
    retyped = p.precision is not state.calibrated.entries[key].dtype
    own = any(plan.layers[x.name].done is not p.precision for x in layers)  # for which a scale would be meant
    if own or (retyped and (not layers or any(x.float_only for x in layers))):  # no dtype of its own to be edited
        r = _range_for(p)
        return {"min": float32_text(r.min), "max": float32_text(r.max)}
    fields = {"dtype": str(p.precision)} if retyped else {}
    fields |= {} if p.scheme is planned.qparams.scheme else {"qtype": str(p.scheme)}
    return fields | {"scale": value_text(float(p.scale)), "zero_point": str(int(p.zero_point))}


def _range_for(p: QParams) -> Range:
    """A range that gives these parameters: of powers of two one within, since the next one is taken."""
    if not p.scheme.is_symmetric:
        return p.range
    reach = float(p.scale) * (p.qmax - int(p.zero_point))
    reach *= WITHIN if p.scheme is Scheme.DYNAMIC_FIXED_POINT else 1.0
    return Range(-reach, reach)


def _weight_fields(key: str, p: QParams, plan: QuantPlan, state: State, wanted: Wanted) -> dict[str, str]:
    """The fields that give a weight the file's parameters."""
    layer = state.model.layer[key.removesuffix(WEIGHT_SUFFIX)]
    planned: tuple[WeightPlan, ...] = plan.layers[layer.name].weights
    now = planned[0].qparams if planned else None
    if now is None or close(p, now):
        return {}
    entry = state.calibrated.entries[key]
    if p.precision is not now.precision or p.precision is not entry.dtype:
        wanted.problems.append(_stays(key, f"its parameters for {p.precision} are computed here"))
        return {}
    fields = {} if p.scheme is now.scheme else {"qtype": str(p.scheme)}
    if (p.axis is None) != (now.axis is None):
        fields["qmethod"] = "layer" if p.axis is None else "channel"
    return fields | {"scale": _listed(p.scale, float), "zero_point": _listed(p.zero_point, int)}


def _listed(values: np.ndarray, kind: type) -> str:
    return value_text(tuple(kind(x) for x in values) if values.ndim else kind(values))


def _stays(key: str, why: str) -> Problem:
    return Problem(f"{quote(key)} is not imported: {why}", severity="warning", code="unmapped")


def _nothing(wanted: Wanted, state: State, path: str) -> Problem:
    """Why an import that maps nothing is an error, and what was looked for."""
    named = len(wanted.problems)
    entries = f"none of its {named} entries fits" if named > 1 else "its only entry does not fit"
    said = f"nothing could be mapped: {entries} '{state.model.name}'" if named else "nothing to import: no entries"
    own = [x.name for x in state.model.layers[:3]]
    hint = (
        f"Looked for layers and tensors by name, such as {', '.join(own)}; "
        "of @LAYER_7:out0 also LAYER_7 and LAYER.\nImport a file that was written for the same ONNX file."
    )
    return Problem(said, path, 1, hint=hint, code="unmapped")

"""``build.json``: per layer what was asked, what was done and why; per edit what it changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridq.compare.fidelity import Fidelity
from hybridq.files.reading import write_text
from hybridq.files.seal import sealed
from hybridq.graph.model import Layer, Model
from hybridq.plan.quant_plan import SHIFTED, QuantPlan
from hybridq.plan.share_of_macs import high_fraction
from hybridq.report.effects import Effects

FORMAT = "hybridq.build/1"


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer as built. ``why`` is empty where nothing needs explaining; ``built`` has what is not as usual in it."""

    name: str
    op: str
    asked: str
    done: str
    why: str
    macs: int
    built: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EditRow:
    """One edit of the cfg and its effect on the model; an empty effect is said to be none."""

    key: str
    field: str
    before: str
    after: str
    line: int
    effect: str


@dataclass(frozen=True)
class BuildReport:
    """What step2 did.

    ``float_only`` has the tensors that no precision rounds, by their groups' names, and why; ``written`` the precisions
    that stand in the file in another type, and why.
    """

    target: str
    layers: tuple[LayerRow, ...]
    edits: tuple[EditRow, ...]
    high_fraction: float
    weight_bytes: int
    float_weight_bytes: int
    float_only: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many layers ended at each precision."""
        return dict(Counter(row.done for row in self.layers))

    @property
    def changed(self) -> list[LayerRow]:
        """Layers for which something else was done than asked, or that need a reason."""
        return [row for row in self.layers if row.why]


def report_build(effects: Effects, sizes: tuple[int, int]) -> BuildReport:
    """The report of a plan and its edits; ``sizes`` are the bytes of the weights as built and in float."""
    model, plan = effects.model, effects.plan
    later = {r.instead_of: f"at '{tensor}', {r.why}" for tensor, r in plan.roundings.items() if r.instead_of}
    rows = tuple(
        LayerRow(
            x.name,
            x.op,
            _word(plan, x.name, asked=True),
            _word(plan, x.name),
            plan.layers[x.name].why,
            x.macs,
            _built(plan, model, x, later.get(x.name, "")),
        )
        for x in model.layers
    )
    edits = tuple(EditRow(e.key, e.field, e.before, e.after, e.line, effects.of(e)) for e in effects.config.edits)
    floats = {g.name: g.float_only for g in plan.groups.values() if g.float_only}
    return BuildReport(plan.target, rows, edits, high_fraction(model, plan), *sizes, floats, _written(plan))


def _written(plan: QuantPlan) -> dict[str, str]:
    stored = [g.stored for g in plan.groups.values()] + [
        c for g in plan.groups.values() for c in g.conversions.values()
    ]
    return {str(s.precision): SHIFTED for s in stored if plan.written(s) is not s}


def _word(plan: QuantPlan, name: str, asked: bool = False) -> str:
    one = plan.layers[name]
    if one.weight_only is not None:
        return f"weight_only {one.weight_only}"
    return str(one.asked if asked else one.done)


def _built(plan: QuantPlan, model: Model, layer: Layer, later: str) -> dict[str, str]:
    """What stands in the model for a layer's sake beside the layer itself, and why."""
    one, barrier = plan.layers[layer.name], plan.barrier(layer.name)
    inside = plan.roundings.get(model.nodes[layer.node].output[0]) if layer.activation else None
    converted = [f"'{b.tensor}' to {b.wanted}" for b in plan.boundaries_of(layer) if b.conversion is not None]
    words = {
        "barrier": barrier and f"{barrier.kind}: {barrier.why}",
        "rounded": later or (inside and f"before the {layer.activation_op} as well: {inside.why}"),
        "padding": one.padding and f"{one.padding.channels} channels of zeros: {one.padding.why}",
        "pool": one.pool and f"{one.pool.op}: {one.pool.why}",
        "converted": ", ".join(converted),
    }
    return {name: word for name, word in words.items() if word}


def write_build(
    path: Path, model: Model, report: BuildReport, fidelity: Fidelity | None, files: Mapping[str, str]
) -> None:
    """Write ``build.json``; ``files`` has the digests of what was built and of what it was made from."""
    head: dict[str, Any] = {
        "format": FORMAT,
        "model": {"name": model.name, "sha256": model.sha256},
        "files": dict(files),
        "target": report.target,
        "counts": report.counts,
        "high_fraction": round(report.high_fraction, 6),
        "weight_bytes": report.weight_bytes,
        "float_weight_bytes": report.float_weight_bytes,
        "fidelity": None if fidelity is None else _fidelity(fidelity),
        "float_only": dict(report.float_only),
        "written": dict(report.written),
    }
    rows = [_row(r) for r in report.layers]
    edits = [{k: getattr(e, k) for k in ("key", "field", "before", "after", "line", "effect")} for e in report.edits]
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    lines += [
        f'  "{k}": [' + ",".join(f"\n    {json.dumps(r, ensure_ascii=False)}" for r in v) + ("\n  ]" if v else "]")
        for k, v in (("edits", edits), ("layers", rows))
    ]
    write_text(path, sealed("{\n" + ",\n".join(lines) + "\n}\n"))


def _row(row: LayerRow) -> dict[str, Any]:
    usual = {k: getattr(row, k) for k in ("name", "op", "asked", "done", "why", "macs")}
    return {**usual, "built": row.built} if row.built else usual


def _fidelity(found: Fidelity) -> dict[str, Any]:
    figures = {name: getattr(found, name) for name in ("sqnr_db", "optimized_db", "plain_db")}
    finite = {n: {k: round(max(-999.0, min(v, 999.0)), 2) for k, v in dbs.items()} for n, dbs in figures.items()}
    return {**finite, "faithful": found.faithful, "differing": list(found.differing)}

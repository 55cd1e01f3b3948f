"""What each group costs at the model's outputs: quantized alone, and raised alone from all in 8 bits.

Damage is measured where it counts, at the outputs, by slice (channel, last axis, concatenated part), each against its
own signal. One growing graph measures all groups (``search.growing``); models whose batch cannot grow get a session
a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hybridq.compare.metric import Metric, evaluate, metric_name
from hybridq.graph.model import Group, Model
from hybridq.graph.runtime import Feed, run, session
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.shares import share_of_macs
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.search.alone import DISABLED, chunks, noise_of
from hybridq.search.damage import Doubles, Objective, Reference, measure_reference, objective
from hybridq.search.growing import Form, Forms, Key, grow
from hybridq.search.noise import group_forms, leaves, readers_of, weight_forms
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

SAMPLES = 16

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class GroupSensitivity:
    """One group. ``damage`` of it alone in 8 bits, ``gain`` when it alone is raised; both in the unit of the model's.

    ``worst`` is the slice that suffers most: output, axis, first index, dB. ``drop`` is what the user's
    metric loses, None without one. ``macs`` is its share.
    """

    name: str
    layers: tuple[str, ...]
    macs: float
    damage: float
    gain: float | None
    worst: tuple[str, int, int, float]
    drop: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """Every group that 8 bits touch, the most damaging first. ``whole`` is the damage of all in 8 bits together."""

    samples: int
    whole: float
    groups: tuple[GroupSensitivity, ...] = field(repr=False)


def sensitivity(
    model: Model,
    weights: Weights,
    calibrated: Calibrated,
    feeds: Iterable[Feed],
    *,
    metric: Metric | None = None,
    gains: bool = True,
    threads: int = 1,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure every group on ``feeds`` (calibration samples, 16 to 32 say enough).

    ``metric`` is called with one dict of outputs a sample and group; ``gains`` also measures what raising each group
    alone from all in 8 bits brings, which takes about as long again.
    """
    reference = measure_reference(session(assemble(model.proto, weights), threads=threads), list(feeds), model)
    plan = make_plan(model, calibrated, QuantConfig(calibrated.target, {}, calibrated.entries, {}), weights)
    work = _Work(model, weights, plan, reference, threads, progress or (lambda done, total: None))
    low = quantized(model, plan, weights)
    start = work.noise(low, [{}], from_base=False)[:, 0]
    aim = objective(reference, start)
    groups = [g for g in model.groups if group_forms(model, plan, weights, g)]
    alone = work.noise({}, [group_forms(model, plan, weights, g) for g in groups])[:, 1:]
    raised = work.noise(low, [raise_forms(model, plan, g) for g in groups], from_base=False)[:, 1:] if gains else None
    whole = work.damage(aim, start[:, None])[0]
    damage = work.damage(aim, alone)
    left = work.damage(aim, raised) if raised is not None else None
    drops = work.drops(metric, groups) if metric is not None else None
    found = [
        GroupSensitivity(
            group.name,
            group.layers,
            share_of_macs(model, group.layers),
            float(damage[i]),
            None if left is None else float(whole - left[i]),
            _worst(reference, alone[:, i].mean(0)),
            None if drops is None else drops[i],
        )
        for i, group in enumerate(groups)
    ]
    found.sort(key=lambda g: (-(g.damage if g.drop is None else g.drop), -g.damage, g.name))
    return Sensitivity(len(reference.feeds), float(whole), tuple(found))


def quantized(model: Model, plan: QuantPlan, weights: Weights) -> dict[Key, Form]:
    """The forms of every quantizer of a plan: the whole model as it will be."""
    forms = weight_forms(model, plan, weights, [x.name for x in model.layers])
    forms.update({("tensor", g): p.stored.qparams for g, p in plan.groups.items() if p.stored.qparams is not None})
    return forms


def raise_forms(model: Model, plan: QuantPlan, group: Group) -> dict[Key, Form]:
    """What changes when one group alone gets more bits.

    Its weights become exact. Its tensor does where it leaves the model or a float layer reads it: other readers keep
    their 8 bits. An input of the model becomes exact for it.
    """
    forms: dict[Key, Form] = {("weight", n): None for n in group.layers}
    params = plan.groups[group.name].stored.qparams
    readers = [n for names in readers_of(model, group).values() for n in names]
    if params is not None and (leaves(model, group) or any(plan.layers[n].done.bits > 8 for n in readers)):
        forms["tensor", group.name] = None
        forms.update({("edge", group.name, n): params for n in readers if plan.layers[n].done.bits == 8})
    for source in model.groups:
        held = plan.groups[source.name].stored.qparams
        inside = readers_of(model, source) if held is not None and not source.layers else {}
        if group.name in inside:
            forms["tensor", source.name] = None
            others = [n for g, names in inside.items() if g != group.name for n in names]
            forms.update({("edge", source.name, n): held for n in others})
    return forms


def _worst(reference: Reference, noise: Doubles) -> tuple[str, int, int, float]:
    ratio = noise / reference.signal
    at = int(np.argmax(ratio))
    return (*reference.labels[at], round(-10.0 * float(np.log10(max(ratio[at], 1e-20))), 2))


@dataclass
class _Work:
    model: Model
    weights: Weights
    plan: QuantPlan
    reference: Reference
    threads: int
    progress: Progress

    def noise(self, base: Forms, variants: Sequence[Forms], *, from_base: bool = True) -> Doubles:
        """Noise (samples, 1 + variants, slices), in as many graphs as memory wants."""
        samples = range(len(self.reference.feeds))
        found = []
        for start, chunk in chunks(self.model, variants):
            rows = noise_of(
                self.model, self.weights, base, chunk, self.reference, samples, threads=self.threads,
                from_base=from_base,
            )  # fmt: skip
            found.append(rows if start == 0 else rows[:, 1:])
            self.progress(start + len(chunk), len(variants))
        return np.concatenate(found, axis=1)

    def damage(self, aim: Objective, noise: Doubles) -> Doubles:
        """Damage (rows,) of noise (samples, rows, slices)."""
        total: Doubles = np.sum([aim.of(i, rows) for i, rows in enumerate(noise)], axis=0)
        return total

    def drops(self, metric: Metric, groups: Sequence[Group]) -> list[float]:
        """What the user's metric loses with each group alone in 8 bits."""
        whole = evaluate(metric, self._outputs({}), metric_name(metric))
        found = []
        for done, group in enumerate(groups, start=1):
            outputs = self._outputs(group_forms(self.model, self.plan, self.weights, group))
            found.append(whole - evaluate(metric, outputs, metric_name(metric)))
            self.progress(done, len(groups))
        return found

    def _outputs(self, forms: Forms) -> list[dict[str, Any]]:
        names = list(self.reference.names)
        proto = grow(self.model, self.weights, forms, []).proto
        one = session(proto, threads=self.threads, disabled_optimizers=DISABLED)
        seen = [f"{n}/all" for n in names]
        return [dict(zip(names, run(one, feed, seen), strict=True)) for feed in self.reference.feeds]

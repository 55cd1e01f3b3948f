"""What the page's what-if knows: every quantizer alone, a few joint models, costs. See ``report.prediction``.

The same sources, the same growing graph and the same pairs as the search's; but noise is kept by output and slice, as
step3 tells it, and the cfg as a person edited it is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx

from hybridq.build.builder import build
from hybridq.execution.progress import Progress, counted, no_progress
from hybridq.graph.chance import seeded
from hybridq.graph.model import Group, Model
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import Feed, Session, session
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.share_of_macs import high_fraction, share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated, LayerChoice, QuantConfig
from hybridq.report.prediction import Additive, Figure, JointModel, Prediction, Unit
from hybridq.search.allocation.additive_noise import pairs
from hybridq.search.allocation.costs import Times, boundary_elements
from hybridq.search.allocation.knapsack import NO_PAIRS, Pairs, hull
from hybridq.search.measuring.alone import Variants
from hybridq.search.measuring.damage import Doubles, Reference, measure_reference
from hybridq.search.measuring.quantizers import NoiseSource, sources, units_of
from hybridq.search.measuring.squared_errors import OutputSlice, Run, figures_of, measured, noise_alone
from hybridq.storage.state import assemble
from hybridq.storage.weights import Weights

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)  # of the units that joint models raise, drawn with a seed
RIDGE = 1.0  # joint models' worth of belief that the sum is right as it is
SPREAD = 10.0  # dB between joint models from which on a slope can be told
Points = Sequence[tuple[float, float]]
Set = tuple[str, tuple[int, ...]]  # what a joint model is, and the units that it raises


@dataclass(frozen=True)
class Question:
    """What is predicted: a cfg, ``low`` and ``high`` as the two precisions that a layer may have."""

    model: Model
    weights: Weights
    calibrated: Calibrated
    config: QuantConfig
    low: Precision
    high: Precision

    def plan(self, raised: Iterable[str]) -> QuantPlan:
        """The plan with these layers raised and all others as low as they go; what is raised already stays as asked."""
        up, choices = set(raised), {}
        for layer in self.model.layers:
            asked = self.config.choices.get(layer.name)
            high = asked if asked and asked.precision.bits > 8 else LayerChoice(self.high)
            if not layer.float_only:
                choices[layer.name] = high if layer.name in up else LayerChoice(self.low)
        return make_plan(self.model, self.calibrated, replace(self.config, choices=choices), self.weights)

    @property
    def built(self) -> QuantPlan:
        """The plan of the cfg as it is."""
        return make_plan(self.model, self.calibrated, self.config, self.weights)

    def current(self, units: Sequence[Group]) -> tuple[int, ...]:
        """The places of those units that the cfg raises."""
        up = {n for n, x in self.built.layers.items() if x.done.bits > 8}
        return tuple(i for i, u in enumerate(units) if set(u.layers) & up)


def predict(
    asked: Question,
    feeds: Sequence[Feed],
    *,
    alone: int = 16,
    seed: int = 0,
    threads: int = 1,
    times: Callable[[], Times | None] = lambda: None,
    progress: Progress = no_progress,
) -> Prediction | None:
    """What the what-if needs: joint models on ``feeds``, each quantizer on ``alone`` of them; None: no float output."""
    model, lowest = asked.model, asked.plan(())
    units = units_of(model, lowest)
    reference = measure_reference(_session_of(assemble(model.proto, asked.weights.plain()), threads), feeds, model)
    few = np.unique(np.linspace(0, len(feeds) - 1, min(alone, len(feeds))).round().astype(int)).tolist()
    cut = figures_of(model, reference, _run_of(asked, lowest, reference, threads))
    if not cut:
        return None
    additive = _measured_alone(asked, lowest, reference, [p for _, p in cut], few, threads, progress)
    current = asked.current(units)
    sets = _sets(len(units), current, seed)
    known = _measured_jointly(asked, units, sets, partial(measured, reference, cut), reference, threads, progress)
    figures, took = _fitted_to(cut, additive, sets, known, len(few) / len(feeds)), times()
    made = Prediction(
        low=str(asked.low),
        high=str(asked.high),
        samples=len(feeds),
        alone=len(few),
        figures=figures,
        units=tuple(_unit(asked, u, i in current, took) for i, u in enumerate(units)),
        model=additive,
        elements=_elements(model, lowest, [u.name for u in units], additive),
        base_share=high_fraction(model, lowest),
        boundary_ns=took.boundary if took else 0.0,
        clock="" if took is None else "machine" if took.given else "board",
        joints=(),
        front=(),
    )
    return _with_joints(made, sets, known)


def _measured_jointly(
    asked: Question,
    units: Sequence[Group],
    sets: Sequence[Set],
    figures: Callable[[Run], tuple[float, ...]],
    reference: Reference,
    threads: int,
    progress: Progress,
) -> list[tuple[float, ...]]:
    """Every figure of each set's model."""
    plans = (asked.built if w == "this build" else asked.plan(n for u in r for n in units[u].layers) for w, r in sets)
    told = counted(plans, "measuring joint models", len(sets), progress)
    return [figures(_run_of(asked, plan, reference, threads)) for plan in told]


def _with_joints(made: Prediction, sets: Sequence[Set], known: Sequence[tuple[float, ...]]) -> Prediction:
    """With what the joint models did beside what is predicted of them, and the front."""
    joints = tuple(JointModel(w, r, made.decibels(r), m) for (w, r), m in zip(sets, known, strict=True))
    return replace(made, joints=joints, front=_front(made))


def _session_of(proto: onnx.ModelProto, threads: int) -> Session:
    return session(seeded(proto), threads=threads)


def _run_of(asked: Question, plan: QuantPlan, reference: Reference, threads: int) -> Run:
    """What runs the model of a plan."""
    made = _session_of(build(asked.model, plan, asked.weights).assemble(), threads)
    rolled = Rolled(made, asked.model.states)
    return lambda feed: rolled.run(feed, list(reference.names))


def _measured_alone(
    asked: Question,
    lowest: QuantPlan,
    reference: Reference,
    places: Sequence[OutputSlice],
    few: Sequence[int],
    threads: int,
    progress: Progress,
) -> Additive:
    """The additive model of every quantizer's noise, each measured alone on a ``few`` of the samples."""
    found = sources(asked.model, lowest, _with_biases(asked.model, asked.weights, lowest))
    say = partial(progress, "each quantizer alone")
    variants = Variants(asked.model, asked.weights, {}, [s.forms for s in found], reference)
    noise = noise_alone(variants, places, few, threads, say)
    return _additive(asked.model, lowest, found, noise)


def _fitted_to(
    cut: Sequence[tuple[Figure, OutputSlice]],
    additive: Additive,
    sets: Sequence[tuple[str, tuple[int, ...]]],
    known: Sequence[tuple[float, ...]],
    share: float,
) -> tuple[Figure, ...]:
    """The figures, fitted to what the sets really measure; ``share`` of the samples were measured alone."""
    scaled = [replace(f, signal=f.signal * share) for f, _ in cut]
    plain = [[f.plain(float(n)) for f, n in zip(scaled, additive.noise(r), strict=True)] for _, r in sets]
    return tuple(_fitted(f, [(p[c], m[c]) for p, m in zip(plain, known, strict=True)]) for c, f in enumerate(scaled))


def _with_biases(model: Model, weights: Weights, plan: QuantPlan) -> Weights:
    """Weights with the biases that the 8-bit layers will have."""
    repaired = {x.bias.tensor: x.bias.values for x in plan.layers.values() if x.bias is not None and x.bias.repaired}
    return weights.changed(repaired) if repaired else weights


def _sets(count: int, current: Sequence[int], seed: int) -> list[Set]:
    """The joint models: the build, all in 8 bits, and some drawn, half of them from what the build has."""
    random = np.random.default_rng(seed)
    found: dict[tuple[int, ...], str] = {tuple(current): "this build"}
    found.setdefault((), "all 8 bits")
    for i, share in enumerate(SHARES):
        drawn = random.choice(count, round(share * count), replace=False) if count else np.zeros(0, int)
        chosen = set(map(int, drawn)) ^ (set(current) if i % 2 else set())
        found.setdefault(tuple(sorted(chosen)), f"{share:.0%} of the layers, drawn")
    return [(what, raised) for raised, what in found.items()]


def _fitted(figure: Figure, points: Points) -> Figure:
    """Offset and slope by least squares over (plain, measured) dB, the slope drawn towards 0."""
    known = np.array([(p, m) for p, m in points if max(abs(p), abs(m)) < 150.0])
    if not len(known):
        return figure
    plain, lacks = known[:, 0], known[:, 1] - known[:, 0]
    centre, offset = float(plain.mean()), float(lacks.mean())
    away = plain - centre
    slope = float((away * (lacks - offset)).sum() / ((away**2).sum() + RIDGE * SPREAD**2))
    return replace(figure, offset=offset, slope=slope, centre=centre)


def _unit(asked: Question, group: Group, raised: bool, times: Times | None) -> Unit:
    model = asked.model
    elements = sum(int(np.prod(w.shape)) for n in group.layers for w in model.layer[n].weights)
    known = (times.low, times.high) if times else ({}, {})
    low, high = (sum(t.get(n, 0.0) for n in group.layers) for t in known)
    share = share_of_macs(model, group.layers)
    sizes = elements * asked.low.bits // 8, elements * asked.high.bits // 8
    return Unit(group.name, group.layers, share, *sizes, low, high, raised)


def _additive(model: Model, plan: QuantPlan, found: Sequence[NoiseSource], noise: Doubles) -> Additive:
    """The pairs of every figure; they are the same, only what they weigh differs."""
    free = dict.fromkeys(model.group, 0.0)
    made = [pairs(model, plan, found, column, free) for column in noise.T] or [NO_PAIRS]
    own, weights = (np.stack([getattr(p, k) for p in made], axis=1) for k in ("own", "noise"))
    return Additive(own, made[0].first, made[0].second, weights)


def _elements(model: Model, plan: QuantPlan, names: Sequence[str], made: Additive) -> tuple[int, ...]:
    """Elements that a boundary between the two units of each pair converts."""
    known = boundary_elements(model, plan)
    ends = zip(made.first.tolist(), made.second.tolist(), strict=True)
    return tuple(max(known.get((names[a], names[b]), 0), known.get((names[b], names[a]), 0)) for a, b in ends)


def _front(made: Prediction) -> tuple[tuple[int, ...], ...]:
    """The hull of the Pareto front of MACs against noise over signal, outputs alike."""
    signal = np.array([np.inf if f.label else max(f.signal, 1e-30) for f in made.figures])
    own, weights = ((x / signal).sum(1) for x in (made.model.own, made.model.pairs))
    share = np.array([u.share for u in made.units])
    one = Pairs(tuple(u.name for u in made.units), own, made.model.first, made.model.second, weights, share)
    return tuple(tuple(np.flatnonzero(s.raised).tolist()) for s in hull(one)) if len(own) else ()

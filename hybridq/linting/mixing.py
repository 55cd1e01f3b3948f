"""Values of different size under one scale: Concats, sums, and outputs that hold boxes and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from hybridq.graph.operators import Interval, lookup, row_of
from hybridq.linting.facts import Facts, Finding, names, number, setting, span
from hybridq.linting.spread import Spreads, tail_nodes
from hybridq.quant.numerics import fake_quantize
from hybridq.quant.qparams import QParams, Range

FACTOR = 25.0  # a range so much smaller has 10 of 256 steps: some 20 dB are left of it
WARN = 2.0  # times the step that a part bears: what is nearer to it may do no harm
SCORE_STEP = 0.04  # 25 steps for 0..1: scores of many candidates tie, and their order is what a detector lives by
SCORE = 0.98
SCORES = 1.001  # no score is greater


@dataclass(frozen=True, slots=True)
class Part:
    """The range of one input or slice; ``score``: it holds probabilities, so that 0..1 matters whatever was seen."""

    range: Range
    score: bool = False

    @property
    def allowed(self) -> float:
        """The coarsest step that it bears."""
        return SCORE_STEP if self.score else _width(self.range) * FACTOR / 255

    def fate(self, params: QParams) -> str:
        """What becomes of it, in half a sentence."""
        step = float(params.scale)
        if self.score:
            score = f"a score of {SCORE} becomes {_becomes(SCORE, params)}"
            return score if step > 2 * SCORE else f"{score} and one below {number(step / 2)} becomes 0"
        steps = _width(self.range) / step
        if steps < 0.5:
            return f"all of {span(self.range)} becomes {_becomes(self.range.max, params)}"
        return f"{span(self.range)} gets {steps:.1f} of {params.qmax - params.qmin} steps"


@dataclass(frozen=True, slots=True)
class Mixture:
    """The part that suffers most among several that share a step, the range of all of them, and that step."""

    narrow: Part
    whole: Range
    step: float

    @property
    def excess(self) -> float:
        """How many times too coarse the step is."""
        return self.step / self.narrow.allowed

    def severity(self, *, output: bool) -> str:
        """A warning, or a note where it may do no harm; values other than scores are spared nothing at an output."""
        return "warning" if self.excess > WARN or (output and not self.narrow.score) else "note"

    @property
    def enough(self) -> float:
        """The step that a wider precision should have."""
        return self.narrow.allowed if self.narrow.score else self.narrow.allowed / 10


def mixture(parts: list[Part], step: float) -> Mixture | None:
    """What a shared step harms; None where every part bears it, or fewer than two of them ever change."""
    live = [p for p in parts if p.range.max > p.range.min]
    if len(live) < 2:
        return None
    narrow = min(live, key=lambda p: p.allowed)
    whole = Range(min(p.range.min for p in live), max(p.range.max for p in live)).with_zero()
    return Mixture(narrow, whole, step) if step > narrow.allowed else None


def _becomes(value: float, params: QParams) -> str:
    return number(float(fake_quantize(np.array([value], np.float32), params)[0]))


def _width(r: Range) -> float:
    return r.max - r.min


@dataclass(frozen=True, slots=True)
class Joined:
    """A Concat that joins unlike values: what suffers most, the parameters that they share (or would share)."""

    out: str
    inputs: tuple[str, ...]
    mixed: Mixture
    params: QParams
    shares: bool


def concats(facts: Facts) -> Iterator[Finding]:
    """Concats whose inputs' ranges differ: sharing one scale, or (a note) kept apart here but not on NPUs.

    Concats that share a scale are one finding, told of the one whose inputs are furthest apart.
    """
    found: dict[str, Joined] = {}
    told: set[str] = set()
    for node in facts.model.proto.graph.node:
        joined = _joined(facts, node) if row_of(node).moves_all else None
        if joined is None or (not joined.shares and told & set(joined.inputs)):
            continue
        told.add(joined.out)
        name = facts.model.group_of[joined.out].name if joined.shares else joined.out
        if name not in found or joined.mixed.excess > found[name].mixed.excess:
            found[name] = joined
    for joined in found.values():
        yield _sharing(facts, joined) if joined.shares else _apart(facts, joined)


def _joined(facts: Facts, node: NodeProto) -> Joined | None:
    """A Concat, if what it joins differs so much that one scale for it harms."""
    out, inputs = node.output[0], tuple(i for i in dict.fromkeys(node.input) if i in facts.ranges)
    groups = {facts.model.group_of[i].name for i in inputs if i in facts.model.group_of}
    params = facts.qparams(out)
    if not inputs or (params is None and len(groups) < 2):
        return None
    parts = [Part(facts.ranges[i], facts.is_score(i)) for i in inputs]
    own = facts.joint(Range(min(p.range.min for p in parts), max(p.range.max for p in parts)), facts.low)
    mixed = mixture(parts, float(own.scale))
    return None if mixed is None else Joined(out, inputs, mixed, params or own, params is not None)


def _parts(facts: Facts, inputs: Sequence[str]) -> str:
    """The input that suffers most and the largest one, with their ranges."""
    live = [i for i in inputs if _width(facts.ranges[i]) > 0]
    narrow = min(live, key=lambda i: Part(facts.ranges[i], facts.is_score(i)).allowed)
    wide = max((i for i in live if i != narrow), key=lambda i: _width(facts.ranges[i]))
    return " and ".join(f"{facts.called(i)} ({_held(facts, i)})" for i in (narrow, wide))


def _held(facts: Facts, tensor: str) -> str:
    """The range of a tensor; of scores that were measured with what they are joined to, their own one, too."""
    found = facts.ranges[tensor]
    shared = facts.is_score(tensor) and found.max > SCORES
    return f"scores of 0..1, measured as {span(found)} with the rest" if shared else span(found)


def _sharing(facts: Facts, joined: Joined) -> Finding:
    mixed, group = joined.mixed, facts.model.group_of[joined.out]
    name, keeping = facts.outward(joined.out), facts.keeping(group)
    name = name if name in group.tensors else joined.out
    message = (
        f"'{name}' joins {_parts(facts, joined.inputs)} at one step of {number(float(joined.params.scale))}: "
        f"{mixed.narrow.fate(joined.params)}"
    )
    high = facts.high(mixed.whole, mixed.enough)
    settable = [n for n in group.layers if not facts.model.layer[n].float_only]
    remedy = setting([*settable, *keeping], high)
    severity = mixed.severity(output=name in facts.model.outputs)
    return Finding(name, "concat", message, remedy, severity, (*group.layers, *keeping), high)


def _apart(facts: Facts, joined: Joined) -> Finding:
    name, groups = facts.outward(joined.out), facts.model.group_of
    message = (
        f"'{name}' joins {_parts(facts, joined.inputs)}. They keep their own scales here; on an NPU target they share "
        f"a step of {number(float(joined.params.scale))}, and there {joined.mixed.narrow.fate(joined.params)}"
    )
    layers = tuple(dict.fromkeys(n for i in joined.inputs if i in groups for n in groups[i].layers))
    return Finding(name, "concat", message, f'nothing here; "{name}": int16 on an NPU target', "note", layers)


def outputs(facts: Facts) -> Iterator[Finding]:
    """Outputs whose slices differ in size, and every 8-bit layer on the way from where they are mixed."""
    found = Spreads(facts).of_tail()
    sharing = {facts.model.group_of[f.layer].name for f in concats(facts) if f.precision is not None}
    mixed: dict[str, Mixture] = {}
    for layer in facts.model.layers:
        spread, params = found.get(layer.name), facts.qparams(layer.name)
        if spread is None or params is None or layer.group in sharing:
            continue
        axes = ([Part(r, spread.is_score(r)) for r in axis] for axis in spread.slices())
        harmed = [m for m in (mixture(parts, float(params.scale)) for parts in axes) if m is not None]
        if harmed:
            mixed[layer.name] = min(harmed, key=lambda m: m.narrow.allowed)
    told: set[str] = set()
    for output in facts.model.outputs:
        layers = [x for x in _leading_to(facts, output) if x in mixed]
        if layers and not told >= set(layers):
            told.update(layers)
            yield _mixed(facts, output, layers, mixed)


def _mixed(facts: Facts, output: str, layers: list[str], mixed: dict[str, Mixture]) -> Finding:
    last = layers[-1]
    worst, params = mixed[last], facts.qparams(last)
    severity = "warning" if any(mixed[n].severity(output=True) == "warning" for n in layers) else "note"
    assert params is not None
    name = output if output in facts.model.group_of[last].tensors else last
    high = facts.high(worst.whole, worst.enough)
    message = (
        f"'{name}' holds values of {span(worst.whole)} beside values of {span(worst.narrow.range)} "
        f"at one step of {number(float(params.scale))}: {worst.narrow.fate(params)}"
    )
    if len(layers) > 1:
        message += (
            f"; so do {names(layers[:-1])} before it" if len(layers) > 2 else f"; so does '{layers[0]}' before it"
        )
    groups = [facts.model.group[facts.model.layer[n].group] for n in layers]
    risen = tuple(dict.fromkeys([*layers, *(n for g in groups for n in facts.keeping(g))]))
    return Finding(last, "mixed output", message, setting(risen, high), severity, risen, high)


def _leading_to(facts: Facts, output: str) -> list[str]:
    """Layers of the tail that an output is computed from, in graph order."""
    tail, seen, waiting = tail_nodes(facts), set[str](), [output]
    while waiting:
        node = facts.model.producers.get(waiting.pop())
        if node is not None and node.name in tail and node.name not in seen:
            seen.add(node.name)
            waiting.extend(node.input)
    return [x.name for x in facts.model.layers if x.node in seen]


def sums(facts: Facts) -> Iterator[Finding]:
    """Sums of two activations of which one is lost in the other's step."""
    for layer in facts.model.layers:
        node: NodeProto = facts.model.nodes[layer.node]
        params = facts.qparams(layer.name)
        if (
            lookup(layer.op).interval is not Interval.SUM
            or params is None
            or not all(i in facts.ranges for i in node.input)
        ):
            continue
        mixed = mixture([Part(facts.ranges[i]) for i in node.input], float(params.scale))
        if mixed is None:
            continue
        small = min(node.input, key=lambda i: _width(facts.ranges[i]))
        message = (
            f"'{layer.name}' adds {_parts(facts, list(node.input))} at a step of {number(float(params.scale))}: "
            f"{facts.called(small)} gets {_width(mixed.narrow.range) / float(params.scale):.1f} steps in the sum"
        )
        high = facts.high(mixed.whole, mixed.enough)
        layers = (layer.name, *facts.keeping(facts.model.group[layer.group]))
        yield Finding(layer.name, "sum", message, setting(layers, high), "note", layers, high)

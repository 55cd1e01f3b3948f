"""Values of different size under one scale: Concats, sums, and outputs that hold boxes and scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from hybridq.dtypes import Precision
from hybridq.linting.facts import Facts, Finding, names, number, setting, span
from hybridq.linting.spread import Spreads, tail_nodes
from hybridq.numerics import fake_quantize
from hybridq.operators import MOVES_ALL_INPUTS
from hybridq.qparams import QParams, Range

FACTOR = 50.0  # a range so much smaller has 5 of 256 steps: less than 16 dB are left of it
SCORE_STEP = 0.04  # 25 steps for 0..1: scores of many candidates tie, and their order is what a detector lives by
SCORE = 0.98


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
    """The part that suffers most among several that share parameters, and the range of all of them."""

    narrow: Part
    whole: Range

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
    return Mixture(narrow, whole) if step > narrow.allowed else None


def _becomes(value: float, params: QParams) -> str:
    return number(float(fake_quantize(np.array([value], np.float32), params)[0]))


def _width(r: Range) -> float:
    return r.max - r.min


def concats(facts: Facts) -> Iterator[Finding]:
    """Concats whose inputs' ranges differ: tied to one scale, or (a note) kept apart here but not on NPUs."""
    told: set[str] = set()
    for node in facts.model.proto.graph.node:
        if node.op_type not in MOVES_ALL_INPUTS:
            continue
        out, inputs = node.output[0], [i for i in dict.fromkeys(node.input) if i in facts.ranges]
        groups = {facts.model.group_of[i].name for i in inputs if i in facts.model.group_of}
        parts = [Part(facts.ranges[i], facts.is_score(i)) for i in inputs]
        if not parts or told & {*inputs, *groups}:
            continue
        params = facts.qparams(out)
        if params is not None:
            mixed = mixture(parts, float(params.scale))
            if mixed is not None:
                told.add(facts.model.group_of[out].name)
                yield _tied(facts, out, inputs, mixed, params)
        elif len(groups) > 1:
            params = facts.joint(mixing_range(parts), facts.low)
            mixed = mixture(parts, float(params.scale))
            if mixed is not None:
                told.add(out)
                yield _apart(facts, out, inputs, mixed, params)


def mixing_range(parts: list[Part]) -> Range:
    """The range of all parts together."""
    return Range(min(p.range.min for p in parts), max(p.range.max for p in parts))


def _parts(facts: Facts, inputs: list[str]) -> str:
    """The smallest and the largest input with their ranges."""
    ordered = sorted(inputs, key=lambda i: _width(facts.ranges[i]))
    live = [i for i in ordered if _width(facts.ranges[i]) > 0]
    return " and ".join(f"'{i}' ({span(facts.ranges[i])})" for i in (live[0], live[-1]))


def _tied(facts: Facts, out: str, inputs: list[str], mixed: Mixture, params: QParams) -> Finding:
    step, layers = float(params.scale), facts.model.group_of[out].layers
    message = f"'{out}' joins {_parts(facts, inputs)} at one step of {number(step)}: {mixed.narrow.fate(params)}"
    return Finding(out, "concat", message, setting([out], facts.high(mixed.whole, mixed.enough)), "warning", layers)


def _apart(facts: Facts, out: str, inputs: list[str], mixed: Mixture, params: QParams) -> Finding:
    message = (
        f"'{out}' joins {_parts(facts, inputs)}. They keep their own scales here; on an NPU target they share "
        f"a step of {number(float(params.scale))}, and there {mixed.narrow.fate(params)}"
    )
    layers = tuple(
        dict.fromkeys(n for i in inputs if i in facts.model.group_of for n in facts.model.group_of[i].layers)
    )
    return Finding(out, "concat", message, f'nothing here; "{out}": int16 on an NPU target', "note", layers)


def outputs(facts: Facts) -> Iterator[Finding]:
    """Outputs whose slices differ in size, and every 8-bit layer on the way from where they are mixed."""
    found = Spreads(facts).of_tail()
    tied = {facts.model.group_of[f.layer].name for f in concats(facts) if f.severity == "warning"}
    mixed: dict[str, Mixture] = {}
    for layer in facts.model.layers:
        spread, params = found.get(layer.name), facts.qparams(layer.name)
        if spread is None or params is None or layer.group in tied:
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
    return Finding(last, "mixed output", message, setting(layers, high), "warning", tuple(layers))


def _leading_to(facts: Facts, output: str) -> list[str]:
    """Layers of the tail that an output is computed from, in graph order."""
    tail, seen, waiting = tail_nodes(facts), set[str](), [output]
    while waiting:
        node = facts.producers.get(waiting.pop())
        if node is not None and node.name in tail and node.name not in seen:
            seen.add(node.name)
            waiting.extend(node.input)
    return [x.name for x in facts.model.layers if x.node in seen]


def sums(facts: Facts) -> Iterator[Finding]:
    """Sums of two activations of which one is lost in the other's step."""
    for layer in facts.model.layers:
        node: NodeProto = facts.model.nodes[layer.node]
        params = facts.qparams(layer.name)
        if layer.op != "Add" or params is None or not all(i in facts.ranges for i in node.input):
            continue
        mixed = mixture([Part(facts.ranges[i]) for i in node.input], float(params.scale))
        if mixed is None:
            continue
        small = min(node.input, key=lambda i: _width(facts.ranges[i]))
        message = (
            f"'{layer.name}' adds {_parts(facts, list(node.input))} at a step of {number(float(params.scale))}: "
            f"'{small}' gets {_width(mixed.narrow.range) / float(params.scale):.1f} steps in the sum"
        )
        high: Precision = facts.high(mixed.whole, mixed.enough)
        yield Finding(layer.name, "sum", message, setting([layer.name], high), "note", (layer.name,))

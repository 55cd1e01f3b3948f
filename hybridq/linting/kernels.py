"""Weights that share a scale, and operators that 8 bits slow down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hybridq.graph import operators
from hybridq.graph.edit import attributes
from hybridq.graph.model import Layer
from hybridq.graph.operators import Kind, Layout, lookup
from hybridq.linting.facts import SHOWN, Facts, Finding, names, number, setting
from hybridq.plan.defaults import fast_kernel
from hybridq.plan.layer_weights import WeightPlan
from hybridq.quant.qparams import Range

SPREAD = 100.0  # the largest channel of a weight over the smallest
FEW = 0.05  # of the channels: the next layer sums over all of them, unless it is depthwise
AUDIBLE = 0.05  # steps of the output
DEPTHWISE = "DepthwiseConv"  # a Conv with one filter a channel, as targets name it
MOST_NAMED = 8
PAIR = 200  # bytes of a QuantizeLinear and a DequantizeLinear with their numbers
NAMED = 6  # times that they and their readers say a tensor's name
GAIN = 0.5  # of the multiply-accumulates: with fewer in fast kernels the boundaries cost as much as they save


def is_depthwise(layer: Layer, facts: Facts) -> bool:
    """Whether each filter of a Conv reads one channel."""
    weight = layer.weights[0].shape if layer.weights else None
    return operators.is_depthwise(lookup(layer.op).layout, attributes(facts.model.nodes[layer.node]), weight)


def channels(facts: Facts) -> Iterator[Finding]:
    """Weights with one 8-bit scale for channels of very different size. A scale a channel is harmless."""
    for layer in facts.model.layers:
        plan = facts.plan.layers[layer.name]
        for weight, stored in zip(layer.weights, plan.weights, strict=False):
            shares = stored.qparams is not None and stored.precision.bits == 8 and stored.qparams.axis is None
            known = weight.axis is not None or lookup(layer.op).layout is Layout.CONV_TRANSPOSE
            if not shares or not known or len(weight.shape) < 2:
                continue
            found = _narrow(layer, facts, facts.by_channel(layer, weight), stored)
            if found is not None:
                yield found


def _narrow(layer: Layer, facts: Facts, values: NDArray[np.float64], stored: WeightPlan) -> Finding | None:
    """The finding for one weight, (output channels, weights of each), if it is one."""
    largest = np.abs(values).max(axis=1)
    heard = largest[_heard(layer, facts, np.abs(values).sum(axis=1))]
    if not heard.size or largest.max() < SPREAD * heard.min() or stored.qparams is None:
        return None
    count = int((heard * SPREAD <= largest.max()).sum())
    step = float(stored.qparams.scale)
    kind = "depthwise " if is_depthwise(layer, facts) else ""
    message = (
        f"the {kind}weights of '{layer.name}' reach {number(largest.max())} in one channel and "
        f"{number(heard.min())} in another at one step of {number(step)}: {count} of {largest.size} channels "
        f"keep {2 * largest.max() / SPREAD / step:.1f} steps or fewer"
    )
    wide = facts.high(Range(-float(largest.max()), float(largest.max())), np.inf)
    remedy = setting([layer.name], wide)
    if facts.target.precisions[stored.precision].weight.per_channel:
        remedy = f"step1 --weights channel, or {remedy}"
    severity = "warning" if kind or count >= FEW * largest.size else "note"
    return Finding(layer.name, "channel spread", message, remedy, severity, (layer.name,), wide)


def _heard(layer: Layer, facts: Facts, total: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which channels matter to the output: those that cannot move it by ``AUDIBLE`` steps are dead already."""
    read, out = (facts.ranges.get(n) for n in (layer.inputs[0] if layer.inputs else "", layer.name))
    params = facts.qparams(layer.name)
    if read is None or out is None:
        return total > 0
    step = float(params.scale) if params is not None else (out.max - out.min) / 255
    heard: NDArray[np.bool_] = total * read.amax > AUDIBLE * step
    return heard


def slow(facts: Facts) -> Iterator[Finding]:
    """Layers planned in 8 bits that float32 computes faster on the target: one finding an operator."""
    found: dict[str, list[str]] = {}
    for layer in facts.model.layers:
        kind = DEPTHWISE if is_depthwise(layer, facts) else layer.op
        slow_here = kind in facts.target.slow_8bit and (kind == DEPTHWISE or not fast_kernel(facts.model, layer))
        if slow_here and facts.plan.layers[layer.name].done.bits == 8 and not _is_between_integers(layer, facts):
            found.setdefault(kind, []).append(layer.name)
    for kind, layers in found.items():
        message = f"{kind} in 8 bits runs at {facts.target.slow_8bit[kind]}: {names(layers)}"
        remedy, high = "hybridq auto --min-speedup 1.0 finds where float32 pays, boundaries counted", None
        alone = all(facts.model.group[facts.model.layer[n].group].layers == (n,) for n in layers)
        if kind != DEPTHWISE and alone and len(layers) <= MOST_NAMED:
            high = facts.high(facts.ranges[layers[0]], 0.0)
            remedy = setting(layers, high)
        yield Finding(layers[0], "slow", message, remedy, "note", tuple(layers), high)


def _is_between_integers(layer: Layer, facts: Facts) -> bool:
    """Whether a layer is computed in float32 anyway (a barrier sees to that) and all around it is in 8 bits.

    Float32 would then save no conversion.
    """
    plan, model = facts.plan, facts.model
    if plan.barrier(layer.name) is None:
        return False
    held = [plan.groups[model.group_of[t].name] for t in layer.inputs if t in model.group_of]
    readers = [x for x in model.readers.get(layer.group, ()) if plan.layers[x.name].done.bits == 8]
    floats = any(g.stored.is_float or g.name in model.inputs for g in held)  # an input need not be rounded at all
    return bool(held and readers) and not floats


def gainless(facts: Facts) -> Iterator[Finding]:
    """A model most of whose arithmetic 8 bits make no faster on this runtime."""
    if not facts.target.latency_aware:
        return
    weighted = [x for x in facts.model.layers if x.weights and lookup(x.op).kind is Kind.COMPUTE]
    total = sum(x.macs for x in weighted)
    fast = sum(x.macs for x in weighted if facts.plan.layers[x.name].native and not is_depthwise(x, facts))
    if total and fast < GAIN * total:
        message = (
            f"{fast / total:.0%} of the multiply-accumulates run in fast 8-bit kernels (the rest is float32, depthwise "
            "or without one): on this runtime the model gains little time, perhaps none"
        )
        remedy = "step3 measures it; hybridq auto --min-speedup 1.0 keeps what pays; an NPU may gain all the same"
        yield Finding(weighted[0].name, "gainless", message, remedy, "note")


def without_kernels(facts: Facts) -> str:
    """Layers that are in 8 bits and computed no faster for it, in words; empty where there are none."""
    low = [x for x in facts.model.layers if facts.plan.layers[x.name].done.bits == 8]
    floats = Counter(x.op for x in low if not facts.plan.layers[x.name].native)
    told = []
    if floats:
        ops = ", ".join(f"{n} {op}" for op, n in floats.most_common(SHOWN))
        more = f" and {sum(floats.values()) - sum(n for _, n in floats.most_common(SHOWN))} more" * (
            len(floats) > SHOWN
        )
        told.append(f"{sum(floats.values())} of {len(low)} layers in 8 bits have no integer kernel here ({ops}{more})")
    converted = sum(b.conversion is not None for b in facts.plan.boundaries.values())
    if converted:
        told.append(f"{converted} times a layer reads a tensor of another precision, which is converted")
    deep = sum(is_depthwise(x, facts) for x in low) if DEPTHWISE in facts.target.slow_8bit else 0
    if deep:
        told.append(f"{deep} depthwise Conv run at {facts.target.slow_8bit[DEPTHWISE]}")
    return "; ".join(told)


def larger(facts: Facts) -> Iterator[Finding]:
    """A model whose quantizers take more place in the file than its 8-bit weights give back."""
    if not facts.target.latency_aware:
        return
    held = {w.tensor: w for x in facts.plan.layers.values() for w in x.weights if w.qparams is not None}
    saved = sum(facts.weights[t].size * (4 - w.precision.bits // 8) for t, w in held.items())
    tensors = [*facts.plan.roundings, *held]
    added = sum(PAIR + NAMED * len(t) for t in tensors)
    if held and added > saved:
        message = (
            f"{len(tensors)} quantizers add some {added / 1e3:.0f} kB to the file, weights in 8 bits give back "
            f"{saved / 1e3:.0f} kB: it will be larger than the float file"
        )
        remedy = "hybridq auto --min-speedup 1.0 keeps what pays; small models gain speed at best"
        yield Finding(next(iter(facts.plan.layers)), "larger", message, remedy, "note")

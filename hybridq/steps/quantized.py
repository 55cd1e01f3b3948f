"""A model that arrived quantized: whether step2 without edits gives its outputs, and where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.build.builder import build
from hybridq.errors import HybridqError, Problem
from hybridq.graph import runtime
from hybridq.graph.intake.given import read_model
from hybridq.graph.intake.recovered import Recovered
from hybridq.graph.model import Model
from hybridq.graph.runtime import Feed
from hybridq.plan.plan import make_plan
from hybridq.quant.records import Calibrated, QuantConfig
from hybridq.steps.options.as_typed import said
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.options.validation import asked
from hybridq.storage.weights import Weights

Array = NDArray[Any]
CHOOSING = (
    "algorithm",
    "percentile",
    "momentum",
    "minimum_range",
    "weights",
    "weights_algorithm",
    "weights_repair",
    "dtype",
)  # options of step1 that choose what a quantized file has chosen
HINT = "What hybridq says of this model counts from there on for what it recovered, not for what was given."


def said_as_given(recovered: Recovered, options: Step1Options) -> list[str]:
    """What a person is told of a model that arrived quantized, and which of the options it leaves without effect."""
    counts = f"{len(recovered.tensors)} tensors and {len(recovered.weights)} weights"
    kept = f"The file is quantized: its own scales and zero points of {counts} are kept, samples choose no others."
    asked_for = said(options, leave={one.name for one in asked(Step1Options)}.difference(CHOOSING))
    if not asked_for:
        return [kept]
    return [f"{kept} So {' '.join(asked_for)} has no effect: give the float model for that."]


def not_as_given(
    path: Path, recovered: Recovered, model: Model, calibrated: Calibrated, weights: Weights, feed: Feed, threads: int
) -> list[Problem]:
    """A warning for every output that leaves otherwise than the given model has it, with the first tensor that differs.

    Both run without optimization on one sample. A model that was cut at its inputs cannot be compared: that is told.
    """
    given = read_model(path)
    if {i.name for i in given.graph.input} - {t.name for t in given.graph.initializer} != set(model.inputs):
        return [_warning("not compared with the given model: it was cut at its inputs", path)]
    plan = make_plan(model, calibrated, QuantConfig(calibrated.target, {}, calibrated.entries, {}), weights)
    hybrid = build(model, plan, weights).assemble()
    same = {o: o for o in model.outputs}
    try:
        ours, theirs = (_values(m, same.values(), feed, threads) for m in (hybrid, given))
        wrong = [o for o in model.outputs if not np.array_equal(ours[o], theirs[o], equal_nan=True)]
        first = _first(given, hybrid, recovered, feed, threads) if wrong else ""
    except HybridqError as error:
        return [_warning(f"not compared with the given model: {error.problems[0].message}", path)]
    return [_warning(f"output '{o}' {_far(ours[o], theirs[o])}{first}", path) for o in wrong]


def _first(given: onnx.ModelProto, hybrid: onnx.ModelProto, recovered: Recovered, feed: Feed, threads: int) -> str:
    """Where the two part, in words: the first quantized tensor that differs."""
    made, there = ({o for n in m.graph.node for o in n.output} for m in (hybrid, given))
    pairs = {o: t for o, t in recovered.dequantized.items() if o in made and t in there}
    ours, theirs = _values(hybrid, pairs, feed, threads), _values(given, pairs.values(), feed, threads)
    found = next((o for o, t in pairs.items() if not np.array_equal(ours[o], theirs[t], equal_nan=True)), "")
    return f"; the first tensor that does is '{found}'" if found else "; every quantized tensor before is the same"


def _values(model: onnx.ModelProto, names: Iterable[str], feed: Feed, threads: int) -> Mapping[str, Array]:
    """Tensors of a model for one sample, without optimization."""
    wanted = list(dict.fromkeys(names))
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    runtime.expose(shown, wanted)
    found = runtime.run(runtime.session(shown, threads=threads, level="none"), feed, wanted) if wanted else []
    return dict(zip(wanted, found, strict=True))


def _far(ours: Array, theirs: Array) -> str:
    if ours.shape != theirs.shape:
        return f"has the shape {list(ours.shape)}, not {list(theirs.shape)}"
    far = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    return f"differs by up to {far:.3g}, its largest value is {float(np.abs(theirs).max(initial=0.0)):.3g}"


def _warning(message: str, path: Path) -> Problem:
    return Problem(f"not as given: {message}", str(path), hint=HINT, severity="warning", code="quantized")

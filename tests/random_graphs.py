"""Random small float models as cases: analysed, calibrated, run and built, with random precisions for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from random_models import INPUT, SAMPLES, Array, Feed, random_model

from hybridq.build.builder import build
from hybridq.calibration.unbounded import counting, softmax_readers
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake import canonical
from hybridq.graph.model import Model
from hybridq.graph.view import Sharing
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.plan.record import Request, known_range, record
from hybridq.quant.dtypes import Precision
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated, LayerChoice, Measured, QuantConfig
from hybridq.storage import state as storage
from hybridq.storage.weights import Weights
from hybridq.targets import load


@dataclass(frozen=True)
class Case:
    """A canonical model with its calibration on the very samples it is judged by."""

    given: onnx.ModelProto
    proto: onnx.ModelProto
    model: Model
    calibrated: Calibrated
    weights: Weights
    feed: Feed

    def plan(self, choices: Mapping[str, Precision | LayerChoice], *, portable: bool = False) -> QuantPlan:
        asked = {k: v if isinstance(v, LayerChoice) else LayerChoice(v) for k, v in choices.items()}
        config = QuantConfig(self.calibrated.target, asked, self.calibrated.entries, {})
        return make_plan(self.model, self.calibrated, config, self.weights, portable=portable)

    def build(self, plan: QuantPlan) -> onnx.ModelProto:
        return build(self.model, plan, self.weights).assemble()

    def all(self, precision: Precision) -> dict[str, Precision]:
        return {x.name: precision for x in self.model.layers if not x.float_only}


def calibrate(proto: onnx.ModelProto, model: Model, feed: Feed) -> dict[str, Measured]:
    """Minimum and maximum of every group."""
    readers = softmax_readers(model)
    look = {s: readers[s].tensor if s in readers else s for g in model.groups for s in g.sources}
    exposed = expose(proto, [n for n in dict.fromkeys(look.values()) if n not in feed])
    inner = [o.name for o in exposed.graph.output]
    values = dict(zip(inner, run(exposed, feed), strict=True)) | feed
    found = {}
    for group in model.groups:
        parts = [values[look[s]] for s in group.sources]
        kept = [counting(p, readers.get(s)) for s, p in zip(group.sources, parts, strict=True)]
        unbounded = any(k.size < p.size for k, p in zip(kept, parts, strict=True))
        ends = [0.0, *(float(end) for k in kept if k.size for end in (k.min(), k.max()))]
        measured = Range(min(ends), max(ends))
        known = known_range(Range(*group.fixed), [measured]) if group.fixed else measured
        found[group.name] = Measured(known, {"normal": {8: known, 16: known}}, group.fixed is not None, unbounded)
    return found


def expose(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy that gives the tensors ``names`` as outputs, too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    runtime.expose(copy, names)  # of whatever type they are
    return copy


def run(model: onnx.ModelProto, feed: Feed, level: str = "all") -> list[Array]:
    return runtime.run(runtime.session(model, threads=1, level=level), feed)


def make_case(
    given: onnx.ModelProto, feed: Feed, target: str = "onnxruntime", default: Precision | None = None
) -> Case:
    """A given model made canonical, analysed and calibrated on ``feed``."""
    proto = canonical.canonicalize(given)
    chosen = load(target)
    model = analyse(proto, given, sharing=Sharing(chosen.outputs_share, chosen.inputs_share))
    weights = storage.weights_of(proto)
    measured = calibrate(proto, model, feed)
    calibrated = record(model, weights, measured, Request(chosen, default or chosen.default, "normal"))
    return Case(given, proto, model, calibrated, weights, feed)


def random_case(seed: int) -> Case:
    random = np.random.default_rng(seed + 10**6)
    return make_case(random_model(seed), {"x": random.normal(size=(SAMPLES, *INPUT)).astype(np.float32)})


def random_choices(case: Case, seed: int) -> dict[str, Precision | LayerChoice]:
    """Precisions of layers: any mix, one for all with exceptions, or what the target does by itself."""
    random = np.random.default_rng(seed + 2 * 10**6)
    every = list(Precision)
    usual = every[int(random.integers(len(every)))]
    exceptions = random.choice([0.1, 0.5, 1.0])
    found: dict[str, Precision | LayerChoice] = {}
    for layer in case.model.layers:
        if layer.float_only or random.random() < 0.1:
            continue
        found[layer.name] = every[int(random.integers(len(every)))] if random.random() < exceptions else usual
        if any(w.axis is not None for w in layer.weights) and random.random() < 0.1:
            stored = Precision.INT8 if random.random() < 0.5 else Precision.INT16
            found[layer.name] = LayerChoice(Precision.FLOAT32, weight_only=stored)
    return found

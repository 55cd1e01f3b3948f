"""`step3 --runtime`, and times for a search: float and hybrid as another runtime computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hybridq.compare import MetricReport, RuntimeReport
from hybridq.compare.metric import Outputs, bound, evaluate, metric_name
from hybridq.compare.timing import time_pairs
from hybridq.dataset import Dataset, Preprocessing
from hybridq.engines.records import Runner
from hybridq.engines.table import engine
from hybridq.errors import EngineError
from hybridq.exchange.view import make_view
from hybridq.files.temporary import temporary_folder
from hybridq.graph import runtime
from hybridq.graph.runtime import Feed
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.metrics import Damage
from hybridq.quant.records import QuantConfig
from hybridq.steps.common import calibration_samples
from hybridq.steps.options.comparison import ComparisonOptions
from hybridq.storage import state as storage
from hybridq.storage.state import State
from hybridq.storage.weights import Weights

SAMPLES = 20  # that a runtime's own quantizer gets
SECONDS = 1.5  # spent on timing one choice of a search

Sides = tuple[dict[str, Damage], dict[str, Damage]]


def need_runtime(name: str | None) -> None:
    """Raise EngineError where a runtime is not installed, before anything is measured."""
    if name is not None:
        engine(name)


def runtime_report(
    name: str, folder: Path, state: State, config: QuantConfig, data: Dataset, asked: ComparisonOptions
) -> RuntimeReport:
    """Both models on every sample in a runtime, calibrated on step1's samples where it calibrates anew.

    Raises EngineError where it is not installed or takes not the model.
    """
    _need_plain(state)
    found, plan = engine(name), make_plan(state.model, state.calibrated, config, state.weights)
    outputs = state.model.outputs
    prepared = Preprocessing.from_json(state.preprocessing)
    samples = calibration_samples(folder, state, prepared, SAMPLES) or [next(iter(data)).feed]
    with temporary_folder() as place:
        loaded = found.load(make_view(state, plan, config), place, asked.threads, samples)
        reference = runtime.session(storage.assemble(state.model.proto, state.weights), threads=asked.threads)
        sides: Sides = ({}, {})
        kept: tuple[list[Outputs], list[Outputs]] = ([], [])
        first: Feed | None = None
        for sample in data:
            first = sample.feed if first is None else first
            expected = dict(zip(outputs, runtime.run(reference, sample.feed, list(outputs)), strict=True))
            for runner, side, held in zip((loaded.given, loaded.hybrid), sides, kept, strict=True):
                values = _outputs(runner, sample.feed, expected)
                for output, value in values.items():
                    side.setdefault(output, Damage()).add(expected[output], value)
                if asked.metric:
                    held.append(values)
        timing = None
        if asked.seconds > 0 and first is not None:
            timing = time_pairs(loaded.given, loaded.hybrid, first, seconds=asked.seconds, threads=asked.threads)
    given, hybrid = (min((d.sqnr_db for d in side.values()), default=float("inf")) for side in sides)
    metric = _metric(asked, kept)
    return RuntimeReport(name, found.title, loaded.version, given, hybrid, metric, timing, loaded.notes)


def _outputs(runner: Runner, feed: Feed, expected: dict[str, NDArray[Any]]) -> Outputs:
    """A runtime's outputs by name, in the shapes of ONNX Runtime's."""
    found = runner.run(None, feed)
    return {n: v.reshape(e.shape) for (n, e), v in zip(expected.items(), found, strict=True) if v.size == e.size}


def _metric(asked: ComparisonOptions, kept: tuple[list[Outputs], list[Outputs]]) -> MetricReport | None:
    if not asked.scored:
        return None
    name, metric = metric_name(asked.scored), bound(asked.scored, kept[0])
    one, other = (evaluate(metric, outputs, name) for outputs in kept)
    return MetricReport(name, one, other, one - other)


def stopwatch(name: str, state: State, threads: int) -> Callable[[QuantConfig, QuantPlan, Weights, Feed], float]:
    """What times a choice of a search in a runtime: float time over the choice's. Raises EngineError."""
    _need_plain(state)
    found = engine(name)

    def ratio(config: QuantConfig, plan: QuantPlan, weights: Weights, feed: Feed) -> float:
        view = make_view(replace(state, weights=weights), plan, config)
        with temporary_folder() as folder:
            loaded = found.load(view, folder, threads, [feed])
            return time_pairs(loaded.given, loaded.hybrid, feed, seconds=SECONDS, threads=threads).speedup

    return ratio


def _need_plain(state: State) -> None:
    if state.model.states:
        raise EngineError("a model with states runs in ONNX Runtime alone here", hint="Leave --runtime out.")

"""`step3 --runtime`, and times for a search: float and hybrid as another runtime computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybridq.compare import MetricReport, RuntimeReport
from hybridq.compare.metric import Outputs, bound, evaluate, metric_name
from hybridq.compare.timing import time_pairs
from hybridq.dataset import Dataset, Preprocessing, Sample
from hybridq.engines.records import Engine, Runner, shapes_of
from hybridq.engines.table import engine
from hybridq.errors import EngineError
from hybridq.exchange.view import make_view
from hybridq.execution.progress import Progress, counted, no_progress
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


def need_runtime(name: str | None) -> None:
    """Raise EngineError where a runtime is not installed, before anything is measured."""
    if name is not None:
        engine(name)


def runtime_report(
    name: str,
    folder: Path,
    state: State,
    config: QuantConfig,
    data: Dataset,
    asked: ComparisonOptions,
    progress: Progress = no_progress,
) -> RuntimeReport:
    """Both models on every sample in a runtime, calibrated on step1's samples where it calibrates anew.

    Raises EngineError where it is not installed or takes not the model.
    """
    _need_plain(state)
    found, plan = engine(name), make_plan(state.model, state.calibrated, config, state.weights)
    prepared = Preprocessing.from_json(state.preprocessing)
    first = next(iter(data)).feed
    samples = calibration_samples(folder, state, prepared, SAMPLES) or [first]
    with temporary_folder() as place:
        progress(f"converting for {found.title}", 0, None)
        loaded = found.load(make_view(state, plan, config), place, asked.threads, samples)
        reference = runtime.session(storage.assemble(state.model.proto, state.weights), threads=asked.threads)
        sides = (RuntimeSide(loaded.given), RuntimeSide(loaded.hybrid))
        for sample in counted(data, f"running {found.title}", data.count, progress):
            _need_shapes(found, samples[0], sample)
            outputs = list(state.model.outputs)
            expected = dict(zip(outputs, runtime.run(reference, sample.feed, outputs), strict=True))
            for side in sides:
                side.add(sample.feed, expected, asked)
        _need_outputs(found, state.model.outputs, sides)
        timing = None
        if asked.seconds > 0:
            timing = time_pairs(loaded.given, loaded.hybrid, first, seconds=asked.seconds, threads=asked.threads)
    given, hybrid = (side.sqnr_db for side in sides)
    return RuntimeReport(name, found.title, loaded.version, given, hybrid, _metric(asked, sides), timing, loaded.notes)


@dataclass
class RuntimeSide:
    """A model in a runtime, and what is kept of its outputs: noise against ONNX Runtime's float, values for a score."""

    runner: Runner
    noise: dict[str, Damage] = field(default_factory=dict)
    kept: list[Outputs] = field(default_factory=list)

    def add(self, feed: Feed, expected: Outputs, asked: ComparisonOptions) -> None:
        """Run one sample. An output of another size, as its values may decide it, counts in the score alone."""
        found = zip(expected.items(), self.runner.run(None, feed), strict=True)
        values = {n: v.reshape(e.shape) if v.size == e.size else v for (n, e), v in found}
        for output, value in values.items():
            if value.size == expected[output].size:
                self.noise.setdefault(output, Damage()).add(expected[output], value)
        if asked.metric:
            self.kept.append(values)

    @property
    def sqnr_db(self) -> float:
        """The lowest over the outputs."""
        return min((d.sqnr_db for d in self.noise.values()), default=float("inf"))


def _need_shapes(found: Engine, calibrated: Feed, sample: Sample) -> None:
    """Raise EngineError where a runtime of fixed shapes meets another shape than it was made for."""
    made, given = shapes_of(calibrated), shapes_of(sample.feed)
    if found.any_shape or made == given:
        return
    name = next(n for n in made if made[n] != given[n])
    one, other = ("x".join(map(str, shapes[name])) for shapes in (made, given))
    said = f"{name!r} is {other} here; {found.title} runs one shape alone, {one} of the first calibration sample"
    raise EngineError(said, path=sample.name, line=sample.line, hint="Give samples of that shape.")


def _need_outputs(found: Engine, outputs: Sequence[str], sides: tuple[RuntimeSide, RuntimeSide]) -> None:
    """Raise EngineError where no sample has an output with as many numbers as ONNX Runtime's."""
    lost = [o for o in outputs if not all(o in side.noise for side in sides)]
    if lost:
        raise EngineError(f"{found.title} gives {lost[0]!r} in another size than ONNX Runtime on every sample")


def _metric(asked: ComparisonOptions, sides: tuple[RuntimeSide, RuntimeSide]) -> MetricReport | None:
    if not asked.scored:
        return None
    name, metric = metric_name(asked.scored), bound(asked.scored, sides[0].kept)
    one, other = (evaluate(metric, side.kept, name) for side in sides)
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

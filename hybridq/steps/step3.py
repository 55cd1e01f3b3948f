"""Step 3: run the float and the hybrid model on data, compare, write the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from hybridq.compare import ComparisonReport, compare, layer_pairs, load_metric
from hybridq.dataset import Preprocessing, input_specs, open_dataset
from hybridq.errors import ConfigError, DatasetError, StorageError
from hybridq.execution.progress import Progress, counted, no_progress
from hybridq.files.commit import commit
from hybridq.files.reading import exists
from hybridq.quant.records import QuantConfig
from hybridq.quant.words import number_of
from hybridq.report import Verdict, judge, report_json, write_report
from hybridq.steps.common import (
    HYBRID,
    REPORT,
    read_config,
    read_sources,
    read_state,
)
from hybridq.steps.known import known_of, trials
from hybridq.steps.options import need_threads
from hybridq.steps.step2 import built_from, edits_digest, verify_built
from hybridq.storage import state as storage
from hybridq.storage.state import CFG, State


@dataclass(frozen=True)
class Step3Result:
    """The comparison and where its report lies."""

    report: ComparisonReport
    folder: Path
    dataset: str
    is_calibration: bool
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return report_json(self.report, self.verdict)


def step3(
    directory: Path | str,
    dataset: Any = None,
    *,
    metric: str | None = None,
    samples: int | None = None,
    layer_samples: int | None = 16,
    threads: int = 0,
    seconds: float = 2.0,
    progress: Progress = no_progress,
) -> Step3Result:
    """Compare float32 and hybrid on ``dataset`` (by default the calibration set) and write ``report/``.

    ``metric`` is ``module.py:function``. Raises StorageError when step2 has not run, DatasetError, ConfigError.
    """
    need_threads(threads)
    need_counts(samples, layer_samples, seconds)
    folder = Path(directory)
    state = read_state(folder, verify=True)
    config, hybrid = _built(folder, state)
    source = dataset if dataset is not None else read_sources(folder).get("dataset")
    if source is None:
        raise DatasetError("where step1 found its samples is not known here", hint="Give --dataset.")
    preprocessing = Preprocessing.from_json(state.preprocessing)
    limit = samples if samples is not None else (state.samples if dataset is None else None)
    data = open_dataset(source, input_specs(state.model), preprocessing, limit)
    found = compare(
        storage.assemble(state.model.proto, state.weights),
        folder / HYBRID,
        (sample.feed for sample in counted(data, "comparing", data.count, progress)),
        layers=layer_pairs(state.model, hybrid),
        ranges=_ranges(state),
        metric=load_metric(metric) if metric else None,
        threads=threads,
        seconds=seconds,
        layer_samples=layer_samples,
        calibration_data=dataset is None,
        name=state.model.name,
    )
    judged = judge(found, known_of(folder, state, config))
    points = trials(folder)
    with commit(folder) as new:
        write_report(found, new / REPORT, points, judged)
    return Step3Result(found, folder / REPORT, str(data.path), dataset is None, judged)


def _built(folder: Path, state: State) -> tuple[QuantConfig, onnx.ModelProto]:
    """The cfg and the hybrid model that step2 built of it. Raises StorageError or ConfigError where they do not fit."""
    if not exists(folder / HYBRID):
        raise StorageError(f"there is no {HYBRID} here", path=str(folder), hint="Run `hybridq step2` first.")
    verify_built(folder)
    config, _ = read_config(folder, state)
    hybrid = _load(folder / HYBRID)
    if built_from(hybrid) != edits_digest(config):
        raise ConfigError(
            f"edited since step2 built {HYBRID}", path=str(folder / CFG), hint=f"Run `hybridq step2 {folder}`."
        )
    return config, hybrid


def _ranges(state: State) -> dict[str, tuple[float, float]]:
    """What calibration saw of every tensor that it measured, real (min, max)."""
    known = ((g, state.calibrated.measured[g.name]) for g in state.model.groups)
    return {s: (m.range.min, m.range.max) for g, m in known if not m.fixed for s in g.sources}


def need_counts(samples: int | None, layer_samples: int | None, seconds: float) -> None:
    """Raise OptionError for a number of samples or seconds that is none."""
    for name, given, least in (("samples", samples, 1), ("layer_samples", layer_samples, 0)):
        if given is not None:
            number_of(given, name, least, whole=True)
    number_of(seconds, "seconds", 0)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's errors share no public base class
        raise StorageError("damaged", path=str(path), hint="Run `hybridq step2` again.") from error

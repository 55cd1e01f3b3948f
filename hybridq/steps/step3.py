"""Step 3: run the float and the hybrid model on data, compare, write the report."""

from __future__ import annotations

import shutil
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from hybridq.compare import ComparisonReport, Inside, Outside, Runs, compare, layer_pairs
from hybridq.compare.drift import quantized
from hybridq.compare.dumping import Dumper
from hybridq.dataset import Dataset, Preprocessing, input_specs, open_dataset
from hybridq.errors import ConfigError, DatasetError, StorageError
from hybridq.execution.pool import Pool, pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit
from hybridq.files.place import need_folder
from hybridq.files.reading import exists
from hybridq.files.temporary import Scratch
from hybridq.graph.load import load
from hybridq.quant.records import QuantConfig
from hybridq.report import Extras, Verdict, judge, report_json, write_report
from hybridq.report.gallery import Gallery
from hybridq.report.known import Known
from hybridq.report.prediction import Prediction
from hybridq.steps.common import (
    HYBRID,
    REPORT,
    follow_of,
    read_config,
    read_sources,
    read_state,
    titled,
)
from hybridq.steps.known import from_here, known_of
from hybridq.steps.options.as_typed import said
from hybridq.steps.options.comparison import ComparisonOptions
from hybridq.steps.options.validation import read, takes
from hybridq.steps.step2 import built_from, edits_digest, verify_built
from hybridq.steps.step3_board import board_report
from hybridq.steps.step3_page import Watched, extras_of
from hybridq.steps.step3_runtime import need_runtime, runtime_report
from hybridq.steps.step3_whatif import remedy_of
from hybridq.steps.step3_whatif import what_if as predicted
from hybridq.storage import state as storage
from hybridq.storage.state import CFG, State

DUMP = "dump"  # the folder of tensors, inside the report


@dataclass(frozen=True)
class Step3Result:
    """The comparison and where its report lies."""

    report: ComparisonReport
    folder: Path
    dataset: str
    is_calibration: bool
    verdict: Verdict
    extras: Extras

    def to_json(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return report_json(self.report, self.verdict, self.extras)


@takes(ComparisonOptions)
def step3(
    directory: Path | str,
    dataset: Any = None,
    *,
    what_if: bool = False,
    board: Path | str | None = None,
    dump: bool = False,
    executor: Executor | None = None,
    runtime: str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Step3Result:
    """Compare float32 and hybrid on ``dataset`` (by default the calibration set) and write ``report/``.

    ``what_if`` measures each quantizer alone, so that the page can predict other choices. ``board`` is a folder of
    tensors captured on a device; ``dump`` writes the first sample's to ``report/dump``; the result is scored and timed
    in ``runtime``, too. ``executor`` is any that may run the models, ``options`` are ``ComparisonOptions``' fields.
    Raises StorageError when step2 has not run, DatasetError, ConfigError, BoardError, EngineError, OptionError.
    """
    asked = read(ComparisonOptions, options)
    need_runtime(runtime)
    folder = Path(directory)
    need_folder(folder, "")
    state = read_state(folder, verify=True)
    config, hybrid = _built(folder, state)
    data = _data(folder, state, dataset, asked)
    captured = board_report(Path(board), state, config, hybrid, data, asked.threads) if board is not None else None
    watched = Watched(data, Gallery(Preprocessing.from_json(state.preprocessing), asked.drawer))
    scratch = Scratch()
    dumper = _dumper(state, scratch) if dump else None
    with pool(asked.workers, asked.cluster, executor, asked.threads) as place:
        found = _compared(folder, state, hybrid, watched, asked, dumper, place, progress)
    elsewhere = runtime_report(runtime, folder, state, config, data, asked, progress) if runtime is not None else None
    found = replace(found, calibration_data=_is_step1s(folder, dataset), board=captured, runtime=elsewhere)
    prediction = predicted(state, config, data, asked.threads, progress) if what_if else None
    known = _foreseen(known_of(folder, state, config), prediction)
    known = _asked_again(known, asked, dataset, board=board, runtime=runtime, what_if=what_if)
    judged, extras = judge(found, known), extras_of(folder, state, config, watched, known)
    _write(folder, found, judged, extras, dumper)
    return Step3Result(found, folder / REPORT, str(data.path), found.calibration_data, judged, extras)


def _is_step1s(folder: Path, dataset: Any) -> bool:
    """Whether a list, if any was given, is the one that step1 calibrated on."""
    if dataset is None:
        return True
    source = read_sources(folder).get("dataset")
    return (
        isinstance(dataset, str | Path)
        and isinstance(source, str)
        and Path(dataset).resolve() == Path(source).resolve()
    )


def _foreseen(known: Known, prediction: Prediction | None) -> Known:
    """What is known with what is predicted of other choices."""
    return known if prediction is None else replace(known, predicted=remedy_of(prediction), prediction=prediction)


def _asked_again(known: Known, asked: ComparisonOptions, dataset: Any, **beside: Any) -> Known:
    """What is known with what this comparison was asked for, for commands that ask for it again."""
    place = from_here(dataset) if isinstance(dataset, (str, Path)) else ""
    words = list(said(asked)) + (["--dataset", place] if place else [])
    for name, value in beside.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)] if value else []
    return replace(known, compare_flags=tuple(words), evaluation=place, metric=asked.metric or "")


def _write(folder: Path, found: ComparisonReport, judged: Verdict, extras: Extras, dumper: Dumper | None) -> None:
    with commit(folder) as new:
        write_report(found, new / REPORT, judged, extras)
        if dumper is not None:
            shutil.copytree(dumper.folder, new / REPORT / DUMP)


def _compared(
    folder: Path,
    state: State,
    hybrid: onnx.ModelProto,
    watched: Watched,
    asked: ComparisonOptions,
    dumper: Dumper | None,
    place: Pool | None,
    progress: Progress,
) -> ComparisonReport:
    found = compare(
        storage.assemble(state.model.proto, state.weights),
        (folder / HYBRID).resolve(),
        watched.feeds(progress),
        inside=_inside(state, hybrid, asked, dumper),
        outside=Outside(asked.scored, asked.seconds, watched.gallery.add),
        states=state.model.states,
        runs=Runs(asked.threads, watched.runner(place, progress), place),
    )
    return replace(found, model=titled(from_here(read_sources(folder).get("model", state.model.name))))


def _inside(state: State, hybrid: onnx.ModelProto, asked: ComparisonOptions, dumper: Dumper | None) -> Inside:
    keep = dumper.add if dumper is not None else None
    samples = max(asked.layer_samples, 1) if dumper is not None else asked.layer_samples
    return Inside(layer_pairs(state.model, hybrid), _ranges(state, hybrid), samples, keep)


def _dumper(state: State, scratch: Scratch) -> Dumper:
    """What writes tensors as they come, in a temporary folder that goes with ``scratch``."""
    with scratch.folder() as place:
        found = Dumper(place / DUMP, state.model, state.weights)
        found.start()
    return found


def _data(folder: Path, state: State, dataset: Any, asked: ComparisonOptions) -> Dataset:
    """The samples to compare on: the first so many of those that are given, or else of step1's."""
    source = dataset if dataset is not None else read_sources(folder).get("dataset")
    if source is None:
        raise DatasetError("where step1 found its samples is not known here", hint="Give --dataset.")
    limit = state.samples if asked.samples is None and dataset is None else asked.samples
    preprocessing, sequence = Preprocessing.from_json(state.preprocessing), asked.sequence or state.sequence
    follow = follow_of(state, asked.threads)
    return open_dataset(source, input_specs(state.model), preprocessing, limit, sequence, follow)


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


def _ranges(state: State, hybrid: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """What calibration saw, real (min, max), of the inputs and of all that integers hold: nothing else can be cut off.

    A tensor that holds masks stays float.
    """
    held = quantized(hybrid.graph) | {i.name for i in state.model.proto.graph.input}
    known = ((g, state.calibrated.measured[g.name]) for g in state.model.groups if held.intersection(g.tensors))
    return {s: (m.range.min, m.range.max) for g, m in known if not (m.fixed or m.unbounded) for s in g.sources}


def _load(path: Path) -> onnx.ModelProto:
    try:
        return load(path)
    except Exception as error:  # protobuf's errors share no public base class
        raise StorageError("damaged", path=str(path), hint="Run `hybridq step2` again.") from error

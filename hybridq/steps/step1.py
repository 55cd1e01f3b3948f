"""Step 1: calibrate, and write what a person may edit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hybridq import config, runtime, storage, targets
from hybridq.analysis import analyse
from hybridq.calibrate import PAIRS_ONLY, Batch, CalibrationStats, calibrate
from hybridq.canonical import BIG, canonicalize, read_model
from hybridq.commit import commit, recover
from hybridq.cut import cut
from hybridq.dataset import Audit, AuditRow, Dataset, Preprocessing, Sample, input_specs, open_dataset
from hybridq.decide import decide
from hybridq.dtypes import Precision
from hybridq.errors import ConfigError, DatasetError, Problem
from hybridq.model import Model
from hybridq.plan import make_plan
from hybridq.planning.weights import REPAIRED
from hybridq.ranges import ALGORITHMS, DEFAULTS, Options
from hybridq.ranges.weights import WeightAlgorithm
from hybridq.records import Calibrated, QuantConfig
from hybridq.runtime import Feed
from hybridq.steps.common import RESULTS, SOURCES, Progress, no_progress
from hybridq.storage import CFG, MODEL, State
from hybridq.targets import Target
from hybridq.weights.bias_correction import corrected_biases

CANONICAL_TOLERANCE = 1e-5
REPAIR_SAMPLES = 32


@dataclass(frozen=True)
class Step1Result:
    """What step1 found: the audit of what entered the model, warnings, and the state it wrote."""

    directory: Path
    state: State
    rows: list[AuditRow]
    problems: list[Problem]
    stats: CalibrationStats
    canonical_difference: float


def step1(
    model: Path | str,
    dataset: Any,
    out: Path | str,
    *,
    preprocessing: Preprocessing | None = None,
    batch: int = 1,
    samples: int | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    algorithm: str = "normal",
    weights: str = "channel",
    weights_algorithm: WeightAlgorithm = "normal",
    weights_repair: str = "bias",
    dtype: str | None = None,
    target: str = "onnxruntime",
    options: Options = DEFAULTS,
    force: bool = False,
    merge: bool = False,
    threads: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress = no_progress,
) -> Step1Result:
    """Calibrate ``model`` on ``dataset`` and write model.json, weights.data and model.quantization.cfg to ``out``.

    Parameters
    ----------
    dataset
        A path (``dataset.txt``, a folder, an ``.npz``) or an iterable of feeds.
    inputs, outputs
        Tensor names that cut a part out of the model.
    algorithm
        How a range is chosen: one of ``hybridq.ranges.ALGORITHMS``; ``options`` are its options.
    weights
        ``"channel"`` or ``"layer"``.
    weights_repair
        ``"bias"``: biases take back the mean error that rounded weights make. ``"none"``.
    dtype
        The precision of every layer unless the cfg says otherwise; by default the target's first, except where it
        would make a layer slower and less exact at once (``hybridq.defaults``).

    Raises
    ------
    ModelError, DatasetError
        The model or a sample cannot be used.
    ConfigError
        ``out`` holds a cfg that was edited, and neither ``force`` nor ``merge`` says what to do with it.
    """
    path, directory = Path(model), Path(out)
    chosen = targets.load(target)
    default = _default(chosen, dtype)
    before = None if force else _edited_before(directory, merge)
    given = read_model(path)
    if inputs or outputs:
        given = cut(given, inputs, outputs, str(path))
    progress("preparing the model", 0, None)
    proto = canonicalize(given, str(path))
    view = analyse(
        proto, given, name=path.stem, sha256=_digest(path, inputs, outputs), ties_outputs=chosen.ties_outputs
    )
    data = open_dataset(dataset, input_specs(view), preprocessing, samples)
    first: list[Feed] = []
    wanted = sorted(PAIRS_ONLY) if algorithm in PAIRS_ONLY else list(ALGORITHMS)
    audit = Audit.of(data)
    with _pool(workers, executor) as pool:
        stats = calibrate(
            view,
            proto,
            _batches(data, batch, audit, first),
            algorithms=set(wanted),
            threads=threads,
            batch=batch,
            progress=lambda done: progress("calibrating", done, data.count),
            executor=pool,
            workers=workers,
        )
    audit.check()
    progress("choosing ranges", 0, None)
    difference = _canonical_difference(given, path if not (inputs or outputs) else None, proto, first[0], threads)
    held = storage.weights_of(proto)
    calibrated = decide(
        view,
        held,
        stats.tensors,
        chosen,
        default=default,
        algorithm=algorithm,
        algorithms=wanted,
        weights_per=weights,
        weights_algorithm=weights_algorithm,
        options=options,
        literal=dtype is not None,
    )
    if weights_repair == "bias":
        progress("correcting biases", 0, None)
        held |= _repaired(view, calibrated, held, data, first, threads)
    state = State(view, held, calibrated, data.preprocessing.to_json(), {"count": stats.samples}, dict(first[0]))
    problems = [*data.notes, *audit.problems, *_canonical_problem(difference, str(path))]
    text, merged = _cfg_text(state, before, directory)
    _write(directory, state, text, _sources(path, dataset))
    return Step1Result(directory, state, audit.rows, problems + merged, stats, difference)


def _default(target: Target, dtype: str | None) -> Precision:
    if dtype is None:
        return target.default
    precision = Precision(dtype)
    if precision not in target.precisions:
        raise ConfigError(f"the target {target.name} has no {dtype}", hint=f"Choose {', '.join(target.precisions)}.")
    return precision


def _edited_before(directory: Path, merge: bool) -> tuple[str, State] | None:
    """The edited cfg that must survive, and the state it was made for; raises unless ``merge`` allows it."""
    if directory.is_dir():
        recover(directory)
    path = directory / CFG
    if not path.exists():
        return None
    text = path.read_bytes().decode(errors="replace")
    state = storage.read_state(directory) if (directory / MODEL).exists() else None
    if state is not None and storage.text_digest(text) == state.samples.get("cfg"):
        return None
    if merge and state is not None:
        return text, state
    raise ConfigError(
        "edited by hand; step1 would overwrite it",
        path=str(path),
        hint="--merge keeps the edits and refreshes the rest, --force throws them away, -o writes elsewhere.",
    )


def _digest(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """The model's fingerprint: its bytes, and what was cut out of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if inputs or outputs:
        digest.update(json.dumps([list(inputs), list(outputs)]).encode())
    return digest.hexdigest()


def _batches(data: Dataset, size: int, audit: Audit, first: list[Feed]) -> Iterator[Batch]:
    """Batches with the index of their first sample; ``first`` keeps the first single sample."""

    def see(sample: Sample) -> None:
        if not first:
            first.append(sample.feed)
        audit.add(sample)

    index = 0
    for sample in data.batches(size, see):
        yield index, sample.feed
        index += sample.count


def _repaired(
    model: Model, calibrated: Calibrated, held: dict[str, Any], data: Dataset, first: list[Feed], threads: int
) -> dict[str, Any]:
    """Biases corrected for the weights that step1 chose, measured on the first samples."""
    if sum(w.nbytes for w in held.values()) > BIG:
        return {}
    unedited = QuantConfig(calibrated.target, {}, calibrated.entries, {})
    plan = make_plan(model, calibrated, unedited, held)
    try:
        feeds: list[Feed] = [sample.feed for sample in data.part(0, REPAIR_SAMPLES)]
    except DatasetError:  # the samples came from an iterator, which is used up
        feeds = first
    found = corrected_biases(model, plan, held, feeds, threads=threads)
    return {REPAIRED + name: bias for name, bias in found.items()}


def _pool(workers: int, executor: Executor | None) -> AbstractContextManager[Executor | None]:
    if executor is not None or workers <= 1:
        return nullcontext(executor)
    return ProcessPoolExecutor(workers)


def _canonical_difference(
    given: onnx.ModelProto, path: Path | None, proto: onnx.ModelProto, feed: Feed, threads: int
) -> float:
    """Largest difference of an output between the given and the canonical model, relative to the output's size."""
    reference = runtime.run(runtime.session(path or given, threads=threads), feed)
    found = runtime.run(runtime.session(proto, threads=threads), feed)
    worst = 0.0
    for a, b in zip(reference, found, strict=True):
        if np.issubdtype(a.dtype, np.floating) and a.size:
            peak = float(np.abs(a).max())
            worst = max(worst, float(np.abs(a - b).max()) / peak if peak else float(np.abs(b).max()))
    return worst


def _canonical_problem(difference: float, path: str) -> list[Problem]:
    if difference <= CANONICAL_TOLERANCE:
        return []
    message = f"the canonical model differs from the given one by {difference:.2g} of the largest output"
    return [Problem(message, path=path, severity="warning", code="canonical")]


def _cfg_text(state: State, before: tuple[str, State] | None, directory: Path) -> tuple[str, list[Problem]]:
    if before is None:
        return config.write_cfg(state.model, state.calibrated), []
    text, old = before
    return config.merge(text, str(directory / CFG), (old.model, old.calibrated), (state.model, state.calibrated))


def _sources(path: Path, dataset: Any) -> dict[str, str]:
    found = {"model": str(path.resolve())}
    if isinstance(dataset, (str, Path)):
        found["dataset"] = str(Path(dataset).resolve())
    return found


def _write(directory: Path, state: State, text: str, sources: Mapping[str, str]) -> None:
    with commit(directory, remove=RESULTS) as new:
        fresh = config.write_cfg(state.model, state.calibrated)
        storage.write_state(new, storage.with_cfg(state, fresh))
        (new / CFG).write_text(text, encoding="utf-8")
        (new / SOURCES).write_text(json.dumps(sources, indent=2) + "\n")

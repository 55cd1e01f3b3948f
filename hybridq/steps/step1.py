"""Step 1: calibrate, and write what a person may edit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridq import config
from hybridq.errors import ConfigError, OptionError, Problem, StorageError
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit, recover
from hybridq.files.place import need_folder
from hybridq.files.reading import exists, read_bytes, write_text
from hybridq.graph.outside import any_outside
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice
from hybridq.search.work import Deadline
from hybridq.steps.calibrating import Step1Result, Step1Run
from hybridq.steps.common import RESULTS, SCHEMAS, SOURCES, as_shared, read_state
from hybridq.steps.options.as_typed import said
from hybridq.steps.options.preprocessing import WORDS
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.options.validation import read, takes
from hybridq.steps.prepare import prepare
from hybridq.storage import state as storage
from hybridq.storage.kept import Kept, kept_in
from hybridq.storage.state import CFG, MODEL, WEIGHTS, State

FORMAT_MARK = b'"hybridq.model/'
CFG_SCHEMA = "cfg-1.schema.json"  # for the person's editor


@takes(Step1Options)
def step1(
    model: Path | str,
    dataset: Any,
    out: Path | str,
    *,
    executor: Executor | None = None,
    progress: Progress = no_progress,
    deadline: Deadline | None = None,
    kept: Kept | None = None,
    **options: Any,
) -> Step1Result:
    """Calibrate ``model`` on ``dataset`` and write model.json, weights.data and model.quantization.cfg to ``out``.

    ``dataset`` is a path (``dataset.txt``, a folder, an ``.npz``) or an iterable of feeds, None with ``data_free``;
    ``options`` are the fields of ``Step1Options``. Repairs of weights take a share of what the ``deadline`` leaves, and
    go on with what is ``kept`` of a command that was killed, by default of step1 itself.
    Raises OptionError for options that do not exist or fit, ModelError and DatasetError where the model or a sample
    cannot be used, ConfigError where ``out`` holds an edited cfg and neither ``force`` nor ``merge`` was said.
    """
    chosen, directory = read(Step1Options, options), Path(out)
    need_dataset(dataset, chosen)
    need_folder(directory)
    before = None if chosen.force else _edited_before(directory, chosen.merge)
    progress("preparing the model", 0, None)
    prepared = prepare(Path(model), chosen.inputs, chosen.outputs, chosen.goal, chosen.pairs)
    one = Step1Run(prepared, chosen, chosen.goal, progress, deadline or Deadline())
    with kept_in(directory, kept) as held:
        one = replace(one, kept=held)
        result = one.without_data(directory) if chosen.data_free else one.with_data(dataset, executor, directory)
    fresh = config.write_cfg(result.state.model, result.state.calibrated, _weight_only(result.state, chosen))
    text, merged = _cfg_text(fresh, result.state, before, directory)
    _write(directory, result.state, fresh, text, _sources(Path(model), dataset, chosen), before)
    result.problems.extend(merged)
    return _settled(result, directory) if any_outside(prepared.proto.graph) else result


def _settled(result: Step1Result, directory: Path) -> Step1Result:
    """The result whose weights lie in the folder: those of a large model lay where nothing stays."""
    return replace(result, state=replace(result.state, weights=storage.read_state(directory).weights))


def need_dataset(dataset: Any, options: Step1Options) -> None:
    """Refuse a step without samples, or with samples that would not be read. Raises OptionError."""
    if dataset is None and not options.data_free:
        raise OptionError("a dataset is missing", hint="Give a dataset, or data_free to go without samples.")
    if dataset is not None and options.data_free:
        raise OptionError("data_free reads no dataset", hint="Give one of them.")


def _weight_only(state: State, options: Step1Options) -> dict[str, LayerChoice]:
    """The layers whose weights alone are stored in fewer bits."""
    if options.weight_only is None:
        return {}
    return {x.name: LayerChoice(Precision.FLOAT32, options.weight_only) for x in state.model.layers if x.weights}


def _edited_before(directory: Path, merge: bool) -> tuple[str, State] | None:
    """The edited cfg that must survive, and the state it was made for; raises unless ``merge`` allows it."""
    if directory.is_dir():
        recover(directory)
    _refuse_foreign(directory)
    path = directory / CFG
    if not exists(path):
        return None
    text = read_bytes(path).decode(errors="replace")
    try:
        state = read_state(directory) if exists(directory / MODEL) else None
    except StorageError as error:
        raise StorageError([replace(p, hint="--force starts anew.") for p in error.problems]) from error
    if state is not None and state.wrote(text):
        return None
    if merge and state is not None:
        return text, state
    raise ConfigError(
        "edited by hand; step1 would overwrite it",
        path=str(path),
        hint="--merge keeps the edits and refreshes the rest, --force throws them away, -o writes elsewhere.",
    )


def _refuse_foreign(directory: Path) -> None:
    """Keep step1 from replacing or removing files of these names that hybridq did not write."""
    there = [name for name in (MODEL, WEIGHTS, CFG, *RESULTS) if exists(directory / name)]
    path = directory / MODEL
    if not there or (path.is_file() and FORMAT_MARK in read_bytes(path)[:300]):
        return
    found = ", ".join(there)
    raise StorageError(
        f"holds {found}, which hybridq did not write", path=str(directory), hint="Give another -o, or --force."
    )


def _cfg_text(fresh: str, state: State, before: tuple[str, State] | None, directory: Path) -> tuple[str, list[Problem]]:
    """The cfg to write: as it is after calibration, or with the edits of the one ``before``."""
    if before is None:
        return fresh, []
    text, old = before
    new = as_shared(state, config.separate_of(text))
    return config.merge(text, str(directory / CFG), (old.model, old.calibrated), (new.model, new.calibrated))


def _sources(path: Path, dataset: Any, options: Step1Options) -> dict[str, Any]:
    """Where the model and the samples lie, and what else was asked for, as words."""
    found: dict[str, Any] = {"model": str(path.resolve()), "flags": list(said(options, leave=WORDS))}
    if isinstance(dataset, (str, Path)):
        found["dataset"] = str(Path(dataset).resolve())
    return found


def _write(
    directory: Path, state: State, fresh: str, text: str, sources: Mapping[str, Any], before: tuple[str, State] | None
) -> None:
    with commit(directory, remove=RESULTS) as new:
        shutil.copyfile(SCHEMAS / CFG_SCHEMA, new / CFG_SCHEMA)
        storage.write_state(new, storage.with_cfg(state, fresh))
        write_text(new / CFG, text)
        if before is not None:
            write_text(new / (CFG + ".old"), before[0])
        write_text(new / SOURCES, json.dumps(sources, indent=2) + "\n")

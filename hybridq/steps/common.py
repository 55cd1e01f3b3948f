"""What the steps share: the names of the files, reading a folder, finding its cfg."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridq import config
from hybridq.dataset import Preprocessing, input_specs, open_dataset
from hybridq.errors import ConfigError, DatasetError, Problem, StorageError
from hybridq.files.commit import reading
from hybridq.files.reading import look_at, read_bytes, read_json
from hybridq.graph.rolling import begins, follower
from hybridq.graph.runtime import Feed
from hybridq.plan.separate import separate
from hybridq.quant.records import QuantConfig
from hybridq.storage import state as storage
from hybridq.storage.state import CFG, State

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

HYBRID, BUILD, REPORT, SOURCES, SEARCH = "hybrid.onnx", "build.json", "report", "sources.json", "search.json"
REPORT_JSON = "report.json"
SCHEMAS = Path(__file__).parent.parent / "schemas"
RESULT_SCHEMAS = {
    BUILD: "build-1.schema.json",
    SEARCH: "search-1.schema.json",
    REPORT_JSON: "report-1.schema.json",
}
RESULTS = (HYBRID, HYBRID + ".data", BUILD, REPORT)  # void once step1 has run again


def read_cfg_text(directory: Path) -> str:
    """The committed text of a folder's cfg. Raises ConfigError when it is missing, too large, or not text."""
    with reading(directory) as view:
        return cfg_text(view.path(CFG), directory)


def cfg_text(path: Path, directory: Path) -> str:
    """The text of the cfg at ``path``, which is that of ``directory``. Raises ConfigError."""
    if not path.exists():
        raise ConfigError(
            f"there is no {CFG} here", path=str(directory), hint="Run `hybridq step1` with `-o` this folder."
        )
    config.need_size(look_at(path, ConfigError), str(path))
    return config.decode(read_bytes(path, ConfigError), str(path))


def read_config(directory: Path, state: State) -> tuple[QuantConfig, list[Problem]]:
    """The cfg of a folder, checked, with warnings and notes. Raises ConfigError with every problem."""
    text = read_cfg_text(directory)
    found, problems = config.check(text, str(directory / CFG), state.model, state.calibrated)
    if found is None or any(p.severity == "error" for p in problems):
        raise ConfigError(problems)
    return found, problems


def read_sources(directory: Path) -> dict[str, Any]:
    """Where step1 found the model and the dataset; empty when nobody knows any more."""
    return read_object(directory, SOURCES)


def titled(path: Path | str) -> str:
    """A model's file as people tell it from others: with the folder that it lies in."""
    return "/".join(Path(path).parts[-2:]).lstrip("/")


def calibration_samples(directory: Path, state: State, given: Preprocessing, count: int) -> list[Feed]:
    """The first of step1's samples as ``given`` prepares them; none where they are gone."""
    source = read_sources(directory).get("dataset")
    try:
        if not isinstance(source, str) or not source:
            return []
        data = open_dataset(Path(source), input_specs(state.model), given, count)
        feeds = (sample.feed for sample in data.part(0, count))
        return [feed for feed in feeds if begins(feed, state.model.states)]
    except DatasetError:
        return []


def read_object(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file that can be made anew; empty where it is missing, damaged or something else."""
    try:
        with reading(directory) as view:
            found = read_json(view.path(name))
    except StorageError:
        return {}
    return found if isinstance(found, dict) else {}


def read_result(directory: Path, name: str) -> dict[str, Any]:
    """As ``read_object``; empty, too, where the file is not of the shape that its schema says."""
    found = read_object(directory, name)
    return found if found and _validator(RESULT_SCHEMAS[name]).is_valid(found) else {}


@cache
def _validator(schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((SCHEMAS / schema).read_text(encoding="utf-8")))


def follow_of(state: State, threads: int = 0) -> Callable[[Feed], Feed] | None:
    """The float model of a recurrent model as a function from a whole feed to the states that the next step takes."""
    if not state.model.states:
        return None
    return follower(storage.assemble(state.model.proto, state.weights), state.model.states, threads=threads)


def read_state(directory: Path, *, verify: bool = False) -> State:
    """What step1 left in a folder, and a search, with the Concats separate that its cfg names."""
    state, text = storage.read_state(directory, verify=verify), ""
    with suppress(ConfigError):  # without a cfg that can be read nothing is built
        text = read_cfg_text(directory)
    return as_shared(state, config.separate_of(text))


def as_shared(state: State, concats: Collection[str]) -> State:
    """A state as it is read, with the Concats ``concats`` separate, by any of their names.

    What a search found counts for the tensors that share parameters as they did in it.
    """
    first, found = state.decided, state.calibrated
    if not concats and not found.separate:
        return state
    model, calibrated = separate(first.model, first.calibrated, concats)
    other, _ = separate(first.model, first.calibrated, found.separate)
    held = {g.name: g.tensors for g in model.groups}
    were = {g.name: g.tensors for g in other.groups}
    same = {k for k in found.entries if held.get(k) == were.get(k)}
    entries = {**calibrated.entries, **{k: e for k, e in found.entries.items() if k in same}}
    written = (*first.calibrated.entries.items(), *found.entries.items())
    record = replace(calibrated, entries=entries, written=written, rounded=found.rounded)
    return replace(state, model=model, calibrated=record, step1=first)

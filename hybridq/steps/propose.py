"""The search in the workflow: which layers need more bits goes into the cfg, ready for a person to prune.

``propose`` searches for a folder that step1 left; ``auto`` is step1, search, step2 and step3 in one go.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from hybridq import config, targets
from hybridq.compare import load_metric
from hybridq.dataset import Preprocessing, input_specs, open_dataset
from hybridq.errors import DatasetError
from hybridq.execution.pool import HERE, pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.files.commit import commit
from hybridq.files.place import need_folder
from hybridq.files.reading import exists, read_bytes, write_text
from hybridq.graph.rolling import in_a_row
from hybridq.graph.runtime import Feed
from hybridq.linting import Finding, lint
from hybridq.plan.layer_weights import entry_key
from hybridq.plan.record import activation_entry, weight_entry
from hybridq.plan.separate import separate
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Entry, LayerChoice
from hybridq.quant.weight_ranges import WeightAlgorithm
from hybridq.search.allocation.profiles import read_profile
from hybridq.search.choice import unrepaired
from hybridq.search.search import SearchOptions, SearchResult, search
from hybridq.search.work import KEPT, Deadline, planned
from hybridq.steps.calibrating import Step1Result
from hybridq.steps.common import SEARCH, SOURCES, as_shared, follow_of, read_object, read_sources, read_state
from hybridq.steps.options.as_typed import said
from hybridq.steps.options.proposal import ProposalOptions
from hybridq.steps.options.step1 import Step1Options, need_threads
from hybridq.steps.options.validation import read, share, takes
from hybridq.steps.step1 import need_dataset, step1
from hybridq.steps.step2 import Step2Result, step2
from hybridq.steps.step3 import Step3Result, step3
from hybridq.steps.step3_runtime import stopwatch
from hybridq.storage import state as storage
from hybridq.storage.kept import Kept, kept_in
from hybridq.storage.state import CFG, State

SAVE_SECONDS = 2.0
COMPARED = 3.0  # times calibrating: comparing the same samples, about
EDITS_STAY = "what was edited by hand stays as it was; the search measured without it"
MOST_SAMPLES = 512  # of the dataset, from which the search takes its own


@dataclass(frozen=True)
class AutoResult:
    """What each part of ``auto`` found."""

    calibrated: Step1Result
    found: SearchResult
    built: Step2Result
    compared: Step3Result


@takes(Step1Options, ProposalOptions)
def auto(
    model: Path | str,
    dataset: Any,
    out: Path | str,
    *,
    evaluation: Any = None,
    progress: Progress = no_progress,
    seconds: float = 2.0,
    **options: Any,
) -> AutoResult:
    """Calibrate, search, build and compare; ``options`` are those of ``step1`` and of ``propose``.

    ``evaluation`` is what step3 compares on, by default the calibration set. The page predicts other choices (step3's
    ``what_if``) unless that takes long on this model, or the time is over. A search that was interrupted goes on
    where it was. Raises as the steps do.
    """
    words, asked = share(options | {"every_algorithm": True}, Step1Options, ProposalOptions)
    first, wanted = Step1Options(**words), ProposalOptions(**asked)
    need_dataset(dataset, first)
    need_folder(Path(out))
    if wanted.metric:
        load_metric(wanted.metric)  # what is wrong with it shows before the work, not after
    if isinstance(evaluation, (str, Path)) and not Path(evaluation).exists():
        raise DatasetError("no such file", path=str(evaluation))
    folder, shared = Path(out), dict[str, Any](threads=first.threads, progress=progress)
    deadline = Deadline(wanted.time).keeping((1 - KEPT) * (wanted.time or 0.0))
    places = dict[str, Any](workers=first.workers, cluster=first.cluster)
    with kept_in(folder) as kept:
        calibrated = step1(model, dataset, folder, progress=progress, deadline=deadline, kept=kept, **words)
        deadline = deadline.keeping(_comparing(calibrated, evaluation, wanted.time) + seconds)
        known = dict[str, Any](deadline=deadline, findings=calibrated.findings, kept=kept)
        found = propose(folder, dataset, **known, **places, **shared, **asked)
    built = step2(folder, **shared)
    recorded = isinstance(dataset, (str, Path))  # else nobody but the caller knows the samples
    seen = dataset if evaluation is None and not recorded else evaluation
    predicts = not planned(calibrated.state.model, MOST_SAMPLES).scarce and not deadline.over
    words = {"metric": wanted.metric, "runtime": wanted.runtime, "seconds": seconds, "what_if": predicts}
    compared = step3(folder, seen, **words, **places, **shared)
    return AutoResult(calibrated, found, built, compared)


def _comparing(calibrated: Step1Result, evaluation: Any, seconds: float | None) -> float:
    """Seconds that building and comparing take, about, of so many that there are for all."""
    count = calibrated.state.samples
    if isinstance(evaluation, (str, Path)):
        held = open_dataset(evaluation, input_specs(calibrated.state.model), Preprocessing()).count
        count = held if held is not None else count
    return max((1 - KEPT) * (seconds or 0.0), COMPARED * calibrated.pace * count)


@dataclass(frozen=True)
class _Before:
    """A folder as a search finds it: its state and cfg, and what the search before it ``chose``."""

    path: Path
    state: State
    text: str
    chose: Mapping[str, Any]
    separate: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> _Before:
        state, path = read_state(folder), folder / CFG
        text = read_bytes(path).decode(errors="replace") if exists(path) else ""
        chosen = (_previous(folder) or {}).get("chosen") or {}
        return cls(path, state, text, chosen.get("layers") or {}, tuple(chosen.get("separate") or ()))

    @property
    def edited(self) -> bool:
        """Whether a person changed the cfg since it was written."""
        return bool(self.text) and not self.state.wrote(self.text)

    def merged(self, state: State, found: SearchResult) -> str:
        """The cfg with what was found, but for the layers of which a person asked something."""
        proposal = config.Proposal(found.layers, found.reasons, self.chose)
        asked = self.state.calibrated.separate
        state = as_shared(state, asked) if asked != self.separate else state
        old, new = ((one.model, one.calibrated) for one in (self.state, state))
        return config.merge(self.text, str(self.path), old, new, proposal)[0]


@takes(ProposalOptions)
def propose(
    directory: Path | str,
    dataset: Any = None,
    *,
    threads: int = 0,
    workers: int = 1,
    cluster: str | None = None,
    executor: Executor | None = None,
    progress: Progress = no_progress,
    deadline: Deadline | None = None,
    findings: Sequence[Finding] | None = None,
    kept: Kept | None = None,
    **options: Any,
) -> SearchResult:
    """Search for the layers that need more bits and write them into the cfg of a folder that step1 left.

    ``dataset`` is by default the one of step1; ``options`` are the fields of ``ProposalOptions``. Ranges, roundings and
    biases that the search found better are recorded beside step1's, from which every search begins. ``deadline`` is by
    default that of ``time`` from now, ``findings`` (step1's warnings) what the folder shows. Models are
    measured by ``workers`` processes, a Dask ``cluster`` or any ``executor``, with the same result.

    Raises OptionError for options that do not exist or fit, ConfigError for an impossible budget, DatasetError without
    samples.
    """
    wanted = read(ProposalOptions, options)
    need_threads(threads, workers)
    folder = Path(directory)
    need_folder(folder, "")
    before = _Before.of(folder)
    state = before.state.before_search()
    remedies = _remedies(_lint(state) if findings is None else findings)
    asked = _asked(folder, state, wanted, threads)
    feeds = list(_feeds(folder, state, dataset))
    feeds = feeds if wanted.metric else in_a_row(feeds, state.model.states)  # a metric goes by what was recorded
    with pool(workers, cluster, executor, threads=1) as place, kept_in(folder, kept) as held:
        asked = replace(asked, remedies=remedies, pool=place or HERE, deadline=deadline, progress=progress, kept=held)
        found = search(state.model, state.weights, state.calibrated, feeds, wanted.budget, asked)
    return _write(folder, _improved(state, found), found, said(wanted), before)


def _asked(folder: Path, state: State, wanted: ProposalOptions, threads: int) -> SearchOptions:
    """The options in the search's words, with what the folder knows."""
    return SearchOptions(
        metric=load_metric(wanted.metric) if wanted.metric else None,
        precisions=wanted.precisions,
        threads=threads,
        board=read_profile(Path(wanted.profile), state.model) if wanted.profile else {},
        previous=_previous(folder),
        save=_saver(folder),
        stopwatch=stopwatch(wanted.runtime, state, threads) if wanted.runtime else None,
        runtime=wanted.runtime or "",
    )


def _lint(state: State) -> tuple[Finding, ...]:
    return lint(state.model, state.weights, state.calibrated, targets.load(state.calibrated.target))


def _remedies(found: Sequence[Finding]) -> list[Mapping[str, Precision]]:
    """What the lint would raise for the sake of accuracy, as candidates."""
    return [dict.fromkeys(f.layers, f.precision) for f in found if f.precision is not None and f.code != "slow"]


def _feeds(folder: Path, state: State, dataset: Any) -> Iterator[Feed]:
    source = dataset if dataset is not None else read_sources(folder).get("dataset")
    if source is None:
        raise DatasetError("the search needs samples, and step1's are not known any more", hint="Give --dataset.")
    count = min(state.samples or MOST_SAMPLES, MOST_SAMPLES)
    preprocessing = Preprocessing.from_json(state.preprocessing)
    specs = input_specs(state.model)
    data = open_dataset(source, specs, preprocessing, sequence=state.sequence, follow=follow_of(state))
    yield from (sample.feed for sample in islice(data, count))


def _previous(folder: Path) -> dict[str, Any] | None:
    return read_object(folder, SEARCH) or None


def _saver(folder: Path) -> Callable[[dict[str, Any]], None]:
    """Keep what was measured so far, now and then, so that a search that is killed goes on where it was."""
    last = [time.monotonic()]

    def save(content: dict[str, Any]) -> None:
        if time.monotonic() - last[0] >= SAVE_SECONDS:
            with commit(folder) as new:
                write_text(new / SEARCH, _text(content))
            last[0] = time.monotonic()

    return save


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _improved(state: State, found: SearchResult) -> State:
    """The state with the ranges, weights and biases that the search found, beside what step1 decided."""
    model, before = separate(state.model, unrepaired(state.calibrated), found.separate)
    entries, target = dict(before.entries), targets.load(before.target)
    for group, algorithm in found.tuning.ranges.items():
        entries[group] = activation_entry(before.measured[group], entries[group].dtype, algorithm, target)
    for name, how in found.tuning.weights.items():
        entries[entry_key(state.model.layer[name])] = _weight(name, state, how)
    weights = state.weights.plain().repaired(biases=found.biases, rounded=found.rounded)
    made = state.searched(replace(before, entries=entries, rounded=tuple(weights.rounded)), weights)
    return replace(made, model=model)


def _weight(name: str, state: State, algorithm: str) -> Entry:
    layer, calibrated = state.model.layer[name], state.calibrated
    chosen = WeightAlgorithm.MMSE if algorithm == WeightAlgorithm.MMSE else WeightAlgorithm.NORMAL
    default, target = calibrated.default_of(name), targets.load(calibrated.target)
    made = weight_entry(layer, layer.weights[0], default, state.weights, calibrated.weights_per, chosen, target)
    return replace(made, algorithm=algorithm)


def _write(folder: Path, state: State, found: SearchResult, words: tuple[str, ...], before: _Before) -> SearchResult:
    """Write all that was found; what a person edited ``before`` stays."""
    fresh = config.write_cfg(state.model, state.calibrated, _choices(found.layers), dict(found.reasons))
    text = before.merged(state, found) if before.edited else fresh
    sources = read_sources(folder) | {"search": list(words)}
    with commit(folder) as new:
        storage.write_state(new, storage.with_cfg(state, fresh))
        write_text(new / CFG, text)
        write_text(new / SEARCH, _text(found.content))
        write_text(new / SOURCES, _text(sources))
    return replace(found, warnings=(*found.warnings, EDITS_STAY)) if before.edited else found


def _choices(layers: Mapping[str, Precision]) -> dict[str, LayerChoice]:
    return {name: LayerChoice(precision) for name, precision in layers.items()}

"""What a folder knows of its build besides the comparison: build, search, lint, where step1 found its data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from hybridq import targets
from hybridq.calibration.ranges import RangeAlgorithm
from hybridq.calibration.ranges.trimmed import LEAST
from hybridq.dataset import Preprocessing
from hybridq.graph.chosen import lists
from hybridq.graph.joined import joined
from hybridq.graph.model import Model
from hybridq.linting.facts import Facts
from hybridq.linting.kernels import without_kernels
from hybridq.linting.run import lint
from hybridq.plan.plan import make_plan
from hybridq.quant.records import WEIGHT_SUFFIX, Calibrated, QuantConfig
from hybridq.report.extras import ParetoPoint
from hybridq.report.known import Accuracy, Known, Remedy
from hybridq.steps.common import BUILD, SEARCH, read_result, read_sources
from hybridq.storage.state import State
from hybridq.targets import Target

AGAIN = re.compile(r"-auto\d*$")


def known_of(folder: Path, state: State, config: QuantConfig) -> Known:
    """Everything that a verdict on the folder's build may look at."""
    model, calibrated, target = state.model, state.calibrated, targets.load(config.target)
    sources, search, built = read_sources(folder), read_result(folder, SEARCH), read_result(folder, BUILD)
    plan = make_plan(model, calibrated, config, state.weights)
    facts = Facts(model, state.weights, calibrated, target, plan, {})
    wider = str(facts.raised)
    aim = () if target.name == "onnxruntime" else ("--target", target.name)
    own = [m.ranges.keys() for m in calibrated.measured.values() if m.ranges and not m.fixed]
    return Known(
        folder=str(folder),
        model=from_here(sources.get("model", "MODEL")),
        dataset=from_here(sources.get("dataset", "DATASET")),
        flags=(*step1_flags(Preprocessing.from_json(state.preprocessing)), *_words(sources, "flags", aim)),
        search_flags=_words(sources, "search"),
        beside=_beside(folder),
        high_fraction=built.get("high_fraction"),
        fidelity_db=_fidelity(built),
        board="" if target.name == "onnxruntime" else target.name,
        slow_kernels=without_kernels(facts),
        algorithm=calibrated.algorithm,
        recorded=frozenset(set.intersection(*map(set, own))) if own else frozenset(),
        wider=wider,
        together={x.name: tuple(facts.keeping(model.group[x.group])) for x in model.layers},
        shared={n: g.layers for g in model.groups for n in g.layers},
        trimmed=frozenset(_trimmed(model, calibrated)).difference(_edited(model, config)),
        edited=frozenset(_edited(model, config)),
        by_design=frozenset(_by_design(state, config)),
        joined=dict(_joined(facts)),
        listed=lists(model),
        lint=tuple(_remedies(state, target, facts)),
        front=tuple(_front(model, search, wider)),
        all_8bit=_all_8bit(search) if any(d.precision.bits == 8 for d in calibrated.layers.values()) else None,
        left_high=_left_high(search),
        searched=bool(search.get("front")),
    )


def trials(folder: Path) -> list[ParetoPoint]:
    """The Pareto front of a search, for the page's plot."""
    held = read_result(folder, SEARCH)
    try:
        chosen = held["chosen"]["high_fraction"]
        found = [(float(p["high_fraction"]), float(p["sqnr_db"])) for p in held["front"]]
    except (LookupError, TypeError, ValueError):
        return []
    return [ParetoPoint(high, sqnr, high == chosen) for high, sqnr in found]


def _words(sources: Mapping[str, Any], key: str, usual: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Options that a person gave, as words; the file may be of anybody's making."""
    held = sources.get(key)
    return tuple(held) if isinstance(held, list) and all(isinstance(one, str) for one in held) else usual


def _beside(folder: Path) -> str:
    """A folder beside this one that does not exist yet, for a search of its own."""
    stem = AGAIN.sub("", str(folder)) or str(folder)
    names = (f"{stem}-auto{'' if i == 1 else i}" for i in count(1))
    return next(name for name in names if not Path(name).exists())


def from_here(path: object) -> str:
    """A path as a person would write it: relative where it is below the current folder."""
    found = Path(str(path))
    return str(found.relative_to(Path.cwd())) if found.is_relative_to(Path.cwd()) else str(found)


def step1_flags(given: Preprocessing) -> Iterator[str]:
    """The options of step1 that bring the same values into the model."""
    for name in ("mean", "std"):
        for key, values in getattr(given, name).items():
            told = ",".join(f"{value:g}" for value in values)
            yield from (f"--{name}", f"{key}={told}" if key else told)
    usual = Preprocessing()
    for name in ("channel_order", "resize", "anchor", "pad"):
        if getattr(given, name) != getattr(usual, name):
            yield from (f"--{name.replace('_', '-')}", str(getattr(given, name)))
    if given.size is not None:
        yield from ("--size", f"{given.size[0]}x{given.size[1]}")


def _fidelity(built: Mapping[str, Any]) -> float | None:
    """The lowest SQNR between ONNX Runtime optimized and not, where that is a loss; None where it is none."""
    found = built.get("fidelity")
    if isinstance(found, dict) and found.get("faithful") is True:
        return None
    figures = found.get("sqnr_db") if isinstance(found, dict) else None
    return min(map(float, figures.values()), default=None) if isinstance(figures, dict) else None


def _edited(model: Model, config: QuantConfig) -> Iterator[str]:
    """Layers of whose tensors a person edited a number or a word, the precision apart."""
    for key, fields in config.edited.items():
        if fields - {"dtype"}:
            layer = key.removesuffix(WEIGHT_SUFFIX)
            yield from model.group[key].layers if key in model.group else (layer,)


def _by_design(state: State, config: QuantConfig) -> Iterator[str]:
    """Layers that must stay float, or that step1 put there and nobody asked for."""
    default = state.calibrated.default
    for layer in state.model.layers:
        own = state.calibrated.default_of(layer.name)
        if layer.float_only or (not own.is_integer and own is not default and layer.name not in config.choices):
            yield layer.name


def _trimmed(model: Model, calibrated: Calibrated) -> Iterator[str]:
    """Layers whose range ends before what was seen, where all that read it are deaf."""
    for group in model.groups:
        entry, seen = calibrated.entries[group.name], calibrated.measured[group.name].range
        if entry.algorithm == RangeAlgorithm.TRIMMED and isinstance(entry.min, float) and isinstance(entry.max, float):
            cut = max(entry.min - seen.min, seen.max - entry.max)
            if cut > LEAST * (seen.max - seen.min):
                yield from group.layers


def _joined(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Outputs that a Concat joined at one scale, and their parts; parts that keep their own scales gain by no cut."""
    model = facts.model
    shapes = {name: tensor.shape for name, tensor in model.tensors.items()}
    for name in filter(facts.qparams, model.outputs):
        found = joined(name, model.producers, shapes)
        parts = tuple(dict.fromkeys(part for part, _ in found[1] if part in model.producers)) if found else ()
        if found and len(parts) == len(found[1]):
            yield name, parts


def _remedies(state: State, target: Target, facts: Facts) -> Iterator[Remedy]:
    """What the lint would raise for the sake of accuracy."""
    for finding in lint(state.model, state.weights, state.calibrated, target):
        if finding.severity == "warning" and finding.precision is not None:
            layers = facts.whole(finding.layers or (finding.layer,))
            told = f"raise '{layers[0]}'" if len(layers) == 1 else f"raise {len(layers)} layers"
            yield Remedy(layers, str(finding.precision), told, cause=finding.message)


def _front(model: Model, search: Mapping[str, Any], wider: str) -> Iterator[Remedy]:
    """Choices of layers that a search measured."""
    for point in search.get("front") or ():
        units = [u for u in point.get("units", ()) if u in model.group]
        layers = tuple(n for u in units for n in model.group[u].layers)
        if layers and len(units) == len(point["units"]):
            why = (
                f"raise the {len(layers)} layers that the search measured"
                if len(layers) > 1
                else f"raise '{layers[0]}'"
            )
            yield Remedy(layers, wider, why, point.get("sqnr_db"))


def _all_8bit(search: Mapping[str, Any]) -> Accuracy | None:
    held = search.get("all_8bit")
    if not isinstance(held, dict):
        return None
    whole, worst, centered = (held.get(name, {}) for name in ("sqnr_db", "worst_sqnr_db", "centered_sqnr_db"))
    return Accuracy.of(whole, worst, centered, held.get("metric"))


def _left_high(search: Mapping[str, Any]) -> float:
    """The share of MACs above 8 bits where the search raised nothing."""
    held = search.get("all_8bit")
    high = held.get("high") if isinstance(held, dict) else None
    return float(high) if isinstance(high, (int, float)) else 0.0

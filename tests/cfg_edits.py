"""Edits of the cfg as people make them, and what must agree after any of them: the cfg, the plan, the report."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
from helpers_config import PATH

from hybridq import targets
from hybridq.config import check, write_cfg
from hybridq.config.write import EMPTY, quote
from hybridq.graph.model import Model
from hybridq.quant.entry_params import activation_params
from hybridq.quant.qparams import QParams
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated, Entry, QuantConfig
from hybridq.report.effects import Effects

Fields = dict[str, str]


def values(name: str, old: str) -> list[str]:
    """Other values for a field."""
    if name in ("min", "max"):
        return [f"{float(old or 0) * 0.5 + (0.3 if name == 'max' else -0.3):.6g}"]
    if name == "scale":
        return [f"{float(old or 0.01) * 1.5:.6g}"]
    if name == "zero_point":
        return [str(int(old or 0) + 3)]
    words = {
        "dtype": ["uint8", "int8", "int16", "float32"],
        "qtype": ["symmetric_affine", "dynamic_fixed_point", "asymmetric_affine"],
        "qmethod": ["layer", "channel"],
        "algorithm": ["mmse", "normal"],
        "fl": ["3"],
    }
    return [w for w in words[name] if w != old]


def with_field(line: str, name: str, value: str) -> str:
    """A line of ``quantize_parameters`` with another value for a field, or with one more field."""
    match = re.search(rf"\b{name}: (\[[^\]]*\]|[^,}}]+)", line)
    if match:
        return line[: match.start(1)] + value + line[match.end(1) :]
    return line.replace("}", f", {name}: {value}}}", 1)


def config_of(
    model: Model, calibrated: Calibrated, edits: Mapping[str, Fields], layers: Mapping[str, str] | None = None
) -> QuantConfig:
    """The cfg with these edits of entries and precisions of layers, but for those that ``check`` refuses."""
    kept, asked = dict(edits), dict(layers or {})
    while True:
        text, owner = _written(model, calibrated, kept, asked)
        config, problems = check(text, PATH, model, calibrated)
        if config is not None:
            return config
        refused = {owner[p.line - 1] for p in problems if p.severity == "error"}
        for held, name in refused:
            (kept if held == "entry" else asked).pop(name)


def _written(
    model: Model, calibrated: Calibrated, edits: Mapping[str, Fields], layers: Mapping[str, str]
) -> tuple[str, dict[int, tuple[str, str]]]:
    """A cfg's text, and which entry or layer each edited line is about."""
    lines = write_cfg(model, calibrated).split("\n")
    owner = {}
    if layers:
        at = lines.index(EMPTY)
        lines[at : at + 1] = [EMPTY.removesuffix(" {}"), *(f"    {quote(n)}: {word}" for n, word in layers.items())]
        owner = {at + i: ("layer", name) for i, name in enumerate(layers, 1)}
    for key, fields in edits.items():
        at = next(i for i, x in enumerate(lines) if x.startswith(f"    {quote(key)}: {{"))
        owner[at] = ("entry", key)
        for name, value in fields.items():
            lines[at] = with_field(lines[at], name, value)
    return "\n".join(lines), owner


def random_fields(chooser: random.Random, entry: Entry, names: tuple[str, ...]) -> Fields:
    """New values for some fields of an entry."""
    found = {}
    for name in names:
        held = getattr(entry, name)
        choices = values(name, "" if held is None or isinstance(held, tuple) else str(held))
        value = chooser.choice(choices)
        channels = len(entry.scale) if isinstance(entry.scale, tuple) else 0
        found[name] = f"[{', '.join([value] * channels)}]" if channels and name in ("min", "max", "scale") else value
    return found


def edited_pairs(model: Model, calibrated: Calibrated) -> Iterator[QuantConfig]:
    """Every pair of fields on every entry, on a third of the entries at a time so that neighbours differ."""
    for first, second in combinations(FIELDS, 2):
        for phase in range(3):
            chooser = random.Random(f"{first} {second} {phase}")
            keys = list(calibrated.entries)[phase::3]
            edits = {k: random_fields(chooser, calibrated.entries[k], (first, second)) for k in keys}
            yield config_of(model, calibrated, edits)


def disagreements(effects: Effects) -> list[str]:
    """Where a cfg says other parameters than the plan has, and where the report says the contrary of either."""
    found = []
    for key in effects.config.edited:
        group = key in effects.model.group
        found += _of_group(effects, key) if group else _of_weight(effects, key.removesuffix(WEIGHT_SUFFIX))
    return found


def _of_group(effects: Effects, key: str) -> Iterator[str]:
    config, target = effects.config, targets.load(effects.config.target)
    entry, edited, measured = config.entries[key], config.edited[key], effects.calibrated.measured[key]
    group = effects.plan.groups[key]
    moved = False
    for form in (group.stored, *group.conversions.values()):
        if form.qparams is None:
            continue
        storage = effects.storage(key, form.precision)
        if form.precision is entry.dtype and not _says(entry, form.qparams):
            yield f"{key} {sorted(edited)}: the cfg says {entry}, the plan has {form.qparams}"
        if form.precision is not entry.dtype and form.qparams.scheme is not storage.scheme:
            yield f"{key} {sorted(edited)}: {form.precision} has no {form.qparams.scheme} on {target.name}"
        usual = activation_params(effects.calibrated.entries[key], frozenset(), storage, measured)
        moved = moved or not usual.same_as(form.qparams)
    told = [(e.field, effects.of(e)) for e in config.edits if e.key == key and e.field not in ("dtype", "precision")]
    if moved is not any(not text.startswith("none") for _, text in told):
        yield f"{key}: its parameters {'changed' if moved else 'are as before'}, but {told}"


def _of_weight(effects: Effects, name: str) -> Iterator[str]:
    entry = effects.config.entries[name + WEIGHT_SUFFIX]
    layer = effects.plan.layers[name]
    held = next((w.qparams for w in layer.weights if w.qparams is not None), None)
    if held is None or entry.scale is None:
        return
    raised = layer.bias is not None and np.any(held.scale > np.asarray(entry.scale, np.float32))
    if not _says(entry, held) and not raised:
        yield f"{name}:weight: the cfg says {entry}, the plan has {held}"


def _says(entry: Entry, p: QParams) -> bool:
    """Whether an entry's numbers are those of ``p``: a list of one number is that number, None is left open."""
    pairs = [(entry.scale, p.scale, np.float32), (entry.zero_point, p.zero_point, np.int32)]
    said = [np.array_equal(np.asarray(x, kind).ravel(), y.ravel()) for x, y, kind in pairs if x is not None]
    return entry.qtype is p.scheme and all(said)

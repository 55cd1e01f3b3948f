"""Every editable field of every entry, and every layer: a change changes the plan, or is said to have no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers_config import PATH, chain, small

from hybridq.config import check, read_cfg, write_cfg
from hybridq.config.write import EMPTY, quote
from hybridq.graph.model import Model
from hybridq.plan.plan import QuantPlan, make_plan
from hybridq.quant.records import FIELDS, Calibrated
from hybridq.report.build_json import report_build
from hybridq.steps.step1 import step1
from hybridq.storage.weights import Weights


def fingerprint(plan: QuantPlan) -> str:
    """Everything a plan decides, as text."""
    with np.printoptions(threshold=10_000_000, precision=17):
        return f"{plan.layers}{plan.groups}"


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


def mutants(model: Model, calibrated: Calibrated) -> Iterator[tuple[str, str, int, str]]:
    """Key, field, line and text of every mutated cfg."""
    text = write_cfg(model, calibrated)
    lines = text.split("\n")
    for key in calibrated.entries:
        at = next(i for i, x in enumerate(lines) if x.startswith(f"    {quote(key)}: {{"))
        for name in FIELDS:
            match = re.search(rf"\b{name}: ([^,}}]+)", lines[at])
            for value in values(name, match[1] if match else ""):
                recorded = getattr(calibrated.entries[key], name)
                if value == str(recorded) or (recorded is None and name == "qtype"):
                    continue  # what step1 chose, though it did not show it
                if match:
                    new = lines[at][: match.start(1)] + value + lines[at][match.end(1) :]
                else:
                    new = lines[at].replace("}", f", {name}: {value}}}", 1)
                yield key, name, at + 1, "\n".join([*lines[:at], new, *lines[at + 1 :]])
    line = next(i for i, x in enumerate(lines, 1) if x == EMPTY) + 1
    for layer in model.layers:
        for word in ("int16", "float32", "int8", "{weight_only: int8}"):
            block = f"customized_quantize_layers:\n    {quote(layer.name)}: {word}"
            yield layer.name, "precision", line, text.replace(EMPTY, block)


def silent(model: Model, calibrated: Calibrated, weights: Weights) -> list[str]:
    """Edits that neither change the plan nor are reported."""
    base = read_cfg(write_cfg(model, calibrated), PATH, model, calibrated)
    plain = make_plan(model, calibrated, base, weights)
    before = fingerprint(plain)
    found = []
    for key, name, line, text in mutants(model, calibrated):
        config, problems = check(text, PATH, model, calibrated)
        if config is None:
            assert any(p.severity == "error" and p.line == line for p in problems), (key, name, problems)
            continue
        plan = make_plan(model, calibrated, config, weights)
        rows = report_build(model, plan, plain, config, (0, 0)).edits
        if not any(r.key == key and r.field == name and r.line == line for r in rows):
            found.append(f"{key} {name}: not among the edits: {rows}")
        elif any(r.effect.startswith("none") or r.before == r.after for r in rows):
            continue  # such as an algorithm that chooses the same numbers
        elif fingerprint(plan) == before:
            found.append(f"{key} {name}: no effect, but said: {rows}")
    return found


def ones(model: Model) -> Weights:
    rng = np.random.default_rng(0)
    weights = {w.tensor: rng.normal(size=w.shape).astype(np.float32) for x in model.layers for w in x.weights}
    return Weights(weights | {x.bias: np.ones(x.weights[0].shape[0], np.float32) for x in model.layers if x.bias})


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_no_edit_is_silent(target: str) -> None:
    assert silent(*small(target), ones(small(target)[0])) == []
    assert silent(*chain(12, target), ones(chain(12, target)[0])) == []


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("name", ["yunet_n", "pfld_ghostone", "squeezenet"])
def test_no_edit_of_a_zoo_model_is_silent(name: str, zoo: ModuleType, tmp_path: Path) -> None:
    held = zoo.load(name)
    feeds = [f for _, f in zip(range(4), held.calibration(), strict=False)]
    state = step1(held.model_path, feeds, tmp_path, algorithm="auto", threads=1).state
    assert silent(state.model, state.calibrated, state.weights) == []

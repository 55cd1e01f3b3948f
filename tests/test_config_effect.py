"""Every editable field of every entry, and every layer: a change changes the plan, or is said to have no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cfg_edits import config_of, disagreements, edited_pairs, values, with_field
from helpers_config import PATH, chain, small

from hybridq.config import check, read_cfg, write_cfg
from hybridq.config.write import EMPTY, quote
from hybridq.graph.model import Model
from hybridq.plan.plan import make_plan
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import FIELDS, Calibrated
from hybridq.report.build_json import report_build
from hybridq.report.effects import Effects, same
from hybridq.steps.step1 import step1
from hybridq.storage.weights import Weights


def is_built_alike(a: QuantPlan, b: QuantPlan) -> bool:
    """Whether two plans build the same model, whatever they say of it."""
    barriers = ({k: x.barrier for k, x in p.boundaries.items() if x.barrier} for p in (a, b))
    return same((a.layers, a.groups, a.roundings), (b.layers, b.groups, b.roundings)) and same(*barriers)


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
                new = with_field(lines[at], name, value)
                yield key, name, at + 1, "\n".join([*lines[:at], new, *lines[at + 1 :]])
    line = next(i for i, x in enumerate(lines, 1) if x == EMPTY) + 1
    for layer in model.layers:
        for word in ("int16", "float32", "int8", "{weight_only: int8}"):
            block = f"customized_quantize_layers:\n    {quote(layer.name)}: {word}"
            yield layer.name, "precision", line, text.replace(EMPTY, block)


def untrue(model: Model, calibrated: Calibrated, weights: Weights) -> list[str]:
    """Edits that neither change what is built nor are reported, and those of which the report says the contrary."""
    base = read_cfg(write_cfg(model, calibrated), PATH, model, calibrated)
    plain = make_plan(model, calibrated, base, weights)
    found = []
    for key, name, line, text in mutants(model, calibrated):
        config, problems = check(text, PATH, model, calibrated)
        if config is None:
            assert any(p.severity == "error" and p.line == line for p in problems), (key, name, problems)
            continue
        plan = make_plan(model, calibrated, config, weights)
        rows = report_build(Effects(model, calibrated, config, weights, plan, plain), (0, 0)).edits
        if [(r.key, r.field, r.line) for r in rows] != [(key, name, line)]:
            found.append(f"{key} {name}: not the edit: {rows}")
        elif rows[0].effect.startswith("none") is not is_built_alike(plan, plain):
            found.append(f"{key} {name} {rows[0].after}: {rows[0].effect}")
    return found


def untrue_pairs(model: Model, calibrated: Calibrated, weights: Weights) -> list[str]:
    """Where the cfg's numbers, the plan's and the report disagree, over edits of two fields of many entries at once."""
    base = read_cfg(write_cfg(model, calibrated), PATH, model, calibrated)
    plain = make_plan(model, calibrated, base, weights)
    found = []
    for config in edited_pairs(model, calibrated):
        plan = make_plan(model, calibrated, config, weights)
        found += disagreements(Effects(model, calibrated, config, weights, plan, plain))
    return found


def ones(model: Model) -> Weights:
    rng = np.random.default_rng(0)
    weights = {w.tensor: rng.normal(size=w.shape).astype(np.float32) for x in model.layers for w in x.weights}
    return Weights(weights | {x.bias: np.ones(x.weights[0].shape[0], np.float32) for x in model.layers if x.bias})


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_no_edit_is_silent(target: str) -> None:
    assert untrue(*small(target), ones(small(target)[0])) == []
    assert untrue(*chain(12, target), ones(chain(12, target)[0])) == []


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_pairs_of_edits(target: str) -> None:
    assert untrue_pairs(*small(target), ones(small(target)[0])) == []


class TestWhatIsVoid:
    """On rknn1 the readers of ``/head/conv2`` are uint8, so it is stored as uint8 whatever its layer is."""

    def effects(self, edits: dict[str, str], key: str = "/head/conv2") -> tuple[Effects, dict[str, str]]:
        model, calibrated = small("rknn1")
        weights = ones(model)
        config = config_of(model, calibrated, {key: edits})
        plain = make_plan(model, calibrated, config_of(model, calibrated, {}), weights)
        plan = make_plan(model, calibrated, config, weights)
        found = Effects(model, calibrated, config, weights, plan, plain)
        return found, {e.field: found.of(e) for e in config.edits}

    def test_numbers_of_another_type_change_nothing_and_say_so(self) -> None:
        found, told = self.effects({"dtype": "int16", "qtype": "dynamic_fixed_point", "fl": "10"})
        stored = found.plan.groups["/head/conv2"].stored.qparams
        assert stored is not None
        assert stored.same_as(found.plain.groups["/head/conv2"].stored.qparams)
        assert found.plan.layers["/head/conv2"].done is Precision.INT16
        void = "none: it counts for int16, and /head/conv2 is stored as uint8"
        assert told == {
            "dtype": "/head/conv2 is int16; /head/conv2 is stored as uint8",
            "qtype": void,
            "fl": void,
        }

    def test_a_range_counts_for_every_type(self) -> None:
        _, told = self.effects({"dtype": "int16", "max": "6"})
        assert told["max"] == "/head/conv2 is stored as uint8 with scale 0.0411765 and zero point 109"

    def test_what_wins_says_what_does_not(self) -> None:
        _, told = self.effects({"min": "-4", "max": "6.2", "scale": "0.04", "zero_point": "100"}, "128")
        assert [n for n, text in told.items() if text.startswith("none")] == ["min", "max"]


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("name", ["yunet_n", "pfld_ghostone", "squeezenet"])
@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_pairs_of_edits_of_a_zoo_model(name: str, target: str, zoo: ModuleType, tmp_path: Path) -> None:
    held = zoo.load(name)
    feeds = [f for _, f in zip(range(4), held.calibration(), strict=False)]
    state = step1(held.model_path, feeds, tmp_path, target=target, algorithm="auto", threads=1).state
    assert untrue_pairs(state.model, state.calibrated, state.weights) == []


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("name", ["yunet_n", "pfld_ghostone", "squeezenet"])
def test_no_edit_of_a_zoo_model_is_silent(name: str, zoo: ModuleType, tmp_path: Path) -> None:
    held = zoo.load(name)
    feeds = [f for _, f in zip(range(4), held.calibration(), strict=False)]
    state = step1(held.model_path, feeds, tmp_path, algorithm="auto", threads=1).state
    assert untrue(state.model, state.calibrated, state.weights) == []

"""The schemas that editors show: valid themselves, and one with what the code accepts, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_config import PATH, small
from jsonschema import Draft202012Validator

from hybridq.config import check, write_cfg
from hybridq.config.document import LAYERS_ALIAS
from hybridq.config.schema import plain
from hybridq.config.schema_words import TOP_KEYS
from hybridq.config.yaml.reader import read
from hybridq.config.yaml.text import source_of
from hybridq.quant.records import FIELDS
from hybridq.storage import state as storage
from hybridq.storage.weights import Weights
from hybridq.targets import names
from hybridq.targets.targets import FOLDER

SCHEMAS = Path(__file__).parents[1] / "schemas"
INVALID = Path(__file__).parent / "cfg" / "invalid"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def errors(name: str, data: object) -> list[str]:
    return [e.message for e in Draft202012Validator(schema(name)).iter_errors(data)]


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda p: p.stem)
def test_each_is_a_schema_that_allows_nothing_else(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(data)
    assert data["additionalProperties"] is False


def test_the_cfg_schema_has_the_keys_of_the_code() -> None:
    cfg = schema("cfg-1")
    assert set(cfg["properties"]) == {*TOP_KEYS, LAYERS_ALIAS}
    assert set(cfg["$defs"]["entry"]["properties"]) == set(FIELDS)
    assert all("description" in p for p in cfg["$defs"]["entry"]["properties"].values())


@pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
def test_what_step1_writes_is_valid(target: str) -> None:
    assert errors("cfg-1", plain(read(source_of(write_cfg(*small(target)), PATH)))) == []


@pytest.mark.parametrize("file", sorted(INVALID.glob("*.cfg")), ids=lambda p: p.stem)
def test_what_the_schema_refuses_is_refused(file: Path) -> None:
    """Of the whole document, whatever is not asked because step1 wrote it so or another value says the same."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        return
    source = source_of(text, PATH)
    tree = read(source)
    if not source.failed and errors("cfg-1", plain(tree)):
        target = next((t for t in ("rknn1", "rknn2") if file.name.startswith(t)), "onnxruntime")
        assert check(text, PATH, *small(target))[0] is None


WORDS = [
    "null",
    "3",
    "-1",
    "0",
    "3.5",
    "1e39",
    "-1e400",
    "1e-45",
    "x",
    "'3'",
    "[]",
    "[1, x]",
    "[[1]]",
    "[0]",
    "{}",
    "{a: 1}",
]
BASE = "format: hybridq.cfg/1\nmodel: {name: small, sha256: " + "9f" * 32 + "}\n"
PLACES = [
    "%s",
    "format: %s\n",
    "format: hybridq.cfg/1\nmodel: %s\n",
    "format: hybridq.cfg/1\nmodel: {name: %s}\n",
    BASE + "target: %s\n",
    BASE + "customized_quantize_layers: %s\n",
    BASE + "customized_quantize_layers: {conv1: %s}\n",
    BASE + "custom_quantize_layers: {conv1: {weight_only: %s}}\n",
    BASE + "quantize_parameters: %s\n",
    BASE + "quantize_parameters: {conv1: %s}\n",
    *(BASE + f"quantize_parameters: {{conv1: {{{name}: %s}}}}\n" for name in FIELDS),
    BASE + "quantize_parameters: {conv1: {scale: [0.5, %s]}}\n",
]


@pytest.mark.parametrize("place", PLACES)
def test_every_value_that_the_schema_refuses_is_told_at_its_line(place: str) -> None:
    """Whatever stands anywhere: an error of the schema is one of ours with a line, and nothing breaks on it."""
    for word in WORDS:
        text = place % word
        source = source_of(text, PATH)
        tree = read(source)
        if source.failed:
            continue
        found, problems = check(text, PATH, *small())
        if errors("cfg-1", plain(tree)):
            told = [p for p in problems if p.severity == "error"]
            assert found is None, text
            assert told, text
            assert all(p.line and p.column and "valid under" not in p.message for p in told)


def test_values_are_judged_by_themselves() -> None:
    """So that what step1 wrote need not be asked about again, and one of two that say the same speaks for both."""
    cfg = schema("cfg-1")
    beside = {"required", "dependentRequired", "dependentSchemas", "minProperties", "maxProperties", "if", "not"}
    assert not beside & set(cfg["$defs"]["entry"])
    assert all(set(cfg["properties"][k]) <= {"description", "type", "additionalProperties"} for k in TOP_KEYS[4:])


def test_jsonschema_is_imported_only_where_a_cfg_is_checked() -> None:
    code = "import sys, hybridq.cli, hybridq.config; assert not [m for m in sys.modules if m.startswith('jsonschema')]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", names())
def test_targets_are_valid(name: str) -> None:
    assert errors("target-1", json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))) == []


def test_model_json_is_valid(tmp_path: Path) -> None:
    model, calibrated = small()
    weights = {w.tensor: np.ones(w.shape, np.float32) for x in model.layers for w in x.weights}
    storage.write_state(tmp_path, storage.State(model, Weights(weights), calibrated, {}, 1))
    assert errors("model-2", json.loads((tmp_path / storage.MODEL).read_text(encoding="utf-8"))) == []

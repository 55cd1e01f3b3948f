"""The schemas that editors show: valid themselves, and one with what the code accepts, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_config import PATH, small
from jsonschema import Draft202012Validator

from hybridq.config import check, write_cfg
from hybridq.config.schema import LAYERS_ALIAS, TOP_KEYS
from hybridq.config.yaml.nodes import Node, Scalar, Sequence
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


def value(node: Node) -> Any:
    """A node as a YAML 1.2 reader gives it to an editor's schema check."""
    if isinstance(node, Sequence):
        return [value(x) for x in node.items]
    if not isinstance(node, Scalar):
        return {k.text: value(v) for k, v in node.pairs}
    if node.quoted:
        return node.text
    try:
        return None if node.is_null else json.loads(node.text)
    except ValueError:
        return node.text


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
    assert errors("cfg-1", value(read(source_of(write_cfg(*small(target)), PATH)))) == []


@pytest.mark.parametrize("file", sorted(INVALID.glob("*.cfg")), ids=lambda p: p.stem)
def test_what_the_schema_refuses_the_code_refuses(file: Path) -> None:
    """The code knows more than the schema, never less: where YAML is sound, a schema error has a problem beside it."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        return
    source = source_of(text, PATH)
    tree = read(source)
    if not source.failed and errors("cfg-1", value(tree)):
        target = next((t for t in ("rknn1", "rknn2") if file.name.startswith(t)), "onnxruntime")
        assert check(text, PATH, *small(target))[0] is None


@pytest.mark.parametrize("name", names())
def test_targets_are_valid(name: str) -> None:
    assert errors("target-1", json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))) == []


def test_model_json_is_valid(tmp_path: Path) -> None:
    model, calibrated = small()
    weights = {w.tensor: np.ones(w.shape, np.float32) for x in model.layers for w in x.weights}
    storage.write_state(tmp_path, storage.State(model, Weights(weights), calibrated, {}, 1))
    assert errors("model-1", json.loads((tmp_path / storage.MODEL).read_text(encoding="utf-8"))) == []

"""What step1 decided and what a search found stand apart: another search begins where the first one began."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers_search import feeds_of, small_model

import hybridq
from hybridq.quant.dtypes import Precision
from hybridq.steps.common import read_config
from hybridq.storage.state import CFG, MODEL, read_state

SEED = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder after a search, and its model.json before."""
    folder = tmp_path_factory.mktemp("searched")
    onnx.save(small_model(SEED), folder / "m.onnx")
    hybridq.step1(folder / "m.onnx", feeds_of(SEED, 8), folder / "build", threads=1)
    before = json.loads((folder / "build" / MODEL).read_text(encoding="utf-8"))
    hybridq.propose(folder / "build", feeds_of(SEED, 8), threads=1)
    return folder / "build", before


def test_a_search_changes_nothing_of_what_step1_recorded(folders: tuple[Path, dict[str, Any]]) -> None:
    folder, before = folders
    after = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    assert after["calibration"] == before["calibration"]
    assert {k: after["weights"][k] for k in ("tensors", "biases", "rounded", "sample")} == {
        k: before["weights"][k] for k in ("tensors", "biases", "rounded", "sample")
    }
    assert "search" not in before
    assert after["search"]["entries"], "this model is one whose ranges or weights a search betters"


def test_what_counts_is_what_the_search_found(folders: tuple[Path, dict[str, Any]]) -> None:
    folder, before = folders
    state = read_state(folder)
    found = json.loads((folder / MODEL).read_text(encoding="utf-8"))["search"]
    assert {k for k, e in state.calibrated.entries.items() if e != state.decided.calibrated.entries[k]} == set(
        found["entries"]
    )
    assert list(state.weights.biases) == list(found["biases"])
    assert list(state.calibrated.rounded) == list(found["rounded"]) == list(state.weights.rounded)
    assert list(state.before_search().weights.biases) == list(before["weights"]["biases"])


def test_another_search_begins_where_the_first_began(folders: tuple[Path, dict[str, Any]]) -> None:
    """The same question has the same answer, and nothing is measured anew."""
    folder, _ = folders
    first = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    hybridq.propose(folder, feeds_of(SEED, 8), threads=1)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == first


@pytest.mark.parametrize("calibrates_again", [False, True])
def test_a_search_keeps_what_a_person_edited(
    folders: tuple[Path, dict[str, Any]], tmp_path: Path, calibrates_again: bool
) -> None:
    """Precisions, parameters and comments; what the search before chose is no edit."""
    folder, cfg = tmp_path / "build", tmp_path / "build" / CFG
    shutil.copytree(folders[0], folder)
    chosen = json.loads((folder / "search.json").read_text(encoding="utf-8"))["chosen"]["layers"]
    mine, other = [x.name for x in read_state(folder).model.layers if x.name not in chosen and not x.float_only][:2]
    hybridq.set(folder, mine, "int16")
    hybridq.set(folder, other, params={"max": "77"})
    cfg.write_text(cfg.read_text(encoding="utf-8") + "# a word of mine\n", encoding="utf-8")
    if calibrates_again:
        hybridq.step1(folders[0].parent / "m.onnx", feeds_of(SEED, 8), folder, threads=1, merge=True)
    found = hybridq.propose(folder, feeds_of(SEED, 8), threads=1)
    assert any("edited by hand stays" in said for said in found.warnings)
    config, _ = read_config(folder, read_state(folder))
    assert config.choices[mine].precision is Precision.INT16
    assert config.entries[other].max == 77
    assert "# a word of mine" in cfg.read_text(encoding="utf-8")
    assert set(config.choices) - {mine} == set(found.layers) - {mine}

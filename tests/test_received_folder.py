"""A folder that somebody sent cannot hurt: names are ours or refused, readers write nothing, files are as written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybridq
from hybridq.errors import StorageError
from hybridq.files.commit import FOLDER, MARK, Committed, is_ours, reading, recover
from hybridq.files.reading import look_at, read_json
from hybridq.files.seal import read_sealed, sealed
from hybridq.steps.common import BUILD, SEARCH, SOURCES, read_config, read_result, read_state
from hybridq.steps.known import known_of, trials

CORPUS = Path(__file__).parent / "damaged"
FOREIGN = [
    "../x",
    "/etc/x",
    "report/../../x",
    "thesis.txt",
    "a/model.json",
    "",
    ".",
    "report\\..\\x",
    "x\0",
    "./model.json/..",
]


def planted(directory: Path, mark: object) -> Path:
    """A commit in ``directory`` that hybridq did not make."""
    new = directory / FOLDER
    new.mkdir(parents=True)
    (new / "model.json").write_text("new")
    (new / MARK).write_text(mark if isinstance(mark, str) else json.dumps(mark))
    return new


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_our_names_are_ours() -> None:
    for name in ("model.json", "report/index.html", "other.onnx", "other.onnx.data", "hybrid.onnx"):
        assert is_ours(name)


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("key", ["files", "remove"])
def test_a_mark_that_names_others_files_is_refused(tmp_path: Path, name: str, key: str) -> None:
    assert not is_ours(name)
    directory = tmp_path / "dir"
    planted(directory, {"files": [], "remove": []} | {key: [name]})
    (tmp_path / "x").write_text("precious")
    (directory / "thesis.txt").write_text("precious")
    before = content(tmp_path)
    with pytest.raises(StorageError, match="hybridq never writes"):
        recover(directory)
    with pytest.raises(StorageError, match="hybridq never writes"), reading(directory):
        pass
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", sorted(p.stem for p in CORPUS.glob("*.mark")))
def test_damaged_and_planted_marks(tmp_path: Path, name: str) -> None:
    """``tests/damaged``: a mark beside what is said of it; nothing changes, and the message names what to remove."""
    new = planted(tmp_path / "dir", (CORPUS / f"{name}.mark").read_text(encoding="utf-8"))
    (tmp_path / "x").write_text("precious")
    (tmp_path / "dir" / "thesis.txt").write_text("precious")
    before = content(tmp_path)
    for look in (lambda: recover(tmp_path / "dir"), lambda: reading(tmp_path / "dir").__enter__()):
        with pytest.raises(StorageError) as told:
            look()
        assert (CORPUS / f"{name}.says").read_text(encoding="utf-8").strip() in str(told.value)
        assert str(new) in str(told.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("depth", [5000, 200_000])
def test_a_mark_of_any_depth_is_told(tmp_path: Path, depth: int) -> None:
    new = planted(tmp_path, "[" * depth)
    with pytest.raises(StorageError) as told:
        recover(tmp_path)
    assert str(new) in str(told.value)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
class TestLinks:
    def test_the_new_folder_is_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / MARK).write_text(json.dumps({"files": [], "remove": ["report"]}))
        (tmp_path / "dir").mkdir()
        (tmp_path / "dir" / FOLDER).symlink_to(tmp_path / "outside")
        with pytest.raises(StorageError, match="is no folder"):
            recover(tmp_path / "dir")
        assert (tmp_path / "outside" / MARK).exists()

    def test_report_leads_outside(self, tmp_path: Path) -> None:
        directory = tmp_path / "dir"
        new = planted(directory, {"files": ["report/index.html"], "remove": []})
        (new / "report").mkdir()
        (new / "report" / "index.html").write_text("new")
        (tmp_path / "outside").mkdir()
        (directory / "report").symlink_to(tmp_path / "outside")
        with pytest.raises(StorageError, match="is a link"):
            recover(directory)
        assert not content(tmp_path / "outside")

    def test_what_is_removed_is_the_link_and_not_what_it_leads_to(self, tmp_path: Path) -> None:
        directory = tmp_path / "dir"
        planted(directory, {"files": ["model.json"], "remove": ["report"]})
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "x").write_text("precious")
        (directory / "report").symlink_to(tmp_path / "outside")
        recover(directory)
        assert (tmp_path / "outside" / "x").exists()
        assert not os.path.lexists(directory / "report")

    def test_a_pipe_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(StorageError, match="a pipe"):
            look_at(tmp_path / "pipe")
        with pytest.raises(StorageError, match="a device"):
            look_at(Path("/dev/zero"))


def test_readers_see_a_marked_commit_and_write_nothing(tmp_path: Path) -> None:
    planted(tmp_path, {"files": ["model.json"], "remove": ["build.json"]})
    for name in ("model.json", "build.json", "weights.data"):
        (tmp_path / name).write_text("old")
    before = content(tmp_path)
    with reading(tmp_path) as view:
        found = {
            n: view.path(n).read_text() for n in ("model.json", "build.json", "weights.data") if view.path(n).exists()
        }
    assert found == {"model.json": "new", "weights.data": "old"}
    assert content(tmp_path) == before
    recover(tmp_path)
    after = {n: p.read_text() for n in found for p in [Committed(tmp_path).path(n)]}
    assert after == found


def test_an_unmarked_commit_does_not_count(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "model.json").write_text("half")
    with reading(tmp_path) as view:
        assert not view.path("model.json").exists()


def test_one_changed_bit_breaks_the_seal(tmp_path: Path) -> None:
    text = json.dumps({"format": "f/1", "b": ["x", None]}, indent=1) + "\n"
    path = tmp_path / "model.json"
    path.write_bytes(sealed(text).encode())
    assert read_sealed(path, ("f/1",), "again")["b"] == ["x", None]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StorageError):
            read_sealed(path, ("f/1",), "again")


def test_json_of_any_depth_is_told(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("[" * 200_000)
    with pytest.raises(StorageError, match="is no JSON"):
        read_json(tmp_path / "f.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def changed(value: Any, draw: st.DrawFn) -> Any:
    """A JSON value of which some part, or all, is another."""
    if not value or not isinstance(value, (dict, list)) or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    made = value.copy()
    made[key] = changed(value[key], draw)
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from([SEARCH, BUILD, "report/report.json", SOURCES]))
def test_what_can_be_made_anew_may_hold_any_json(small_folder: Path, data: st.DataObject, name: str) -> None:
    """A verdict, its plot and an explanation look at these files and are made without what does not fit."""
    build = small_folder / "build"
    path = build / name
    before = path.read_bytes() if path.exists() else None
    whole = json.loads(before or (CORPUS / "search.json").read_bytes())
    try:
        path.write_text(json.dumps(changed(whole, data.draw)), encoding="utf-8")
        state = read_state(build)
        known_of(build, state, read_config(build, state)[0])
        trials(build)
        hybridq.explain(build, state.model.layers[0].name)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


def test_a_search_of_the_right_shape_is_read(small_folder: Path) -> None:
    build = small_folder / "build"
    (build / SEARCH).write_bytes((CORPUS / "search.json").read_bytes())
    try:
        assert trials(build)
        assert read_result(build, SEARCH)
        assert read_result(build, BUILD)
        assert read_result(build / "report", "report.json")
    finally:
        (build / SEARCH).unlink()

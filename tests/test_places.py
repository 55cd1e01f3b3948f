"""A place that cannot be written to is refused before any work is done for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_cli import small_model

import hybridq
from hybridq.errors import StorageError
from hybridq.files.place import need_file, need_folder
from hybridq.graph import runtime

FEEDS = [{"image": np.full((1, 3, 8, 8), i / 4, np.float32)} for i in range(4)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    onnx.save(small_model(), folder / "m.onnx")
    hybridq.step1(folder / "m.onnx", FEEDS, folder / "build", threads=1)
    hybridq.step2(folder / "build", threads=1)
    return folder


def wrong_places(folder: Path) -> dict[str, Path]:
    """Folders that cannot be."""
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to(folder / "nowhere")
    names = {"a file": "file", "in a file": "file/in/it", "a dangling link": "link", "a long name": "n" * 300}
    return {told: folder / name for told, name in names.items()}


Command = Callable[[Path, Path], Any]
COMMANDS: dict[str, Command] = {
    "step1": lambda at, out: hybridq.step1(at / "m.onnx", FEEDS, out),
    "auto": lambda at, out: hybridq.auto(at / "m.onnx", FEEDS, out),
    "step2": lambda at, out: hybridq.step2(at / "build", out / "m.onnx"),
    "step4": lambda at, out: hybridq.step4(at / "build", "json", out / "a.json"),
    "compare": lambda at, out: hybridq.compare_models(at / "m.onnx", at / "build" / "hybrid.onnx", FEEDS, out=out),
    "bundle": lambda at, out: hybridq.bundle(at / "build", out / "b.zip"),
    "demo": lambda at, out: hybridq.run_demo(out),
}


@pytest.mark.parametrize("told", ["a file", "in a file", "a dangling link", "a long name", "read only"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_work_is_done_for_a_place_that_cannot_be_written(
    name: str, told: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = wrong_places(tmp_path)
    if told == "read only":
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr(runtime, "session", worked)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError) as caught:
        COMMANDS[name](built, places.get(told, tmp_path / "new" / "deep"))
    assert str(tmp_path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_results_that_could_not_be_kept_in_the_folder_are_not_measured(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != built / "build")
    for step in (hybridq.step2, hybridq.step3, hybridq.step4):
        with pytest.raises(StorageError, match="cannot be written to"):
            step(built / "build", *(["json"] if step is hybridq.step4 else []))


def test_what_is_not_there_yet_can_be_made(tmp_path: Path) -> None:
    need_folder(tmp_path)
    need_folder(tmp_path / "new" / "and" / "deep")
    need_file(tmp_path / "new" / "file.txt")
    (tmp_path / "link").symlink_to(tmp_path)
    need_folder(tmp_path / "link" / "new")
    with pytest.raises(StorageError, match="a folder stands where a file is expected"):
        need_file(tmp_path)

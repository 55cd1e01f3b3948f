"""Whatever interrupts a writer, the folder holds one whole state: the old one or the new one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybridq.errors import StorageError
from hybridq.files import commit as files_commit
from hybridq.files.commit import FOLDER, MARK, commit, recover

posix = pytest.mark.skipif(os.name == "nt", reason="kill -9 and flock are POSIX")

FILES = ("model.json", "weights.data", "model.quantization.cfg", "report/d.html", "report/e.csv")
RESULT = "result.onnx"

WRITE = f"""
import os, signal, sys
from pathlib import Path
from hybridq.files.commit import commit
FILES = {FILES!r}
def write(directory, tag):
    with commit(directory, remove=({RESULT!r},)) as new:
        for name in FILES:
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_text(tag * 2000)
"""

# One process a step: it kills itself just before its n-th touch of the file system.
EVERY = (
    WRITE
    + """
os.fsync = lambda descriptor: None  # what syncs matters to power cuts, not to kill -9
TOUCHES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir", "os.scandir", "shutil.rmtree")
def run(directory, last):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in TOUCHES:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    write(directory, "new")
    os._exit(0)
for directory in sorted(Path(sys.argv[1]).iterdir()):
    pid = os.fork() or run(directory, int(directory.name))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(directory.name, status, flush=True)
    if status == 0:
        break
"""
)

MANY = (
    WRITE
    + """
directory = Path(sys.argv[1])
print("ready", flush=True)
for i in range(10**6):
    write(directory, f"{i:03d}")
"""
)


def state(directory: Path) -> str:
    """The one tag that every file holds; fails for a mix."""
    texts = {(directory / n).read_text() for n in FILES}
    assert len(texts) == 1, "files of two states"
    (text,) = texts
    tag = text[:3]
    assert text == tag * 2000, "a file cut short"
    return tag


def prepare(directory: Path) -> None:
    (directory / "report").mkdir(parents=True)
    for name in FILES:
        (directory / name).write_text("old" * 2000)
    (directory / RESULT).write_text("of the old state")


@posix
def test_kill_at_every_step(tmp_path: Path) -> None:
    for step in range(1, 150):
        prepare(tmp_path / f"{step:03d}")
    found = subprocess.run([sys.executable, "-c", EVERY, tmp_path], capture_output=True, text=True, check=True)
    ends = [line.split() for line in found.stdout.splitlines()]
    assert {status for _, status in ends[:-1]} == {str(-signal.SIGKILL)}
    assert ends[-1][1] == "0", "the writer has more steps than were tried"
    outcomes = []
    for name, _ in ends:
        directory = tmp_path / name
        recover(directory)
        outcomes.append(state(directory))
        assert (directory / RESULT).exists() == (outcomes[-1] == "old")
        assert sorted(p.name for p in directory.iterdir() if p.name != RESULT) == [
            "model.json",
            "model.quantization.cfg",
            "report",
            "weights.data",
        ]
    assert outcomes == sorted(outcomes, reverse=True), "new states never turn old again"
    assert {"old", "new"} == set(outcomes)


@posix
def test_kill_at_any_moment(tmp_path: Path) -> None:
    pick = random.Random(0)
    prepare(tmp_path)
    for _ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", MANY, tmp_path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(pick.uniform(0, 0.05))
        writer.kill()
        writer.communicate()
        recover(tmp_path)
        state(tmp_path)
        assert not (tmp_path / FOLDER).exists()


@posix
def test_of_two_writers_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_commit, "PATIENCE", 0.1)
    with commit(tmp_path) as new:
        (new / "build.json").write_text("first")
        with pytest.raises(StorageError, match="another hybridq command"), commit(tmp_path):
            pass
        with pytest.raises(StorageError, match="another hybridq command"):
            recover(tmp_path)
        assert (new / "build.json").exists()
    assert (tmp_path / "build.json").read_text() == "first"


def test_an_exception_changes_nothing(tmp_path: Path) -> None:
    prepare(tmp_path)
    with pytest.raises(KeyError), commit(tmp_path, remove=(RESULT,)) as new:
        (new / "model.json").write_text({}["half"])
    assert state(tmp_path) == "old"
    assert (tmp_path / RESULT).exists()
    assert not (tmp_path / FOLDER).exists()


def test_removes_files_and_folders_but_not_what_it_writes(tmp_path: Path) -> None:
    prepare(tmp_path)
    with commit(tmp_path, remove=("report", "model.json", "search.json")) as new:
        (new / "model.json").write_text("kept")
    assert not (tmp_path / "report").exists()
    assert (tmp_path / "model.json").read_text() == "kept"
    with commit(tmp_path, remove=("report",)) as new:
        (new / "report").mkdir()
        (new / "report" / "f").write_text("kept")
    assert (tmp_path / "report" / "f").read_text() == "kept"


def test_recovering_twice_is_recovering_once(tmp_path: Path) -> None:
    new = tmp_path / FOLDER
    new.mkdir()
    (tmp_path / "model.json").write_text("moved already")
    (new / "weights.data").write_text("not yet")
    (new / MARK).write_text(json.dumps({"files": ["model.json", "weights.data"], "remove": ["report"]}))
    recover(tmp_path)
    recover(tmp_path)
    found = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert found == {"model.json": "moved already", "weights.data": "not yet"}


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make this folder"), commit(tmp_path / "file"):
        pass


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "build.json" / "inner").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot finish an interrupted write"), commit(tmp_path) as new:
        (new / "build.json").write_text("x")
    (tmp_path / "build.json" / "inner").rmdir()
    (tmp_path / "build.json").rmdir()
    recover(tmp_path)
    assert (tmp_path / "build.json").read_text() == "x"


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"), commit(tmp_path) as new:
        (new / "model.json").write_text("new")
    monkeypatch.undo()
    recover(tmp_path)
    assert state(tmp_path) == "old"


def test_a_commit_reads_its_own_folder_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_commit, "PATIENCE", 0.1)
    prepare(tmp_path)
    with commit(tmp_path) as new:
        (new / "model.json").write_text("half")
        with files_commit.reading(tmp_path) as view:
            assert view.path("model.json").read_text() == "old" * 2000
    with files_commit.reading(tmp_path) as view:
        assert view.path("model.json").read_text() == "half"

"""Several commands at one folder at the same time: each waits, and none loses another's edits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest
from helpers_cli import Run, snapshot

from hybridq.files import commit as files_commit
from hybridq.steps import editing

if sys.platform != "win32":
    import fcntl


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
class TestAtTheSameTime:
    """Commands that edit one folder at once: each waits for the others, and no edit is lost."""

    def test_every_edit_gets_through(self, run: Run, folder: Path) -> None:
        names = [row["name"] for row in run("list", "build", "--json").json]
        code = "from hybridq.cli import main; main()"
        commands = [
            [sys.executable, "-c", code, "set", "build", n, "--param", f"max={i + 50}"] for i, n in enumerate(names)
        ]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        running = [subprocess.Popen(c, cwd=folder, **pipes) for c in commands]
        said = [p.communicate()[1] for p in running]
        assert [p.returncode for p in running] == [0] * len(names), said
        found = {e["key"]: e["after"] for e in run("diff", "build", "--json").json}
        assert found == {n: f"{i + 50}.0" for i, n in enumerate(names)}

    def test_edits_made_meanwhile_stay(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between reading and writing another command writes: the edit is made again, on top."""
        build, whole = folder / "build", editing.config.set_layers
        monkeypatch.setattr(editing.config, "set_layers", lambda *args: (other(), whole(*args))[1])

        def other() -> None:
            monkeypatch.setattr(editing.config, "set_layers", whole)
            editing.set_precision(build, "head", "int16")

        editing.set_precision(build, "relu", "float32")
        assert {e.key: e.after for e in editing.diff(build)} == {"relu": "float32", "logits": "int16"}

    @pytest.mark.parametrize("seconds", [0.3, None])
    def test_waits_and_then_says_so(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None
    ) -> None:
        monkeypatch.setattr(files_commit, "PATIENCE", 5.0 if seconds else 0.2)
        before = snapshot(folder)
        descriptor = os.open("build", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Path("build/.hybridq-new").mkdir()  # as while step2 writes
        if seconds:
            Timer(seconds, os.close, [descriptor]).start()
            assert run("set", "build", "head", "int16").code == 0
            return
        for words in (["set", "build", "head", "int16"], ["list", "build"], ["diff", "build"]):
            done = run(*words)
            assert (done.code, done.out) == (1, "")
            assert done.err == (
                "build: another hybridq command is writing this folder, for 0.2 s now\n"
                "  Try again when it is done.\n1 problem found; nothing was written.\n"
            )
        os.close(descriptor)
        assert snapshot(folder) == before

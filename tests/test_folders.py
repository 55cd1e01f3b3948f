"""``upgrade`` and ``bundle``: nothing is lost, nothing private leaves; the version as a report of a fault needs it."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import version_1
from helpers_cli import CFG, Run, edit, snapshot

import hybridq

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A folder after all three steps."""
    shutil.copytree(small_folder, tmp_path / "given")
    return tmp_path / "given"


def earlier(build: Path) -> None:
    """Make of a folder what the first release left: no digest, none of the fields that came later."""
    data = version_1.restated(json.loads((build / "model.json").read_text(encoding="utf-8")))
    for name in ("rounded", "equalized", "as_given"):
        del data["calibration"][name]
    for measured in data["calibration"]["measured"].values():
        del measured["unbounded"]
    version_1.write(build / "model.json", data, seal=False)


def test_a_folder_of_the_first_release_is_refused_with_the_remedy_and_upgraded(folder: Path, run: Run) -> None:
    build = folder / "build"
    edit(folder, '{"conv": float32}')
    assert run("step2", build).code == 0
    before, cfg = (build / "hybrid.onnx").read_bytes(), (build / CFG).read_bytes()
    earlier(build)
    refused = run("step2", build)
    assert refused.code == 1
    assert "hybridq upgrade" in refused.err
    done = run("upgrade", build, "--json")
    assert done.code == 0, done.err
    assert done.json["changed"]
    assert done.json["edits"] == 1
    assert not (build / "hybrid.onnx").exists()  # it was made from what stood there before
    assert (build / CFG).read_bytes() == cfg
    assert run("step2", build).code == 0
    assert (build / "hybrid.onnx").read_bytes() == before


def test_a_folder_of_today_stays_as_it_is(folder: Path, run: Run) -> None:
    before = snapshot(folder)
    assert not run("upgrade", folder / "build", "--json").json["changed"]
    assert snapshot(folder) == before


@pytest.mark.parametrize("harm", ["weights", "missing field", "cfg", "edited"])
def test_a_damaged_folder_is_not_upgraded(folder: Path, run: Run, harm: str) -> None:
    build = folder / "build"
    if harm != "edited":
        earlier(build)
    if harm == "weights":
        data = bytearray((build / "weights.data").read_bytes())
        data[3] ^= 1
        (build / "weights.data").write_bytes(data)
    elif harm == "cfg":
        edit(folder, '{"nowhere": float32}')
    else:
        text = (build / "model.json").read_text(encoding="utf-8")
        (build / "model.json").write_text(text.replace('"target"', '"targets"'), encoding="utf-8")
    before = snapshot(folder)
    done = run("upgrade", build)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert snapshot(folder) == before


def test_a_bundle_has_nothing_private(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("secret_score.py").write_text("def mine(outputs):\n    return 1.0\n")
    assert run("step3", "build", "--dataset", "dataset.txt", "--metric", "secret_score.py:mine").code == 0
    done = run("bundle", "build", "--json")
    assert done.code == 0, done.err
    with zipfile.ZipFile("build-bundle.zip") as archive:
        assert archive.namelist() == done.json["names"]
        assert {"model.json", CFG, "build.json", "report/report.json", "versions.json"} <= set(archive.namelist())
        text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    private = [str(folder), str(Path.home()), "dataset.txt", "small.onnx", "0.png", platform.node()]
    private += [name for name in (getpass.getuser(),) if len(name) > 5]
    assert not [word for word in private if word in text]
    assert "weights.data" not in done.json["names"]


def test_a_bundle_is_the_same_every_time_and_replaces_nothing(folder: Path, run: Run) -> None:
    first = hybridq.bundle(folder / "build", folder / "one.zip").path.read_bytes()
    assert hybridq.bundle(folder / "build", folder / "two.zip").path.read_bytes() == first
    again = run("bundle", folder / "build", "-o", folder / "one.zip")
    assert again.code == 1
    assert "is there already" in again.err
    assert (folder / "one.zip").read_bytes() == first
    assert run("bundle", folder, "-o", folder / "three.zip").code == 1  # no folder of ours
    assert not (folder / "three.zip").exists()


def test_weights_are_in_a_bundle_that_asks_for_them(folder: Path) -> None:
    found = hybridq.bundle(folder / "build", folder / "all.zip", weights=True)
    with zipfile.ZipFile(found.path) as archive:
        assert archive.read("weights.data") == (folder / "build" / "weights.data").read_bytes()


def test_the_version_is_told_in_words_and_as_json(run: Run) -> None:
    assert run("--version").out == f"hybridq, version {hybridq.__version__}\n"
    for words in (("--version", "--json"), ("--json", "--version")):
        told = run(*words).json
        assert told["hybridq"] == hybridq.__version__
        assert {"python", "numpy", "onnx", "onnxruntime", "protobuf", "system", "machine"} <= set(told)
    assert run("--json", "list", "build").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such shells")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    def ask(**words: str) -> str:
        code = "from hybridq.cli import main; main(prog_name='hybridq')"
        environment = {**os.environ, **words}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False).stdout

    if shell != "bash" or shutil.which("bash"):  # click asks bash for its version
        assert "_HYBRIDQ_COMPLETE" in ask(_HYBRIDQ_COMPLETE=f"{shell}_source")
    wanted = {"COMP_WORDS": "hybridq st", "COMP_CWORD": "st" if shell == "fish" else "1"}
    assert "step3" in ask(_HYBRIDQ_COMPLETE=f"{shell}_complete", **wanted)
    wanted = {"COMP_WORDS": "hybridq step1 --tar", "COMP_CWORD": "--tar" if shell == "fish" else "2"}
    assert "--target" in ask(_HYBRIDQ_COMPLETE=f"{shell}_complete", **wanted)


def test_templates_ask_for_the_bundle_and_the_versions() -> None:
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "fault.yml").read_text(encoding="utf-8")
    assert "hybridq bundle DIR" in text
    assert "hybridq --version --json" in text


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {hybridq.__version__}\n" in text

"""The package as it reaches a user: a wheel in an empty environment, and an editable install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
LARGEST = 400_000_000  # bytes that an empty environment may grow by


def run(*command: object, cwd: Path) -> str:
    """Run a command without this process's own paths; its output, or a failure with all it said."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder: Path) -> Path:
    """A fresh environment; the folder of its programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project without anything that was built or cached."""
    folder = tmp_path_factory.mktemp("source") / "hybridq"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "dist", "work", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
    )
    shutil.copytree(ROOT, folder, symlinks=True, ignore=ignored)
    shutil.rmtree(folder / "build", ignore_errors=True)  # what a build left; hybridq/build is a room of the package
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel alone."""
    folder = tmp_path_factory.mktemp("wheel")
    programs = environment(folder / "venv")
    run(programs / "python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    run(programs / "python", "-m", "pip", "install", "-q", wheel, cwd=folder)
    return programs


def test_the_wheel_holds_everything_and_nothing_else(installed: Path) -> None:
    (wheel,) = installed.parents[1].glob("*.whl")
    assert "py3-none-any" in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, kind in (
        ("schemas", "schemas/*.json"),
        ("hybridq", "hybridq/**/*.py"),
        ("targets", "hybridq/**/*.json"),
    ):
        wanted = {p.relative_to(ROOT).as_posix() for p in ROOT.glob(kind)}
        missing = {n for n in wanted if n not in names and f"hybridq/{n}" not in names}
        assert wanted, folder
        assert not missing
    assert {
        "hybridq/py.typed",
        "hybridq/demo/model.onnx",
        "hybridq/demo/plain.onnx",
        "hybridq/demo/digits.npz",
    } <= names
    assert all(n.startswith(("hybridq/", "hybridq-")) for n in names)
    assert not any("__pycache__" in n for n in names)


def test_it_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "hybridq, version" in run(installed / "hybridq", "--version", cwd=tmp_path)
    said = run(installed / "hybridq", "demo", "-o", "shown", "--threads", "1", cwd=tmp_path)
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in said.splitlines() if "│" in line}
    assert len(rows) == 6
    for detector in ("", "plain, "):
        assert float(rows[f"{detector}float32"]) > 0.93
        assert float(rows[f"{detector}all uint8"]) < 0.05
        assert float(rows[f"{detector}hybrid"]) > float(rows[f"{detector}float32"]) - 0.03
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"│ {name:<16} │ {rows[name][:3]}" in readme for name in rows), "README.md shows other figures"
    assert (tmp_path / "shown" / "build" / "report" / "index.html").is_file()
    assert not list(tmp_path.glob("shown/**/.hybridq-new"))


def test_schemas_are_inside(installed: Path, tmp_path: Path) -> None:
    code = "from importlib.resources import files; print(*(p.name for p in (files('hybridq') / 'schemas').iterdir()))"
    found = run(installed / "python", "-c", code, cwd=tmp_path).split()
    assert sorted(found) == sorted(p.name for p in (ROOT / "schemas").iterdir())


def test_the_environment_stays_small(installed: Path, tmp_path: Path) -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(installed / "python", "-c", code, cwd=tmp_path).strip())
    assert size(packages) < LARGEST
    listed = run(installed / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    assert not any(line.startswith(("torch", "matplotlib", "scikit", "scipy")) for line in listed.splitlines())


def test_an_editable_install_works(source: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv")
    run(programs / "python", "-m", "pip", "install", "-q", "-e", source, cwd=tmp_path)
    code = (
        "import json; from importlib.resources import files; import hybridq, hybridq.demo as d\n"
        "print(hybridq.__file__); print(d.model_path().stat().st_size)\n"
        "[json.loads(p.read_text()) for p in (files('hybridq') / 'schemas').iterdir()]"
    )
    where = run(programs / "python", "-c", code, cwd=tmp_path).splitlines()[0]
    assert Path(where).resolve().is_relative_to(source.resolve())
    assert "hybridq, version" in run(programs / "hybridq", "--version", cwd=tmp_path)

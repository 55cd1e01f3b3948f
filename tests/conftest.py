"""Fixtures that several test files share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from helpers_cli import RANDOM, Done, Run, small_model
from hypothesis import settings
from PIL import Image

from hybridq.cli import main

settings.register_profile("ci", derandomize=True, deadline=None)  # a landing must not hang on the luck of new examples
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every file's RANDOM anew: what a test draws does not depend on which tests ran before it."""
    for module in list(sys.modules.values()):
        stream = vars(module).get("RANDOM")
        if isinstance(stream, np.random.Generator):
            stream.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """The model zoo's loader, from $HYBRIDQ_ZOO or beside the checkout; skips where it is absent."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "zoo"
    path = Path(os.environ.get("HYBRIDQ_ZOO", default)) / "zoo.py"
    spec = importlib.util.spec_from_file_location("zoo", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        pytest.skip("the model zoo is absent")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; anything but a clean exit fails the test with its traceback."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: object) -> Done:
        arguments = [str(word) for word in words]
        with pytest.raises(SystemExit) as exit_:
            main(arguments, prog_name="hybridq")
        captured = capsys.readouterr()
        return Done(int(exit_.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``small.onnx``, eight pictures, ``dataset.txt`` and a finished ``build``."""
    folder = tmp_path_factory.mktemp("given")
    onnx.save(small_model(), folder / "small.onnx")
    for i in range(8):
        Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "dataset.txt").write_text("".join(f"{i}.png\n" for i in range(8)))
    step1 = ["step1", "small.onnx", "--dataset", "dataset.txt", "-o", "build", "--std", "255"]
    for words in (step1, ["step2", "build"], ["step3", "build"]):
        code = "from hybridq.cli import main; main()"
        subprocess.run([sys.executable, "-c", code, *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``small_folder`` to work in, the current folder."""
    shutil.copytree(small_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path

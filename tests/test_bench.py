"""``python -m bench`` tells what it measured, and what it left out and why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hybridq

ROOT = Path(__file__).resolve().parents[1]


def bench(*words: str) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True).stdout


@pytest.mark.slow
def test_a_tool_that_is_here_gets_a_row_and_one_that_is_not_is_told() -> None:
    told = bench("--models", "tokens", "--tools", "onnxruntime,NNCF")
    (score, size) = re.findall(r"^\| onnxruntime, MinMax \| ([\d.]+) \| (\d+) \|", told, re.M)[0]
    assert 0.8 < float(score) < 0.95  # float32: 0.895
    assert int(size) < 551
    assert "Left out: NNCF (no environment nncf)." in told


ROW = r"^\| squeezenet \| ONNX Runtime [\d.]+ \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \| \*{0,2}([\d.]+)\*{0,2} \|"


@pytest.mark.slow
@pytest.mark.zoo
def test_an_engine_has_a_row_with_float_plain_and_choice(zoo: ModuleType, tmp_path: Path) -> None:
    model = zoo.load("squeezenet")
    feeds = [feed for _, feed in zip(range(4), model.calibration(), strict=False)]
    for kind in ("auto", "plain"):  # made by hand: no search for this
        hybridq.step1(model.model_path, feeds, tmp_path / f"squeezenet-{kind}", weights_repair="none", threads=1)
        hybridq.step2(tmp_path / f"squeezenet-{kind}")
    folder = Path(zoo.__file__ or "").parent
    words = ["--zoo", str(folder), "--builds", str(tmp_path), "--only", "squeezenet", "--engines", "onnxruntime"]
    command = [sys.executable, "-m", "bench.engines", *words]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    row = re.findall(ROW, told, re.M)
    given, plain, choice = map(float, row[-1])
    assert given == 1.0
    assert 0.8 < plain <= 1.0
    assert 0.8 < choice <= 1.0
    timed = subprocess.run([*command, "--speeds"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    assert [row[:3] for row in re.findall(ROW, timed, re.M)] == [row[:3] for row in re.findall(ROW, told, re.M)]

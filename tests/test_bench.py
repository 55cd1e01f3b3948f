"""``python -m bench`` tells what it measured, and what it left out and why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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

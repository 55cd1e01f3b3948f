"""The options of calibration from the command line: what they mean for the cfg that comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers_cli import CFG, Run


def range_of(build: Path, tensor: str) -> tuple[float, float]:
    found = re.search(rf'(?m)^    "{tensor}": .*?min: (\S+), max: ([^,}}]+)', (build / CFG).read_text(encoding="utf-8"))
    assert found is not None
    return float(found[1]), float(found[2])


@pytest.mark.usefixtures("folder")
class TestDataFree:
    def test_mean_and_std_give_the_range_of_a_picture(self, run: Run) -> None:
        done = run("step1", "small.onnx", "--data-free", "--mean", "127.5", "--std", "64", "-o", "free")
        assert done.code == 0
        assert range_of(Path("free"), "image") == pytest.approx((-127.5 / 64, 127.5 / 64))
        assert "'image' is taken to lie in [-1.992, 1.992]" in done.out

    def test_a_mean_for_an_input_that_is_not_there_is_wrong(self, run: Run) -> None:
        done = run("step1", "small.onnx", "--data-free", "--mean", "picture=1", "-o", "free")
        assert done.code == 1
        assert "no input 'picture'" in done.err
        assert not Path("free", CFG).exists()

    def test_it_builds(self, run: Run) -> None:
        assert run("step1", "small.onnx", "--data-free", "--std", "255", "-o", "free").code == 0
        assert run("step2", "free").code == 0

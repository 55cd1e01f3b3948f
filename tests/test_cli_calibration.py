"""The options of calibration from the command line: what they mean for the cfg that comes out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import CFG, Run

from hybridq.cli import step_commands
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerDefault
from hybridq.steps.common import read_state


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


@pytest.mark.usefixtures("folder")
class TestWeightOnly:
    WORDS = ("step1", "small.onnx", "--dataset", "dataset.txt", "--std", "255", "-o", "new")

    @pytest.mark.parametrize(("bits", "least"), [("int8", 30.0), ("int16", 70.0)])
    def test_weights_shrink_and_everything_is_computed_in_float(self, run: Run, bits: str, least: float) -> None:
        assert run(*self.WORDS, "--weight-only", bits).code == 0
        layers = run("list", "new", "--json").json
        assert {x["name"]: x["weight_only"] for x in layers if x["weight_only"]} == {"relu": bits, "logits": bits}
        assert {x["precision"] for x in layers} == {"float32"}
        assert run("step2", "new").code == 0
        stored = {t.data_type for t in onnx.load("new/hybrid.onnx").graph.initializer if np.prod(t.dims) >= 32}
        assert stored == {onnx.TensorProto.INT8 if bits == "int8" else onnx.TensorProto.INT16}
        report = run("step3", "new", "--json").json
        assert report["outputs"][0]["sqnr_db"] > least

    def test_what_step1_wrote_is_no_edit(self, run: Run) -> None:
        assert run(*self.WORDS, "--weight-only", "int8").code == 0
        assert run(*self.WORDS, "--weight-only", "int8").code == 0, "an unedited cfg may be overwritten"
        assert run("unset", "new", "logits").code == 0
        assert run(*self.WORDS).code == 1

    def test_a_layer_at_a_time_in_the_cfg(self, run: Run) -> None:
        assert run("set", "build", "logits", "weight_only:int16").code == 0
        assert '"logits": {weight_only: int16}' in Path("build", CFG).read_text(encoding="utf-8")
        assert run("step2", "build").code == 0


@pytest.mark.usefixtures("folder")
def test_step1_says_what_layers_have_where_none_has_the_targets_precision() -> None:
    state = read_state(Path("build"))
    names = [x.name for x in state.model.layers]
    alone = LayerDefault(Precision.FLOAT32, "", Precision.INT16)
    layers = dict.fromkeys(names[1:], alone) | {names[0]: LayerDefault(Precision.FLOAT32)}
    for held, told in ((layers, f"{len(names) - 1} weights alone in int16, 1 float32"), ({}, "uint8")):
        calibrated = replace(state.calibrated, default=Precision.UINT8, layers=held)
        assert step_commands._defaults(replace(state, calibrated=calibrated)) == told

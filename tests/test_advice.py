"""Every line that is advised works as printed, and asks again for what was asked before."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from helpers_graphs import case_of, given, normal
from random_graphs import random_case

import hybridq
from hybridq import targets
from hybridq.cli import main
from hybridq.cli.step1_flags import numbers
from hybridq.config.names import Names
from hybridq.config.selectors import select
from hybridq.errors import ConfigError
from hybridq.linting import lint
from hybridq.report.words import without
from hybridq.steps.common import read_config, read_state
from hybridq.steps.known import _beside, known_of, step1_flags
from hybridq.steps.options.as_typed import ONCE, PLACES, said
from hybridq.steps.options.comparison import ComparisonOptions
from hybridq.steps.options.proposal import ProposalOptions
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.options.validation import Checked, Flag, Number, OneWord, Option, SeveralNames, SeveralWords, asked

OWN: dict[str, Any] = {
    "size": ("480x640",),
    "state": (("h=hn", "c=cn"),),
    "min_sqnr": (30.0, "worst:12", [30.0, "worst:12"]),
    "metric": ("boxes:yolov8", "my score.py:f"),
    "profile": ("board.txt",),
    "draw": ("mask",),
    "target": ("rknn2",),
    "runtime": ("onnxruntime",),
}


def values(one: Option) -> list[Any]:
    """Some values of an option, each other than its default."""
    if one.name in OWN:
        return list(OWN[one.name])
    match one.kind:
        case Flag():
            return [True]
        case OneWord(words=words):
            return [w for w in words if w != one.default]
        case SeveralWords(enum=enum):
            return [[str(next(iter(enum)))]]
        case SeveralNames():
            return [("a b", "c")]
        case Number(low=low, high=high, whole=whole):
            least, most = max(low, 0), min(high, 1000.0)
            middle = (least + most) / 2
            return [int(middle) if whole else middle]
    return []


CASES = [
    pytest.param(command, options, one.name, value, id=f"{command}-{one.name}-{i}")
    for command, options in (("step1", Step1Options), ("auto", ProposalOptions), ("step3", ComparisonOptions))
    for one in asked(options)
    if one.name not in {*PLACES, *ONCE, "mean", "std"}
    for i, value in enumerate(values(one))
]


@pytest.mark.parametrize(("command", "options", "name", "value"), CASES)
def test_options_are_read_back_as_they_were_given(command: str, options: type[Checked], name: str, value: Any) -> None:
    beside = {"percentile": {"algorithm": "percentile"}, "momentum": {"algorithm": "moving_average"}}.get(name, {})
    beside = {"max_drop": {"metric": "agreement"}}.get(name, beside)
    one = options(**{name: value}, **beside)
    words = said(one)
    places = {"step1": ["m.onnx", "-o", "b"], "auto": ["m.onnx", "-o", "b"], "step3": ["b"]}[command]
    line = shlex.split(shlex.join([*places, *words]))
    found = (
        main.commands[command].make_context(command, line, parent=click.Context(main, **main.context_settings)).params
    )
    again = options(**_python(share_of(found, options)))
    assert said(again) == words
    assert name.replace("_", "-") in " ".join(words)


def share_of(given: dict[str, Any], options: type[Checked]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k in {one.name for one in asked(options)}}


def _python(given: dict[str, Any]) -> dict[str, Any]:
    """What click made of a line, as Python would say it: mean and std may be one text or several."""
    return given | {n: numbers(given[n], n) for n in ("mean", "std") if n in given}


def test_an_option_is_left_out_with_all_that_stands_behind_it() -> None:
    words = ("--mean", "1,2", "--outputs", "a,b", "--merge", "--std", "3")
    assert without(words, "--outputs", "--merge") == ("--mean", "1,2", "--std", "3")


# -- real folders --------------------------------------------------------------------------------------------------

SIDE = 24


def detector() -> onnx.ModelProto:
    """Boxes in pixels beside scores in one tensor, as a YOLOv8 has them, behind a layer that 8 bits harm."""
    boxes = 4 * SIDE * SIDE
    wild = normal(8, 3, 3, 3)
    wild[2] *= 40
    nodes: list[tuple[Any, ...]] = [
        ("Conv", "x w", "c", {"pads": [1] * 4}),
        ("Relu", "c", "r"),
        ("Conv", "r v", "d", {"pads": [1] * 4}),
        ("Sigmoid", "d", "s"),
        ("Mul", "d s", "e"),
        ("Conv", "e u", "f"),
        ("Reshape", "f to", "g"),
        ("Slice", "g zero four one", "corners"),
        ("Slice", "g four six one", "logits"),
        ("Sigmoid", "corners", "share"),
        ("Mul", "share pixels", "boxes"),
        ("Sigmoid", "logits", "scores"),
        ("Concat", "boxes scores", "y", {"axis": 1}),
    ]
    tensors = {"w": wild, "v": normal(8, 8, 3, 3), "u": normal(6, 8, 1, 1), "pixels": np.float32(boxes)}
    tensors |= {"to": np.array([1, 6, -1]), "zero": np.array([0]), "four": np.array([4]), "six": np.array([6])}
    tensors |= {"one": np.array([1])}
    return given(nodes, tensors, ["y"], (1, 3, SIDE, SIDE))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(detector(), "m.onnx")
    random = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(9):
            np.save(folder / f"{i}.npy", random.uniform(0, 255, (1, 3, SIDE, SIDE)).astype(np.float32))
    return tmp_path


def run(line: str) -> Any:
    done = CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done


def advised(folder: str) -> list[str]:
    """The commands in a folder's report."""
    held = json.loads(Path(folder, "report", "report.json").read_text(encoding="utf-8"))
    return [part for action in held["verdict"]["actions"] for part in action["command"].split(" && ") if part]


GIVEN = "--mean 127.5 --std 64 --algorithm percentile --percentile 99.9 --samples 8 --dtype uint8"


@pytest.mark.parametrize(
    ("mean", "std"), [("127.5", None), ([1.5, 2, -3], [4, 5, 6]), ({"a": [1, 2], "b": 0.25}, {"b": 1e-3})]
)
def test_mean_and_std_are_read_back_as_they_were_given(mean: Any, std: Any) -> None:
    made = Step1Options(mean=mean, std=std).preprocessing
    words = ["m.onnx", "-o", "b", *step1_flags(made)]
    found = (
        main.commands["step1"].make_context("step1", words, parent=click.Context(main, **main.context_settings)).params
    )
    assert Step1Options(**_python({k: found[k] for k in ("mean", "std")})).preprocessing == made


@pytest.mark.parametrize(("target", "joined"), [("onnxruntime", {}), ("rknn2", {"y": ("boxes", "scores")})])
def test_a_cut_is_for_outputs_whose_parts_share_a_scale(target: str, joined: dict[str, Any], place: Path) -> None:
    run(f"hybridq step1 m.onnx --dataset calibration -o build --target {target}")
    build = place / "build"
    state = read_state(build)
    assert dict(known_of(build, state, read_config(build, state)[0]).joined) == joined


@pytest.mark.parametrize("command", ["step1", pytest.param("auto", marks=pytest.mark.slow)])
def test_lines_of_a_folder_work_and_ask_for_what_was_asked(command: str, place: Path) -> None:
    if command == "step1":
        run(f"hybridq step1 m.onnx --dataset calibration -o build {GIVEN}")
        run("hybridq step2 build")
    else:
        run(
            f"hybridq auto m.onnx --dataset calibration -o build {GIVEN} --max-high 0.01 --time 3 "
            "--evaluation evaluation --metric boxes:yolov8"
        )
        run("hybridq unset build '*'")  # whatever it found in that time: broken again
        run("hybridq step2 build")
    run("hybridq step3 build --dataset evaluation --metric boxes:yolov8 --seconds 0")
    lines = advised("build")
    assert lines
    kinds = {line.split()[1] for line in lines}
    for line in lines:
        words = shlex.split(line)
        if words[1] in ("step1", "auto"):
            assert ("--percentile 99.9" in line) == ("--algorithm percentile" in line)
            assert "--samples 8" in line
            assert "--mean 127.5 --std 64" in line
        if words[1] == "auto":
            assert "--evaluation evaluation" in line
            assert "--metric boxes:yolov8" in line
            assert ("--time 3" in line) == (command == "auto") or "--time 12" in line
            line += " --max-high 0.05" if "--max-high" not in line else ""
        run(line)
        if words[1] in ("set", "step1"):
            run("hybridq step2 build")
            run("hybridq step3 build --dataset evaluation --metric boxes:yolov8 --seconds 0")
    assert kinds & {"step1", "auto"}


@pytest.mark.parametrize("seed", range(24))
def test_every_name_in_advice_is_a_name_that_may_be_set_and_explained(seed: int) -> None:
    case = random_case(seed) if seed else case_of(detector(), {"x": normal(1, 3, SIDE, SIDE)})
    names = Names(case.model, case.calibrated.entries)
    for finding in lint(case.model, case.weights, case.calibrated, targets.load(case.calibrated.target)):
        quoted = re.findall(r'"([^"]+)": ', finding.remedy)
        for name in {finding.layer, *finding.layers, *quoted} - {""}:
            assert name in case.model.inputs or names.layers(name), (finding, name)
        if finding.precision is not None:
            words = shlex.split(finding.command("d"))
            assert words[-1] == str(finding.precision)
            assert tuple(select(name, names).layers for name in words[3:-1]) == tuple((n,) for n in finding.layers)
            said = {n for n in re.findall(r"'([^']+)'", finding.message) if names.layers(n)}
            assert all(names.layers(n) == (n,) or " joins " in finding.message for n in said), finding


def test_a_tensor_that_joins_what_keeps_its_own_scales_stands_for_all_of_it(place: Path) -> None:
    run("hybridq step1 m.onnx --dataset calibration -o build --samples 3")
    found = hybridq.set("build", "y", "int16")
    assert {e.key for e in found.change.edits} == {"boxes", "scores"}
    with pytest.raises(ConfigError, match="stands for 2 layers"):
        hybridq.explain("build", "y")


def test_the_search_after_a_search_has_a_folder_of_its_own_that_is_named_once(place: Path) -> None:
    assert _beside(Path("build")) == "build-auto"
    assert _beside(Path("build-auto")) == "build-auto"
    Path("build-auto").mkdir()
    assert _beside(Path("build")) == _beside(Path("build-auto")) == "build-auto2"
    Path("build-auto2").mkdir()
    assert _beside(Path("build-auto2")) == "build-auto3"

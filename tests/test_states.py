"""States of recurrent models: which are found, which are told, and what is wrong with a pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_cli import Run, small_model
from jsonschema import Draft202012Validator
from onnx import TensorProto, helper
from recurrent import cell, frames, written

import hybridq
from hybridq import steps
from hybridq.errors import ModelError
from hybridq.graph.states import detected, told
from hybridq.storage.state import read_state, write_state

Shape = list[int | str]


def model(inputs: dict[str, Shape], outputs: dict[str, Shape], dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    made = [[helper.make_tensor_value_info(n, dtype, s) for n, s in held.items()] for held in (inputs, outputs)]
    return helper.make_model(helper.make_graph([], "g", *made))


def pair(coming: str, going: str, a: Shape | None = None, b: Shape | None = None) -> dict[str, str]:
    shape: Shape = [1, 8]
    return detected(model({"x": [1, 3], coming: a or shape}, {"y": [1, 8], going: b or a or shape}))


@pytest.mark.parametrize(
    ("coming", "going"),
    [
        ("h", "hn"),
        ("h0", "hn"),
        ("state", "stateN"),
        ("x_cache", "x_cache_out"),
        ("in_state", "out_state"),
        ("rnn_state_in", "rnn_state_out"),
        ("state", "next_state"),
        ("prev_h", "h"),
        ("r1i", "r1o"),
        ("past_key_values.0.key", "present.0.key"),
        ("hidden", "new_hidden"),
    ],
)
def test_names_of_one_state_a_step_apart_are_a_pair(coming: str, going: str) -> None:
    assert pair(coming, going) == {coming: going}


@pytest.mark.parametrize(
    ("coming", "going"),
    [("frame", "frame_out"), ("noisy", "clean"), ("h1", "h2"), ("c0", "hn"), ("image", "image_out"), ("x2", "x2_out")],
)
def test_other_names_are_none(coming: str, going: str) -> None:
    assert pair(coming, going) == {}


def test_shapes_have_to_fit() -> None:
    assert pair("h", "hn", [1, 8], [1, 9]) == {}
    assert pair("h", "hn", [2, "batch", 128], ["Add_dim_0", "batch", "Add_dim_2"]) == {"h": "hn"}
    grows: tuple[Shape, Shape] = ([1, 2, "past", 8], [1, 2, "past + 1", 8])
    assert pair("past_key_values.0.key", "present.0.key", *grows) == {}, "an axis that grows is no state's"


def test_a_model_that_would_be_fed_nothing_has_none() -> None:
    assert detected(model({"h": [1, 8]}, {"hn": [1, 8]})) == {}


def test_an_output_that_two_inputs_claim_is_one_state() -> None:
    found = detected(model({"x": [1, 3], "h": [1, 8], "h0": [1, 8]}, {"y": [1, 8], "hn": [1, 8]}))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["hh=hn"], r"'hh' is no input of the model.*Did you mean h\?"),
        (["h=hnn"], r"'hnn' is no output of the model.*Did you mean hn\?"),
        (["h=wide"], r"'h' is \[1,8\], but 'wide' \[1,9\]"),
        (["h=count"], r"'h' is float, but 'count' int64"),
        (["h=hn", "c=hn"], r"output 'hn' is in an earlier pair"),
        (["h=hn", "h=cn"], r"input 'h' is in an earlier pair"),
        (["h"], r"'h' is no pair.*--state x=y"),
        (["x=y", "h=hn", "c=cn"], r"every input is a state"),
    ],
)
def test_a_wrong_pair_is_told_with_the_right_word(pairs: list[str], says: str) -> None:
    shape: Shape = [1, 8]
    known = model({"x": shape, "h": shape, "c": shape}, {"y": shape, "hn": shape, "cn": shape, "wide": [1, 9]})
    known.graph.output.append(helper.make_tensor_value_info("count", TensorProto.INT64, [1, 8]))
    with pytest.raises(ModelError, match=f"(?s){says}"):
        told(known, pairs)


def test_every_wrong_pair_is_told_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        told(model({"x": [1, 8], "h": [1, 8]}, {"y": [1, 8], "hn": [1, 8]}), ["a=hn", "h=b"])
    assert len(caught.value.problems) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cell")
    onnx.save(cell(), made / "cell.onnx")
    onnx.save(cell(state="left", output="right"), made / "named.onnx")
    written(made, [frames(12, 1), frames(12, 2)])
    return made


def test_step1_tells_its_states_and_keeps_them(folder: Path, tmp_path: Path, run: Run) -> None:
    done = run("step1", folder / "cell.onnx", "--dataset", folder / "dataset.txt", "-o", tmp_path)
    assert "States: 'h' is 'hn' of the step before, 24 steps in 2 sequences" in done.out
    assert read_state(tmp_path).model.states == {"h": "hn"}


def test_none_turns_detection_off(folder: Path, tmp_path: Path, run: Run) -> None:
    line = ("step1", folder / "cell.onnx", "--dataset", folder / "dataset.txt", "-o", tmp_path)
    done = run(*line, "--state", "none")
    assert done.code == 1
    assert "1 column, but the model has 2 inputs" in done.err, "every line has to bring the state then"


def test_a_pair_may_be_told_on_the_command_line_and_in_python(folder: Path, tmp_path: Path, run: Run) -> None:
    ways: list[object] = ["left=right", {"left": "right"}, ["left=right"]]
    for i, pairs in enumerate(ways):
        found = steps.step1(folder / "named.onnx", folder / "dataset.txt", tmp_path / str(i), state=pairs)
        assert found.state.model.states == {"left": "right"}
    line = ("step1", folder / "named.onnx", "--dataset", folder / "dataset.txt", "-o", tmp_path / "cli")
    assert run(*line, "--state", "left=right").code == 0
    wrong = run(*line, "--state", "lefd=right")
    assert wrong.code == 1
    assert "Did you mean left?" in wrong.err


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    state = steps.step1(folder / "cell.onnx", folder / "dataset.txt", tmp_path, sequence=6).state
    again = tmp_path / "again"
    again.mkdir()
    write_state(again, state)
    assert (read_state(again).model.states, read_state(again).sequence) == ({"h": "hn"}, 6)
    held = json.loads((again / "model.json").read_text())
    schema = json.loads((Path(hybridq.__file__).parent / "schemas/model-2.schema.json").read_text())
    Draft202012Validator(schema).validate(held)


def test_a_model_without_states_is_written_as_before(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    np.save(tmp_path / "a.npy", np.ones((1, 3, 8, 8), np.float32))
    steps.step1(tmp_path / "m.onnx", tmp_path / "a.npy", tmp_path / "build")
    assert "states" not in json.loads((tmp_path / "build/model.json").read_text())

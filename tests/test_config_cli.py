"""The command line says of every broken cfg what the API says, ends with 1, and shows no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers_config import INVALID_CASES as CASES
from helpers_config import small
from numpy.typing import NDArray
from onnx import numpy_helper

from hybridq.cli.main import main
from hybridq.config import write_cfg
from hybridq.storage import state as storage
from hybridq.storage.weights import Weights

TARGETS = ("onnxruntime", "rknn1", "rknn2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder as step1 leaves it, for each target."""
    found = {}
    for target in TARGETS:
        model, calibrated = small(target)
        weights = {t.name: numpy_helper.to_array(t) for t in model.proto.graph.initializer if t.raw_data}
        weights |= {w.tensor: _ones(w.shape) for x in model.layers for w in x.weights}
        folder = tmp_path_factory.mktemp(target)
        storage.write_state(folder, storage.State(model, Weights(weights), calibrated, {}, 1))
        found[target] = folder
    return found


def _ones(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def run(folder: Path, cfg: bytes, *arguments: str) -> Result:
    (folder / storage.CFG).write_bytes(cfg)
    return CliRunner().invoke(main, [arguments[0], str(folder), *arguments[1:]])


@pytest.mark.parametrize("file", CASES, ids=[p.stem for p in CASES])
def test_check_says_what_the_api_says(file: Path, folders: dict[str, Path]) -> None:
    folder = folders[next((t for t in TARGETS if file.name.startswith(t)), "onnxruntime")]
    result = run(folder, file.read_bytes(), "check")
    assert result.exit_code == 1, result.output
    said = result.output.replace(f"{folder}/", "")
    assert "Traceback" not in said
    golden = file.with_suffix(".errors.txt").read_text(encoding="utf-8")
    for line in golden.splitlines():
        assert line.partition("] ")[2] in said if line.startswith("[") else line in said


def test_a_sound_cfg_passes(folders: dict[str, Path]) -> None:
    for target in TARGETS:
        result = run(folders[target], write_cfg(*small(target)).encode(), "check")
        assert result.exit_code == 0, result.output


def test_set_list_diff_unset(folders: dict[str, Path]) -> None:
    folder, text = folders["onnxruntime"], write_cfg(*small())
    assert run(folder, text.encode(), "set", "op:Sigmoid", "float32").exit_code == 0
    edited = (folder / storage.CFG).read_bytes()
    rows = json.loads(run(folder, edited, "list", "--json").stdout)
    assert {r["name"]: r["precision"] for r in rows}["/head/sig"] == "float32"
    assert [e["key"] for e in json.loads(run(folder, edited, "diff", "--json").stdout)] == ["/head/sig"]
    assert run(folder, edited, "unset", "*").exit_code == 0
    assert (folder / storage.CFG).read_text(encoding="utf-8") == text


FORMS = """\
  A selector is a name, a glob (head/*), re:REGEX, op:TYPE, from:A..to:B, group:NAME or boundary,
  or several of these with and, or, not. `hybridq list` shows the layers.
1 problem found; nothing was written.
"""


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("nope", "there is no layer or tensor 'nope'\n"),
        ("conv", "there is no layer or tensor 'conv'\n  Did you mean conv1, Conv_3 or Conv_2?\n"),
        ("head", "there is no layer or tensor 'head'\n  Did you mean /head/sig, /head/conv2 or /head/silu?\n"),
        ("group:cad", "there is no layer or tensor 'cad'\n  Did you mean cat?\n"),
        ("conv1[0]", "'conv1[0]' matches no layer\n  Did you mean conv1 or Conv_1?\n"),
        ("re:conv(", "'conv(' is no regular expression: missing ), unterminated subpattern at position 4\n"),
        (
            "(conv1 or cls)",
            "there is no layer or tensor '(conv1'\n  Put blanks around each ( and ) that groups.\n",
        ),
    ],
)
@pytest.mark.parametrize("command", [("set", "int16"), ("unset",)])
def test_unknown_selectors_say_which_there_are(
    folders: dict[str, Path], command: tuple[str, ...], selector: str, says: str
) -> None:
    result = run(folders["onnxruntime"], write_cfg(*small()).encode(), command[0], selector, *command[1:])
    assert (result.exit_code, result.output) == (1, says + FORMS)


def test_an_import_that_maps_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    folder, text = folders["onnxruntime"], write_cfg(*small())
    (tmp_path / "theirs.cfg").write_text("custom_quantize_layers: {Conv_17: int16}\n")
    result = run(folder, text.encode(), "import", str(tmp_path / "theirs.cfg"))
    assert result.exit_code == 1
    assert "theirs.cfg:1: nothing could be mapped: its only entry does not fit 'small'" in result.output
    assert "there is no layer 'Conv_17'" in result.output
    assert (folder / storage.CFG).read_text(encoding="utf-8") == text


def test_github_annotations(folders: dict[str, Path]) -> None:
    result = run(folders["onnxruntime"], b"colour: red\n", "check", "--github")
    assert result.exit_code == 1
    assert "::error file=" in result.output

"""A cfg of RKNN-Toolkit2, edited as people do it, comes in: every choice and range lands, or is named."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import hybridq
from hybridq.errors import ConfigError, Problem
from tests.rknn2.make import HERE, built

THEIRS = (HERE / "toolkit.quantization.cfg").read_text(encoding="utf-8")
TIED = {("gated", "min"): "-0.23466843", ("gated", "max"): "2.4554079"}  # of what only a MaxPool reads, what it leaves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the cfg, calibrated with us."""
    return built(tmp_path_factory.mktemp("rknn2") / "build", "int8")


def taken(folder: Path, text: str) -> tuple[dict[tuple[str, str], str], list[Problem]]:
    """The edits that a cfg of the toolkit makes in a fresh folder, and what was told; the folder stays as it was."""
    cfg, given = folder / "model.quantization.cfg", folder.parent / "theirs.cfg"
    plain = cfg.read_text(encoding="utf-8")
    given.write_text(text, encoding="utf-8")
    try:
        _, problems = hybridq.import_cfg(folder, given)
        return {(e.key, e.field): str(e.after) for e in hybridq.diff(folder)}, problems
    finally:
        cfg.write_text(plain, encoding="utf-8")


def with_layers(*rows: str) -> str:
    """The toolkit's cfg with lines in ``custom_quantize_layers``."""
    block = "custom_quantize_layers:\n" + "".join(f"    {row}\n" for row in rows)
    return THEIRS.replace("custom_quantize_layers: {}\n", block, 1)


def with_maximum(name: str, value: float) -> str:
    """The toolkit's cfg with another ``max`` of one tensor."""
    return re.sub(rf"(?s)(\n    {name}:.*?max:\s+-\s+)\S+", rf"\g<1>{value}", THEIRS, count=1)


def rewritten(change: Callable[[Any], None]) -> str:
    """The toolkit's cfg as a YAML library writes it again after a change: other layout, anchors for equal lists."""
    yaml = YAML(typ="safe", pure=True)
    data = yaml.load(THEIRS)
    change(data)
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def test_without_an_edit_the_ranges_are_ours(folder: Path) -> None:
    assert taken(folder, THEIRS)[0] == TIED


@pytest.mark.parametrize(
    ("rows", "edits", "named"),
    [
        (["left_c: int16", "left: int16", "gate: float16"], {"left": "int16", "gate": "float16"}, ()),
        (["left_c: int16"], {"left": "int16"}, ()),  # the operator's own tensor
        (["y2_int8: int16"], {"y2": "int16"}, ()),  # an output by the name of its quantized form
        (["'gate': int16", '"branch": int16'], {"gate": "int16", "branch": "int16"}, ()),
        (["gate: float32"], {"gate": "float16"}, ("float32 is taken as float16",)),
        (["nosuch: int16", "gate: int16"], {"gate": "int16"}, ("there is no layer 'nosuch'",)),
        (["y2_t_sw: int16"], {"y2": "int16"}, ("the toolkit made it from",)),  # moved behind the Sigmoid
        (["n_y3_2gavg_2conv0: int16"], {"y3": "int16"}, ("the toolkit made it from",)),
        (["left: int16"], {"left": "int16"}, ("alone it changes nothing in the toolkit",)),
        (
            ["left_c: int16", "right_c: int16"],
            {"left": "int16", "right": "int16"},
            ("where `x_int8: int16` is missing",),
        ),
        (["x__int8: int16", "gate: int16"], {"gate": "int16"}, ("there is no layer 'x__int8'",)),
    ],
)
def test_layers_land_or_are_named(folder: Path, rows: list[str], edits: dict[str, str], named: tuple[str, ...]) -> None:
    found, problems = taken(folder, with_layers(*rows))
    assert found == {**TIED, **{(key, "precision"): value for key, value in edits.items()}}
    for words in named:
        assert any(words in p.message for p in problems), problems


@pytest.mark.parametrize(
    ("name", "edit"),
    [("leaky", {("leaky", "max"): "1.5"}), ("x_int8", {("x", "max"): "1.5"}), ("x", {})],  # x has no scale: no range
)
def test_ranges_land(folder: Path, name: str, edit: dict[tuple[str, str], str]) -> None:
    assert taken(folder, with_maximum(name, 1.5))[0] == {**TIED, **edit}


def test_what_a_library_writes_again_is_no_edit(folder: Path) -> None:
    def touch(data: Any) -> None:
        data["custom_quantize_layers"] = {"branch": "int16"}
        for entry in data["quantize_parameters"].values():
            for end in ("min", "max"):
                entry[end] = [v * (1 + 1e-7) for v in entry[end]]

    found, _ = taken(folder, rewritten(touch))
    assert found.keys() == {*TIED, ("branch", "precision")}


def test_a_search_of_the_toolkits_step_2_is_told(folder: Path) -> None:
    assert any("mmse" in p.message for p in taken(folder, THEIRS)[1])


def test_a_layer_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="stands here a second time"):
        taken(folder, with_layers("gate: int16", "gate: int8"))

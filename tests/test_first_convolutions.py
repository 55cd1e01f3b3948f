"""A first convolution of few channels that float layers alone read starts in float32: converting costs more than it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import F32, U8, case_of, normal
from helpers_graphs import given as graph

from hybridq import targets
from hybridq.graph.runtime import run, session
from hybridq.plan.defaults import FIRST, default_precisions
from hybridq.quant.records import LayerDefault
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

Rows = list[tuple[Any, ...]]
PADS = {"pads": [1] * 4}
READ: Rows = [("HardSwish", "a", "h"), ("Conv", "h v", "y", PADS)]
MODEL: Rows = [("Conv", "x w", "a", PADS), *READ]
RANDOM = np.random.default_rng(0)


def model(rows: Rows, channels: int = 3, shape: tuple[Any, ...] | None = None) -> onnx.ModelProto:
    shapes = {"w": (16, channels, 3, 3), "u": (channels, channels, 1, 1), "v": (64, 16, 3, 3), "t": (8, 16, 1, 1)}
    read = {n for row in rows for n in row[1].split()}
    tensors = {k: RANDOM.normal(size=s).astype(np.float32) for k, s in shapes.items() if k in read}
    made = {row[2] for row in rows}
    return graph(rows, tensors, sorted(made - read), shape or (1, channels, 24, 24))


def defaults(
    given: onnx.ModelProto, target: str = "onnxruntime", *, literal: bool = False
) -> Mapping[str, LayerDefault]:
    channels = given.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    case = case_of(given, {"x": normal(1, channels, 24, 24)})
    return default_precisions(case.model, targets.load(target), U8, literal=literal)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("shape", [None, ("n", "c", "h", "w")], ids=["fixed", "open"])
def test_it_is_float_between_floats(channels: int, shape: tuple[Any, ...] | None) -> None:
    open_axes = shape and ("n", channels, "h", "w")
    found = defaults(model(MODEL, channels, open_axes))["a"]
    assert (found.precision, found.why) == (F32, FIRST)


@pytest.mark.parametrize(
    ("rows", "channels"),
    [
        (MODEL, 6),  # 54 products a number: integers save more
        ([("Conv", "x w", "a", PADS), ("Relu", "a", "b"), ("Conv", "b v", "y", PADS)], 3),  # integers read it
        ([*MODEL, ("Conv", "a t", "z")], 3),  # so they do here, too
        ([("Conv", "x u", "b"), ("Relu", "b", "c"), ("Conv", "c w", "a", PADS), *READ], 3),  # it is not the first
    ],
    ids=["many products", "read by integers", "read by both", "second"],
)
def test_others_are_not(rows: Rows, channels: int) -> None:
    found = defaults(model(rows, channels))
    assert FIRST not in {x.why for x in found.values()}
    assert all(found[row[2]].precision is U8 for row in rows if row[0] == "Conv" and row[2] in found)


@pytest.mark.parametrize(("target", "literal"), [("onnxruntime", True), ("rknn2", False)])
def test_a_word_and_another_target_are_taken_literally(target: str, literal: bool) -> None:
    assert defaults(model(MODEL), target, literal=literal)["a"].precision is not F32


def test_it_takes_off_noise(tmp_path: Path) -> None:
    """Most of it where the picture itself has more than 8 bits and channels are of unlike size."""
    path, random = tmp_path / "m.onnx", np.random.default_rng(0)
    given = model(MODEL)
    onnx.save(given, path)
    feeds = [{"x": random.normal(size=(1, 3, 24, 24)).astype(np.float32)} for _ in range(8)]
    noise = {}
    for name in ("float32", "uint8"):
        made = step1(path, feeds[:4], tmp_path / name, threads=1, weights_repair="none")
        cfg = made.directory / "model.quantization.cfg"
        text = cfg.read_text(encoding="utf-8")
        cfg.write_text(text.replace("layers: {}", f'layers: {{"a": {name}}}'), encoding="utf-8")
        step2(made.directory, threads=1)
        pair = [session(p, threads=1) for p in (path, made.directory / "hybrid.onnx")]
        a, b = (np.stack([run(one, feed)[0] for feed in feeds[4:]]) for one in pair)
        noise[name] = float(np.square(a - b).mean())
    assert noise["float32"] < noise["uint8"] / 1.5

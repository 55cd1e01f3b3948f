"""The last matrix products of a model, where they are little of it, start in float32: their errors are seen at once."""

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
from hybridq.plan.defaults import LAST, default_precisions
from hybridq.quant.records import LayerDefault
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

Rows = list[tuple[Any, ...]]
BODY: Rows = [
    ("Conv", "x w", "c", {"pads": [1] * 4}),
    ("Relu", "c", "q"),
    ("Conv", "q t", "d", {"pads": [1] * 4}),
    ("Relu", "d", "r"),
    ("GlobalAveragePool", "r", "p"),
    ("Flatten", "p", "f"),
]
SHAPES = {"w": (32, 8, 3, 3), "t": (64, 32, 3, 3), "v": (64, 2), "big": (64, 400), "u": (2, 2)}
RANDOM = np.random.default_rng(0)
TENSORS = {name: (0.4 * RANDOM.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}


def defaults(rows: Rows, target: str = "onnxruntime", *, literal: bool = False) -> Mapping[str, LayerDefault]:
    read = {n for row in rows for n in row[1].split()}
    tensors = {k: v for k, v in TENSORS.items() if k in read}
    model = case_of(graph(rows, tensors, ["y"], (1, 8, 24, 24)), {"x": normal(1, 8, 24, 24)}).model
    return default_precisions(model, targets.load(target), U8, literal=literal)


@pytest.mark.parametrize("end", [[], [("Softmax", "g", "y", {"axis": 1})]])
def test_the_last_one_is_float(end: Rows) -> None:
    rows = [*BODY, ("MatMul", "f v", "g" if end else "y"), *end]
    found = defaults(rows)["g" if end else "y"]
    assert (found.precision, found.why) == (F32, LAST)


@pytest.mark.parametrize(
    "rows",
    [
        [*BODY, ("MatMul", "f big", "y")],  # most of the weights: the file would grow
        [*BODY, ("MatMul", "f v", "g"), ("Sigmoid", "g", "s"), ("MatMul", "s u", "y")],  # "g" is not the last
    ],
)
def test_what_is_much_or_followed_is_not(rows: Rows) -> None:
    found = defaults(rows)
    product = "y" if len(rows) == len(BODY) + 1 else "g"
    assert found[product].precision is U8


@pytest.mark.parametrize(("target", "literal"), [("onnxruntime", True), ("rknn2", False)])
def test_a_word_and_another_target_are_taken_literally(target: str, literal: bool) -> None:
    assert defaults([*BODY, ("MatMul", "f v", "y")], target, literal=literal)["y"].why != LAST


def test_it_takes_off_noise(tmp_path: Path) -> None:
    path, random = tmp_path / "m.onnx", np.random.default_rng(0)
    tensors = {k: TENSORS[k] for k in ("w", "t", "v")}
    onnx.save(graph([*BODY, ("MatMul", "f v", "y")], tensors, ["y"], (1, 8, 24, 24)), path)
    feeds = [{"x": random.normal(size=(1, 8, 24, 24)).astype(np.float32)} for _ in range(16)]

    def noise(**options: Any) -> float:
        made = step1(path, feeds[:8], tmp_path / "out", threads=1, force=True, weights_repair="none", **options)
        step2(made.directory, threads=1)
        pair = [session(p, threads=1) for p in (path, made.directory / "hybrid.onnx")]
        a, b = (np.stack([run(one, feed)[0] for feed in feeds[8:]]) for one in pair)
        return float(np.square(a - b).mean())

    assert noise() < noise(dtype="uint8") / 2

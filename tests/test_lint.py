"""The lint: what it says has the figures in it, and it says nothing where nothing is wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest
from random_graphs import Case, make_case, random_case
from test_build import given as graph
from test_build import normal

from hybridq.lint import Finding, lint
from hybridq.qparams import Range

X = {"x": normal(4, 8, 8, 8)}


def detector(scale: float, target: str = "onnxruntime", factor: np.ndarray | None = None) -> Case:
    """Boxes up to ``scale`` and Sigmoid scores, joined; a product behind the Concat lets it share one scale."""
    random = np.random.default_rng(0)
    nodes = [
        ("Conv", "x wb bb", "boxes"),
        ("Conv", "x ws", "raw"),
        ("Sigmoid", "raw", "scores"),
        ("Concat", "boxes scores", "all", {"axis": 1}),
        ("Mul", "all k", "y"),
    ]
    boxes = (scale * random.normal(size=(4, 8, 1, 1)) / 12).astype(np.float32)
    tensors = {
        "wb": boxes,
        "bb": np.full(4, scale / 2, np.float32),
        "ws": random.normal(size=(2, 8, 1, 1)).astype(np.float32),
        "k": np.ones((1, 6, 1, 1), np.float32) if factor is None else factor,
    }
    return make_case(graph(nodes, tensors, ["y"]), X, target)


def said(case: Case, **more: object) -> list[Finding]:
    target = more.pop("target", case.calibrated.target)
    return lint(case.model, case.weights, case.calibrated, target, **more)  # type: ignore[arg-type]


def of(found: list[Finding], code: str) -> list[Finding]:
    return [f for f in found if f.code == code]


class TestSharedRange:
    @pytest.mark.parametrize("target", ["onnxruntime", "rknn1", "rknn2"])
    def test_a_score_becomes_nothing(self, target: str) -> None:
        (found,) = of(said(detector(640.0, target)), "shared-range")
        assert found.layer == "scores"
        assert found.severity == "warning"
        assert re.search(r"a score of 0\.98 becomes 0\b", found.message)
        assert "'boxes'" in found.message
        assert '"scores"' in found.remedy
        assert ("float32" if target == "onnxruntime" else "int16") in found.remedy

    def test_figures_are_those_of_the_scale(self) -> None:
        case = detector(20.0)
        (found,) = of(said(case), "shared-range")
        scale = case.calibrated.entries[case.model.group_of["scores"].name].scale
        told = round(0.98 / float(scale)) * float(scale)  # type: ignore[arg-type]
        assert f"becomes {told:.3g}" in found.message
        assert found.severity == "note"

    def test_like_ranges_are_fine(self) -> None:
        assert not of(said(detector(2.0)), "shared-range")

    def test_ranges_of_single_tensors_tell_more(self) -> None:
        case = detector(640.0)
        ranges = {"boxes": Range(0, 1), "scores": Range(0, 1)}
        assert not of(said(case, ranges=ranges), "shared-range")

    def test_npu_joins_what_the_cpu_keeps_apart(self) -> None:
        nodes = [("Conv", "x wb", "boxes"), ("Conv", "x ws", "raw"), ("Sigmoid", "raw", "scores")]
        nodes.append(("Concat", "boxes scores", "y", {"axis": 1}))  # type: ignore[arg-type]
        tensors = {"wb": 100 * normal(4, 8, 1, 1), "ws": normal(2, 8, 1, 1)}
        cpu, npu = (make_case(graph(nodes, tensors, ["y"]), X, t) for t in ("onnxruntime", "rknn2"))
        assert of(said(npu), "shared-range")
        assert not of(said(cpu), "shared-range")
        (note,) = of(said(cpu), "mixed-output")
        assert note.severity == "note"


class TestOthers:
    def test_channels_scaled_apart(self) -> None:
        factor = np.array([640, 640, 640, 640, 1, 1], np.float32).reshape(1, 6, 1, 1)
        (found,) = of(said(detector(1.0, "rknn2", factor)), "unlike-channels")
        assert found.layer == "y"
        assert "640 times" in found.message

    def test_depthwise_spread(self) -> None:
        weight = normal(8, 1, 3, 3)
        weight[0] *= 1000 / np.abs(weight[0]).max() * np.abs(weight[1:]).max()
        nodes = [("Conv", "x w", "y", {"group": 8, "pads": [1] * 4})]
        per_tensor = make_case(graph(nodes, {"w": weight}, ["y"]), X, "rknn1")
        (found,) = of(said(per_tensor), "depthwise-spread")
        assert "channels become 0" in found.message
        per_channel = make_case(graph(nodes, {"w": weight}, ["y"]), X, "onnxruntime")
        assert of(said(per_channel), "depthwise-spread")[0].severity == "note"

    def test_one_input_channel_is_not_depthwise(self) -> None:
        model = graph([("Conv", "x w", "y")], {"w": normal(8, 1, 1, 1)}, ["y"], ("n", 1, 8, 8))
        assert not of(said(make_case(model, {"x": normal(4, 1, 8, 8)})), "depthwise-spread")

    def test_saturated_sigmoid(self) -> None:
        model = graph([("Conv", "x w", "c"), ("Sigmoid", "c", "y")], {"w": 60 * normal(4, 8, 1, 1)}, ["y"])
        (found,) = of(said(make_case(model, X, "rknn2")), "saturated")
        assert found.layer == "y"
        assert '"c"' in found.remedy

    def test_unlike_addends(self) -> None:
        nodes = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "s"), ("Conv", "s u", "y")]
        tensors = {"w": normal(8, 8, 1, 1), "v": 400 * normal(8, 8, 1, 1), "u": normal(8, 8, 1, 1)}
        (found,) = of(said(make_case(graph(nodes, tensors, ["y"]), X)), "unlike-addends")
        assert found.layer == "s"

    def test_slow_operators_once(self) -> None:
        nodes = [("Conv", "x w", "a", {"group": 8}), ("Conv", "a w", "b", {"group": 8}), ("Conv", "b v", "y")]
        case = make_case(graph(nodes, {"w": normal(8, 1, 1, 1), "v": normal(8, 8, 1, 1)}, ["y"]), X)
        (found,) = of(said(case), "slow-8bit")
        assert "1 more" in found.message

    @pytest.mark.parametrize(("samples", "warned"), [(1, True), (9, True), (10, False), (None, False)])
    def test_few_samples(self, samples: int | None, warned: bool) -> None:
        assert bool(of(said(detector(1.0), samples=samples), "few-samples")) is warned

    @pytest.mark.parametrize("seed", range(25))
    def test_any_model_gets_sentences_and_remedies(self, seed: int) -> None:
        case = random_case(seed)
        for found in said(case, samples=3):
            assert not found.layer or found.layer in case.model.layer or found.layer in case.model.inputs
            assert found.message
            assert found.remedy.endswith(".")
            assert found.problem("cfg").code == found.code
            assert "nan" not in found.message

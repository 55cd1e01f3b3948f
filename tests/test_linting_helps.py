"""For each rule a model on which following the finding's line helps, measured on samples that step1 has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_chinese import is_translated
from helpers_graphs import given

from hybridq.compare.timing import time_pairs
from hybridq.graph.runtime import run, session
from hybridq.linting.run import RULES
from hybridq.steps.editing import set_precision
from hybridq.steps.propose import auto
from hybridq.steps.step1 import Step1Result, step1
from hybridq.steps.step2 import step2

Array = np.ndarray[Any, Any]
Feeds = list[dict[str, Array]]
SHAPE = (1, 8, 6, 6)


def conv(out: int, read: int, scale: float = 1.0) -> Array:
    values = np.random.default_rng(out * read).normal(size=(out, read, 1, 1)) * scale / np.sqrt(read)
    return values.astype(np.float32)


def samples(count: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


def uneven(feeds: Feeds) -> Feeds:
    """A few values a thousand times as large as the others."""
    size = np.where(np.arange(288) % 40 == 0, 100.0, 0.1).reshape(SHAPE)
    return [{"x": (np.abs(f["x"]) * size).astype(np.float32)} for f in feeds]


def peaked(feeds: Feeds) -> Feeds:
    """In every sixth sample one value far above all others."""
    for feed in feeds[::6]:
        feed["x"][0, 0, 0, 0] = 3e3
    return feeds


@dataclass(frozen=True)
class Harmed:
    """A model that a rule warns of; ``gain``: how many times less noise its remedy leaves in the worst channel."""

    rows: list[tuple[Any, ...]]
    tensors: dict[str, Any]
    options: dict[str, Any] = field(default_factory=lambda: {"dtype": "uint8"})
    samples: Callable[[Feeds], Feeds] = lambda feeds: feeds
    gain: float = 4.0


BODY: list[tuple[Any, ...]] = [("Conv", "x w", "c"), ("Relu", "c", "f")]
HEAD: list[tuple[Any, ...]] = [*BODY, ("Conv", "f wb", "b"), ("Conv", "f ws", "s")]
PARTS = {"w": conv(16, 8), "wb": conv(4, 16), "ws": conv(3, 16, 3.0)}
SPREAD = np.ones((8, 1, 1, 1), np.float32)
SPREAD[0], SPREAD[1] = 20.0, 0.1
WIDE_LAST = conv(7, 16)
WIDE_LAST[:4] *= 300.0
SUM_ROWS = [("Conv", "x w", "a"), ("Conv", "x v", "b"), ("Add", "a b", "s"), ("Sub", "s a", "y")]
MODELS = {
    "concat": Harmed(
        [*HEAD, ("Sigmoid", "s", "ps"), ("Mul", "b k", "px"), ("Concat", "px ps", "y", {"axis": 1})],
        {**PARTS, "k": np.float32(200)},
        {"target": "rknn1"},
    ),
    "mixed output": Harmed([*BODY, ("Conv", "f v", "y")], {"w": PARTS["w"], "v": WIDE_LAST}),
    "squashed": Harmed(
        [("Conv", "x w", "c"), ("Sigmoid", "c", "y")],
        {"w": conv(8, 8, 60.0)},
        {"dtype": "uint8", "algorithm": "normal"},
    ),
    "channel spread": Harmed([("Conv", "x w", "y", {"group": 8})], {"w": SPREAD}, {"target": "rknn1"}),
    "coarse": Harmed(
        [("Conv", "x w", "c"), ("Relu", "c", "r"), ("Add", "r one", "a"), ("Log", "a", "y")],
        {"w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "one": np.float32(1e-2)},
        {"dtype": "uint8", "algorithm": "normal"},
        uneven,
    ),
    "outlier": Harmed(
        [("Conv", "x w", "c"), ("Conv", "c v", "y")],
        {"w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "v": conv(8, 8)},
        {"dtype": "uint8"},
        peaked,
    ),
    "sum": Harmed(SUM_ROWS, {"w": conv(8, 8), "v": conv(8, 8, 1e-2)[::-1].copy()}),
}
NOT_OF_PRECISION = {
    "zero",
    "unsettled",
    "slow",
    "gainless",
    "larger",
    "listed",
    "branches",
}  # more samples, time and place, ends
IN_A_LOOP = {"state"}  # test_choose_loop.py


def test_every_rule_that_sets_a_precision_has_a_model() -> None:
    assert set(MODELS) == set(RULES) - NOT_OF_PRECISION - IN_A_LOOP


@pytest.mark.parametrize("code", MODELS)
def test_following_the_line_helps(code: str, tmp_path: Path) -> None:
    made = MODELS[code]
    path = tmp_path / "m.onnx"
    onnx.save(given(made.rows, made.tensors, ["y"], SHAPE), path)
    calibration, unseen = (made.samples(samples(24, seed)) for seed in (1, 2))
    result = step1(path, calibration, tmp_path / "out", threads=1, **made.options)
    before = noise(path, result, unseen)
    assert code in {f.code for f in result.findings}
    assert [f.message for f in result.findings if not is_translated(f.message)] == []
    follow(result, code)
    assert noise(path, result, unseen) < before / made.gain


def noise(path: Path, result: Step1Result, feeds: Feeds) -> float:
    """Noise over variance of the output's worst channel, mean over samples that were not calibrated on."""
    step2(result.directory, threads=1)
    pair = [session(p, threads=1) for p in (path, result.directory / "hybrid.onnx")]
    a, b = (np.concatenate([run(one, feed)[0] for feed in feeds]).astype(np.float64) for one in pair)
    share = ((a - b) ** 2).mean((2, 3)) / np.maximum(a.var((2, 3)), 1e-6 * a.var((0, 2, 3)))
    return float(share.mean(axis=0).max())


def follow(result: Step1Result, code: str) -> None:
    """Type the line of each finding of a rule."""
    for finding in (f for f in result.findings if f.code == code):
        assert finding.command(str(result.directory)).split()[:2] == ["hybridq", "set"]
        set_precision(result.directory, " or ".join(finding.layers), str(finding.precision))


class TestMoreSamples:
    """What no precision mends: ranges that did not settle, tensors that were never used."""

    def noise(self, tmp_path: Path, calibration: Feeds, unseen: Feeds) -> tuple[set[str], float]:
        path = tmp_path / "m.onnx"
        rows = [("Conv", "x w b", "c"), ("Relu", "c", "r"), ("Conv", "r v", "y")]
        tensors = {"w": conv(16, 8), "b": np.full(16, -1.0, np.float32), "v": conv(8, 16)}
        onnx.save(given(rows, tensors, ["y"], SHAPE), path)
        result = step1(path, calibration, tmp_path / "out", threads=1, dtype="uint8", force=True)
        told = {f.code for f in result.findings}
        assert ("unsettled" in told) is not any("last quarter" in line for line in result.remarks)  # told once
        return told, noise(path, result, unseen)

    @pytest.mark.parametrize("code", ["unsettled", "zero"])
    def test_more_of_them_help(self, code: str, tmp_path: Path) -> None:
        every = samples(24, 1)
        size = np.linspace(0.2, 3.0, 24) if code == "unsettled" else np.full(24, 3.0)
        every = [{"x": f["x"] * np.float32(s)} for f, s in zip(every, size, strict=True)]
        few = every[:12] if code == "unsettled" else [{"x": f["x"] * np.float32(1e-3)} for f in every]
        told, before = self.noise(tmp_path, few, every[12:])
        assert code in told
        _, after = self.noise(tmp_path, every, every[12:])
        assert after < before / 4


@pytest.mark.parametrize(("channels", "told"), [(2, True), (64, False)])
def test_a_file_that_grows_is_told_of(channels: int, told: bool, tmp_path: Path) -> None:
    """The note is true: the built file is larger than the given one where it says so, and only there."""
    rows: list[tuple[Any, ...]] = [("Conv", "x w", "c0"), ("Relu", "c0", "r0")]
    tensors: dict[str, Any] = {"w": conv(channels, 8)}
    for i in range(4):
        rows += [("Conv", f"r{i} w{i}", f"c{i + 1}"), ("Relu", f"c{i + 1}", f"r{i + 1}")]
        tensors[f"w{i}"] = conv(channels, channels)
    path = tmp_path / "m.onnx"
    onnx.save(given(rows, tensors, ["r4"], SHAPE), path)
    result = step1(path, samples(4, 1), tmp_path / "out", threads=1)
    step2(result.directory, threads=1)
    grows = (result.directory / "hybrid.onnx").stat().st_size > path.stat().st_size
    assert ("larger" in {f.code for f in result.findings}) is told is grows


def test_silu_is_told_where_its_values_are_a_few_steps(tmp_path: Path) -> None:
    """Gates of themselves are no exception: typical values of one or two steps are told, and more bits mend them."""
    rows = [("Conv", "x w", "c"), ("Sigmoid", "c", "s"), ("Mul", "c s", "m"), ("Conv", "m v", "y")]
    tensors = {"w": np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1), "v": conv(8, 8)}
    path = tmp_path / "m.onnx"
    onnx.save(given(rows, tensors, ["y"], SHAPE), path)
    result = step1(path, uneven(samples(24, 1)), tmp_path / "out", threads=1, dtype="uint8", algorithm="normal")
    assert any("c" in f.layers and "steps" in f.message for f in result.findings if f.code == "coarse")
    before = noise(path, result, uneven(samples(24, 2)))
    follow(result, "coarse")
    assert noise(path, result, uneven(samples(24, 2))) < before / 4


@pytest.mark.slow
@pytest.mark.speed
class TestTimeSaved:
    """What is about time: the model that a finding's line leaves runs faster, by processor time of one thread."""

    def calibrated(self, folder: Path, rows: list[tuple[Any, ...]], tensors: dict[str, Any]) -> tuple[Path, Feeds]:
        path, shape = folder / "m.onnx", (1, 32, 48, 48)
        onnx.save(given(rows, tensors, ["y"], shape), path)
        random = np.random.default_rng(0)
        return path, [{"x": random.normal(size=shape).astype(np.float32)} for _ in range(4)]

    def faster(self, slow: Path, fast: Path, feed: dict[str, Array]) -> float:
        pair = [session(p, threads=1) for p in (slow, fast)]
        return time_pairs(pair[0], pair[1], feed, seconds=1.0, threads=1, clock=time.process_time).speedup

    def built(self, folder: Path, name: str) -> Path:
        step2(folder, threads=1)
        return (folder / "hybrid.onnx").rename(folder.parent / f"{name}.onnx")

    def test_slow(self, tmp_path: Path) -> None:
        rows = [("Softmax", "x", "p", {"axis": 3}), ("Conv", "p v", "y")]
        path, feeds = self.calibrated(tmp_path, rows, {"v": conv(32, 32, 2.0)})
        result = step1(path, feeds, tmp_path / "out", threads=1, dtype="uint8")
        assert "slow" in {f.code for f in result.findings}
        before = self.built(result.directory, "before")
        follow(result, "slow")
        assert self.faster(before, self.built(result.directory, "after"), feeds[0]) > 1.2

    def test_gainless(self, tmp_path: Path) -> None:
        rows: list[tuple[Any, ...]] = [("Conv", "x w0", "c0", {"group": 32, "pads": [1] * 4})]
        rows += [("Conv", f"c{i} w{i + 1}", f"c{i + 1}", {"group": 32, "pads": [1] * 4}) for i in range(4)]
        rows[-1] = (*rows[-1][:2], "y", rows[-1][3])
        random = np.random.default_rng(1)
        tensors = {f"w{i}": random.normal(size=(32, 1, 3, 3)).astype(np.float32) / 3 for i in range(5)}
        path, feeds = self.calibrated(tmp_path, rows, tensors)
        result = step1(path, feeds, tmp_path / "out", threads=1, dtype="uint8")
        said = next(f for f in result.findings if f.code == "gainless")
        assert "--min-speedup 1.0" in said.remedy
        before = self.built(result.directory, "before")
        options = {"threads": 1, "dtype": "uint8", "min_speedup": 1.0, "max_high": 1.0, "seconds": 0}
        auto(path, feeds, tmp_path / "kept", **options)
        assert self.faster(before, tmp_path / "kept" / "hybrid.onnx", feeds[0]) > 1.2

"""``--time`` is a budget as others are: it ends what would take longer, and the best found is the result.

The clock of these tests is the time of the processor: it stands still while others have the machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_graphs import given
from helpers_search import Array, Feeds, damages, feeds_of

import hybridq
from hybridq.search.measuring.coarse import of_groups
from hybridq.search.measuring.growing import Forms
from hybridq.search.work import Deadline, Effort, TimeUp
from hybridq.steps.propose import AutoResult

SLACK = 3.0  # seconds beside those of what is never left out: repairs have as many in any case


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)


def residual(blocks: int) -> onnx.ModelProto:
    """Convolutions that each add a little, two layers a block; some channels are far stronger than others."""
    random = np.random.default_rng(0)
    nodes: list[tuple[Any, ...]] = []
    tensors: dict[str, Array] = {}
    name = "x"
    for i in range(blocks):
        loud = np.exp(random.normal(size=(8, 1, 1, 1)))
        tensors[f"w{i}"] = (random.normal(size=(8, 8, 3, 3)) * loud / 30).astype(np.float32)
        tensors[f"b{i}"] = random.normal(size=8).astype(np.float32)
        nodes += [("Conv", f"{name} w{i} b{i}", f"c{i}", {"pads": [1] * 4}), ("Relu", f"c{i}", f"r{i}")]
        nodes.append(("Add", f"{name} r{i}", f"a{i}"))
        name = f"a{i}"
    return given(nodes, tensors, [name], (1, 8, 8, 8))


def timed(folder: Path, path: Path, feeds: Feeds, **words: Any) -> tuple[float, AutoResult]:
    began = time.process_time()
    found = hybridq.auto(path, feeds, folder, threads=1, seconds=0.0, **words)
    return time.process_time() - began, found


def held(tmp_path: Path, blocks: int, limits: list[float], share: float | None) -> None:
    """The laws, for some limits and a share of the time that a search without any takes."""
    path, feeds = tmp_path / "m.onnx", feeds_of(1, 8)
    onnx.save(residual(blocks), path)
    began = time.process_time()
    first = hybridq.step1(path, feeds, tmp_path / "default", threads=1)
    hybridq.step2(tmp_path / "default", threads=1)
    hybridq.step3(tmp_path / "default", feeds, threads=1, seconds=0.0)
    steps = time.process_time() - began
    hybridq.step1(path, feeds, tmp_path / "plain", threads=1, weights_repair="none")
    hybridq.step2(tmp_path / "plain", threads=1)
    if share is not None:
        limits = [*limits, share * timed(tmp_path / "whole", path, feeds)[0]]
    for limit in limits:
        seconds, found = timed(tmp_path / f"{limit}", path, feeds, time=limit)
        built = [tmp_path / name / "hybrid.onnx" for name in ("plain", "default", f"{limit}")]
        _, default, auto = damages(path, first.state.model, built, feeds)  # weighed as the search does, by no repairs
        assert auto <= default * (1 + 1e-6)
        assert seconds <= limit + 2 * steps + SLACK
    if share is not None:
        assert found.found.layers
        assert len(found.found.content["measured"]) > 1


def test_a_small_search_keeps_its_time_and_is_never_worse_than_the_default(tmp_path: Path) -> None:
    held(tmp_path, 8, [0.01], 0.5)


@pytest.mark.slow
def test_a_search_of_sixty_layers_keeps_its_time_and_is_never_worse_than_the_default(tmp_path: Path) -> None:
    held(tmp_path, 30, [0.01, 4.0], 0.5)


class TestShares:
    def test_a_part_is_a_share_of_what_is_left_and_what_follows_keeps_its_own(self) -> None:
        whole = Deadline(10.0).keeping(2.0)
        assert 7 < whole.left <= 8
        assert 1.9 < whole.part(0.25).left <= 2
        assert 2.9 < Deadline(1e-9).part(0.25, 3.0).left <= 3
        assert Deadline(10.0).keeping(9.0).rest == 5
        assert Deadline().keeping(9.0).part(0.1).left == float("inf")

    def test_work_ends_as_soon_as_it_tells_of_itself(self) -> None:
        told: list[int] = []

        def progress(_: str, done: int, total: int | None) -> None:
            told.append(done)

        Deadline().ending(progress)("work", 1, 2)
        with pytest.raises(TimeUp):
            Deadline(1e-9).ending(progress)("work", 2, 2)
        assert told == [1, 2]

    def test_what_has_a_share_of_the_time_leaves_the_rest_to_others(self) -> None:
        effort = Effort(deadline=Deadline(100.0))
        with effort.within(0.0):
            raise TimeUp
        assert not effort.deadline.over
        with pytest.raises(TimeUp), Effort(deadline=Deadline(1e-9)).within(0.5):
            raise TimeUp
        with pytest.raises(TimeUp), Effort().within(0.5):
            raise TimeUp


class Additive:
    """A bench on which what variants do adds up, and is counted."""

    def __init__(self, harm: dict[str, float]) -> None:
        self.harm, self.measured = harm, 0

    def damages(self, variants: list[Forms], samples: list[int], what: str) -> Any:
        self.measured += len(variants)
        return np.array([sum(self.harm[key[1]] for key in v) for v in variants])


@pytest.mark.parametrize("most", [12, 30, 64, 200])
def test_stretches_close_in_on_what_does_the_damage(most: int) -> None:
    """However few measurements there may be, their number is kept, nothing is lost, and the worst stands out."""
    names = [f"g{i}" for i in range(150)]
    bench: Any = Additive(dict.fromkeys(names, 0.01) | {"g37": 5.0, "g120": 3.0})
    forms: dict[str, Forms] = {n: {("tensor", n): None} for n in names}
    found = of_groups(bench, forms, [0], most)
    assert bench.measured <= max(most, 1) * 1.5
    assert sum(found.values()) == pytest.approx(sum(bench.harm.values()))
    worst = max(found, key=lambda n: found[n])
    assert abs(int(worst[1:]) - 37) <= 150 / most
    if most >= 30:
        assert {"g37", "g120"} <= set(sorted(found, key=lambda n: -found[n])[:12])

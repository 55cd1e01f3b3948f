"""A comparison gives the same report wherever its samples run, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdq_models
from test_compare import FLOAT, HYBRID

import hybridq
from hybridq.compare import Inside, Runs, compare
from hybridq.execution.pool import Here, Pool, pool
from hybridq.execution.workers import Workers

SAMPLES = qdq_models.samples() * 3


class Backwards(Executor):
    """Begins what it was given last."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any, Any]] = []

    def submit(self, work: Any, /, *arguments: Any, **words: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, work, arguments))
        if len(self.waiting) == 2:
            self.shutdown()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.waiting:
            future, work, arguments = self.waiting.pop()
            future.set_result(work(*arguments))


def figures(place: Pool | None) -> str:
    models = FLOAT, HYBRID
    found = compare(*models, SAMPLES, inside=Inside(qdq_models.pairs()), runs=Runs(threads=1, pool=place))
    return repr((found.layers, found.outputs, found.drift, found.warnings))


def test_layers_are_the_same_on_any_executor() -> None:
    plain = figures(None)
    for count in (1, 3):
        with ThreadPoolExecutor(count) as threads:
            assert figures(Pool(threads, count, 1)) == plain


def report(folder: Path, **options: Any) -> str:
    found = hybridq.step3("build", "many.txt", threads=1, seconds=0, **options).to_json()
    return json.dumps(found, sort_keys=True)


@pytest.fixture
def many(folder: Path) -> Path:
    (folder / "many.txt").write_text("".join(f"{i % 8}.png\n" for i in range(22)))
    return folder


def test_step3_is_the_same_with_processes(many: Path) -> None:
    plain = report(many)
    assert report(many, workers=2) == plain
    with ThreadPoolExecutor(1) as threads:
        assert report(many, executor=threads) == plain


def test_a_worker_that_is_killed_is_replaced(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = report(many)
    with Workers(2) as processes:
        kill_once = many / "kill"
        kill_once.touch()
        processes.submit(_die, str(kill_once))
        assert report(many, executor=processes) == plain
        assert not kill_once.exists()


def _die(marker: str) -> None:
    Path(marker).unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_shared_is_written_once(tmp_path: Path) -> None:
    with pool(workers=2) as place:
        assert place is not None
        shared = place.share(np.arange(1000))
        assert len(str(shared)) < 300
        assert list(place.over(_sum_of, [(shared, n) for n in range(5)])) == [499500 + n for n in range(5)]
    assert Here(3).value == 3


def _sum_of(shared: Any, more: int) -> int:
    return int(shared.value.sum()) + more


def test_a_wrong_sample_is_told_by_its_line(many: Path) -> None:
    (many / "bad.npy").write_bytes(b"nothing")
    (many / "many.txt").write_text("0.png\n" * 9 + "bad.npy\n")
    for options in ({}, {"workers": 2}):
        with pytest.raises(hybridq.HybridqError, match=r"many.txt:10"):
            report(many, **options)


@pytest.mark.parametrize(("count", "workers", "size"), [(20, 2, 5), (1000, 2, 16), (3, 8, 1), (None, 2, 16), (0, 2, 1)])
def test_a_shard_is_a_quarter_of_two_workers_work_or_less(count: int | None, workers: int, size: int) -> None:
    assert Pool(Backwards(), workers, 1).portion(count, 16) == size

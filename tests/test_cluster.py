"""A Dask cluster of worker processes gives the same bytes, and survives a worker that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hybridq
from hybridq.errors import HybridqError, OptionError
from hybridq.execution import cluster as clusters
from hybridq.execution.cluster import Cluster
from hybridq.execution.spread import spread
from hybridq.execution.workers import Workers

distributed = pytest.importorskip("distributed")
cloudpickle = pytest.importorskip("cloudpickle")
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("dask")]
STARTS = 6
FILES = ("model.json", "weights.data", "model.quantization.cfg")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    with _local_cluster() as local:
        yield local.scheduler_address


def _local_cluster() -> Any:
    """Two worker processes; Dask gives its event loop ten seconds to start, which a busy machine may not have."""
    for _ in range(STARTS - 1):
        with contextlib.suppress(AssertionError):
            return distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None)
    return distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None)


def die_once(number: int, folder: str) -> int:
    """Twice a number; the first worker that computes it is killed at it."""
    died = Path(folder) / str(number)
    if number == 3 and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def test_a_cluster_gives_the_same_files(folder: Path, scheduler: str) -> None:
    (folder / "long.txt").write_text("".join(f"{i % 8}.png\n" for i in range(70)))
    plain = hybridq.step1("small.onnx", "long.txt", "plain", std="255", threads=1)
    far = hybridq.step1("small.onnx", "long.txt", "far", std="255", threads=1, cluster=scheduler)
    for name in FILES:
        assert (folder / "plain" / name).read_bytes() == (folder / "far" / name).read_bytes()
    assert far.rows == plain.rows


def test_a_cluster_gives_the_same_report_and_search(folder: Path, scheduler: str) -> None:
    (folder / "long.txt").write_text("".join(f"{i % 8}.png\n" for i in range(22)))
    plain, far = (
        hybridq.step3("build", "long.txt", threads=1, seconds=0, **options).to_json()
        for options in ({}, {"cluster": scheduler})
    )
    assert json.dumps(plain, sort_keys=True) == json.dumps(far, sort_keys=True)
    for name in ("near", "far"):
        hybridq.step1("small.onnx", "dataset.txt", name, threads=1, every_algorithm=True)
    one, other = (
        hybridq.propose(name, threads=1, **options).content
        for name, options in (("near", {}), ("far", {"cluster": scheduler}))
    )
    assert one == other


def work(milliseconds: int) -> int:
    """Keep a processor busy."""
    end = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < end:
        sum(range(1000))
    return milliseconds


def seconds(pool: Any) -> float:
    """Of twenty shards that take 50 ms of a processor each."""
    began = time.perf_counter()
    assert sum(found for _, found in spread(work, [(50,)] * 20, pool, 2 * pool.count)) == 1000
    return time.perf_counter() - began


@pytest.mark.slow
def test_a_cluster_is_nearly_as_fast_as_processes(scheduler: str) -> None:
    with Cluster(scheduler) as far, Workers(2) as near:
        ratios = []
        for _ in range(9):  # one after the other, so that others' load is in both
            ratios.append(seconds(far) / seconds(near))
            if sum(ratio < 1.2 for ratio in ratios) >= 3:
                return
        raise AssertionError(f"times slower, round by round: {ratios}")


def test_a_worker_that_is_killed_in_mid_shard_is_survived(tmp_path: Path, scheduler: str) -> None:
    with Cluster(scheduler) as pool:
        found = sorted(spread(die_once, [(n, str(tmp_path)) for n in range(6)], pool, 2 * pool.count))
    assert found == [(n, 2 * n) for n in range(6)]


def test_an_error_of_the_work_is_its_own(scheduler: str) -> None:
    with Cluster(scheduler) as pool, pytest.raises(ZeroDivisionError):
        list(spread(divmod, [(1, 0)], pool, 2))


def test_where_nobody_answers_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "ANSWERS", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(HybridqError, match="no Dask scheduler answers"):
            Cluster(address)


def test_without_dask_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(OptionError, match="needs Dask"):
        Cluster("tcp://127.0.0.1:9")


def test_a_cluster_has_its_own_workers(folder: Path) -> None:
    with pytest.raises(OptionError, match="workers of its own"):
        hybridq.step1("small.onnx", "dataset.txt", "new", workers=2, cluster="tcp://127.0.0.1:9")

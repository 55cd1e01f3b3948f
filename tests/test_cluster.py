"""A Dask cluster of worker processes gives the same bytes, and survives a worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hybridq
from hybridq.errors import HybridqError, OptionError
from hybridq.execution import cluster as clusters
from hybridq.execution.cluster import Cluster
from hybridq.execution.spread import spread

distributed = pytest.importorskip("distributed")
cloudpickle = pytest.importorskip("cloudpickle")
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("dask")]
FILES = ("model.json", "weights.data", "model.quantization.cfg")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two worker processes."""
    try:
        made: Any = distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None)
    except AssertionError:
        pytest.skip("Dask's event loop did not start within the ten seconds that it waits: the machine is too busy")
    with made as local:
        yield local.scheduler_address


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

"""``Pool``: where shards of a long computation go, and what all of them need, handed once to each worker.

A computation is a pure function over a shard; results come back in the order of the shards, wherever and whenever they
were made, so that whatever is added up of them is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hybridq.execution.cluster import Cluster
from hybridq.execution.shared import Here
from hybridq.execution.spread import in_order, spread
from hybridq.execution.workers import Workers, share_of_threads

T = TypeVar("T")


@dataclass(frozen=True)
class Pool:
    """An executor with so many ``workers``, each of which may have so many ``threads`` of ONNX Runtime."""

    executor: Executor
    workers: int
    threads: int

    def share(self, value: T) -> Any:
        """``value`` for the work: whatever is given to it in this place has a ``value``, too."""
        share: Callable[[T], Any] = getattr(self.executor, "share", Here)
        return share(value)

    def portion(self, count: int | None, most: int) -> int:
        """How much of ``count`` makes a shard: two a worker, so that none waits long, and ``most`` at most."""
        return most if count is None else max(1, min(most, -(-count // (2 * self.workers))))

    def over(self, work: Callable[..., Any], shards: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """``work(*shard)`` of every shard, in order, two a worker at a time."""
        at_once = 1 if self is HERE else 2 * self.workers
        return in_order(spread(work, shards, self.executor, at_once))


class _Here(Executor):
    """Computes what it is given at once, by whoever gives it."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **words: Any) -> Future[Any]:
        """``work(*arguments, **words)``, done."""
        found: Future[Any] = Future()
        try:
            found.set_result(work(*arguments, **words))
        except Exception as error:  # whoever asks for the result gets it
            found.set_exception(error)
        return found


HERE = Pool(_Here(), 1, 0)  # nobody else


@contextmanager
def pool(
    workers: int = 1, cluster: str | None = None, executor: Executor | None = None, threads: int = 0
) -> Iterator[Pool | None]:
    """Workers as they were asked for: somebody's executor, a Dask cluster, processes; None where one is enough."""
    if executor is not None:
        count = getattr(executor, "count", getattr(executor, "_max_workers", workers))
        yield Pool(executor, max(1, workers, count), threads or 1)
    elif cluster is not None:
        with Cluster(cluster) as found:
            yield Pool(found, found.count, threads or 1)
    elif workers > 1:
        with Workers(workers) as processes:
            yield Pool(processes, workers, threads or share_of_threads(workers))
    else:
        yield None

"""The workers of a Dask cluster as an executor; ``pip install 'hybridq[dask]'``.

They import hybridq and read samples under the paths that the command sees: a folder that all share.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from hybridq.errors import HybridqError, OptionError
from hybridq.execution.shared import Here

ANSWERS = 10  # seconds within which a scheduler does


class Cluster(Executor):
    """The workers of the scheduler at ``address``; ``count`` shards are computed at a time.

    Dask gives a shard whose worker died to another one by itself. Raises OptionError where Dask is not installed, and
    HybridqError where no scheduler answers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise OptionError("a cluster needs Dask", hint="pip install 'hybridq[dask]'") from error
        try:
            self._client = Client(address, timeout=ANSWERS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            hint = "Give the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786."
            raise HybridqError(f"no Dask scheduler answers at {address!r}", hint=hint) from error
        self._executor = self._client.get_executor(pure=False)  # type: ignore[no-untyped-call]
        self.count = max(1, sum(self._client.nthreads().values()))  # type: ignore[no-untyped-call]

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **words: Any) -> Future[Any]:
        """Compute ``work(*arguments, **words)`` somewhere."""
        outer: Future[Any] = Future()
        self._executor.submit(work, *arguments, **words).add_done_callback(lambda found: _hand_on(found, outer))
        return outer

    def share(self, value: Any) -> Any:
        """Something for all workers: it is sent once, and from one to the other.

        It is a task like others, so that what a worker held that died is made again.
        """
        return self._client.submit(Here, value, pure=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the cluster go; its workers stay."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()  # type: ignore[no-untyped-call]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Let the cluster go; after an exception without waiting for what nobody will read."""
        self.shutdown(cancel_futures=kind is not None)


def _hand_on(found: Future[Any], outer: Future[Any]) -> None:
    if outer.cancelled():
        return
    if found.cancelled():
        outer.set_exception(HybridqError("the Dask cluster gave up a shard", hint="Look at its scheduler's log."))
    elif (error := found.exception()) is None:
        outer.set_result(found.result())
    elif type(error).__name__ == "KilledWorker":
        hint = "Mostly the memory is too small: give its workers more, or fewer threads."
        outer.set_exception(HybridqError("workers of the cluster died at the same shard, again and again", hint=hint))
    else:
        outer.set_exception(error)

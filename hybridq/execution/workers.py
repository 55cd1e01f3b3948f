"""Worker processes: one that dies is replaced and its shard repeated; none outlives the command that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from hybridq.errors import HybridqError

TRIES = 3  # times that a shard is given to a worker
LOOK = 0.5  # seconds between two looks at whether the parent is there


class Workers(Executor):
    """``count`` processes that compute pure functions of picklable arguments, as any executor does.

    A shard whose worker dies (out of memory, killed) is given to a new one, up to ``TRIES`` times; then its future
    holds a HybridqError.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._pool = self._start()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **words: Any) -> Future[Any]:
        """Compute ``work(*arguments, **words)`` in a process."""
        outer: Future[Any] = Future()
        self._give(outer, 1, work, arguments, words)
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with ``cancel_futures`` at once, whatever they are at."""
        running = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=wait and not cancel_futures, cancel_futures=cancel_futures)
        for process in running if cancel_futures else ():
            process.kill()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End the processes; after an exception without waiting for what nobody will read."""
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would copy ONNX Runtime's threads half alive
        return ProcessPoolExecutor(self._count, context, initializer=_begin, initargs=(os.getpid(),))

    def _give(self, outer: Future[Any], turn: int, work: Callable[..., Any], arguments: Any, words: Any) -> None:
        with self._lock:
            pool = self._pool
            try:
                inner = pool.submit(work, *arguments, **words)
            except BrokenProcessPool:
                pool = self._pool = self._start()
                inner = pool.submit(work, *arguments, **words)

        def done(found: Future[Any]) -> None:
            if found.cancelled() or not outer.set_running_or_notify_cancel():
                outer.cancel()
                return
            error = found.exception()
            if isinstance(error, BrokenProcessPool) and turn < TRIES:
                self._replace(pool)
                threading.Thread(target=again, daemon=True).start()  # not in the dying pool's own thread
            elif isinstance(error, BrokenProcessPool):
                outer.set_exception(_died(error))
            elif error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(found.result())

        def again() -> None:
            repeated: Future[Any] = Future()
            repeated.add_done_callback(lambda f: _copy(f, outer))
            self._give(repeated, turn + 1, work, arguments, words)

        inner.add_done_callback(done)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = self._start()


def _copy(found: Future[Any], outer: Future[Any]) -> None:
    error = found.exception()
    if error is not None:
        outer.set_exception(error)
    else:
        outer.set_result(found.result())


def _died(error: BaseException) -> HybridqError:
    found = HybridqError(
        f"a worker process died {TRIES} times at the same shard",
        hint="Mostly the memory is too small: take fewer --workers.",
    )
    found.__cause__ = error
    return found


def _begin(parent: int) -> None:
    """In a worker: the parent alone answers Ctrl-C, and the worker ends when the parent is gone."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)

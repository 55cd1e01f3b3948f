"""Worker processes: new ones where one died; none outlives the command that started it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from hybridq.execution.shared import OnDisk
from hybridq.files.temporary import Scratch

T = TypeVar("T")

LOOK = 0.5  # seconds between two looks at whether the parent is there


class Workers(Executor):
    """``count`` processes that compute pure functions of picklable arguments, as any executor does.

    Where one of them dies (out of memory, killed) all that was given to them fails with ``BrokenProcessPool``, as in
    Python's own pool; but what is given afterwards goes to new ones (``spread`` gives it again).
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._scratch = Scratch()
        self._pool = self._start()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **words: Any) -> Future[Any]:
        """Compute ``work(*arguments, **words)`` in a process."""
        try:
            return self._pool.submit(work, *arguments, **words)
        except BrokenProcessPool:
            self._pool = self._start()
            return self._pool.submit(work, *arguments, **words)

    def share(self, value: T) -> OnDisk[T]:
        """Something for all processes: a file that each reads once."""
        with self._scratch.folder() as folder:
            path = folder / f"{len(list(folder.iterdir()))}.pickle"
            path.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        return OnDisk(path)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; with ``cancel_futures`` at once, whatever they are at."""
        running = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=wait and not cancel_futures, cancel_futures=cancel_futures)
        for process in running if cancel_futures else ():
            process.kill()
        self._scratch.remove()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """End the processes; after an exception without waiting for what nobody will read."""
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would copy ONNX Runtime's threads half alive
        return ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=(os.getpid(),))


def share_of_threads(workers: int) -> int:
    """The threads of ONNX Runtime that each of so many workers of one machine may have, so that no core has two."""
    return max(1, (os.cpu_count() or 1) // max(1, workers))


def _begin(parent: int) -> None:
    """In a worker: the parent alone answers Ctrl-C, and the worker ends when the parent is gone."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)

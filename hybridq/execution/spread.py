"""Pure functions over shards, on any executor: a shard whose worker died is given to another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from itertools import islice
from typing import Any

from hybridq.errors import HybridqError

TRIES = 3  # times that a shard is given to a worker


def spread(
    work: Callable[..., Any], shards: Iterable[tuple[Any, ...]], executor: Executor, at_once: int
) -> Iterator[tuple[int, Any]]:
    """Compute ``work(*shard)`` of every shard, never more than ``at_once`` at a time; results as they come.

    Gives the shard's number, from 0, with its result. ``work`` may be computed more than once: a shard whose worker
    died is repeated, up to ``TRIES`` times. Raises HybridqError after that, and else what the work raises.
    """
    waiting = enumerate(shards)
    running: dict[Future[Any], tuple[int, tuple[Any, ...], int]] = {}
    try:
        while True:
            for number, shard in islice(waiting, max(at_once, 1) - len(running)):
                running[executor.submit(work, *shard)] = number, shard, 1
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, shard, turn = running.pop(future)
                if isinstance(future.exception(), BrokenExecutor):
                    running[_again(executor, work, shard, turn)] = number, shard, turn + 1
                else:
                    yield number, future.result()
    finally:
        for future in running:
            future.cancel()


def in_order(found: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    """Results by their numbers, from 0 on; those that come early wait."""
    early: dict[int, Any] = {}
    following = 0
    for number, result in found:
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _again(executor: Executor, work: Callable[..., Any], shard: tuple[Any, ...], turn: int) -> Future[Any]:
    """Give a shard to a new worker. Raises HybridqError where it had enough, or where there is no new one."""
    hint = "Mostly the memory is too small: take fewer --workers."
    if turn >= TRIES:
        raise HybridqError(f"a worker process died {TRIES} times at the same shard", hint=hint)
    try:
        return executor.submit(work, *shard)
    except BrokenExecutor as error:
        raise HybridqError("a worker process died, and its executor gives no new one", hint=hint) from error

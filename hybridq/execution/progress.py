"""``Progress``: whoever works tells how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int, int | None], object]  # what is done, how much of it, of how much (None: unknown)


def no_progress(what: str, done: int, total: int | None) -> None:
    """Say nothing."""


def counted(items: Iterable[T], what: str, total: int | None, progress: Progress) -> Iterator[T]:
    """The items; each counts as done once the next is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        progress(what, done, total)

"""What every shard needs, handed once to each worker: the work is given something that has it as its ``value``."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T", covariant=True)


class Shared(Protocol[T]):
    """Something that every worker holds once; it is passed to the work instead of the thing itself."""

    @property
    def value(self) -> T:
        """The thing, in whatever process."""


@dataclass(frozen=True)
class Here(Generic[T]):
    """A thing that travels as it is: within a process, or by an executor that knows what it has sent before."""

    value: T


@dataclass(frozen=True)
class OnDisk(Generic[T]):
    """A thing in a file that this machine's processes read once each."""

    path: Path

    @property
    def value(self) -> T:
        """The thing, read when it is first asked for."""
        found: T = _read(self.path)
        return found


@lru_cache(maxsize=2)
def _read(path: Path) -> Any:
    return pickle.loads(path.read_bytes())

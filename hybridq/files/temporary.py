"""Temporary folders: where there is none, or no room in it, the message says so and blames nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from hybridq.errors import HybridqError, StorageError
from hybridq.files.reading import said

T = TypeVar("T")
PREFIX = "hybridq-"
HINT = "Set TMPDIR to a folder that can be written and has room."
PROBE = 1 << 16  # bytes that a folder with room takes


@contextmanager
def temporary_folder(needed: int = PROBE) -> Iterator[Path]:
    """A folder that disappears afterwards, for some ``needed`` bytes.

    Raises StorageError that names the temporary folder where it cannot be made, or where what goes wrong inside goes
    wrong for want of room.
    """
    made = _made(lambda: tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True))
    with made as name, _telling(Path(name), needed):
        yield Path(name)


class Scratch:
    """A temporary folder for what several steps of a command share; it goes with this object."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._remove: Callable[[], object] = list  # nothing to do

    @contextmanager
    def folder(self, needed: int = PROBE) -> Iterator[Path]:
        """The folder, for some ``needed`` bytes more; raises as ``temporary_folder`` does."""
        if self._folder is None:
            self._folder = Path(_made(lambda: tempfile.mkdtemp(prefix=PREFIX)))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        with _telling(self._folder, needed):
            yield self._folder

    def remove(self) -> None:
        """Remove the folder at once."""
        self._remove()


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except OSError as error:
        raise StorageError(f"there is no temporary folder: {said(error)}", hint=HINT) from error


@contextmanager
def _telling(folder: Path, needed: int) -> Iterator[None]:
    """Say that the temporary folder is full where that is what went wrong."""
    try:
        yield
    except (HybridqError, OSError) as error:
        full = _full(folder, needed)
        if full:
            raise StorageError(f"no room in the temporary folder: {full}", path=str(folder), hint=HINT) from error
        raise


def _full(folder: Path, needed: int) -> str:
    """Why ``needed`` more bytes do not go into a folder; empty when they do."""
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.truncate(0)
            for start in range(0, needed, PROBE):
                file.write(b"\0" * min(PROBE, needed - start))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        return said(error)
    return ""

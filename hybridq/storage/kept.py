"""What took long and is not done: arrays of a command that may be killed, for the next one to go on with.

They lie in a folder of their own inside the command's, a file each, named by a digest of what they were made of: what
was made of anything else is never found. A file is there whole or not at all; none is written in the first seconds,
and the folder goes when the command ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = ".hybridq-kept"
SECONDS = 2.0  # between two times that something is written
UNREADABLE = (OSError, ValueError, EOFError)  # a damaged file is one that is not there

Array = NDArray[Any]
Part = str | int | float | Array | Mapping[str, Any] | Sequence[Any]


@dataclass(eq=False)
class Kept:
    """Arrays by the digest of what they were made of, in ``folder``; without one nothing is kept."""

    folder: Path | None = None
    waiting: dict[str, Array] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)

    def key(self, *parts: Part) -> str:
        """A name for what is made of these parts; the empty name, which nothing has, where nothing is kept."""
        if self.folder is None:
            return ""
        digest = hashlib.sha256()
        for part in parts:
            _take_in(digest, part)
        return digest.hexdigest()

    def get(self, key: str, shape: tuple[int, ...], dtype: Any) -> Array | None:
        """What an earlier command made, if it is of this shape and type."""
        if self.folder is None or self.folder.is_symlink():
            return None
        found = self.waiting.get(key)
        if found is None:
            try:
                found = np.load(self.folder / f"{key}.npy", allow_pickle=False)
            except UNREADABLE:
                return None
        return found if isinstance(found, np.ndarray) and found.shape == shape and found.dtype == dtype else None

    def put(self, key: str, made: Array) -> None:
        """Keep an array; it is on the disk some seconds later."""
        if self.folder is None:
            return
        self.waiting[key] = made
        if time.monotonic() - self.written >= SECONDS:
            self._write(self.folder)

    def _write(self, folder: Path) -> None:
        """A disk that is full costs what would be lost by a kill, nothing else."""
        with contextlib.suppress(OSError):
            if not folder.is_symlink():
                folder.mkdir(parents=True, exist_ok=True)
                for key, made in self.waiting.items():
                    part = folder / f"{key}.part"
                    with part.open("wb") as file:
                        np.save(file, made, allow_pickle=False)
                    part.replace(folder / f"{key}.npy")
        self.waiting.clear()
        self.written = time.monotonic()

    def drop(self) -> None:
        """Nothing is kept any longer."""
        self.waiting.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


NOTHING = Kept()


@contextmanager
def kept_in(directory: Path, kept: Kept | None = None) -> Iterator[Kept]:
    """What is ``kept`` for the whole command, or for what is done here, in ``directory``.

    It stays where the command is stopped from outside, and goes when it ends by itself, well or not.
    """
    if kept is not None:
        yield kept
        return
    own = Kept(directory / FOLDER)
    try:
        yield own
    except Exception:
        own.drop()
        raise
    own.drop()


def _take_in(digest: Any, part: Any) -> None:
    """A part with its kind and length, so that no two lists of parts read alike."""
    if isinstance(part, np.ndarray):
        digest.update(f"array {part.dtype.str} {part.shape};".encode())
        digest.update(np.ascontiguousarray(part).tobytes() if part.dtype.kind == "O" else np.ascontiguousarray(part))
    elif isinstance(part, Mapping):
        digest.update(f"mapping {len(part)};".encode())
        for name in sorted(part):
            _take_in(digest, name)
            _take_in(digest, part[name])
    elif isinstance(part, (list, tuple)):
        digest.update(f"list {len(part)};".encode())
        for one in part:
            _take_in(digest, one)
    else:
        text = f"{type(part).__name__} {part!r}".encode("utf-8", "surrogatepass")
        digest.update(f"{len(text)};".encode() + text)

"""Before a file is read it is looked at: a regular file, of a size that makes sense; every fault in our words."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from hybridq.errors import HybridqError, Problem, StorageError

KINDS = {
    stat.S_IFDIR: "a folder stands where a file is expected",
    stat.S_IFIFO: "a pipe (FIFO) stands where a file is expected",
    stat.S_IFCHR: "a device stands where a file is expected",
    stat.S_IFBLK: "a device stands where a file is expected",
    stat.S_IFSOCK: "a socket stands where a file is expected",
}


def said(error: OSError) -> str:
    """What the system found wrong, in its own few words and without a number."""
    return error.strerror or str(error) or type(error).__name__


def exists(path: Path) -> bool:
    """Whether anything has this name; a name that no file can have has nothing."""
    return os.path.lexists(path)


def look_at(
    path: Path, error: type[HybridqError] = StorageError, *, missing: str = "no such file", hint: str = ""
) -> int:
    """The size in bytes of a regular file (or of what a link leads to).

    Raises ``error`` for anything else, before it is opened: what is read from a pipe or a device may never end.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as wrong:
        raise error(missing, path=str(path), hint=hint) from wrong
    except (OSError, ValueError) as wrong:
        text = said(wrong) if isinstance(wrong, OSError) else str(wrong)
        raise error(f"cannot be opened: {text}", path=str(path)) from wrong
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind:
        raise error(kind, path=str(path), hint=hint)
    return found.st_size


def read_bytes(
    path: Path,
    error: type[HybridqError] = StorageError,
    *,
    limit: int | None = None,
    missing: str = "no such file",
    hint: str = "",
) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises ``error``, in our words, where there is none."""
    size = look_at(path, error, missing=missing, hint=hint)
    if limit is not None and size > limit:
        raise error(Problem(f"has {size} bytes, more than {limit}: not what is expected here", str(path), 1, hint=hint))
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise error(f"cannot be read: {said(wrong)}", path=str(path)) from wrong


def read_text(path: Path, error: type[HybridqError] = StorageError, **words: Any) -> str:
    """The UTF-8 text of a regular file, whatever the locale; ``words`` are those of ``read_bytes``."""
    try:
        return read_bytes(path, error, **words).decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise error("damaged: no UTF-8 text", path=str(path), hint=words.get("hint", "")) from wrong


def read_json(path: Path, error: type[HybridqError] = StorageError, **words: Any) -> Any:
    """The JSON of a regular file; ``words`` are those of ``read_bytes``."""
    text = read_text(path, error, **words)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise error(f"is no JSON: {wrong}", path=str(path)) from wrong


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with plain line ends, the same bytes on every system."""
    path.write_bytes(text.encode("utf-8"))

"""Whether something can be written to a place: asked before the work, whose result would be lost."""

from __future__ import annotations

import os
from pathlib import Path

from hybridq.errors import StorageError
from hybridq.files.reading import exists, said

HINT = "Give another -o."


def need_folder(folder: Path, hint: str = HINT) -> None:
    """Refuse a folder that cannot be made or written to; nothing is changed. Raises StorageError."""
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        text = said(error) if isinstance(error, OSError) else str(error)
        raise StorageError(f"cannot be a folder: {text}", path=str(folder), hint=hint) from error
    standing = next((one for one in (folder, *folder.parents) if exists(one)), Path())
    if not standing.exists():
        raise StorageError("a link that leads nowhere stands here", path=str(standing), hint=hint)
    if not standing.is_dir():
        raise StorageError("a file stands where a folder is expected", path=str(standing), hint=hint)
    if not os.access(standing, os.W_OK | os.X_OK):
        raise StorageError("cannot be written to", path=str(standing), hint=hint)


def need_file(path: Path, hint: str = HINT) -> None:
    """Refuse a file where a folder stands, or whose folder cannot be made or written to. Raises StorageError."""
    need_folder(path.parent, hint)
    if path.is_dir():
        raise StorageError("a folder stands where a file is expected", path=str(path), hint=hint)

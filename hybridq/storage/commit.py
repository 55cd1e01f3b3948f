"""Writing several files as one: DIR always holds one whole state, whatever interrupts the writer.

New files go to a folder inside DIR, are synced, marked committed, then renamed. ``recover`` finishes a commit that was
marked and discards one that was not; every command calls it first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridq.errors import StorageError

FOLDER = ".hybridq-new"
MARK = "COMMITTED.json"


@contextmanager
def commit(directory: Path, remove: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder to write new files into; on leaving they replace those of ``directory`` together.

    Files named in ``remove`` disappear with the same commit (results that the new state makes void). After an
    exception nothing has changed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make this folder: {error.strerror}", path=str(directory)) from error
    with _locked(directory):
        _recover(directory)
        new = directory / FOLDER
        try:
            new.mkdir()
            yield new
            _mark(new, remove)
        except OSError as error:
            _discard(new)
            raise StorageError(f"cannot write here: {error.strerror or error}", path=str(directory)) from error
        except BaseException:
            _discard(new)
            raise
        _recover(directory)


def recover(directory: Path) -> None:
    """Finish or discard an interrupted commit. Raises StorageError while another command is writing."""
    if (directory / FOLDER).exists():
        with _locked(directory):
            _recover(directory)


def _mark(new: Path, remove: tuple[str, ...]) -> None:
    """Sync everything, then say by one rename that it counts."""
    names = sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file())
    for name in names:
        _sync(new / name)
    gone = [r for r in remove if not any(n == r or n.startswith(f"{r}/") for n in names)]
    mark = new / (MARK + ".part")
    mark.write_text(json.dumps({"files": names, "remove": gone}))
    _sync(mark)
    for folder in {(new / n).parent for n in names} - {new}:
        _sync(folder)
    mark.replace(new / MARK)
    _sync(new)


def _discard(new: Path) -> None:
    """Throw a commit away: its mark first, so that half of it can never count."""
    (new / MARK).unlink(missing_ok=True)
    shutil.rmtree(new, ignore_errors=True)


def _recover(directory: Path) -> None:
    new = directory / FOLDER
    if not new.exists():
        return
    try:
        if (new / MARK).exists():
            _finish(directory, new)
        shutil.rmtree(new)
    except OSError as error:
        where = error.filename2 or error.filename or directory
        raise StorageError(f"cannot finish an interrupted write: {error.strerror}", path=str(where)) from error


def _finish(directory: Path, new: Path) -> None:
    todo = json.loads((new / MARK).read_text())
    for name in todo["files"]:
        if (new / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(directory / name)
    for name in todo["remove"]:
        _remove(directory / name)
    for folder in {(directory / n).parent for n in todo["files"]} | {directory}:
        _sync(folder)
    (new / MARK).unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other hybridq commands from writing the same folder meanwhile; no file is left behind."""
    if os.name == "nt":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"cannot read this folder: {error.strerror}", path=str(directory)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError("another hybridq command is writing this folder", path=str(directory)) from error
        yield
    finally:
        os.close(descriptor)

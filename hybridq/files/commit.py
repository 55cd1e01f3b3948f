"""Writing several files as one: DIR always holds one whole state, whatever interrupts the writer.

New files go to a folder inside DIR, are synced, marked committed, then renamed. A writing command first finishes a
commit that was marked and discards one that was not; a reading command reads through a valid mark and writes nothing.
A mark may lie in a folder that somebody sent: it moves and removes names that are ours, inside DIR, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path, PurePosixPath
from typing import Any

from hybridq.errors import StorageError
from hybridq.files import limits
from hybridq.files.reading import exists, read_json, said, write_text

FOLDER = ".hybridq-new"
MARK = "COMMITTED.json"
OURS = {
    *("model.json", "weights.data", "model.quantization.cfg", "model.quantization.cfg.old", "cfg-1.schema.json"),
    *("hybrid.onnx", "hybrid.onnx.data", "build.json", "search.json", "search.log", "sources.json"),
    *("report", "dump", "export"),
}
MODELS = (".onnx", ".onnx.data")  # what step2 -o may be called
PATIENCE, PAUSE = 10.0, 0.05  # seconds that a command waits for another's writing, and between two looks


class _Held(threading.local):
    """The folders that this thread is committing to: it reads them without waiting for itself."""

    def __init__(self) -> None:
        self.folders: set[Path] = set()


_HELD = _Held()


@dataclass(frozen=True)
class Mark:
    """What a commit moves into DIR and removes from it: names relative to DIR, ours and nothing else."""

    files: tuple[str, ...]
    remove: tuple[str, ...]


@dataclass(frozen=True)
class Committed:
    """The committed state of DIR: what stands in it, or in a commit that was marked and not finished."""

    directory: Path
    mark: Mark | None = None

    def path(self, name: str) -> Path:
        """Where the file of this name lies; the path of a file that is not there when nothing has it."""
        new = self.directory / FOLDER / name
        if self.mark is None:
            return self.directory / name
        if name in self.mark.files and exists(new):
            return new
        if any(name == gone or name.startswith(f"{gone}/") for gone in self.mark.remove):
            return new
        return self.directory / name


def is_ours(name: str) -> bool:
    """Whether hybridq may move or remove a file of this name: one it writes, inside DIR."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or any(p in ("..", ".") for p in parts):
        return False
    return parts[0] in OURS or (len(parts) == 1 and name.endswith(MODELS))


@contextmanager
def commit(directory: Path, remove: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder to write new files into; on leaving they replace those of ``directory`` together.

    Files named in ``remove`` disappear with the same commit (results that the new state makes void). After an
    exception nothing has changed. Waits up to ``PATIENCE`` seconds for another command's writing.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make this folder: {said(error)}", path=str(directory)) from error
    with _locked(directory), _held(directory):
        _recover(directory)
        new = directory / FOLDER
        try:
            new.mkdir()
            yield new
            _mark(new, remove)
        except OSError as error:
            _discard(new)
            raise StorageError(f"cannot write here: {said(error)}", path=str(error.filename or directory)) from error
        except BaseException:
            _discard(new)
            raise
        _recover(directory)


@contextmanager
def reading(directory: Path) -> Iterator[Committed]:
    """The committed state of a folder while no other command changes it; nothing is written.

    Within this thread's own commit that is what stands in the folder. Raises StorageError where a commit's mark is
    damaged or names what is not ours, or where another command has been writing for longer than ``PATIENCE`` seconds.
    """
    if directory.resolve() in _HELD.folders:
        yield Committed(directory)
        return
    with _locked(directory, shared=True):
        new = directory / FOLDER
        yield Committed(directory, _read_mark(new) if _is_marked(new) else None)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    folder = directory.resolve()
    _HELD.folders.add(folder)
    try:
        yield
    finally:
        _HELD.folders.discard(folder)


def recover(directory: Path) -> None:
    """Finish or discard an interrupted commit. Raises StorageError while another command is writing."""
    if exists(directory / FOLDER):
        with _locked(directory):
            _recover(directory)


def _mark(new: Path, remove: tuple[str, ...]) -> None:
    """Sync everything, then say by one rename that it counts."""
    names = sorted(p.relative_to(new).as_posix() for p in new.rglob("*") if p.is_file())
    foreign = [name for name in (*names, *remove) if not is_ours(name)]
    assert not foreign, f"hybridq does not write {foreign}"
    for name in names:
        _sync(new / name)
    gone = [r for r in remove if not any(n == r or n.startswith(f"{r}/") for n in names)]
    mark = new / (MARK + ".part")
    write_text(mark, dumps({"files": names, "remove": gone}))
    _sync(mark)
    for folder in {(new / n).parent for n in names} - {new}:
        _sync(folder)
    mark.replace(new / MARK)
    _sync(new)


def _is_marked(new: Path) -> bool:
    """Whether a commit stands there that counts. Raises StorageError where ``new`` is something else than a folder."""
    try:
        kind = new.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"cannot be looked at: {said(error)}", path=str(new)) from error
    if not stat.S_ISDIR(kind):
        raise _planted(new, "is no folder, so hybridq did not make it")
    return exists(new / MARK)


def _planted(path: Path, why: str) -> StorageError:
    return StorageError(f"{FOLDER} {why}; nothing was changed", path=str(path), hint=f"Look at it, and remove {path}.")


def _read_mark(new: Path) -> Mark:
    """What a mark says, every name of it ours. Raises StorageError."""
    path = new / MARK
    if path.is_symlink():
        raise _planted(new, "holds a mark that is a link")
    data = read_json(path, limit=limits.MARK, hint=f"An interrupted write was damaged. Remove {new}.")
    if not isinstance(data, Mapping):
        raise _planted(new, "holds a damaged mark")
    mark = Mark(_names(new, data, "files"), _names(new, data, "remove"))
    for name in mark.files:
        _check_inside(new.parent, name, new)
        _check_inside(new, name, new)
        if exists(new / name) and not stat.S_ISREG((new / name).lstat().st_mode):
            raise _planted(new, f"holds '{name}', which is no file")
    for name in mark.remove:
        _check_inside(new.parent, name, new)
    return mark


def _names(new: Path, data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _planted(new, "holds a damaged mark")
    for name in found:
        if not is_ours(name):
            raise _planted(new, f"holds a mark that names {name!r}, which hybridq never writes")
    return tuple(found)


def _check_inside(root: Path, name: str, new: Path) -> None:
    """No folder on the way to ``root/name`` may be a link that leads elsewhere."""
    for parent in list(PurePosixPath(name).parents)[:-1]:
        if (root / parent).is_symlink():
            raise _planted(new, f"holds a mark for '{name}', but '{parent}' is a link")


def _discard(new: Path) -> None:
    """Throw a commit away: its mark first, so that half of it can never count.

    Where the disk does not even let the mark go, all stays: the next command finishes or discards it.
    """
    try:
        (new / MARK).unlink(missing_ok=True)
    except OSError:
        return
    shutil.rmtree(new, ignore_errors=True)


def _recover(directory: Path) -> None:
    new = directory / FOLDER
    try:
        if _is_marked(new):
            _finish(directory, new, _read_mark(new))
        if exists(new):
            shutil.rmtree(new)
    except OSError as error:
        where = error.filename2 or error.filename or directory
        raise StorageError(f"cannot finish an interrupted write: {said(error)}", path=str(where)) from error


def _finish(directory: Path, new: Path, mark: Mark) -> None:
    for name in mark.files:
        if exists(new / name):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).replace(directory / name)
    for name in mark.remove:
        _remove(directory / name)
    for folder in {(directory / n).parent for n in mark.files} | {directory}:
        _sync(folder)
    (new / MARK).unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
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
def _locked(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep other hybridq commands from writing the same folder meanwhile; no file is left behind."""
    if os.name == "nt":
        yield
        return
    import fcntl

    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"cannot read this folder: {said(error)}", path=str(directory)) from error
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    end = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    message = f"another hybridq command is writing this folder, for {PATIENCE:g} s now"
                    raise StorageError(message, path=str(directory), hint="Try again when it is done.") from error
                time.sleep(PAUSE)
        yield
    finally:
        os.close(descriptor)

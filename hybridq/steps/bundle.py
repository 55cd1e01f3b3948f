"""``bundle``: what a report of a fault needs, in one file, and nothing that was not asked for."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hybridq.errors import StorageError
from hybridq.execution.versions import versions
from hybridq.files.commit import reading
from hybridq.files.place import need_file
from hybridq.files.reading import exists, read_bytes, said
from hybridq.steps.common import BUILD, REPORT, SEARCH, read_state
from hybridq.storage.state import CFG, MODEL, WEIGHTS

RESULT = f"{REPORT}/report.json"
TOLD = (CFG, MODEL, BUILD, SEARCH, RESULT, f"{REPORT}/layers.csv")
VERSIONS = "versions.json"
DATE = (1980, 1, 1, 0, 0, 0)  # the same folder gives the same bytes


@dataclass(frozen=True)
class Bundle:
    """A file that was written, and the names in it."""

    path: Path
    names: tuple[str, ...]


def bundle(directory: Path | str, out: Path | str | None = None, *, weights: bool = False) -> Bundle:
    """Put the cfg, the graph without its weights, what was built and measured, and versions into one zip file.

    No weight, sample, path, host or user is in it unless ``weights`` asks for ``weights.data``, which holds the weights
    and the first calibration sample. Names of layers and ranges of tensors are. ``out`` is by default
    ``DIR-bundle.zip`` beside the folder; a file that is there is never replaced. Raises StorageError.
    """
    folder = Path(directory)
    if out is not None:
        need_file(Path(out))
    read_state(folder)  # a folder of ours, and whole
    whole = folder.resolve()
    path = Path(out) if out is not None else folder.parent / f"{whole.name}-bundle.zip"
    if exists(path):
        raise StorageError("is there already", path=str(path), hint="Give another name with -o.")
    with reading(folder) as view:
        names = [name for name in (*TOLD, *([WEIGHTS] if weights else [])) if view.path(name).is_file()]
        found = {name: read_bytes(view.path(name)) for name in names}
    if RESULT in found:
        found[RESULT] = _without_paths(found[RESULT], folder / RESULT)
    found[VERSIONS] = (json.dumps(versions(), indent=2) + "\n").encode()
    _write(path, found)
    return Bundle(path, tuple(found))


def _without_paths(data: bytes, path: Path) -> bytes:
    """A report without the commands that it advises, which name files, and with bare names of model and metric."""
    try:
        report = json.loads(data)
        for advice in ("actions", "slower"):
            report["verdict"].pop(advice, None)
        report["model"] = PurePosixPath(report["model"]).stem
        if report["metric"] is not None:
            report["metric"]["name"] = str(report["metric"].get("name", "")).replace("\\", "/").rsplit("/", 1)[-1]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StorageError("damaged: not hybridq's report", path=str(path), hint="Run step3 again.") from error
    return (json.dumps(report, indent=2) + "\n").encode()


def _write(path: Path, found: dict[str, bytes]) -> None:
    """The whole file, or none."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # left by a bundle that was killed; a link there is not followed
        with zipfile.ZipFile(part, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, data in found.items():
                archive.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_DEFLATED)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"cannot be written: {said(error)}", path=str(path)) from error

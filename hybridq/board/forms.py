"""The forms of dumps, each known by what lies in its folder. A form is one function and a line in ``FORMS``.

RKNN-Toolkit2's ``accuracy_analysis`` leaves ``map_name_to_file.txt`` (a name and a file a line), ``golden/``, what its
simulator computed in ``simulator/`` and, with a board attached, what that computed in ``runtime/``: a tensor a text
file, the same under ``npy/``. RKNN-Toolkit 1's leaves files ``{layer}_{id}_out0_nhwc_1_112_112_32.tensor`` (or
``.npy``) in folders, ``qnt_npu_dump`` for the board's. ``snpe-net-run --debug`` and ``qnn-net-run --debug`` leave
``output/Result_N/NAME.raw``, one folder a sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hybridq.board.records import Captured, Dump, Stated
from hybridq.errors import BoardError, Problem
from hybridq.files.reading import exists, read_text

Form = Callable[[Path], Dump | None]

MOST_FILES = 100_000
MAP_LIMIT = 20_000_000  # bytes
READ = (".npy", ".raw", ".bin", ".tensor", ".txt")  # the first that a name has
RKNN1_FILE = re.compile(r"(?P<name>.+?)_\d+_out(?P<out>\d+)_(?:(?P<layout>nhwc|nchw)_)?(?P<shape>\d+(?:_\d+)*)$")
RESULT = re.compile(r"Result_(\d+)$")
ROW = re.compile(r"\[[^\]]+\] (?P<name>.*?)(?P<pairs>(?:\s+[^\s|]+ \| [^\s|]+)*)\s*$")
OTHERS = ("error_analysis", "map_name_to_file", "order")  # texts that hold no tensor
LEFT = "Give the folder as the toolkit wrote it, with its parts."


def open_dump(folder: Path) -> Dump:
    """What a folder holds, by the first form that knows it. Raises BoardError, all problems at once."""
    if not folder.is_dir():
        raise BoardError("there is no such folder" if not exists(folder) else "this is no folder", path=str(folder))
    for form in FORMS:
        found = form(folder)
        if found is not None and found.names:
            return found
    hint = (
        "Give the folder of RKNN-Toolkit2's accuracy_analysis, RKNN-Toolkit 1's qnt_npu_dump, SNPE's or QNN's output "
        "with its Result_0, or .npy, .raw and .txt files named as the tensors."
    )
    raise BoardError("no tensors of a kind that hybridq knows", path=str(folder), hint=hint)


def rknn2_snapshot(folder: Path) -> Dump | None:
    """RKNN-Toolkit2's snapshot: the device's tensors if it has any, else the simulator's."""
    listed = folder / "map_name_to_file.txt"
    if not exists(listed):
        return None
    files = _mapped(listed)
    device = (folder / "runtime").is_dir()
    place = folder / ("runtime" if device else "simulator")
    if not place.is_dir():
        raise BoardError("neither runtime nor simulator is here", path=str(folder), hint=LEFT)
    told = "of the board" if device else "of its simulator, no board was attached"
    given, stated = _those_there(folder / "golden", files), _stated(folder / "error_analysis.txt")
    return Dump(f"RKNN-Toolkit2, {told}", folder, (_those_there(place, files),), device, given, stated)


def rknn1_dump(folder: Path) -> Dump | None:
    """RKNN-Toolkit 1's folder of tensors, or the one above ``qnt_npu_dump``."""
    place = next((p for p in (folder / "qnt_npu_dump", folder / "entire_qnt") if p.is_dir()), folder)
    found: dict[str, Captured] = {}
    for path in _files(place, (".npy", ".tensor")):
        match = RKNN1_FILE.match(path.stem)
        if match:
            name = match["name"] + (f":out{match['out']}" if match["out"] != "0" else "")
            shape = tuple(int(n) for n in match["shape"].split("_"))
            found.setdefault(name, Captured(name, path, shape, match["layout"] == "nhwc"))
    device = place.name != "entire_qnt"
    told = "of the board" if device else "of its simulator, no qnt_npu_dump is here"
    return Dump(f"RKNN-Toolkit 1, {told}", place, (found,), device) if found else None


def qnn_results(folder: Path) -> Dump | None:
    """SNPE's and QNN's ``Result_N``, one a sample, in the order of their numbers."""
    place = folder / "output" if (folder / "output").is_dir() else folder
    one = RESULT.match(folder.name)
    places = [(0, folder)] if one else [(int(m[1]), p) for p in _inside(place) if (m := RESULT.match(p.name))]
    if not places or not all(path.is_dir() for _, path in places):
        return None
    samples = tuple(_named(path) for _, path in sorted(places))
    return Dump("SNPE or QNN, of the device", place, samples)


def named(folder: Path) -> Dump | None:
    """Files named as the tensors: ``.npy``, ``.raw`` and text."""
    return Dump("files named as the tensors", folder, (_named(folder),))


FORMS: tuple[Form, ...] = (rknn2_snapshot, rknn1_dump, qnn_results, named)


def _named(folder: Path) -> dict[str, Captured]:
    """Every tensor below a folder by its path without the ending: names of tensors may hold slashes."""
    found: dict[str, Captured] = {}
    for path in _files(folder, READ):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not name.endswith(OTHERS):
            found.setdefault(name, Captured(name, path))
    return found


def _mapped(listed: Path) -> dict[str, str]:
    """Names and files of ``map_name_to_file.txt``. Raises BoardError for a file that lies elsewhere."""
    text = read_text(listed, BoardError, limit=MAP_LIMIT, hint=LEFT)
    found, problems = dict[str, str](), list[Problem]()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.rsplit(maxsplit=1)
        if len(words) != 2 or words == ["layer_name", "file_name"]:
            continue
        name, file = words[0].strip(), words[1]
        if Path(file).name != file or file in (".", "..") or "\\" in file:
            said = f"'{file}' is no file of this folder"
            problems.append(Problem(said, str(listed), number, hint="A dump names files inside its own folders alone."))
        found[name] = file
    if problems:
        raise BoardError(problems)
    return found


def _those_there(place: Path, files: Mapping[str, str]) -> dict[str, Captured]:
    """The tensors whose file is there, as an array rather than as text, which has six digits."""
    found = {}
    for name, file in files.items():
        paths = (place / "npy" / f"{Path(file).stem}.npy", place / f"{Path(file).stem}.npy", place / file)
        path = next((p for p in paths if exists(p)), None)
        if path is not None:
            _need_inside(path, place.resolve())
            found[name] = Captured(name, path)
    return found


def _need_inside(path: Path, root: Path) -> None:
    if root not in path.resolve().parents:
        raise BoardError("a link that leads out of the folder", path=str(path), hint="Copy the file itself here.")


def _stated(path: Path) -> dict[str, Stated]:
    """The cosines of ``error_analysis.txt``: pairs ``cos | euc``, two of the simulator, then two of the device."""
    if not exists(path):
        return {}
    text = read_text(path, BoardError, limit=MAP_LIMIT)
    heads = re.search(r"(?m)^layer_name(.*)$", text)
    order = re.findall(r"(simulator|runtime)_error", heads[1]) if heads else []
    found: dict[str, Stated] = {}
    for line in text.splitlines():
        row = ROW.match(line)
        if row and row["name"]:
            pairs = re.findall(r"([^\s|]+) \| [^\s|]+", row["pairs"])
            cosines = dict(zip(order, map(_number, pairs[::2]), strict=False))  # of two pairs the first is of the whole
            found[row["name"]] = Stated(cosines.get("simulator"), cosines.get("runtime"))
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # such as rt_nan
        return None


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BoardError(f"cannot be read: {error.strerror}", path=str(folder)) from error


def _files(folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Regular files below a folder with one of the endings, by ending and name. Raises BoardError for anything odd."""
    found = [p for p in folder.rglob("*") if p.suffix in endings and not p.is_dir()]
    if len(found) > MOST_FILES:
        raise BoardError(f"holds {len(found)} files, more than {MOST_FILES}", path=str(folder))
    root = folder.resolve()
    for path in sorted(found, key=lambda p: (endings.index(p.suffix), p.as_posix())):
        _need_inside(path, root)
        yield path

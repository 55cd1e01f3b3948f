"""Where samples come from: files named in a list or lying in a folder, and feeds made in Python.

A source yields *rows*: for every input a file or a value, not yet read. ``archives`` has the arrays of many samples.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Protocol

from hybridq.dataset.images import SUFFIXES, is_image
from hybridq.dataset.spec import InputSpec
from hybridq.errors import DatasetError, Problem

KINDS = ".jpg, .png, .bmp or .npy"
MOST_PROBLEMS = 50  # that are told
ENOUGH_PROBLEMS = 100  # after which a list is not read on
SEED = 0  # of the choice among the samples of a long list
TOKEN = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'#]\S*))(?=\s|$)""")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample before it is read: for every input a ``Path`` or a value. ``begins``: a sequence, here or anew."""

    name: str
    line: int
    values: Mapping[str, Path | Any]
    files: Mapping[str, str] = field(default_factory=dict)
    begins: bool = False


class Source(Protocol):
    """Rows that can be walked through. ``count`` is None where only walking tells."""

    @property
    def path(self) -> str:
        """The list, folder or file; empty for feeds made in Python."""

    @property
    def count(self) -> int | None:
        """The number of rows."""

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What opening found worth saying."""

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """The rows in order, or those of ascending numbers; every call starts anew.

        A one-shot iterable raises DatasetError the second time.
        """


@dataclass(frozen=True)
class FileSource:
    """Rows whose values are files, all known to exist."""

    path: str
    known: tuple[Row, ...]
    notes: tuple[Problem, ...] = ()

    @property
    def count(self) -> int | None:
        """The number of rows."""
        return len(self.known)

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """The rows in order."""
        return iter(self.known) if picks is None else (self.known[i] for i in picks)


def spread(count: int, samples: int | None) -> list[int]:
    """Which ``samples`` of ``count`` rows to take, in order: one of each of so many equal stretches, by a fixed seed.

    Lists are sorted by name, class or scene more often than not: their head is no sample of them.
    """
    if samples is None or samples >= count:
        return list(range(count))
    random = Random(SEED)
    ends = [i * count // samples for i in range(samples + 1)]
    return [random.randrange(a, b) for a, b in pairwise(ends)]


@dataclass(frozen=True)
class Around:
    """What gives the rows of another source in its own way."""

    source: Source

    @property
    def path(self) -> str:
        """Of the source."""
        return self.source.path

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Of the source."""
        return self.source.notes


@dataclass(frozen=True)
class Picked(Around):
    """Some rows of a source that knows how many it has."""

    picks: tuple[int, ...]

    @property
    def count(self) -> int | None:
        """The number of picks."""
        return len(self.picks)

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """The picked rows in order."""
        return self.source.rows(self.picks if picks is None else [self.picks[i] for i in picks])


def read_list(path: Path, inputs: Sequence[InputSpec], samples: int | None) -> FileSource:
    """A ``dataset.txt``: one sample a line, columns in the order of ``inputs``, paths relative to the file.

    ``#`` starts a comment, quotes hold spaces. Columns of states may be left out. Of a longer list ``samples`` lines
    are taken, spread over it; what is taken is checked at once: raises DatasetError with every wrong line and every
    missing file. A row behind a blank line begins a sequence.
    """
    text = _text(path).split("\n")
    lines = [(n, said) for n, said in enumerate(text, 1) if not _says_nothing(said)]
    rows: list[Row] = []
    problems: list[Problem] = []
    for i in spread(len(lines), samples):
        row, wrong = _row(path, *lines[i], inputs)
        problems += wrong
        parted = i > 0 and any(not said.strip() for said in text[lines[i - 1][0] : lines[i][0]])
        rows += [replace(row, begins=parted)] if row else []
        if len(problems) >= ENOUGH_PROBLEMS:
            break
    _raise_all(problems, str(path))
    if not rows:
        hint = f"Write one sample a line: the path of a {KINDS}."
        raise DatasetError("the list names no sample", path=str(path), hint=hint)
    return FileSource(str(path), tuple(rows))


def _says_nothing(text: str) -> bool:
    """Whether a line is empty or a comment."""
    said = text.lstrip()
    return not said or said.startswith("#")


def _row(path: Path, number: int, text: str, inputs: Sequence[InputSpec]) -> tuple[Row | None, list[Problem]]:
    """A line as a sample, and what is wrong with it."""
    columns, said = split_columns(text)
    if said:
        return None, [Problem(said, str(path), number)]
    fed = fed_inputs(inputs)
    inputs = fed if len(columns) == len(fed) else inputs
    row = Row(" ".join(columns), number, *_values(path.parent, columns, inputs))
    return row, _column_problem(path, row, columns, inputs) or _file_problems(path, row)


def fed_inputs(inputs: Sequence[InputSpec]) -> list[InputSpec]:
    """The inputs that every sample brings: those that are no states."""
    return [spec for spec in inputs if not spec.state]


def _text(path: Path) -> str:
    hint = f"A dataset is a text file that names one {KINDS} a line, a folder of such files, or an .npz."
    try:
        with path.open("rb") as file:
            data = file.read(4096)
            if b"\0" not in data:
                data += file.read()
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=str(path), hint=hint) from error
    if b"\0" in data:
        raise DatasetError("is no text file", path=str(path), hint=hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError("is no UTF-8 text", path=str(path), line=line, hint="Save the list as UTF-8.") from None


def split_columns(text: str) -> tuple[list[str], str]:
    """The columns of a line, and what is wrong with it (or ``""``)."""
    columns: list[str] = []
    at = 0
    while at < len(text):
        rest = text[at:].lstrip()
        if not rest or rest.startswith("#"):
            break
        match = TOKEN.match(text, at)
        if match is None:
            return columns, f"a quote is not closed, or text touches it: {rest[:40]}"
        columns.append(match["double"] or match["single"] or match["bare"] or "")
        at = match.end()
    return columns, ""


def _values(folder: Path, columns: list[str], inputs: Sequence[InputSpec]) -> tuple[dict[str, Path], dict[str, str]]:
    files = {spec.name: column for spec, column in zip(inputs, columns, strict=False)}
    return {name: _locate(folder, file) for name, file in files.items()}, files


def _locate(folder: Path, file: str) -> Path:
    """The file's path; one written with Windows' separators is found elsewhere too."""
    path = folder / file
    if "\\" in file and os.sep == "/" and not path.exists():
        return folder / file.replace("\\", "/")
    return path


def _column_problem(path: Path, row: Row, columns: list[str], inputs: Sequence[InputSpec]) -> list[Problem]:
    if len(columns) == len(inputs):
        return []
    hint = f"One file for each of {', '.join(repr(spec.name) for spec in inputs)}, in this order."
    if len(inputs) == 1 and (path.parent / row.name).is_file():
        hint = f'The path holds spaces: put it in quotes, "{row.name}".'
    said = f"{len(columns)} columns, but the model has {len(inputs)} inputs"
    return [
        Problem(said.replace("1 columns", "1 column").replace("1 inputs", "1 input"), str(path), row.line, hint=hint)
    ]


def _file_problems(path: Path, row: Row) -> list[Problem]:
    found = []
    for name, value in row.values.items():
        said, hint = file_problem(value)
        if said:
            found.append(Problem(f"{row.files[name]!r} {said}", str(path), row.line, hint=hint))
    return found


def file_problem(path: Path) -> tuple[str, str]:
    """Why a file can be no sample, and the remedy; two empty texts if it can."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        folder = path.parent
        hint = f"Paths are relative to the list's folder; looked for {path}."
        return "does not exist", hint if folder.is_dir() else f"There is no folder {folder}."
    except (OSError, ValueError) as error:
        return f"cannot be opened: {error}", ""
    if not stat.S_ISREG(mode):
        return "is a folder" if stat.S_ISDIR(mode) else "is no file", f"Name a {KINDS}."
    if not (is_image(path) or path.suffix.lower() == ".npy"):
        return "is of no known kind", f"Name a {KINDS}."
    return "", ""


def _raise_all(problems: list[Problem], path: str) -> None:
    """Tell the first problems; the rest of a list that is wrong from its head on is not looked at."""
    if len(problems) > MOST_PROBLEMS:
        more, last = len(problems) - MOST_PROBLEMS, problems[-1].line
        rest = f"; what comes after line {last} was not looked at" if len(problems) >= ENOUGH_PROBLEMS else ""
        problems = [*problems[:MOST_PROBLEMS], Problem(f"and {more} more problems of this kind{rest}", path)]
    if problems:
        raise DatasetError(problems)


def read_folder(folder: Path, inputs: Sequence[InputSpec], samples: int | None) -> FileSource:
    """The images and ``.npy`` files right inside a folder, sorted by name; others are left out with a note."""
    spec = single_input(inputs, str(folder), "A folder")
    try:
        entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=str(folder)) from error
    usable = [p for p in entries if p.suffix.lower() in SUFFIXES | {".npy"} and p.is_file()]
    known = set(usable)
    others = [p.name for p in entries if p not in known]
    if not usable:
        inner = " Folders inside it are not searched." if any(p.is_dir() for p in entries) else ""
        raise DatasetError(f"the folder holds no {KINDS}", path=str(folder), hint=f"Name the files in a list.{inner}")
    taken = (usable[i] for i in spread(len(usable), samples))
    rows = (Row(p.name, 0, {spec.name: p}, {spec.name: p.name}) for p in taken)
    return FileSource(str(folder), tuple(rows), _left_out(others, str(folder)))


def _left_out(names: list[str], path: str) -> tuple[Problem, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return (Problem(f"left out, being no image or .npy: {shown}", path, severity="note", code="left-out"),)


def single_file(path: Path, inputs: Sequence[InputSpec]) -> FileSource:
    """One image as the only sample."""
    spec = single_input(inputs, str(path), "A single file")
    return FileSource(str(path), (Row(path.name, 0, {spec.name: path}, {spec.name: path.name}),))


def single_input(inputs: Sequence[InputSpec], path: str, what: str) -> InputSpec:
    """The model's only input that is no state; raises DatasetError when there are several."""
    inputs = fed_inputs(inputs)
    if len(inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in inputs)
        hint = f"Write a list with one column for each of {names}."
        raise DatasetError(f"{what} feeds one input, but the model has {len(inputs)}", path=path, hint=hint)
    return inputs[0]


@dataclass
class IterableSource:
    """Feeds made in Python: a dict by input name, or for models with one input an array or a file's path.

    Between steps of a recurrent model None parts sequences.
    """

    feeds: Iterable[Any] | Callable[[], Iterable[Any]]
    inputs: Sequence[InputSpec]
    path: str = ""
    notes: tuple[Problem, ...] = ()
    started: bool = False

    @property
    def count(self) -> int | None:
        """The number of feeds if the iterable knows it."""
        return len(self.feeds) if isinstance(self.feeds, Sized) else None

    def rows(self, picks: Sequence[int] | None = None) -> Iterator[Row]:
        """Rows in order; an iterator can be walked through once."""
        wanted = None if picks is None else set(picks)
        feeds = self.feeds() if callable(self.feeds) else self.feeds
        if iter(feeds) is feeds and not callable(self.feeds):
            if self.started:
                hint = "Give a list, or a function that returns a new iterator."
                raise DatasetError("the samples come from an iterator, which is used up", hint=hint)
            self.started = True
        parted, number = False, 0
        for feed in feeds:
            if feed is None and len(fed_inputs(self.inputs)) < len(self.inputs):
                parted = True
                continue
            number += 1
            if wanted is None or number - 1 in wanted:
                yield replace(self._row(number, feed), begins=parted)
            parted = False

    def _row(self, number: int, feed: Any) -> Row:
        name = f"sample {number}"
        if not isinstance(feed, Mapping):
            feed = {single_input(self.inputs, name, "A bare array").name: feed}
        values = {key: Path(v) if isinstance(v, (str, os.PathLike)) else v for key, v in feed.items()}
        check_names(list(values), self.inputs, name)
        files = {key: str(v) for key, v in values.items() if isinstance(v, Path)}
        return Row(" ".join(files.values()) or name, 0, values, files)


def check_names(names: Sequence[str], inputs: Sequence[InputSpec], path: str) -> None:
    """Raise DatasetError unless the names are exactly the model's inputs; states may be missing."""
    wanted = [spec.name for spec in inputs]
    missing = [spec.name for spec in fed_inputs(inputs) if spec.name not in names]
    unknown = [name for name in names if name not in wanted]
    problems = [Problem(f"holds nothing for input {name!r}", path) for name in missing]
    for name in unknown:
        close = get_close_matches(str(name), wanted, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The inputs are {', '.join(map(repr, wanted))}."
        problems.append(Problem(f"{name!r} is no input of the model", path, hint=hint))
    if problems:
        raise DatasetError(problems)

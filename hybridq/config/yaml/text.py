"""The cfg as text: bytes to lines, and problems that know their line, column and source.

Lines and columns count from 1, columns in characters, ``end`` columns are exclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hybridq.errors import ConfigError, Problem
from hybridq.files import limits
from hybridq.quant.words import nearest_hint

PROBLEM_LIMIT = 200  # of each severity; nobody reads more, and a binary file would have a million
SOURCE_LIMIT = 400  # characters of a line worth showing
SUGGESTION_LIMIT = 20  # nearest names looked up per file; difflib takes milliseconds for each

_LINE_END = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class TextPlace:
    """Where something stands: from ``column`` up to ``end`` (exclusive) of ``line``."""

    line: int
    column: int = 1
    end: int = 0


@dataclass
class CfgText:
    """A cfg's lines (without their ends) and the problems found in them so far."""

    path: str
    lines: list[str]
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    suggestions: int = 0

    @property
    def failed(self) -> bool:
        """Whether any problem is an error."""
        return "error" in self.counts

    def error(self, code: str, message: str, at: TextPlace, hint: str = "") -> None:
        """Record an error."""
        self._add("error", code, message, at, hint)

    def warning(self, code: str, message: str, at: TextPlace, hint: str = "") -> None:
        """Record what is legal but odd."""
        self._add("warning", code, message, at, hint)

    def note(self, code: str, message: str, at: TextPlace, hint: str = "") -> None:
        """Record what a person should know."""
        self._add("note", code, message, at, hint)

    def nearest(self, word: str, choices: Iterable[str], lead: str = "") -> str:
        """A hint: ``lead`` and "Did you mean ...?" where a choice resembles ``word``."""
        self.suggestions += 1
        found = nearest_hint(word, choices) if self.suggestions <= SUGGESTION_LIMIT else ""
        return f"{lead} {found}".strip()

    def sorted(self) -> list[Problem]:
        """Every problem by line, with a last one that counts those left out."""
        found = sorted(self.problems, key=lambda p: (p.line, p.column))
        more = sum(max(0, n - PROBLEM_LIMIT) for n in self.counts.values())
        if more:
            problems = "problem is" if more == 1 else "problems are"
            found.append(Problem(f"{more} more {problems} not listed", self.path, severity="note", code="more"))
        return found

    def _add(self, severity: str, code: str, message: str, at: TextPlace, hint: str) -> None:
        self.counts[severity] = self.counts.get(severity, 0) + 1
        if self.counts[severity] > PROBLEM_LIMIT:
            return
        end = at.end if at.end > at.column else at.column + 1
        shown = self.lines[at.line - 1] if 0 < at.line <= len(self.lines) else ""
        shown = "" if end > SOURCE_LIMIT else shown[:SOURCE_LIMIT]
        shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", shown.replace("\t", " "))
        self.problems.append(Problem(message, self.path, at.line, at.column, end, hint, shown, severity, code))


def source_of(text: str, path: str) -> CfgText:
    """Split a cfg into lines; a byte order mark is dropped, control characters are an error."""
    source = CfgText(path, _LINE_END.split(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")))
    hit = _CONTROL.search(text)
    if hit:
        before = _LINE_END.split(text[: hit.start()])
        message = f"a character that no text file has (code {ord(hit.group())}); this is not a cfg"
        source.error("binary", message, TextPlace(len(before), len(before[-1]) + 1), RESTORE)
    return source


RESTORE = "Restore the file from a copy, or write it anew with `hybridq step1 ... --force`."


def need_size(size: int, path: str, most: int = limits.CFG) -> None:
    """Raise ConfigError, located, for a file of more than ``most`` bytes."""
    if size > most:
        message = f"the file has {size / 1e6:.1f} MB; a cfg has at most {most // 1_000_000} MB"
        raise ConfigError(Problem(message, path, 1, 1, 2, RESTORE, code="size"))


def decode(data: bytes, path: str, most: int = limits.CFG) -> str:
    """The text of a cfg. Raises ConfigError, located, for what is no UTF-8 text of at most so many bytes."""
    need_size(len(data), path, most)
    if data[:2] in _ENCODINGS:
        hint = "Save it as UTF-8 (most editors: Save with Encoding)."
        raise ConfigError(Problem("the file is UTF-16, not UTF-8", path, 1, 1, 2, hint, code="encoding"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = _LINE_END.split(data[: error.start].decode("utf-8"))
        line, column = len(before), len(before[-1]) + 1
        message = f"byte 0x{data[error.start]:02x} is not valid UTF-8 text"
        hint = "Save it as UTF-8 (most editors: Save with Encoding)."
        raise ConfigError(Problem(message, path, line, column, column + 1, hint, code="encoding")) from error

"""What the reader finds: scalars, mappings and lists, each with its place. Scalars stay the text they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hybridq.config.yaml.text import TextPlace


class Scalar(NamedTuple):
    """One word, number or quoted text. ``text`` is its value; a missing value is an unquoted empty text."""

    text: str
    line: int
    column: int
    end: int
    quoted: bool = False

    @property
    def place(self) -> TextPlace:
        """Where it stands."""
        return TextPlace(self.line, self.column, self.end)

    @property
    def is_null(self) -> bool:
        """Whether this is YAML's null: nothing, ``~`` or ``null``."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Sequence:
    """A list. ``end_line`` and ``end`` (a column, exclusive) are where it ends."""

    items: list[Node]
    line: int
    column: int
    end_line: int = 0
    end: int = 0

    @property
    def place(self) -> TextPlace:
        """Where it begins (all of a one-line ``[...]``)."""
        return TextPlace(self.line, self.column, self.end if self.end_line == self.line else self.column + 1)


@dataclass(slots=True)
class Mapping:
    """Names and values in the order of the file. ``end_line`` and ``end`` are where a flow mapping's ``}`` ends.

    ``untouched``: the line is known to be just as step1 wrote it, and was not read (see ``yaml.read``).
    """

    pairs: list[Pair]
    line: int
    column: int
    flow: bool
    end_line: int = 0
    end: int = 0
    untouched: bool = False

    @property
    def place(self) -> TextPlace:
        """Where it begins (all of a one-line ``{...}``)."""
        return TextPlace(self.line, self.column, self.end if self.end_line == self.line else self.column + 1)


Node = Scalar | Mapping | Sequence


class Pair(NamedTuple):
    """``key: value``."""

    key: Scalar
    value: Node

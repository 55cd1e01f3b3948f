"""Change a cfg's text in place: only the characters that are meant, comments and layout stay."""

from __future__ import annotations

import re

from hybridq.config.yaml.nodes import Mapping, Pair, Scalar, Sequence

_LINE_END = re.compile(r"\r\n|\n|\r")
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


class TextEditor:
    """Collects replacements by place; ``result`` applies them all."""

    def __init__(self, text: str) -> None:
        self.text = text
        first = len(BOM) if text.startswith(BOM) else 0
        ends = list(_LINE_END.finditer(text))
        self.starts = [first, *(m.end() for m in ends)]
        self.newline = ends[0].group() if ends else "\n"
        self.edits: list[tuple[int, int, str]] = []

    def result(self) -> str:
        """The text with every replacement made."""
        parts, at = [], 0
        for start, end, new in sorted(self.edits, key=lambda e: e[:2]):
            parts += [self.text[at:start], new]
            at = max(at, end)
        return "".join([*parts, self.text[at:]])

    def value(self, pair: Pair, new: str) -> None:
        """Put ``new`` in the place of a pair's value; a block becomes a value on the line of its name."""
        key, value = pair
        if isinstance(value, Scalar) and not value.is_null:
            self._replace(self._offset(value.line, value.column), self._offset(value.line, value.end), new)
        elif isinstance(value, Mapping | Sequence) and value.line == key.line:
            self._replace(self._offset(value.line, value.column), self._offset(value.end_line, value.end), new)
        elif isinstance(value, Scalar):
            colon = self._colon(key) + 1
            self._replace(colon, colon + len(value.text) + 1 if value.text else colon, f" {new}")
        else:
            self._replace(self._colon(key) + 1, self._colon(key) + 1, f" {new}")
            self.delete_lines(key.line + 1, last_line(pair))

    def remove(self, mapping: Mapping, gone: list[Pair], key: Scalar | None) -> None:
        """Take pairs out of a mapping; an emptied block becomes ``{}`` behind its ``key``."""
        out = set(map(id, gone))
        kept = [p for p in mapping.pairs if id(p) not in out]
        if mapping.flow:
            body = ", ".join(self._source(p) for p in kept)
            start = self._offset(mapping.line, mapping.column)
            self._replace(start, self._offset(mapping.end_line, mapping.end), f"{{{body}}}")
            return
        for pair in gone:
            self.delete_lines(pair.key.line, last_line(pair))
        if not kept and key:
            colon = self._colon(key) + 1
            self._replace(colon, colon, " {}")

    def add(self, mapping: Mapping, pairs: list[str]) -> None:
        """Append ``name: value`` texts to a mapping that has some already."""
        last = mapping.pairs[-1]
        if mapping.flow:
            end = self._end(last)
            self._replace(end, end, "".join(f", {p}" for p in pairs))
        else:
            self.insert_after(last_line(last), [" " * (last.key.column - 1) + p for p in pairs])

    def fill(
        self, key: Scalar, value: Mapping | Scalar, pairs: list[str], indent: int = 4, *, behind_comments: bool = True
    ) -> None:
        """Turn ``key: {}`` or ``key:`` into a block of ``pairs``, behind the indented comments that follow it."""
        if isinstance(value, Mapping):
            end = self._offset(value.end_line, value.end)
            self._replace(self._colon(key) + 1, end, "")
        elif value.text:
            self._replace(self._colon(key) + 1, self._offset(value.line, value.end), "")
        line = value.end_line if isinstance(value, Mapping) else key.line
        while behind_comments and re.match(r"[ \t]+#", self._line(line + 1)):
            line += 1
        self.insert_after(line, [" " * indent + p for p in pairs])

    def insert_after(self, line: int, new: list[str]) -> None:
        """Put lines behind ``line`` (0: at the start)."""
        block = self.newline.join(new)
        if line < len(self.starts):
            at = self.starts[line]
            self._replace(at, at, block + self.newline)
        else:
            self._replace(len(self.text), len(self.text), self.newline + block)

    def delete_lines(self, first: int, last: int) -> None:
        """Take whole lines out."""
        end = self.starts[last] if last < len(self.starts) else len(self.text)
        self._replace(self.starts[first - 1], end, "")

    def _replace(self, start: int, end: int, new: str) -> None:
        self.edits.append((start, end, new))

    def _offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column - 1

    def _line(self, line: int) -> str:
        if line > len(self.starts):
            return ""
        return _LINE_END.split(self.text[self.starts[line - 1] : self.starts[line - 1] + 1000], maxsplit=1)[0]

    def _colon(self, key: Scalar) -> int:
        return self.text.index(":", self._offset(key.line, key.end))

    def _end(self, pair: Pair) -> int:
        key, value = pair
        if isinstance(value, Scalar):
            return self._offset(value.line, value.end) if not value.is_null else self._colon(key) + 1
        return self._offset(value.end_line, value.end)

    def _source(self, pair: Pair) -> str:
        return self.text[self._offset(pair.key.line, pair.key.column) : self._end(pair)]


def last_line(pair: Pair) -> int:
    """The last line a pair covers, without comments behind it."""
    value = pair.value
    if isinstance(value, Scalar):
        return max(value.line, pair.key.line)
    if isinstance(value, Mapping) and not value.flow:
        return max([pair.key.line, *(last_line(p) for p in value.pairs[-1:])])
    return value.end_line

"""Values on a line: plain and quoted scalars, ``{...}`` and ``[...]`` (which may run over several lines)."""

from __future__ import annotations

import re
from typing import NoReturn

from hybridq.config.yaml.nodes import Mapping, Node, Pair, Scalar, Sequence
from hybridq.config.yaml.text import CfgText, TextPlace

DEPTH_LIMIT = 12

# Possessive and single-step expressions: no file makes them backtrack.
PLAIN_STOP = re.compile(r"[ \t]#|:(?=[ \t]|$)")  # what ends a plain scalar in a block
FLOW_STOP = re.compile(r"[,\[\]{}]|[ \t]#|:(?=[ \t,\[\]{}]|$)")  # and within { } or [ ]
QUOTED = {'"': re.compile(r'"((?:[^"\\]++|\\.)*+)"'), "'": re.compile(r"'((?:[^']++|'')*+)'")}
BLANK = re.compile(r"[ \t]*+")
REST = re.compile(r"[ \t]*+(?:$|(?<=[ \t])#)")  # nothing more on the line but a comment
ITEM = re.compile(r"-(?:[ \t]|$)")
MARKER = re.compile(r"(?:---|\.\.\.)(?:[ \t]|$)")
FIELD = re.compile(r"[ \t]*+(\w++):[ \t]++(-?[\w.][\w.+-]*+)[ \t]*+([,}])")  # `name: value,` as step1 writes it
ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
ESCAPES = dict(zip('0abt\tnvfre "/\\N_LP', '\0\a\b\t\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))
RESERVED = {
    "@": "may not start a name in YAML",
    "`": "may not start a name in YAML",
    "%": "may not start a name in YAML",
    "*": "means an alias in YAML",
    "&": "means an anchor in YAML",
    "!": "means a tag in YAML",
    "|": "means a text block in YAML",
    ">": "means a text block in YAML",
    ",": "stands where a name or value is expected",
    "]": "stands where a name or value is expected",
    "}": "stands where a name or value is expected",
}


class Stop(Exception):  # noqa: N818  nothing a user sees: it ends the reading of one entry
    """The rest of this entry cannot be read; the problem is recorded."""


class FlowReader:
    """A cursor over lines: ``row`` is the index of the line being read, ``col`` an index into it."""

    def __init__(self, source: CfgText) -> None:
        self.source = source
        self.lines = source.lines
        self.row = 0
        self.col = 0
        self.floor = -1  # lines within an open { or [ are indented deeper than this

    def content(self) -> bool:
        """Move to the next line that is neither blank nor a comment; False at the end."""
        while self.row < len(self.lines):
            start = self.lines[self.row].lstrip(" \t")
            if start and start[0] != "#":
                return True
            self.row += 1
        return False

    def indent(self) -> int:
        """How deep the line is indented; a tab counts 4, so that what it meant is understood."""
        line = self.lines[self.row]
        start = len(line) - len(line.lstrip(" \t"))
        return len(line[:start].expandtabs(4))

    def blanks(self) -> str:
        """Move over blanks; the character then under the cursor, nothing at the end of the line."""
        line = self.lines[self.row]
        match = BLANK.match(line, self.col)
        self.col = match.end() if match else self.col
        return line[self.col : self.col + 1]

    def value(self) -> Node:
        """The value at the cursor of a block: ``{...}``, ``[...]``, quoted, or plain up to a comment."""
        line = self.lines[self.row]
        if line[self.col] in "{[\"'":
            return self.node(0)
        self.refuse_reserved()
        if ITEM.match(line, self.col):
            self.fail("list", "a list may not start here", 1, "Write [a, b], or put each item on a line of its own.")
        stop = PLAIN_STOP.search(line, self.col)
        end = stop.start() if stop else len(line)
        if stop and stop.group() == ":":
            self.col = end
            self.fail(
                "colon", "a second `: ` on one line", 1, "One `name: value` a line. Quote a text with `: ` in it."
            )
        return self.plain(end)

    def node(self, depth: int) -> Node:
        """The flow node at the cursor: ``{...}``, ``[...]``, quoted or plain."""
        if depth > DEPTH_LIMIT:
            self.fail("depth", "brackets nested deeper than any cfg needs", 1)
        line = self.lines[self.row]
        char = line[self.col]
        if char == "{":
            return self._flow_mapping(depth)
        if char == "[":
            return self._flow_list(depth)
        return self.quoted() if char in "\"'" else self._plain_in_flow()

    def quoted(self) -> Scalar:
        """The quoted scalar at the cursor."""
        line = self.lines[self.row]
        quote = line[self.col]
        match = QUOTED[quote].match(line, self.col)
        if match is None:
            self.fail("quote", f"this {quote} is never closed", 1, f"Close the name with {quote} on the same line.")
        text = match[1]
        if quote == "'":
            text = text.replace("''", "'")
        elif "\\" in text:
            text = ESCAPE.sub(self._unescape, text)
        start, self.col = self.col, match.end()
        return Scalar(text, self.row + 1, start + 1, self.col + 1, quoted=True)

    def plain(self, end: int) -> Scalar:
        """The plain scalar from the cursor up to the index ``end``, where the cursor then stands."""
        text = self.lines[self.row][self.col : end].rstrip(" \t")
        scalar = Scalar(text, self.row + 1, self.col + 1, self.col + len(text) + 1)
        self.col = end
        return scalar

    def finish(self) -> None:
        """After a value only a comment may stand; go to the next line."""
        line = self.lines[self.row]
        if not REST.match(line, self.col):
            char = self.blanks()
            width = len(line.rstrip()) - self.col
            if char == "#":
                self.fail("rest", "a comment needs a space before its #", width, "Put a space there.")
            self.fail("rest", "unexpected text after the value", width, "One `name: value` a line.")
        self.row += 1

    def refuse_reserved(self, flow: bool = False) -> None:
        """Fail on a character that may not start a plain scalar, and say that quotes help."""
        line = self.lines[self.row]
        char = line[self.col]
        if char in RESERVED:
            stop = PLAIN_STOP.search(line, self.col + 1)
            word = line[self.col : stop.start() if stop else len(line)].rstrip()
            hint = "" if char in ",]}|>" else f'Quote it: "{word}".'
            self.fail("quote-it", f"an unquoted {char} {RESERVED[char]}", len(word), hint)
        following = line[self.col + 1 : self.col + 2]
        if char in "?:" and (following in ("", " ", "\t") or (flow and following in ",[]{}")):
            self.fail("value", f"unexpected '{char}'", 1, "Quote it if it is meant as text.")

    def problem(self, code: str, message: str, width: int, hint: str = "") -> None:
        """Record an error of ``width`` characters at the cursor."""
        self.source.error(code, message, TextPlace(self.row + 1, self.col + 1, self.col + 1 + max(width, 1)), hint)

    def fail(self, code: str, message: str, width: int, hint: str = "") -> NoReturn:
        """Record an error at the cursor and stop reading this entry."""
        self.problem(code, message, width, hint)
        raise Stop

    def _plain_in_flow(self) -> Scalar:
        self.refuse_reserved(flow=True)
        line = self.lines[self.row]
        if ITEM.match(line, self.col):
            self.fail("value", "unexpected '-'", 1)
        stop = FLOW_STOP.search(line, self.col)
        end = stop.start() if stop else len(line)
        if end == self.col:
            self.fail("value", f"unexpected '{line[end]}'", 1)
        return self.plain(end)

    def _flow_mapping(self, depth: int) -> Mapping:
        opened = TextPlace(self.row + 1, self.col + 1, self.col + 2)
        found = Mapping([], opened.line, opened.column, flow=True)
        self.col += 1
        if not self._usual_fields(found):
            seen = {p.key.text for p in found.pairs}
            while self._next(opened) != "}":
                found.pairs.append(self._flow_pair(opened, depth, seen))
                self._comma(opened, "}")
            self.col += 1
        found.end_line, found.end = self.row + 1, self.col + 1
        return found

    def _usual_fields(self, found: Mapping) -> bool:
        """Take ``name: value,`` again and again by one expression; True when that reached the ``}``."""
        line, row = self.lines[self.row], self.row + 1
        names: set[str] = set()
        while (match := FIELD.match(line, self.col)) and match[1] not in names:
            (a, b), (c, d) = match.span(1), match.span(2)
            found.pairs.append(Pair(Scalar(match[1], row, a + 1, b + 1), Scalar(match[2], row, c + 1, d + 1)))
            names.add(match[1])
            self.col = match.end()
            if match[3] == "}":
                return True
        return False

    def _flow_pair(self, opened: TextPlace, depth: int, seen: set[str]) -> Pair:
        key = self.quoted() if self.lines[self.row][self.col] in "\"'" else self._plain_in_flow()
        if key.text in seen:
            self.source.error("duplicate-key", f"'{key.text}' stands here twice", key.place, "Keep one of the two.")
        seen.add(key.text)
        if self._next(opened) != ":":
            hint = "Between { and } stand `name: value` pairs with commas between them."
            if key.text.isdigit():
                hint = "Decimals take a point: 6.5, not 6,5."
            self.fail("colon", f"expected `: ` and a value after '{key.text}'", 1, hint)
        self.col += 1
        if self._next(opened) in ",}":
            return Pair(key, Scalar("", key.line, key.end, key.end + 1))
        return Pair(key, self.node(depth + 1))

    def _flow_list(self, depth: int) -> Sequence:
        opened = TextPlace(self.row + 1, self.col + 1, self.col + 2)
        found = Sequence([], opened.line, opened.column)
        self.col += 1
        while self._next(opened) != "]":
            found.items.append(self.node(depth + 1))
            self._comma(opened, "]")
        self.col += 1
        found.end_line, found.end = self.row + 1, self.col + 1
        return found

    def _comma(self, opened: TextPlace, closing: str) -> None:
        char = self._next(opened)
        if char == ",":
            self.col += 1
        elif char != closing:
            self.fail("comma", f"expected , or {closing} here", 1, "Values within brackets are separated by commas.")

    def _next(self, opened: TextPlace) -> str:
        """Move over blanks, comments and line ends within brackets; the character then under the cursor."""
        if not REST.match(self.lines[self.row], self.col):
            return self.blanks()
        self.row += 1
        if not self.content():
            self._unclosed(opened)
        line, here = self.lines[self.row], self.indent()
        closes = line.lstrip(" \t")[0] in "}]"
        if (here <= self.floor and not closes) or (here == 0 and MARKER.match(line)):
            self._unclosed(opened)
        self.col = 0
        return self.blanks()

    def _unclosed(self, opened: TextPlace) -> NoReturn:
        self.row, self.col = opened.line - 1, opened.column - 1
        char = self.lines[self.row][self.col]
        close = "}" if char == "{" else "]"
        self.fail("bracket", f"this {char} is never closed", 1, f"Close it with {close}.")

    def _unescape(self, match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1 and int(code[1:], 16) < 0x110000:
            return chr(int(code[1:], 16))
        if code not in ESCAPES:
            hint = "Write \\\\ for a backslash, or use single quotes."
            self.fail("escape", f"\\{code} is no escape that YAML knows", match.end(), hint)
        return ESCAPES[code]

"""The YAML of a cfg, read with places: every key and value knows its line and columns.

A subset of YAML 1.2: block and flow mappings and lists, plain and quoted scalars on one line, comments, one document.
Anchors, aliases, tags, text blocks and scalars over several lines are refused in words a person understands, so no
file expands in memory; files of other tools may have anchors on lists and words (``anchors=True``). What is accepted
reads as any YAML 1.2 reader reads it; scalars stay text (``128``, ``1_0`` and ``1e-05`` are what stands there): the
schema knows which are numbers. After an error reading goes on with the next line, so that all errors are found at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hybridq.config.yaml.nodes import Mapping, Node, Pair, Scalar, Sequence
from hybridq.config.yaml.text import CfgText
from hybridq.config.yaml.values import ITEM, MARKER, PLAIN_STOP, REST, FlowReader, Stop

ANCHOR = re.compile(r"[ \t]++([&*])([^\s,\[\]{}]++)(?=[ \t]|$)")
DEEPEST = 96  # columns a block may be indented
INDENT = 4  # what step1 writes
HINT = "The lines of one block start in the same column."


def read(source: CfgText, known: dict[str, str] | None = None, below: str = "", *, anchors: bool = False) -> Mapping:
    """The document's top mapping; problems go to ``source``.

    ``known`` (line to key) are lines, up to their first ``}``, that need not be read directly below the key ``below``.
    ``anchors``: a key's list or word may be named by ``&NAME`` and stand for a later key's value by ``*NAME``.
    """
    reader = _Reader(source, known or {}, below)
    reader.anchors = {} if anchors else None
    return reader.document()


def reread(mapping: Mapping, source: CfgText) -> Mapping:
    """The mapping of an untouched line, read."""
    reader = FlowReader(source)
    reader.row, reader.col = mapping.line - 1, mapping.column - 1
    found = reader.node(0)
    return found if isinstance(found, Mapping) else mapping


class _Reader(FlowReader):
    """Reads blocks, top to bottom."""

    def __init__(self, source: CfgText, known: dict[str, str], below: str) -> None:
        super().__init__(source)
        self.known = known
        self.below = below
        self.inline: Scalar | None = None  # the last key whose value stood on its own line
        self.anchors: dict[str, Node] | None = None  # None: there may be none

    def document(self) -> Mapping:
        """Directives, an optional ``---``, one mapping, an optional ``...``."""
        self._attempt(self._directives)
        top = Mapping([], self.row + 1, 1, flow=False)
        if self.content() and self.lines[self.row].lstrip(" \t")[0] == "{":
            self._attempt(lambda: self._flow_document(top))
        while self.content() and not MARKER.match(self.lines[self.row]):
            if top.pairs:  # indented less than the lines above, which all start in one column
                self.col = 0
                self.problem("indent", "starts further left than the lines above", 1, HINT)
            self._block(top, self.indent(), {p.key.text: p.key.line for p in top.pairs})
        self._second_document()
        top.end_line = len(self.lines)
        return top

    def _directives(self) -> None:
        while self.content() and self.lines[self.row].startswith("%"):
            line, self.col = self.lines[self.row], 0
            if not re.match(r"%YAML[ \t]+1\.[12][ \t]*(#.*)?$", line):
                hint = "Quote a name that starts with %."
                self.problem("directive", "a line that starts with % must be `%YAML 1.2`", len(line), hint)
            self.row += 1
        if self.content() and re.match(r"---(?:[ \t]|$)", self.lines[self.row]):
            self.col = 3
            self.finish()

    def _second_document(self) -> None:
        if self.content() and re.match(r"\.\.\.[ \t]*(#.*)?$", self.lines[self.row]):
            self.row += 1
        if self.content():
            self.col = 0
            hint = "Remove it, or the line `---` or `...` above it."
            self.problem("documents", "a second document starts here; a cfg is one", len(self.lines[self.row]), hint)

    def _flow_document(self, top: Mapping) -> None:
        self.blanks()
        found = self.node(0)
        self.finish()
        if isinstance(found, Mapping):
            top.pairs, top.flow, top.line, top.column = found.pairs, True, found.line, found.column

    def _block(self, into: Mapping, indent: int, seen: dict[str, int], known: dict[str, str] | None = None) -> None:
        """Every ``key: value`` from here on that is indented by ``indent``, into ``into``."""
        while self.content():
            line = self.lines[self.row]
            if known and self._take(into, line, indent, known, seen):
                continue
            here = self.indent()
            if here < indent or (here == 0 and MARKER.match(line)):
                break
            if here > indent:
                self._strange_indent(into, indent, here)
            else:
                self._attempt(lambda: self._pair(into, indent, seen))
        into.end_line = self.row

    def _take(self, into: Mapping, line: str, indent: int, known: dict[str, str], seen: dict[str, int]) -> bool:
        """Take a line that is, but for its comment, just as step1 wrote it, without reading it; False if it is not."""
        end = line.find("}") + 1
        name = known.get(line[:end])
        if name is None or name in seen or not REST.match(line, end):
            return False
        self.row += 1
        column = line.index('": {', indent) + 2
        seen[name] = self.row
        key = Scalar(name, self.row, indent + 1, column, quoted=True)
        value = Mapping([], self.row, column + 2, flow=True, end_line=self.row, end=end + 1, untouched=True)
        into.pairs.append(Pair(key, value))
        return True

    def _strange_indent(self, into: Mapping, indent: int, here: int) -> None:
        """Report lines that are indented deeper than their block; they are read only to find what else is wrong."""
        self.col = 0
        hint = HINT
        if self.inline and into.pairs and self.inline is into.pairs[-1].key:
            above = self.inline
            hint = f"If this line belongs to `{above.text}`, remove what follows the colon there (line {above.line})."
        want = f"{indent} spaces" if indent else "none"
        self.problem("indent", f"indented by {here} spaces where {want} are expected", min(here, DEEPEST), hint)
        if here < DEEPEST:
            self._block(Mapping([], self.row + 1, here + 1, flow=False), here, {})
        else:
            self.row += 1

    def _pair(self, into: Mapping, indent: int, seen: dict[str, int]) -> None:
        line = self.lines[self.row]
        start = len(line) - len(line.lstrip(" \t"))
        if "\t" in line[:start]:
            self.col = line.index("\t")
            self.problem("tab", "a tab; YAML is indented by spaces", start - self.col, "Replace each tab by 4 spaces.")
        self.col = start
        key = self._key()
        if key.text in seen:
            hint = f"The first stands on line {seen[key.text]}. Keep one of the two."
            self.source.error("duplicate-key", f"'{key.text}' stands here a second time", key.place, hint)
        seen.setdefault(key.text, key.line)
        self.floor = indent
        into.pairs.append(Pair(key, self._value(key, indent)))

    def _key(self) -> Scalar:
        """The key at the cursor, which then stands after its colon."""
        line = self.lines[self.row]
        if line.startswith("? ", self.col):
            return self._long_key()
        if ITEM.match(line, self.col):
            hint = "Write `name: value` without the dash."
            self.fail("list", "a list item where `name: value` is expected", len(line) - self.col, hint)
        key = self.quoted() if line[self.col] in "\"'" else self._plain_key(line)
        if self.blanks() != ":":
            self.fail("colon", "expected `: ` and a value after the name", 1, 'Write `"name": value`.')
        self.col += 1
        if self.col < len(line) and line[self.col] not in " \t":
            self.col -= 1
            self.fail("colon", "a space is missing after this colon", 1, 'Write `"name": value`.')
        return key

    def _plain_key(self, line: str) -> Scalar:
        self.refuse_reserved()
        if line[self.col] in "[{":
            self.fail("quote-it", f"an unquoted {line[self.col]} may not start a name in YAML", 1, "Quote the name.")
        stop = PLAIN_STOP.search(line, self.col)
        if stop is None or stop.group() != ":":
            width = len(line[self.col : stop.start() if stop else len(line)].rstrip())
            self.fail("colon", "this line is no `name: value`", width, "A colon and a space stand after the name.")
        return self.plain(stop.start())

    def _long_key(self) -> Scalar:
        """``? name`` with ``: value`` on the next line, as YAML writers put names above 128 characters."""
        first, column, indent = self.row, self.col, self.indent()
        self.col += 2
        key = self.value() if self.blanks() else None
        if isinstance(key, Scalar):
            self.finish()
            if self.content() and self.indent() == indent and re.match(r":(?:[ \t]|$)", self.lines[self.row].lstrip()):
                self.col = self.lines[self.row].index(":") + 1
                return key
        self.row, self.col = first, column
        return self.fail("colon", "`? name` needs `: value` on the next line", 1, 'Write `"name": value` on one line.')

    def _value(self, key: Scalar, indent: int) -> Node:
        """What follows a key's colon, with an anchor's name before it or an alias in its place."""
        mark = ANCHOR.match(self.lines[self.row], self.col) if self.anchors is not None else None
        if mark is None or self.anchors is None:
            return self._plain_value(key, indent)
        self.blanks()
        if mark[1] == "*":
            if mark[2] not in self.anchors:
                self.fail("anchor", f"no list or word above is named &{mark[2]}", mark.end() - self.col)
            self.col = mark.end()
            self.finish()
            return self.anchors[mark[2]]
        self.col = mark.end()
        found = self._plain_value(key, indent)
        if not isinstance(found, Mapping):
            self.anchors[mark[2]] = found
        return found

    def _plain_value(self, key: Scalar, indent: int) -> Node:
        """What follows a key's colon: on this line, or as the block below."""
        if not REST.match(self.lines[self.row], self.col):
            self.blanks()
            node = self.value()
            self.finish()
            self.inline = key
            return node
        self.row += 1
        if self.content():
            here, line = self.indent(), self.lines[self.row]
            if here >= indent and ITEM.match(line.lstrip(" \t")) and not MARKER.match(line):
                return self._list(here)
            if indent < here < DEEPEST:
                block = Mapping([], self.row + 1, here + 1, flow=False)
                known = self.known if (indent, key.text) == (0, self.below) and here == INDENT else None
                self._block(block, here, {}, known)
                return block
        return Scalar("", key.line, key.end, key.end + 1)

    def _list(self, indent: int) -> Sequence:
        """``- item`` lines; the items are scalars or flow nodes."""
        items = Sequence([], self.row + 1, indent + 1)
        while self.content() and self.indent() == indent and ITEM.match(self.lines[self.row], indent):
            self.col, self.floor = indent + 1, indent
            if not self.blanks() or REST.match(self.lines[self.row], self.col):
                self.fail("list", "an empty list item", 1)
            stop = PLAIN_STOP.search(self.lines[self.row], self.col)
            if stop and stop.group() == ":" and self.lines[self.row][self.col] not in "{[\"'":
                hint = "Write `name: value` without the dash."
                self.fail("list", "a list item where `name: value` is expected", stop.start() - self.col, hint)
            items.items.append(self.value())
            items.end_line, items.end = self.row + 1, self.col + 1
            self.finish()
        return items

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run ``step``; after an error go on with the next line that does not belong to the broken one."""
        start = self.row
        try:
            step()
        except Stop:
            self.row = start
            indent = self.indent()
            self.row += 1
            while self.content() and (self.indent() > indent or self._is_item(indent)):
                self.row += 1

    def _is_item(self, indent: int) -> bool:
        line = self.lines[self.row]
        return self.indent() == indent and bool(ITEM.match(line.lstrip(" \t"))) and not MARKER.match(line)

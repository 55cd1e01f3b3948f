"""Our reader against ruamel.yaml: what it accepts, a YAML 1.2 reader accepts and reads the same."""

from __future__ import annotations

import pytest
from helpers_config import chain, small
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from hybridq.config.check import known_lines
from hybridq.config.write import PARAMETERS, quote, write_cfg
from hybridq.config.yaml.nodes import Mapping, Node, Scalar, Sequence
from hybridq.config.yaml.reader import read, reread
from hybridq.config.yaml.text import source_of


def ours(node: Node) -> object:
    """A tree of our nodes as lists and texts, places left out."""
    if isinstance(node, Scalar):
        return node.text if node.quoted or not node.is_null else None
    if isinstance(node, Sequence):
        return [ours(x) for x in node.items]
    return [(k.text, ours(v)) for k, v in node.pairs]


def theirs(node: object) -> object:
    """The same of ruamel's nodes."""
    if isinstance(node, ScalarNode):
        null = node.style is None and node.value in ("", "~", "null", "Null", "NULL")
        return None if null else node.value
    if isinstance(node, SequenceNode):
        return [theirs(x) for x in node.value]
    assert isinstance(node, MappingNode)
    return [(theirs(k) if theirs(k) is not None else k.value, theirs(v)) for k, v in node.value]


def both(text: str) -> tuple[object, object] | None:
    """Our tree and ruamel's; None where ours has errors."""
    source = source_of(text, "x")
    if source.failed:
        return None
    tree = read(source)
    if source.failed or not tree.pairs:
        return None
    return ours(tree), theirs(YAML(typ="rt").compose(text))


NAMES = st.text(st.sampled_from("ab/.:_-0129 @*é{}[]'\"\\#,"), min_size=1, max_size=8)
VALUES = st.sampled_from(
    ["int16", "1e-05", "-0.5", "1_0", "128", '"a b"', "'it''s'", "{a: 1, b: [1, 2]}", "[]", "{}", "~", ""]
)
LINES = st.builds(
    lambda indent, name, quoted, gap, value, comment: (
        f"{indent}{quote(name) if quoted else name}:{gap}{value}{comment}"
    ),
    st.sampled_from(["", "", "    ", "    ", "  "]),
    NAMES,
    st.booleans(),
    st.sampled_from([" ", "  ", ""]),
    VALUES,
    st.sampled_from(["", "  # why", "#no", " "]),
)
NOISE = st.sampled_from(
    [
        "",
        "# c",
        "---",
        "...",
        "    # c",
        "    - 1.0",
        "  - a",
        "}",
        "]",
        "\ta: 1",
        "%YAML 1.2",
        "a: {",
        "b: [1,",
        "? x",
        ": y",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(LINES, LINES, NOISE), min_size=1, max_size=8))
@example(["a:", "- 1", "- {b: 2}", "c: [1,", "  2]"])
@example(["? " + "n" * 130, ": int16"])
@example(['"a\\u00e9\\x41\\n": "\\/"'])
def test_what_we_accept_reads_the_same(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    try:
        found = both(text)
    except YAMLError as error:
        if any(line.startswith("%") for line in lines):
            return  # a directive without its --- is tolerated, since real files have it; ruamel stops there
        pytest.fail(f"ruamel refuses {text!r}: {error}")
    if found:
        assert found[0] == found[1]


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.one_of(NAMES, st.lists(NAMES, max_size=3)), min_size=1), min_size=1
    )
)
def test_what_writers_write_we_accept(data: dict[str, object]) -> None:
    """Block style, flow style and every quoting that ruamel chooses for such texts."""
    from io import StringIO

    for flow in (False, True):
        yaml = YAML()
        yaml.default_flow_style = flow
        yaml.width = 10_000
        out = StringIO()
        yaml.dump(data, out)
        assume(_reads_back(out.getvalue(), data))  # ruamel writes {a: : 0}, which nobody reads
        source = source_of(out.getvalue(), "x")
        tree = read(source)
        assert not source.problems, [str(p) for p in source.problems] + [out.getvalue()]
        assert plain(tree) == data


def _reads_back(text: str, data: object) -> bool:
    try:
        return bool(YAML(typ="rt").load(text) == data)
    except YAMLError:
        return False


def plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text
    return [plain(x) for x in node.items] if isinstance(node, Sequence) else {k.text: plain(v) for k, v in node.pairs}


def test_what_step1_writes_reads_the_same_with_and_without_reading_every_line() -> None:
    for model, calibrated in (small(), small("rknn1"), chain(60)):
        text = write_cfg(model, calibrated)
        found = both(text)
        assert found
        assert found[0] == found[1]
        source = source_of(text, "x")
        known = read(source, known_lines(calibrated), PARAMETERS)
        parameters = next(p.value for p in known.pairs if p.key.text == PARAMETERS)
        assert isinstance(parameters, Mapping)
        assert all(isinstance(v, Mapping) and v.untouched for _, v in parameters.pairs)
        again = [(k.text, ours(reread(v, source))) for k, v in parameters.pairs if isinstance(v, Mapping)]
        assert again == dict(found[0])[PARAMETERS]  # type: ignore[call-overload]
        whole = read(source_of(text, "x"))
        slow = next(p.value for p in whole.pairs if p.key.text == PARAMETERS)
        assert [(k.place, v.place.line, v.place.column) for k, v in parameters.pairs] == [
            (k.place, v.place.line, v.place.column)
            for k, v in slow.pairs  # type: ignore[union-attr]
        ]


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000,
        "a: {" * 3000,
        "a: '" + "''" * 100_000,
        'a: "' + "\\" * 100_001,
        " " * 200_000 + "x",
        "a" * 100_000 + ":" * 100_000,
        "x:" + " " * 200_000 + "y",
        "\n".join(" " * i + f"k{i}:" for i in range(3000)),
    ],
)
def test_hostile_texts_end_soon(text: str) -> None:
    source = source_of(text, "x")
    assert read(source) is not None

"""Code that one looks at whole: functions fit a screen, files a sitting; one name is one thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hybridq

ROOT = Path(hybridq.__file__).parent
SCREEN, SITTING = 40, 400  # lines: of a function, and of a file
WILD = "DEF"  # radon's ranks of complexity


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def lines(node: ast.FunctionDef) -> int:
    """From ``def`` to the last statement, parameters and docstring included."""
    return (node.end_lineno or 0) - node.lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    assert not [name for name, node in functions() if lines(node) > SCREEN]


def test_no_file_is_longer_than_a_sitting() -> None:
    files = [*ROOT.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    assert not [p for p in files if len(p.read_text(encoding="utf-8").splitlines()) > SITTING]


def test_no_two_classes_have_one_name() -> None:
    """A reader who meets a name knows which it is; what a module keeps to itself may be called as it likes."""
    found: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


@pytest.mark.slow
def test_no_function_branches_wildly() -> None:
    complexity = pytest.importorskip("radon.complexity")
    found = [
        (path.relative_to(ROOT), block.name, block.complexity)
        for path in ROOT.rglob("*.py")
        for block in complexity.cc_visit(path.read_text(encoding="utf-8"))
        if complexity.cc_rank(block.complexity) in WILD
    ]
    assert not found

"""Every broken cfg in ``cfg/invalid`` beside the messages it must give. HYBRIDQ_UPDATE_GOLDENS=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers_config import INVALID as FOLDER
from helpers_config import INVALID_CASES as CASES
from helpers_config import PATH, small

from hybridq.config import check, decode
from hybridq.errors import ConfigError, Problem


def problems_of(file: Path) -> list[Problem]:
    """What the API says about a cfg; files called rknn1-... and rknn2-... are for those targets."""
    target = next((t for t in ("rknn1", "rknn2") if file.name.startswith(t)), "onnxruntime")
    try:
        return check(decode(file.read_bytes(), PATH), PATH, *small(target))[1]
    except ConfigError as error:
        return error.problems


def test_there_are_many() -> None:
    assert len(CASES) >= 60
    assert {p.stem for p in FOLDER.glob("*.errors.txt")} == {f"{p.stem}.errors" for p in CASES}


@pytest.mark.parametrize("file", CASES, ids=[p.stem for p in CASES])
def test_the_messages_are_these(file: Path) -> None:
    problems = problems_of(file)
    text = "".join(f"[{p.severity} {p.code}] {p}\n" for p in problems)
    golden = file.with_suffix(".errors.txt")
    if os.environ.get("HYBRIDQ_UPDATE_GOLDENS"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", CASES, ids=[p.stem for p in CASES])
def test_every_file_has_a_located_error(file: Path) -> None:
    problems = problems_of(file)
    errors = [p for p in problems if p.severity == "error"]
    assert errors
    assert all(p.path == PATH and p.line > 0 and p.column > 0 and p.end_column > p.column for p in problems)
    assert all(p.code for p in problems)
    assert [p.line for p in problems] == sorted(p.line for p in problems)

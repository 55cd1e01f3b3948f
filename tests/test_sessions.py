"""Pages that are sessions are run as printed, and what they show is what is printed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from helpers_docs import load

ROOT = Path(__file__).resolve().parents[1]
PAGES = load("docs", "sessions").pages()


@pytest.fixture(scope="module")
def sessions() -> ModuleType:
    return load("docs", "sessions")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_as_printed(sessions: ModuleType, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    apart = sessions.far_apart(text, sessions.run(page, tmp_path))
    assert not apart, f"run `python docs/sessions.py {page.relative_to(ROOT)}`"


def test_numbers_may_differ_a_little_and_words_not(sessions: ModuleType) -> None:
    assert not sessions.far_apart("AP50 0.958, 36.3 dB", "AP50 0.960, 36.1 dB")
    assert not sessions.far_apart("time 3.1 ms", "time 9.9 ms")
    assert sessions.far_apart("AP50 0.958", "AP50 0.000")
    assert sessions.far_apart("metric 0.958", "AP50 0.958")
    assert sessions.far_apart("one line", "one line\nand another")


def test_what_is_not_printed_is_told(sessions: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- world: tokens -->\n```console\n$ python --version\nRuby 3\n```\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(sessions.SessionError, match="does not print"):
        sessions.run(page, tmp_path / "folder")

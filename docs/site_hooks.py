"""What the site changes in the pages: links to files beside ``docs/`` have no page there and become plain text."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links out of ``docs/`` lose their address; that the files exist, ``tests/test_docs.py`` sees."""
    folder = posixpath.dirname(page.file.src_uri)

    def plain(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[2]))
        outside = target.startswith("..") or (ROOT / "docs" / target).is_dir()
        return found[1] if outside else found[0]

    return LINK.sub(plain, markdown)

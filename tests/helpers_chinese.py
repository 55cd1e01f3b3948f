"""Whether the page has Chinese for what the program says."""

from __future__ import annotations

import json
import re
from importlib.resources import files

PATTERNS = json.loads((files("hybridq.report") / "assets" / "chinese.json").read_text(encoding="utf-8"))["patterns"]


def is_translated(text: str) -> bool:
    """Whether a pattern fits the whole text."""
    return any(re.fullmatch(pattern, text, re.S) for pattern, _ in PATTERNS)

"""Whether the page has Chinese for what the program says."""

from __future__ import annotations

import json
import re
from importlib.resources import files

CHINESE = json.loads((files("hybridq.report") / "assets" / "chinese.json").read_text(encoding="utf-8"))


def is_translated(text: str) -> bool:
    """Whether there is a word for it, as it stands or with a capital, or a pattern that fits the whole text."""
    capital = text[:1].upper() + text[1:]
    return {text, capital} & CHINESE["exact"].keys() != set() or any(
        re.fullmatch(pattern, text, re.S) for pattern, _ in CHINESE["patterns"]
    )

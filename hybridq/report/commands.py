"""Lines to copy that change the cfg: every name in them is read back as it is meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

PLAIN = re.compile(r"[\w./:+-]+")  # names that a selector can combine with "or" as they are
NO_NAMES = {"and", "or", "not"}


def set_command(folder: str, layers: Iterable[str], precision: str) -> str:
    """The ``hybridq set`` command, or several where the names cannot stand in one selector."""
    names = tuple(layers)
    plain = all(PLAIN.fullmatch(n) and n not in NO_NAMES and ":" not in n for n in names)
    selectors = (" or ".join(names),) if plain else names
    return " && ".join(f"hybridq set {shlex.quote(folder)} {shlex.quote(one)} {precision}" for one in selectors)


def unset_command(folder: str, layers: Iterable[str]) -> str:
    """The ``hybridq unset`` commands that take back the edits of layers."""
    return " && ".join(f"hybridq unset {shlex.quote(folder)} {shlex.quote(one)}" for one in layers)

"""Lines to copy that change the cfg: every name in them is read back as it is meant."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def set_command(folder: str, layers: Iterable[str], precision: str) -> str:
    """The ``hybridq set`` command that gives layers a precision."""
    return f"hybridq set {_named(folder, layers)} {precision}"


def unset_command(folder: str, layers: Iterable[str]) -> str:
    """The ``hybridq unset`` command that takes back the edits of layers."""
    return f"hybridq unset {_named(folder, layers)}"


def _named(folder: str, layers: Iterable[str]) -> str:
    """The folder and the layers, each a word of its own; none is taken for an option."""
    names = [folder, *layers]
    ahead = ["--"] if any(name.startswith("-") for name in names) else []
    return " ".join(map(shlex.quote, [*ahead, *names]))

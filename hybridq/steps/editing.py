"""Editing the cfg of a folder from the command line: the text changes, comments and order stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridq import config
from hybridq.files.commit import commit
from hybridq.files.reading import write_text
from hybridq.quant.records import Edit, QuantConfig
from hybridq.steps.common import cfg_text, read_cfg_text, read_config, read_state
from hybridq.storage.state import CFG, State


@dataclass(frozen=True)
class Edited:
    """A cfg before and after a command."""

    path: Path
    change: config.Change


def set_precision(
    directory: Path | str,
    selector: str | Sequence[str],
    precision: str | None = None,
    *,
    params: Mapping[str, str] | None = None,
    algorithm: str | None = None,
) -> Edited:
    """Give the layers of one or several selectors a precision, their tensors parameters, or both.

    Raises ConfigError; nothing is lost.
    """

    def change(state: State, text: str, path: str) -> config.Change:
        return config.set_layers(text, path, state.model, state.calibrated, selector, precision, params, algorithm)

    return edit(Path(directory), change)


def unset(directory: Path | str, selector: str | Sequence[str]) -> Edited:
    """Take back every edit of the layers of one or several selectors."""

    def change(state: State, text: str, path: str) -> config.Change:
        return config.unset_layers(text, path, state.model, state.calibrated, selector)

    return edit(Path(directory), change)


def list_layers(directory: Path | str) -> list[dict[str, Any]]:
    """One row a layer: name, op, shape, macs, range, precision, group, aliases."""
    folder = Path(directory)
    state, found = _read(folder)
    return config.list_layers(state.model, state.calibrated, found)


def diff(directory: Path | str) -> tuple[Edit, ...]:
    """The edits of a folder's cfg relative to what step1 wrote."""
    folder = Path(directory)
    return _read(folder)[1].edits


def _read(folder: Path) -> tuple[State, QuantConfig]:
    state = read_state(folder)
    return state, read_config(folder, state)[0]


def edit(folder: Path, change: Callable[[State, str, str], config.Change]) -> Edited:
    """Edit the cfg of a folder; where another command wrote it meanwhile, edit what that one wrote."""
    while True:  # each further turn means that another edit was written meanwhile
        state, text = read_state(folder), read_cfg_text(folder)
        found = change(state, text, str(folder / CFG))
        if found.text == text:
            return Edited(folder / CFG, found)
        with suppress(_OvertakenError), commit(folder) as new:
            if cfg_text(folder / CFG, folder) != text:
                raise _OvertakenError
            write_text(new / CFG, found.text)
            return Edited(folder / CFG, found)


class _OvertakenError(Exception):
    """The cfg is no longer the one that was read."""

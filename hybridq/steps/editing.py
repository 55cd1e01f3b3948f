"""Editing the cfg of a folder from the command line: the text changes, comments and order stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hybridq import config
from hybridq.errors import ConfigError, Problem, StorageError
from hybridq.exchange.rknn_cfg import import_rknn
from hybridq.quant.records import Edit, QuantConfig
from hybridq.steps.common import read_cfg_text, read_config, read_state
from hybridq.storage.commit import commit
from hybridq.storage.state import CFG, State

PATIENCE, PAUSE = 10.0, 0.05  # seconds that a command waits for another one's writing, and between two looks
Result = TypeVar("Result")


@dataclass(frozen=True)
class Edited:
    """A cfg before and after a command."""

    path: Path
    change: config.Change


def set_precision(
    directory: Path | str,
    selector: str,
    precision: str | None = None,
    *,
    params: Mapping[str, str] | None = None,
    algorithm: str | None = None,
) -> Edited:
    """Give the selected layers a precision, their tensors parameters, or both. Raises ConfigError; nothing is lost."""

    def change(state: State, text: str, path: str) -> config.Change:
        return config.set_layers(text, path, state.model, state.calibrated, selector, precision, params, algorithm)

    return _edit(Path(directory), change)


def unset(directory: Path | str, selector: str) -> Edited:
    """Take back every edit of the selected layers."""

    def change(state: State, text: str, path: str) -> config.Change:
        return config.unset_layers(text, path, state.model, state.calibrated, selector)

    return _edit(Path(directory), change)


def import_cfg(directory: Path | str, file: Path | str) -> tuple[Edited, list[Problem]]:
    """Take layer choices and ranges from a cfg that RKNN-Toolkit 1.7 or RKNN-Toolkit2 wrote for the same model.

    Returns the edits and what could not be mapped, each with its line. Raises ConfigError, also where nothing can be
    mapped; nothing is lost then.
    """
    source, unmapped = Path(file), list[Problem]()
    if not source.is_file():
        said = "this is a folder; give the cfg inside" if source.is_dir() else "no such file"
        raise ConfigError(said, path=str(source))
    theirs = config.decode(source.read_bytes(), str(source))

    def change(state: State, text: str, path: str) -> config.Change:
        found, unmapped[:] = import_rknn(theirs, str(source), text, path, state.model, state.calibrated)
        return found

    return _edit(Path(directory), change), unmapped


def list_layers(directory: Path | str) -> list[dict[str, Any]]:
    """One row a layer: name, op, shape, macs, range, precision, group, aliases."""
    folder = Path(directory)
    state, found = _patiently(folder, lambda: _read(folder))
    return config.list_layers(state.model, state.calibrated, found)


def diff(directory: Path | str) -> tuple[Edit, ...]:
    """The edits of a folder's cfg relative to what step1 wrote."""
    folder = Path(directory)
    return _patiently(folder, lambda: _read(folder))[1].edits


def _read(folder: Path) -> tuple[State, QuantConfig]:
    state = read_state(folder)
    return state, read_config(folder, state)[0]


def _edit(folder: Path, change: Callable[[State, str, str], config.Change]) -> Edited:
    """Edit the cfg; where another command wrote it meanwhile, edit what that one wrote."""

    def once() -> Edited | None:
        state, text = read_state(folder), read_cfg_text(folder)
        found = change(state, text, str(folder / CFG))
        if found.text == text:
            return Edited(folder / CFG, found)
        with suppress(_OvertakenError), commit(folder) as new:
            if read_cfg_text(folder) != text:
                raise _OvertakenError
            (new / CFG).write_text(found.text, encoding="utf-8", newline="")
            return Edited(folder / CFG, found)
        return None

    while (done := _patiently(folder, once)) is None:
        pass  # each turn means that another edit was written
    return done


class _OvertakenError(Exception):
    """The cfg is no longer the one that was read."""


def _patiently(folder: Path, work: Callable[[], Result]) -> Result:
    """Do ``work``; while another command writes the folder, wait up to ``PATIENCE`` seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except StorageError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            if time.monotonic() >= end:
                message = f"another hybridq command is writing this folder, for {PATIENCE:g} s now"
                raise StorageError(message, path=str(folder), hint="Try again when it is done.") from error
        time.sleep(PAUSE)

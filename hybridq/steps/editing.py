"""Editing the cfg of a folder from the command line: the text changes, comments and order stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridq import config
from hybridq.commit import commit
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.rknn_cfg import import_rknn
from hybridq.records import Edit
from hybridq.steps.common import read_cfg_text, read_config, read_state
from hybridq.storage import CFG, State


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
    folder, state, text = _open(directory)
    path = str(folder / CFG)
    change = config.set_layers(text, path, state.model, state.calibrated, selector, precision, params, algorithm)
    return _save(folder, text, change)


def unset(directory: Path | str, selector: str) -> Edited:
    """Take back every edit of the selected layers."""
    folder, state, text = _open(directory)
    return _save(folder, text, config.unset_layers(text, str(folder / CFG), state.model, state.calibrated, selector))


def import_cfg(directory: Path | str, file: Path | str) -> tuple[Edited, list[Problem]]:
    """Take layer choices and ranges from a cfg that RKNN-Toolkit 1.7 or RKNN-Toolkit2 wrote for the same model.

    Returns the edits and what could not be mapped, each with its line. Raises ConfigError; nothing is lost then.
    """
    folder, state, text = _open(directory)
    path = Path(file)
    if not path.is_file():
        raise ConfigError("no such file", path=str(path))
    theirs = config.decode(path.read_bytes(), str(path))
    change, unmapped = import_rknn(theirs, str(path), text, str(folder / CFG), state.model, state.calibrated)
    return _save(folder, text, change), unmapped


def list_layers(directory: Path | str) -> list[dict[str, Any]]:
    """One row a layer: name, op, shape, macs, range, precision, group, aliases."""
    folder = Path(directory)
    state = read_state(folder)
    return config.list_layers(state.model, state.calibrated, read_config(folder, state)[0])


def diff(directory: Path | str) -> tuple[Edit, ...]:
    """The edits of a folder's cfg relative to what step1 wrote."""
    folder = Path(directory)
    return read_config(folder, read_state(folder))[0].edits


def _open(directory: Path | str) -> tuple[Path, State, str]:
    folder = Path(directory)
    state = read_state(folder)
    return folder, state, read_cfg_text(folder)


def _save(folder: Path, before: str, change: config.Change) -> Edited:
    if change.text != before:
        with commit(folder) as new:
            (new / CFG).write_text(change.text, encoding="utf-8", newline="")
    return Edited(folder / CFG, change)

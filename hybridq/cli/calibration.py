"""The options of calibration, which ``step1`` and ``auto`` share, made of ``Step1Options``: none is said twice."""

from __future__ import annotations

from typing import Any

import click

from hybridq.cli.options import FILE, F, declared
from hybridq.steps.kinds import asked
from hybridq.steps.options import PREPROCESSING, Step1Options

DATASET = click.option("--dataset", type=FILE, help="dataset.txt (one sample a line), a folder of images, or an .npz.")


def calibration(command: F) -> F:
    """Give a command the options of calibration."""
    for one in reversed(asked(Step1Options)):
        command = declared(one)(command)
    return DATASET(command)


def preprocessing(command: F) -> F:
    """Give a command the options that say what happens to values on their way into the model."""
    for one in reversed(asked(Step1Options)):
        if one.name in PREPROCESSING:
            command = declared(one)(command)
    return command


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The options as ``steps.step1`` takes them."""
    found = {one.name: given[one.name] for one in asked(Step1Options)}
    return found | {name: numbers(given[name], name) for name in ("mean", "std")}


def numbers(given: tuple[str, ...], name: str) -> Any:
    """``--mean`` as given: nothing, one text, or one text an input."""
    if len(given) <= 1:
        return given[0] if given else None
    if not all("=" in part for part in given):
        raise click.UsageError(f"More than one --{name}: write INPUT=VALUES in each.")
    return dict(part.split("=", 1) for part in given)

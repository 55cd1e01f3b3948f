"""The options that commands share, made of the options of the steps: none is said twice."""

from __future__ import annotations

from typing import Any

import click

from hybridq.cli.flags import FILE, F, declared
from hybridq.steps.options.comparison import ComparisonOptions
from hybridq.steps.options.preprocessing import PreprocessingOptions
from hybridq.steps.options.recurrent import StateOptions
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.options.validation import Checked, asked

DATASET = click.option("--dataset", type=FILE, help="dataset.txt (one sample a line), a folder of images, or an .npz.")


def calibration(command: F) -> F:
    """Give a command the options of calibration."""
    return DATASET(_declared(Step1Options, command))


def preprocessing(command: F) -> F:
    """Give a command the options that say what happens to values on their way into the model."""
    return _declared(PreprocessingOptions, command)


def states(command: F) -> F:
    """Give a command the option that says what goes round in a recurrent model."""
    return _declared(StateOptions, command)


def comparison(command: F) -> F:
    """Give a command the options of a comparison."""
    return _declared(ComparisonOptions, command)


def _declared(options: type[Checked], command: F) -> F:
    for one in reversed(asked(options)):
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

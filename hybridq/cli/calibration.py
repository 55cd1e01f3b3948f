"""The options of calibration, which ``step1`` and ``auto`` share."""

from __future__ import annotations

from typing import Any

import click

from hybridq import targets
from hybridq.calibration.ranges import ALGORITHMS, Options
from hybridq.cli.options import FILE, F, names
from hybridq.dataset import Preprocessing
from hybridq.search.choose_repair import REPAIRS

PLAIN = (
    "batch samples algorithm weights weights_algorithm weights_repair dtype target "
    "data_free force merge threads workers"
)

OPTIONS = (
    click.option("--dataset", type=FILE, help="dataset.txt (one sample a line), a folder of images, or an .npz."),
    click.option("--data-free", is_flag=True, help="No samples: ranges from the model's BatchNorm parameters."),
    click.option(
        "--mean", help="Subtracted from each channel: `0,0,0`, or `image=0,0,0` for one input.", multiple=True
    ),
    click.option("--std", help="Divides each channel: `255,255,255`.", multiple=True),
    click.option("--channel-order", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True),
    click.option("--resize", type=click.Choice(["stretch", "letterbox", "crop"]), default="stretch", show_default=True),
    click.option(
        "--batch", type=click.IntRange(1), default=1, show_default=True, help="Samples a run, for a dynamic batch."
    ),
    click.option("--samples", type=click.IntRange(1), help="Take only the first so many."),
    click.option("--inputs", help="Cut the model: these tensors become its inputs (A,B)."),
    click.option("--outputs", help="Cut the model: these tensors become its outputs, e.g. a detector's heads."),
    click.option(
        "--algorithm",
        type=click.Choice(sorted(ALGORITHMS)),
        default="normal",
        show_default=True,
        help="How ranges are chosen.",
    ),
    click.option("--percentile", type=click.FloatRange(50, 100), help="For --algorithm percentile."),
    click.option(
        "--minimum-range", type=click.FloatRange(0), help="Ranges narrower than this are widened (SNPE: 0.01)."
    ),
    click.option(
        "--weights",
        type=click.Choice(["channel", "layer"]),
        default="channel",
        show_default=True,
        help="Scales of weights.",
    ),
    click.option("--weights-algorithm", type=click.Choice(["normal", "mmse"]), default="normal", show_default=True),
    click.option(
        "--weights-repair",
        type=click.Choice(REPAIRS),
        default="bias",
        show_default=True,
        help="What is done to weights so that 8 bits harm less, at no cost at run time: biases take back the mean "
        "error, weights are rounded together (gptq), channels share a tensor's range evenly (equalize), or the best of "
        "all, measured (auto).",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["uint8", "int8", "int16", "float16", "float32"]),
        help="Precision of every layer.  [default: the target's]",
    ),
    click.option("--target", type=click.Choice(targets.names()), default="onnxruntime", show_default=True),
    click.option("--force", is_flag=True, help="Overwrite an edited cfg."),
    click.option("--merge", is_flag=True, help="Keep the edits of an edited cfg and refresh the rest."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that calibrate."),
)


def calibration(command: F) -> F:
    """Give a command the options of calibration."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The options as ``steps.step1`` takes them."""
    preprocessing = Preprocessing.of(
        _numbers(given["mean"]), _numbers(given["std"]), channel_order=given["channel_order"], resize=given["resize"]
    )
    if given["percentile"] is not None and given["algorithm"] not in ("percentile", "auto"):
        raise click.UsageError("--percentile goes with --algorithm percentile.")
    if given["force"] and given["merge"]:
        raise click.UsageError("--force throws the edits away, --merge keeps them: give one of them.")
    ranges = Options(**{k: given[k] for k in ("percentile", "minimum_range") if given[k] is not None})
    cut = {k: names(given[k]) for k in ("inputs", "outputs")}
    return {k: given[k] for k in PLAIN.split()} | {"preprocessing": preprocessing, "ranges": ranges} | cut


def need_dataset(dataset: Any, data_free: bool) -> None:
    """Refuse a command without samples, or with samples that would not be read."""
    if (dataset is None) != data_free:
        missing = "Give --dataset FILE (or --data-free, without samples)."
        raise click.UsageError(missing if dataset is None else "--data-free reads no --dataset.")


def _numbers(given: tuple[str, ...]) -> Any:
    """``--mean`` as given: nothing, one text, or one text an input."""
    if len(given) <= 1:
        return given[0] if given else None
    if not all("=" in part for part in given):
        raise click.UsageError("More than one --mean or --std: write INPUT=VALUES in each.")
    return dict(part.split("=", 1) for part in given)

"""The report in the terminal: what a person looks at first."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hybridq.compare import ComparisonReport, LayerReport
from hybridq.report import words

SHOWN = 12  # layers in the table; all are in layers.csv


def print_report(report: ComparisonReport, console: Console, *, most: int = SHOWN) -> None:
    """Outputs, the ``most`` damaged layers, size, time, the user's metric, warnings."""
    where = (
        " of the calibration set (--dataset gives data that calibration has not seen)"
        if report.calibration_data
        else ""
    )
    plural = "" if report.samples == 1 else "s"
    console.print(f"[bold]{escape(report.model)}[/]: float and hybrid on {report.samples} sample{plural}{where}")
    console.print(_outputs(report))
    if report.layers:
        console.print(_layers(report, most))
        console.print("individual: only this layer quantized; entire, cosine: inside the hybrid model", style="dim")
    for line in summary(report):
        console.print(escape(line), highlight=False)
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)


def summary(report: ComparisonReport) -> list[str]:
    """Size, time and metric, a line each."""
    sizes = report.sizes
    before, after = words.size(sizes.float_bytes), words.size(sizes.hybrid_bytes)
    lines = [f"size    {before} float, {after} hybrid: {sizes.ratio:.2f} of it"]
    timing = report.timing
    if timing is not None:
        lines.append(
            f"time    {timing.float_ms:.2f} ms float, {timing.hybrid_ms:.2f} ms hybrid: {timing.speedup:.2f} times as "
            f"fast ({timing.low:.2f}..{timing.high:.2f}, {timing.pairs} pairs, {words.threads(timing.threads)})"
        )
    metric = report.metric
    if metric is not None:
        lines.append(
            f"metric  {metric.name}: {metric.float_value:.4f} float, {metric.hybrid_value:.4f} hybrid: "
            f"drop {metric.drop:.4f}"
        )
    return lines


def damage(layer: LayerReport) -> float:
    """What layers are sorted by: the individual SQNR, else the entire one, in dB; ``inf`` where neither is known."""
    figures = layer.individual or layer.entire
    return figures.sqnr_db if figures else math.inf


def _outputs(report: ComparisonReport) -> Table:
    table = Table(title="outputs", title_justify="left", header_style="bold")
    table.add_column("output", overflow="fold")
    for head in ("SQNR", "worst slice's SQNR", "cosine", "largest error"):
        table.add_column(head, justify="right", no_wrap=True)
    for output in report.outputs:
        figures = output.figures
        table.add_row(
            escape(output.name),
            words.quality(output),
            escape(words.worst(output)),
            f"{figures.cosine:.6f}" if output.equal is None else "-",
            f"{figures.largest_error:.4g}",
        )
    return table


def _layers(report: ComparisonReport, most: int) -> Table:
    shown = sorted(report.layers, key=damage)[:most]
    title = (
        "layers"
        if len(shown) == len(report.layers)
        else f"the {len(shown)} most damaged of {len(report.layers)} layers"
    )
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("layer", overflow="fold")
    for head in ("op", "precision"):
        table.add_column(head, no_wrap=True)
    for head in ("individual", "entire", "cosine"):
        table.add_column(head, justify="right", no_wrap=True)
    for layer in shown:
        entire, individual = layer.entire, layer.individual
        table.add_row(
            escape(layer.name),
            escape(layer.op),
            layer.precision,
            words.decibels(individual.sqnr_db if individual else None),
            words.decibels(entire.sqnr_db if entire else None),
            f"{entire.cosine:.6f}" if entire else "-",
        )
    return table

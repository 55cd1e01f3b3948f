"""The report in the terminal: the page's story in ``LINES`` lines of ``COLUMNS`` columns."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from hybridq.compare import BoardLayer, ComparisonReport, LayerReport
from hybridq.compare.timing import unsteady
from hybridq.report import board_section, error_over_time, words
from hybridq.report.columns import heads, notes, rows
from hybridq.report.known import Known
from hybridq.report.suspects import LOW
from hybridq.report.verdict import Verdict, judge, worst_first

LINES, COLUMNS = 25, 100
NAME, CELL = 42, 14  # columns of a layer's name, and of a figure
HEAD, LEAST_NAME = 28, 10  # of what a figure is, and of an output's name beside it, at least
WARNINGS = 1  # all are on the page
LEAST = 2  # layers that are shown in any case
STYLES = {"ok": "bold green", "warning": "bold yellow", "broken": "bold red"}


def print_report(report: ComparisonReport, console: Console, judged: Verdict | None = None) -> None:
    """Verdict, the models side by side, the most damaged layers, warnings, and the commands that come next."""
    judged = judged or judge(report, Known())
    ahead = [*_head(report, judged), *_columns(report, judged), *_outputs(report), *_loop(report), *_board(report)]
    behind = [*_by_design(report, judged), *_warnings(report), *_next(judged)]
    taken = sum(max(1, math.ceil(line.cell_len / COLUMNS)) for line in (*ahead, *behind))
    for line in (*ahead, *_layers(report, judged, max(LEAST, LINES - 1 - taken)), *behind):
        console.print(line, soft_wrap=True)


def summary(report: ComparisonReport) -> list[str]:
    """Size, time and metric, a line each."""
    sizes = report.sizes
    before, after = words.size(sizes.float_bytes), words.size(sizes.hybrid_bytes)
    lines = [f"size    {before} float, {after} hybrid: {sizes.ratio:.2f} of it"]
    timing = report.timing
    if timing is not None and not unsteady(timing):
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


def _head(report: ComparisonReport, judged: Verdict) -> Iterable[Text]:
    level = str(judged.level)
    model = words.short(report.model, NAME)
    first, *rest = textwrap.wrap(f"{model}: {level}: {judged.reason}", COLUMNS)
    yield Text.assemble((f"{model}: ", "bold"), (level, STYLES[level]), first.removeprefix(f"{model}: {level}"))
    yield from map(Text, rest)
    where = " of the calibration set (--dataset: data that it has not seen)" if report.calibration_data else ""
    plural = "" if report.samples == 1 else "s"
    board = judged.columns[-1].board if judged.columns else ""
    aim = f" for {board}," if board else ""
    yield Text(f"float and hybrid{aim} on {report.samples} sample{plural}{where}", "dim")


def _columns(report: ComparisonReport, judged: Verdict) -> Iterable[Text]:
    count = len(judged.columns)
    for i, (head, *cells) in enumerate([heads(report, judged.columns), *rows(report, judged.columns)]):
        line = f"  {head:<{HEAD}}" + "".join(f" {cell:>{CELL - 1}}" for cell in cells[:count])
        whose = "".join(f"  {words.short(cell, COLUMNS - len(line) - 2)}" for cell in cells[count:])
        yield Text((line + (whose if len(line) + LEAST_NAME < COLUMNS else "")).rstrip(), "" if i else "bold")
    for note in notes(report, judged.columns):
        yield from (Text(f"  {line}", "dim") for line in textwrap.wrap(note, COLUMNS - 2))
    if judged.slower is not None:
        yield from (Text(f"  {line}") for line in _wrapped(f"{judged.slower.cause}; {judged.slower}", COLUMNS - 2))
        if judged.slower.command:
            yield Text(f"   {judged.slower.command}", "cyan")


def _outputs(report: ComparisonReport) -> Iterable[Text]:
    """The outputs from the worst on, in one line."""
    told = [f"{words.short(one.name, 24)} {words.quality(one)}" for one in worst_first(report)]
    if len(told) > 1:
        yield Text(_fitting("outputs  ", told), "")


def _loop(report: ComparisonReport) -> Iterable[Text]:
    """What goes round, and the error over time of the outputs that suffer most from it."""
    if report.loop is None:
        return
    for line in textwrap.wrap(error_over_time.sentence(report.loop), COLUMNS):
        yield Text(line, "" if error_over_time.worst_of(report.loop) in ("settles", "") else "yellow")
    answers = sorted((c for c in report.loop.courses if not c.state), key=lambda c: c.sqnr_db)
    for one in answers[:2]:
        yield Text(words.short(f"  {words.short(one.name, 24)}  {error_over_time.course(one)}", COLUMNS))


def _board(report: ComparisonReport) -> Iterable[Text]:
    """What the device computed, and what to look at."""
    if report.board is not None:
        lines = [part for line in board_section.told(report.board) for part in textwrap.wrap(line, COLUMNS - 9)]
        yield from (Text(f"{'' if i else 'board':<9}{line}") for i, line in enumerate(lines))


def _layers(report: ComparisonReport, judged: Verdict, most: int) -> Iterable[Text]:
    aside = {*judged.by_design, *judged.unheard}
    found = sorted((x for x in report.layers if x.name not in aside), key=damage)
    if found:
        title = "layers" if len(found) <= most else f"the {most} most damaged of {len(found)} layers"
        last = "cosine" if report.board is None else "board"
        heads = "".join(
            f"{head:>{width}}" for head, width in zip(("individual", "entire", last), (11, 11, 9), strict=True)
        )
        yield Text(f"{title:<{NAME}} {'op':<16} {'bits':<8}{heads}", "bold")
    captured = {x.name: x for x in report.board.layers} if report.board is not None else None
    for layer in found[:most]:
        yield Text(_layer(layer, captured))


def _layer(layer: LayerReport, captured: Mapping[str, BoardLayer] | None) -> str:
    entire, individual = layer.entire, layer.individual
    last = f"{entire.cosine:.5f}" if entire else "-"
    if captured is not None:
        last = words.decibels(captured[layer.name].against_float.sqnr_db) if layer.name in captured else "-"
    return (
        f"{words.short(layer.name, NAME):<{NAME}} {words.short(layer.op, 16):<16} {layer.precision:<8}"
        f"{words.decibels(individual.sqnr_db if individual else None):>11}"
        f"{words.decibels(entire.sqnr_db if entire else None):>11}"
        f"{last:>9}"
    )


def _by_design(report: ComparisonReport, judged: Verdict) -> Iterable[Text]:
    aside = set(judged.by_design)
    asked = {x.name for x in report.layers if x.precision not in LOW} - aside
    unheard = set(judged.unheard)
    for names, told_of_one, told_of_many in (
        (unheard, "loses alone what no reader hears", "lose alone what no reader hears"),
        (aside, "stays float by design", "stay float by design"),
        (asked, "has more bits by the cfg", "have more bits by the cfg"),
    ):
        counts = Counter(x.op for x in report.layers if x.name in names)
        if counts:
            told = [f"{n} {op}" for op, n in counts.most_common()]
            verb = f"s {told_of_many}" if len(names) > 1 else f" {told_of_one}"
            yield Text(_fitting(f"{len(names)} layer{verb}: ", told), "dim")


def _warnings(report: ComparisonReport) -> Iterable[Text]:
    for warning in report.warnings[:WARNINGS]:
        first, *rest = _wrapped(warning, COLUMNS - 9)
        yield Text.assemble(("warning: ", "yellow"), first)
        yield from (Text(f"  {line}") for line in rest)
    left = len(report.warnings) - WARNINGS
    if left > 0:
        yield Text(f"  and {left} more warning{'s' * (left > 1)}, see the report", "dim")


def _next(judged: Verdict) -> Iterable[Text]:
    first, *others = judged.actions
    since = f", since {first.cause}" if first.cause else ""
    yield from (Text(line, "bold") for line in _wrapped(f"what to do next{since}", COLUMNS))
    yield from _action(f"1. {first}", first.commands, first.aside)
    for i, action in enumerate(others, 2):
        aside = "" if any(action.aside == one.aside for one in judged.actions[: i - 1]) else action.aside
        yield from _action(f"{i}. or then: {action.after(first)}", action.command, aside)


def _action(told: str, command: str, aside: str) -> Iterable[Text]:
    """What to do, what its command does not say by itself, and the command, last."""
    first, *rest = _wrapped(told + (f" ({aside})" if aside else ""), COLUMNS - 3)
    yield Text(first)
    yield from (Text(f"   {line}") for line in rest)
    if command:
        yield Text(f"   {command}", "cyan")


def _wrapped(text: str, most: int) -> list[str]:
    """A sentence in lines of at most ``most`` columns; of a long name in it both ends are shown."""
    return textwrap.wrap(" ".join(words.short(word, NAME) for word in text.split()), most) or [""]


def _fitting(head: str, told: Sequence[str]) -> str:
    """As many of ``told`` as fit into a line, the rest counted."""
    for count in range(len(told), 0, -1):
        rest = f" and {len(told) - count} more" if count < len(told) else ""
        line = head + ", ".join(told[:count]) + rest
        if len(line) <= COLUMNS:
            return line
    return words.short(head + told[0], COLUMNS)

"""What a device computed, in words: the sentence a person can act on, and a row a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridq.compare import BoardLayer, BoardReport
from hybridq.report.words import decibels, short, visible
from hybridq.report.words import sentence as capital

SHOWN = 3  # names
NAME = 60


def sentence(board: BoardReport) -> str:
    """Up to which layer the device computes what was planned, and what differs from there."""
    who = "the board" if board.device else "the toolkit's simulator"
    if not board.first_apart:
        return f"{who} computes what was planned in all {len(board.layers)} layers that it shows"
    apart = next(x for x in board.layers if x.name == board.first_apart)
    until = f"up to '{short(board.last_as_planned, NAME)}'" if board.last_as_planned else "in no layer that it shows"
    kept = f"{decibels(apart.against_float.sqnr_db)} against float, planned {decibels(apart.planned.sqnr_db)}"
    return f"{who} computes what was planned {until}; '{short(apart.name, NAME)}' ({apart.op}) differs: {kept}"


def advice(board: BoardReport) -> str:
    """What to look at; empty where nothing differs."""
    if not board.first_apart:
        return ""
    first = (
        "" if board.last_as_planned else ". It is the first: mean, std or the order of channels may differ there, too"
    )
    return f"look at '{short(board.first_apart, NAME)}' on the device: {board.cause}{first}"


def remarks(board: BoardReport) -> Iterator[str]:
    """What a reader must know: which samples, what is missing, what was turned."""
    numbers = ", ".join(str(n + 1) for n in board.samples[:SHOWN]) + (", ..." if len(board.samples) > SHOWN else "")
    yield f"{board.form}; sample {numbers}; {len(board.layers)} layers"
    if board.missing:
        yield f"no tensor of {_listed(board.missing)}: its toolkit computed them together with others, or left them out"
    turned = [x.name for x in board.layers if x.note]
    if turned:
        yield f"{_listed(turned)}: {next(x.note for x in board.layers if x.note)}"


def told(board: BoardReport) -> tuple[str, ...]:
    """All that is to be said, the sentence first."""
    return tuple(map(capital, filter(None, (sentence(board), advice(board), *remarks(board)))))


def rows(board: BoardReport) -> Iterator[Sequence[str]]:
    """A head, then a row a layer."""
    yield "layer", "op", "precision", "board", "planned", "board against plan", "cosine", "the toolkit's cosine", "note"
    for x in board.layers:
        stated = "-" if x.stated_cosine is None else f"{x.stated_cosine:.5f}"
        figures = (x.against_float.sqnr_db, x.planned.sqnr_db, x.against_plan.sqnr_db)
        note = "; ".join(filter(None, [_apart(x, board), x.note]))
        cosine = f"{x.against_float.cosine:.5f}"
        yield visible(x.name, 80), x.op, x.precision, *map(decibels, figures), cosine, stated, note


def _apart(layer: BoardLayer, board: BoardReport) -> str:
    if layer.as_planned:
        return ""
    return "the first that differs" if layer.name == board.first_apart else "differs"


def _listed(names: Sequence[str]) -> str:
    told = ", ".join(f"'{short(n, 40)}'" for n in names[:SHOWN])
    return told + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

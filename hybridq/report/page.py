"""``index.html``: the whole report on one page that needs nothing else, neither files nor network.

``page_data`` is all that the page's scripts know, as JSON; ``assets/`` has the template, the style, the scripts (one
job each, put together in the order of their names) and the Chinese words. What can be read without a script is written
by the template.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
from markupsafe import Markup

from hybridq.compare import ComparisonReport, LayerReport, OutputReport, TensorFigures
from hybridq.compare.timing import unsteady
from hybridq.report import board_section, error_over_time, words
from hybridq.report.advice import Action
from hybridq.report.columns import good, heads, notes, rows
from hybridq.report.extras import Extras
from hybridq.report.gain import GOOD_CENTERED_DB, GOOD_WHOLE_DB, GOOD_WORST_DB
from hybridq.report.gallery import Shot
from hybridq.report.terminal import damage, summary
from hybridq.report.verdict import Verdict, limits, worst_first

Rows = list[Sequence[str]]

DIGITS = 6
FEW = 20  # samples: ranges and figures from fewer say little of others
NAME = 2000  # characters of a name that a page holds; longer ones are cut
PARTS = (
    ("verdict", "Verdict"),
    ("whatif", "What if"),
    ("outputs", "Outputs"),
    ("loop", "In the loop"),
    ("layers", "Layers"),
    ("board", "Board"),
    ("samples", "Samples"),
    ("bits", "Damage and bits"),
    ("drift", "Drift"),
    ("entered", "What entered the model"),
)
HELP = {
    "outputs": "SQNR is the whole output's signal power over the error's. The worst slice is the channel, position or "
    "concatenated part with the least variance over its error: it shows what one number for a whole output hides. "
    "Centered: what varies from sample to sample over the error; what an output says of every sample alike hides "
    "errors, too.",
    "loop": "SQNR by steps, over all sequences; each model is fed its own states. A state that drifts is no harm in "
    "itself: what counts is the outputs. An error grows where its share has 3 dB more at the end than early on.",
    "board": "SQNR of what the device computed against float; planned: of our simulation against float; and of the "
    "device against our simulation. The device computes as planned where it is about as near to float as planned.",
    "drift": "Values of the float model outside the range that calibration saw: 8 bits clip them. What counts is told "
    "in the verdict; a few values a little outside are in any new data.",
    "entered": "After mean and std, over the samples of this comparison. Where training saw other values, nothing "
    "on this page can be right.",
}


def page(report: ComparisonReport, judged: Verdict, extras: Extras | None = None) -> str:
    """The page's text."""
    extras = extras or Extras()
    sections = _sections(report, extras)
    parts = [one for one in PARTS if sections.get(one[0], True)]
    plural = "" if report.samples == 1 else "s"
    note = " of the calibration set: step3 --dataset gives data that it has not seen" if report.calibration_data else ""
    return _template().render(
        model=words.visible(report.model),
        about=[*_made(extras), f"{report.samples} sample{plural}{note}"],
        limits=limits(),
        caution=_caution(report, extras),
        level=str(judged.level),
        reason=words.visible(judged.reason),
        short_of=_short_of(report),
        columns=[heads(report, judged.columns), *rows(report, judged.columns)],
        elsewhere=[f"{words.sentence(note)}." for note in notes(report, judged.columns)],
        summary=[" ".join(line.split()) for line in summary(report)[1:]],
        cause=words.visible(words.sentence(judged.actions[0].cause)) if judged.actions else "",
        actions=[_action(one, judged.actions[0] if i else None) for i, one in enumerate(judged.actions)],
        slower=_action(judged.slower, None) if judged.slower else None,
        slower_cause=words.visible(words.sentence(judged.slower.cause)) if judged.slower else "",
        warnings=[words.visible(text) for text in report.warnings],
        problems=[words.visible(text) for text in extras.problems],
        parts=parts,
        help=HELP,
        versions=report.versions,
        target=extras.target,
        css=_asset("page.css"),
        script=_script(),
        chinese=harmless(json.loads(_text(_folder() / "chinese.json"))),
        data=harmless(page_data(report, judged, extras)),
        **{name: sections[name] for name in ("outputs", "loop", "board", "drift", "entered")},
        rounds=list(map(words.visible, error_over_time.told(report.loop))) if report.loop is not None else [],
        device=list(map(words.visible, board_section.told(report.board))) if report.board is not None else [],
    )


def _made(extras: Extras) -> Iterable[str]:
    """What the model is built for, and where."""
    if extras.target:
        yield f"for {extras.target.name}"
    if extras.folder:
        yield f"built in {words.visible(extras.folder, 60)}"


def _caution(report: ComparisonReport, extras: Extras) -> str:
    """What the figures over all samples hide: the worst sample, and that there are few."""
    told = []
    if len(extras.sqnr) > 1 and math.isfinite(min(extras.sqnr)):
        told.append(f"The worst sample keeps {words.decibels(min(extras.sqnr))} as a whole.")
    if report.samples < FEW:
        told.append(f"Only {report.samples} sample{'s' * (report.samples > 1)}: {FEW} to 200 are usual.")
    return " ".join(told)


def page_data(report: ComparisonReport, judged: Verdict, extras: Extras) -> dict[str, Any]:
    """All that the page's scripts know. SQNRs are numbers, ``exact``, ``lost``, or null where nothing was measured."""
    numbers = {layer.name: i for i, layer in enumerate(report.layers)}
    aside = set(judged.by_design)
    prediction = extras.prediction
    captured = {x.name: _db(x.against_float.sqnr_db) for x in report.board.layers} if report.board else {}
    found = {
        "folder": extras.folder,
        "sizes": asdict(report.sizes),
        "timing": asdict(report.timing) if report.timing and not unsteady(report.timing) else None,
        "outputs": [_output(one) for one in report.outputs],
        "layers": [_layer(one, one.name in aside, one.name in judged.unheard) for one in report.layers],
        "counted": [report.layer_samples, report.samples],
        "drift": {one.tensor: [one.min, one.max, one.share] for one in report.drift},
        "board": captured,
        "edges": [[numbers[a], numbers[b]] for a, b in extras.edges if a in numbers and b in numbers],
        "details": {k: v for k, v in extras.details.items() if k in numbers},
        "advised": _advised(report, judged),
        "first": _first(judged),
        "then": extras.then,
        "choices": extras.choices,
        "defaults": extras.defaults,
        "shots": [_shot(one) for one in extras.shots],
        "sqnr": [_db(v) for v in extras.sqnr],
        "points": [p._asdict() for p in extras.points],
        "limits": {"layer": judged.blamed_below_db, "slice": GOOD_WORST_DB},
    }
    plain = words.few_digits(_cut(found), DIGITS)
    return {**plain, "prediction": prediction.to_json() if prediction else None}


def _first(judged: Verdict) -> list[str] | None:
    """The layers of what comes first; None where nothing has to be done."""
    first = next(iter(judged.actions), None)
    return None if first is None or first.kind == "nothing" else list(first.layers)


def _advised(report: ComparisonReport, judged: Verdict) -> list[str]:
    """The layers that the first action names, the most damaged first; none where no layer is to blame."""
    named = set(_first(judged) or ())
    return [x.name for x in sorted((x for x in report.layers if x.name in named), key=damage)]


def harmless(value: Any) -> str:
    """JSON that ends no script element, whatever its texts hold (for a template that escapes: marked as safe)."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _action(one: Action, first: Action | None) -> dict[str, str]:
    """The text, with a reason of its own behind the ``first``, and the command as it is copied and as it is shown."""
    told = words.visible(words.sentence(one.after(first) if first else str(one)))
    commands = {"command": words.short(one.commands, NAME), "shown": words.visible(one.commands, NAME)}
    return {"text": told, "aside": one.aside, **commands}


def _sections(report: ComparisonReport, extras: Extras) -> dict[str, Any]:
    """Tables that the template writes; empty ones are left out, and so are the scripts' sections without data."""
    return {
        "outputs": list(_outputs(report)),
        "loop": list(error_over_time.rows(report.loop)) if report.loop is not None else [],
        "board": list(board_section.rows(report.board)) if report.board is not None else [],
        "drift": list(_drift(report)),
        "entered": list(_entered(extras)),
        "whatif": extras.prediction is not None and bool(extras.prediction.units),
        "layers": bool(report.layers),
        "samples": bool(extras.shots),
        "bits": bool(extras.points),
    }


def _outputs(report: ComparisonReport) -> Iterable[Sequence[str]]:
    if report.outputs:
        limits = good(GOOD_WHOLE_DB), good(GOOD_WORST_DB), good(GOOD_CENTERED_DB)
        judged = (f"{what}, {limit}" for what, limit in zip(("SQNR", "worst slice", "centered"), limits, strict=True))
        yield "output", *judged, "cosine", "largest error", "at"
    for output in worst_first(report):
        figures = output.figures
        cosine = f"{figures.cosine:.6f}" if output.equal is None else "-"
        at = _place(figures)
        name = words.visible(output.name, 80)
        whole, centered = words.quality(output), words.decibels(output.centered_sqnr_db)
        yield name, whole, words.worst(output), centered, cosine, f"{figures.largest_error:.4g}", at


def _short_of(report: ComparisonReport) -> list[tuple[int, int]]:
    """The cells, row and column, of the outputs' table that are below their limit."""
    limits = GOOD_WHOLE_DB, GOOD_WORST_DB, GOOD_CENTERED_DB
    found = []
    for row, o in enumerate(worst_first(report)):
        worst = o.worst_sqnr_db if o.worst.axis >= 0 else None
        figures = (o.sqnr_db, worst, o.centered_sqnr_db) if o.equal is None else ()
        found += [(row, i + 1) for i, db in enumerate(figures) if db is not None and db < limits[i]]
    return found


def _place(figures: TensorFigures) -> str:
    """Where the largest error is: which sample, counted from 1 as everywhere on the page, and which element of it."""
    sample, *index = figures.largest_at or ("",)
    return f"sample {sample + 1} {index}" if isinstance(sample, int) else "-"


def _drift(report: ComparisonReport) -> Iterable[Sequence[str]]:
    if report.drift:
        yield "tensor", "layer", "calibrated", "seen", "outside", "beyond, in widths", "counts"
    for one in sorted(report.drift, key=lambda d: (not d.significant, -d.share)):
        ends = f"{one.min:.4g} .. {one.max:.4g}", f"{one.seen_min:.4g} .. {one.seen_max:.4g}"
        layer = "" if one.layer == one.tensor else words.visible(one.layer, 80)
        names = words.visible(one.tensor, 80), layer
        counts = "yes" if one.significant else "too little"
        yield *names, *ends, f"{one.share:.3%}", f"{one.excess:.2f}", counts


def _entered(extras: Extras) -> Iterable[Sequence[str]]:
    if extras.entered:
        yield "input", "channel", "min", "max", "mean"
    for one in extras.entered:
        channel = "all" if one.channel is None else str(one.channel)
        yield words.visible(one.input, 80), channel, f"{one.min:.6g}", f"{one.max:.6g}", f"{one.mean:.6g}"


def _output(output: OutputReport) -> dict[str, Any]:
    slices = [{"where": words.where(output, one), "sqnr_db": _db(one.sqnr_db)} for one in output.slices]
    return {"name": output.name, "slices": slices}


def _layer(layer: LayerReport, by_design: bool, unheard: bool) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "precision": layer.precision,
        "individual": _sqnr(layer.individual),
        "entire": _sqnr(layer.entire),
        "cosine": layer.entire.cosine if layer.entire else None,
        "note": layer.note,
        "by_design": by_design,
        "unheard": unheard,
        "histogram": asdict(layer.histogram) if layer.histogram else None,
    }


def _shot(shot: Shot) -> dict[str, Any]:
    curves = [{**asdict(one), "sqnr_db": _db(one.sqnr_db)} for one in shot.outputs]
    figures = {"sqnr_db": _db(shot.sqnr_db), "worst_sqnr_db": _db(shot.worst_sqnr_db)}
    return {**asdict(shot), **figures, "outputs": curves}


def _sqnr(figures: TensorFigures | None) -> float | str | None:
    return _db(figures.sqnr_db) if figures else None


def _db(value: float) -> float | str:
    if value in (float("inf"), float("-inf")):
        return "exact" if value > 0 else "lost"
    return value


def _cut(value: Any) -> Any:
    """Values whose texts, keys too, have at most ``NAME`` characters; pictures are left whole."""
    if isinstance(value, str):
        return value if len(value) <= NAME or value.startswith("data:image/") else words.short(value, NAME)
    if isinstance(value, dict):
        return {_cut(k): _cut(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(v) for v in value]
    return dict(value) if hasattr(value, "items") else value


def _folder() -> Traversable:
    return files("hybridq.report") / "assets"


def _text(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _asset(name: str) -> str:
    return Markup(_text(_folder() / name))


@cache
def _script() -> str:
    """The scripts in the order of their names."""
    found = sorted((one for one in (_folder() / "js").iterdir() if one.name.endswith(".js")), key=lambda one: one.name)
    return Markup("\n".join(map(_text, found)))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False)
    return environment.from_string(_text(_folder() / "page.html.j2"))

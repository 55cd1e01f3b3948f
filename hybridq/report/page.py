"""``index.html``: the whole report on one page that needs nothing else, neither files nor network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from hybridq.compare import ComparisonReport, Drift, Figures, LayerReport, OutputReport
from hybridq.report import words
from hybridq.report.columns import rows
from hybridq.report.plots import COLOURS, Bar, ParetoPoint, bars, pareto
from hybridq.report.terminal import summary
from hybridq.report.verdict import Verdict

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$model: float and hybrid</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.2rem 0.6rem; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
th { border-bottom-width: 2px; } .n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
pre { overflow-x: auto; padding: 0.4rem 0.8rem; background: #8882; margin: 0.2rem 0 0.6rem; user-select: all; }
.verdict { padding: 0.5rem 0.9rem; border-left: 6px solid; font-size: 1.05rem; overflow-wrap: anywhere; }
.verdict strong { text-transform: uppercase; margin-right: 0.6em; } .next { padding-left: 1.4rem; }
.ok { border-color: #2e8b57; background: #2e8b5718; } .broken { border-color: #d1362f; background: #d1362f18; }
.verdict.warning { border-color: #e0a81e; }
.note { color: #888; } .warning { border-left: 4px solid #e0a81e; padding: 0.2rem 0.8rem; background: #e0a81e18; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: #888; }
svg rect:hover { fill-opacity: 0.6; } .grid { stroke: #8883; } .trial { fill: #2f7fd166; stroke: #2f7fd1; }
.chosen { fill: #d1362f; } .key { display: inline-block; width: 0.8em; height: 0.8em; margin: 0 0.3em 0 1em; }
</style>
</head>
<body>
<h1>$model: float and hybrid</h1>
<p>$samples</p>
$body
<p class="note">hybridq $hybridq, ONNX Runtime $onnxruntime</p>
</body>
</html>
""")
HELP = {
    "outputs": "SQNR is the whole output's signal power over the error's. The worst slice is the channel, position or "
    "concatenated part with the least variance over its error: it shows what one number for a whole output hides.",
    "layers": "Individual: only this layer quantized, given the float model's inputs. Entire: inside the hybrid model, "
    "with all that came before. Low individual figures are a layer's own damage; the outputs say whether it matters.",
    "drift": "Values of the float model outside the range that calibration saw: 8 bits clip them.",
}


def page(report: ComparisonReport, judged: Verdict, points: Sequence[ParetoPoint] = ()) -> str:
    """The page's text. ``points`` add a plot of a search's trials."""
    sections = [*_verdict(judged), *_columns(report, judged), *_summary(report), *_next(judged), *_warnings(report)]
    sections += _outputs(report)
    if points:
        sections += ["<h2>Damage and bits</h2>", pareto(points)]
    sections += [*_layers(report), *_drift(report)]
    plural = "" if report.samples == 1 else "s"
    note = (
        " of the calibration set: step3 --dataset gives data that calibration has not seen"
        if report.calibration_data
        else ""
    )
    return PAGE.substitute(
        model=escape(report.model),
        samples=f"{report.samples} sample{plural}{note}.",
        body="\n".join(sections),
        **{k: escape(v) for k, v in report.versions.items()},
    )


def _warnings(report: ComparisonReport) -> Iterable[str]:
    return (f'<p class="warning">{escape(text)}</p>' for text in report.warnings)


def _verdict(judged: Verdict) -> Iterable[str]:
    level = str(judged.level)
    yield f'<p class="verdict {level}" role="status"><strong>{level}</strong> {escape(judged.reason)}</p>'


def _columns(report: ComparisonReport, judged: Verdict) -> Iterable[str]:
    found = rows(report, judged.columns)
    yield _table(["", *(c.model for c in judged.columns)], [[escape(cell) for cell in row] for row in found])
    elsewhere = [c for c in judged.columns if c.measured_on != "these samples"]
    if elsewhere:
        yield f'<p class="note">{escape(elsewhere[0].model)}: accuracy on {escape(elsewhere[0].measured_on)}.</p>'


def _next(judged: Verdict) -> Iterable[str]:
    yield '<h2>What to do next</h2>\n<ol class="next">'
    for action in judged.actions:
        command = f"<pre>{escape(action.command)}</pre>" if action.command else ""
        yield f"<li>{escape(words.sentence(str(action)))}{command}</li>"
    yield "</ol>"


def _summary(report: ComparisonReport) -> Iterable[str]:
    return (f'<p class="note">{escape(line)}</p>' for line in summary(report))


def _outputs(report: ComparisonReport) -> Iterable[str]:
    heads = ["output", "SQNR", "worst slice's SQNR", "cosine", "largest error", "at"]
    yield f'<h2>Outputs</h2><p class="note">{HELP["outputs"]}</p>'
    yield _table(heads, [_output_row(output) for output in report.outputs])
    for output in report.outputs:
        if len(output.slices) > 1:
            found = [Bar(words.where(output, one), one.sqnr_db, "uint8") for one in output.slices]
            yield f"<h3>Slices of {escape(output.name)}</h3>{bars(found, height=150)}"


def _output_row(output: OutputReport) -> list[str]:
    figures = output.figures
    return [
        escape(output.name),
        words.quality(output),
        words.worst(output),
        f"{figures.cosine:.6f}" if output.equal is None else "-",
        f"{figures.largest_error:.4g}",
        escape(str(list(figures.largest_at))),
    ]


def _layers(report: ComparisonReport) -> Iterable[str]:
    if not report.layers:
        return
    used = dict.fromkeys(layer.precision for layer in report.layers)
    keys = "".join(f'<span class="key" style="background:{COLOURS.get(p, "#7f8c8d")}"></span>{escape(p)}' for p in used)
    yield f'<h2>Layers</h2><p class="note">{HELP["layers"]}</p><p>{keys}</p>'
    for title, which in (("Individual", "individual"), ("Entire", "entire")):
        found = [Bar(x.name, _sqnr(getattr(x, which)), x.precision) for x in report.layers]
        yield f"<h3>{title} SQNR, in the order of the graph</h3>{bars(found)}"
    heads = ["layer", "op", "precision", "individual", "cosine", "entire", "cosine", "note"]
    yield _table(heads, [_layer_row(layer) for layer in report.layers])


def _layer_row(layer: LayerReport) -> list[str]:
    cells = [escape(layer.name), escape(layer.op), escape(layer.precision)]
    for figures in (layer.individual, layer.entire):
        cells += [words.decibels(_sqnr(figures)), f"{figures.cosine:.6f}" if figures else "-"]
    return [*cells, escape(layer.note)]


def _drift(report: ComparisonReport) -> Iterable[str]:
    if report.drift:
        heads = ["tensor", "layer", "calibrated", "seen", "outside", "beyond, in widths"]
        yield f'<h2>Drift</h2><p class="note">{HELP["drift"]}</p>'
        yield _table(heads, [_drift_row(one) for one in sorted(report.drift, key=lambda d: -d.share)])


def _drift_row(one: Drift) -> list[str]:
    return [
        escape(one.tensor),
        escape(one.layer),
        f"{one.min:.4g} .. {one.max:.4g}",
        f"{one.seen_min:.4g} .. {one.seen_max:.4g}",
        f"{one.share:.3%}",
        f"{one.excess:.2f}",
    ]


def _sqnr(figures: Figures | None) -> float | None:
    return figures.sqnr_db if figures else None


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of cells that are escaped already; columns of numbers, never the first, are set right."""
    width = max(map(len, [heads, *rows]))
    numbers = [i > 0 and any(_is_number(row[i]) for row in rows) for i in range(width)]
    found = [_row("th", heads, numbers)] if heads else []
    found += [_row("td", row, numbers) for row in rows]
    return "<table>\n" + "\n".join(found) + "\n</table>"


def _row(tag: str, cells: Sequence[str], numbers: Sequence[bool]) -> str:
    parts = [
        f'<{tag} class="n">{cell}</{tag}>' if number else f"<{tag}>{cell}</{tag}>"
        for cell, number in zip(cells, numbers, strict=True)
    ]
    return f"<tr>{''.join(parts)}</tr>"


def _is_number(text: str) -> bool:
    return text.lstrip("-")[:1].isdigit() and text[-1:] != ")"

"""The report's files: ``report.json``, ``layers.csv``, RKNN-like text tables, ``index.html``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hybridq.compare import ComparisonReport, TensorFigures
from hybridq.report.extras import Extras
from hybridq.report.known import Known
from hybridq.report.page import page
from hybridq.report.verdict import Verdict, judge

COLUMNS = ("sqnr_db", "cosine", "euclidean", "normalized_euclidean", "mse", "largest_error")


def render(report: ComparisonReport, judged: Verdict | None = None, extras: Extras | None = None) -> dict[str, str]:
    """Every file's name and text.

    ``judged`` is by default what the report alone allows to say; ``extras`` are what the page shows besides.
    """
    judged, extras = judged or judge(report, Known()), extras or Extras()
    told = report_json(report, judged, extras)
    return {
        "report.json": json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "layers.csv": layers_csv(report),
        "entire_qnt_error_analysis.txt": error_analysis((x.name, x.entire) for x in report.layers),
        "individual_qnt_error_analysis.txt": error_analysis((x.name, x.individual) for x in report.layers),
        **_of_the_board(report),
        "index.html": page(report, judged, extras),
    }


def report_json(report: ComparisonReport, judged: Verdict, extras: Extras | None = None) -> dict[str, Any]:
    """All of ``report.json``."""
    prediction = extras.prediction if extras else None
    told = prediction.to_json() if prediction else None
    target = extras.target if extras else None
    simulated = {"name": target.name, "title": target.title, "verified": target.verified} if target else None
    return {**report.to_json(), "target": simulated, "verdict": judged.to_json(), "what_if": told}


def write_report(
    report: ComparisonReport, folder: Path, judged: Verdict | None = None, extras: Extras | None = None
) -> list[Path]:
    """Write every file into ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in render(report, judged, extras).items():
        paths.append(folder / name)
        paths[-1].write_bytes(text.encode())
    return paths


def layers_csv(report: ComparisonReport) -> str:
    """One layer a row: what it is, then the entire and the individual figures; empty where not measured."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    heads = [f"{kind}_{column}" for kind in ("entire", "individual") for column in COLUMNS]
    table.writerow(["layer", "op", "precision", *heads, "note"])
    for layer in report.layers:
        cells = [*_cells(layer.entire), *_cells(layer.individual)]
        table.writerow([*map(_harmless, (layer.name, layer.op, layer.precision)), *cells, _harmless(layer.note)])
    return text.getvalue()


def _of_the_board(report: ComparisonReport) -> dict[str, str]:
    """RKNN-Toolkit 1's file of what an NPU computed, against float."""
    if report.board is None:
        return {}
    found = error_analysis((x.name, x.against_float) for x in report.board.layers)
    return {"individual_qnt_error_analysis_on_npu.txt": found}


def error_analysis(layers: Iterable[tuple[str, TensorFigures | None]]) -> str:
    """One layer a line with the keys and the spelling of RKNN-Toolkit's own file, for people and scripts that read it.

    ``eculidean_norm`` is ``|float - hybrid| / |float|``; the cosine is the same for vectors of any length.
    """
    rows = list(layers)
    width = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, found in rows:
        if found is not None:
            lines.append(
                f"{name:<{width}}\teculidean_norm={found.normalized_euclidean:.6f}\t"
                f"cosine_norm={found.cosine:.6f}\teculidean={found.euclidean:.6f}\tcosine={found.cosine:.6f}\n"
            )
    return "".join(lines)


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _cells(figures: TensorFigures | None) -> list[str]:
    if figures is None:
        return [""] * len(COLUMNS)
    values = [getattr(figures, column) for column in COLUMNS]
    return [f"{value:.7g}" if math.isfinite(value) else str(value) for value in values]

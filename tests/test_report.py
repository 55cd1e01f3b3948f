"""Every file of a report says what was measured, fits its schema, and survives odd names and missing figures."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import qdq_models
from rich.console import Console

import hybridq
from hybridq.compare import ComparisonReport, Drift, Inside, MetricReport, Outside, Runs, compare
from hybridq.compare.results import Timing
from hybridq.report import Extras, ParetoPoint, print_report, render, words, write_report
from hybridq.report.files import _harmless
from hybridq.steps.common import titled

SCHEMA = json.loads((Path(hybridq.__file__).parent / "schemas" / "report-1.schema.json").read_text())
RANGE = (-30.0, 30.0)
STORED = {"x": (-4.0, 4.0), "stem": (0.0, 12.0), "body": RANGE, "box": (-3000.0, 3000.0), "score": (-3.0, 3.0)}


def _report(hybrid_weights: tuple[str, ...] = ("stem.w", "body.w"), **options: Any) -> ComparisonReport:
    given = qdq_models.two_heads()
    hybrid = qdq_models.quantized(given, STORED, hybrid_weights)
    asked = {"inside": Inside(qdq_models.pairs()), "outside": Outside(seconds=0.02), **options}
    return compare(given, hybrid, qdq_models.samples(), runs=Runs(threads=1), **asked)


REPORT = _report()
ODD = dataclasses.replace(
    REPORT,
    model="<b>[red]$model&",
    calibration_data=True,
    layers=(
        dataclasses.replace(REPORT.layers[0], name='/f.0/[bold]<i>Conv,"0"', individual=None, note="not measured: <x>"),
        *REPORT.layers[1:],
    ),
    drift=(Drift("t<0>", "", 0.0, 0.0, -math.inf, 2.0, 0.5, math.inf, True),),
    metric=MetricReport("map<50>", 0.91, 0.89, 0.02),
    warnings=("beware of [this] & <that>",),
)
POINTS = [ParetoPoint(0.0, 12.0), ParetoPoint(0.1, 25.0, True), ParetoPoint(1.0, math.inf)]


@pytest.mark.parametrize("report", [REPORT, ODD, _report(inside=Inside(), outside=Outside())])
def test_the_json_fits_its_schema_and_has_no_infinity(report: ComparisonReport) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    data = json.loads(render(report)["report.json"], parse_constant=pytest.fail)
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert data["outputs"][0]["figures"]["sqnr_db"] == report.outputs[0].figures.sqnr_db


def test_the_schema_describes_everything_and_allows_nothing_else() -> None:
    def walk(node: dict[str, Any]) -> None:
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert set(node["required"]) == set(node["properties"])
            assert all("description" in p or "$ref" in p for p in node["properties"].values())
        for child in [*node.get("properties", {}).values(), *node.get("$defs", {}).values()]:
            walk(child)

    walk(SCHEMA)


def test_the_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(render(ODD)["layers.csv"])))
    assert [row["layer"] for row in rows] == [layer.name for layer in ODD.layers]
    assert rows[0]["individual_cosine"] == ""
    assert rows[0]["note"] == "not measured: <x>"
    body = ODD.layers[1].entire
    assert body is not None
    assert float(rows[1]["entire_sqnr_db"]) == pytest.approx(body.sqnr_db, rel=1e-6)


def test_the_text_tables_hold_one_measured_layer_a_line() -> None:
    files = render(ODD)
    line = re.compile(
        r"^(?P<layer>.+?)\s*\teculidean_norm=[\d.]+\tcosine_norm=[\d.]+\teculidean=[\d.]+\tcosine=(?P<cosine>[\d.]+)$"
    )
    entire = [line.match(text) for text in files["entire_qnt_error_analysis.txt"].splitlines()]
    assert [m and m["layer"] for m in entire] == [layer.name for layer in ODD.layers]
    assert len(files["individual_qnt_error_analysis.txt"].splitlines()) == len(ODD.layers) - 1


class Checker(HTMLParser):
    """Collects tags; every one that opens must close."""

    VOID = ("meta",)
    RAW = ("script", "style")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.data: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert all(value.startswith("#") for name, value in attrs if name in ("src", "href") and value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in self.RAW:
            self.text += data
        elif self.open[-1] == "script" and data.startswith("{"):
            self.data.append(json.loads(data))


@pytest.mark.parametrize(
    "report",
    [REPORT, ODD, _report(inside=Inside(), outside=Outside()), dataclasses.replace(REPORT, outputs=(), layers=())],
)
def test_the_page_is_whole_escaped_and_needs_nothing_else(report: ComparisonReport) -> None:
    checker = Checker()
    text = render(report, extras=Extras(points=POINTS))["index.html"]
    checker.feed(text)
    assert checker.open == []
    assert not {"b", "i", "x", "that", "link", "img"} & set(checker.seen)
    assert not re.search(r"https?://(?!www.w3.org/2000/svg)|@import|url\(", text)
    for name in [report.model, *report.warnings]:
        assert name in checker.text
    data = checker.data[0]
    assert [x["name"] for x in data["layers"]] == [x.name for x in report.layers]
    assert len(data["points"]) == len(POINTS)


def test_the_terminal_shows_the_figures_and_survives_markup() -> None:
    text = io.StringIO()
    console = Console(file=text, width=140, color_system=None)
    print_report(dataclasses.replace(ODD, timing=Timing(2.0, 1.0, 2.0, 1.9, 2.1, 9, 1)), console)
    shown = text.getvalue()
    for part in (
        "<b>[red]$model&",
        "4 samples of the calibration set",
        "out",
        "/f.0/[bold]<i>Conv",
        "size ",
        "1 thread",
        "map<50>",
        "beware of [this] & <that>",
    ):
        assert part in shown, part


def test_writing_makes_the_folder(tmp_path: Path) -> None:
    paths = write_report(REPORT, tmp_path / "report")
    assert sorted(p.name for p in paths) == sorted(render(REPORT))
    assert all(p.stat().st_size for p in paths)


@pytest.mark.parametrize(
    ("value", "text"), [(38.42, "38.4 dB"), (math.inf, "exact"), (-math.inf, "lost"), (None, "-"), (-3.0, "-3.0 dB")]
)
def test_decibels_in_words(value: float | None, text: str) -> None:
    assert words.decibels(value) == text


def test_sizes_in_words() -> None:
    assert [words.size(n) for n in (999, 1000, 999_949, 1_500_000)] == ["999 B", "1.0 kB", "999.9 kB", "1.50 MB"]


@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "+1+1", "@SUM(1)", "-2+3", "\t=1+1"])
def test_no_cell_starts_as_a_formula(name: str) -> None:
    assert not _harmless(name).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert _harmless("conv_1") == "conv_1"


def test_samples_are_counted_from_1_on_the_page_and_from_0_in_the_file() -> None:
    page = render(REPORT)["index.html"]
    for output in REPORT.outputs:
        sample, *index = output.figures.largest_at
        assert f"sample {sample + 1} {index}" in page


@pytest.mark.parametrize(
    ("path", "title"),
    [("zoo/face/model.onnx", "face/model.onnx"), ("model.onnx", "model.onnx"), ("/model.onnx", "model.onnx")],
)
def test_a_model_is_called_by_its_file_and_the_folder_that_tells_it_from_others(path: str, title: str) -> None:
    assert titled(path) == title

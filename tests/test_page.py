"""The page in a real browser: it draws, sorts, filters, predicts, copies; nothing in it goes wrong or leaves it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from broken_models import DETECTORS, pictures
from helpers_browser import browser, opened
from helpers_cli import CFG, Run
from playwright.sync_api import Browser, Page

import hybridq
from hybridq.compare import ComparisonReport
from hybridq.report import Extras, Known, Prediction, judge, write_report
from hybridq.steps.step3 import Step3Result

FEEDS = pictures(10)
ODD = [
    "<img src=x onerror=alert(1)>",
    "</script><b>",
    "quo\"te's",
    "\u202eright\u2066to left",
    "bell\x07\x1b[31m",
    "=1+1",
    "n" * 1_000_000,
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Step3Result]:
    where = tmp_path_factory.mktemp("page")
    model = DETECTORS["scaled_after"].make(where / "model.onnx")
    hybridq.step1(model, FEEDS, where / "build", dtype="uint8", threads=1)
    hybridq.step2(where / "build", threads=1)
    return where / "build", hybridq.step3(where / "build", FEEDS, threads=1, seconds=0.1, what_if=True)


@pytest.fixture
def page(chromium: Browser, built: tuple[Path, Step3Result]) -> Iterator[Page]:
    faults: list[str] = []
    found = opened(chromium, built[0] / "report" / "index.html", faults=faults)
    yield found
    assert faults == []
    found.context.close()


def _prediction(built: tuple[Path, Step3Result]) -> Prediction:
    made = built[1].extras.prediction
    assert made is not None
    return made


def test_every_section_is_drawn_and_named(page: Page) -> None:
    for name in ("verdict", "whatif", "outputs", "layers", "samples", "entered"):
        assert page.locator(f"section#{name}").is_visible(), name
        assert page.locator(f'nav a[href="#{name}"]').is_visible(), name
    assert page.locator("#layers svg rect.mark").count() >= 9
    assert page.locator(".shot").count() == 9


def test_the_table_sorts_by_every_head_and_filters(page: Page, built: tuple[Path, Step3Result]) -> None:
    names = [x.name for x in built[1].report.layers]
    rows = page.locator("tr.layer")
    assert rows.evaluate_all("rows => rows.map(r => r.dataset.name)") == names
    page.click("#layers th button:has-text('individual')")
    alone = [x.individual.sqnr_db if x.individual else np.inf for x in built[1].report.layers]
    first = rows.first.get_attribute("data-name")
    assert alone[names.index(first or "")] == min(alone)
    page.click("#layers th button:has-text('individual')")
    assert page.locator("#layers th[aria-sort=descending]").inner_text() == "individual"
    page.fill("#filter", "conv")
    shown = rows.evaluate_all("rows => rows.map(r => r.dataset.name)")
    assert sorted(shown) == sorted(x.name for x in built[1].report.layers if "conv" in f"{x.name} {x.op}".lower())
    page.fill("#filter", "nothing is called so")
    assert rows.count() == 0


def test_bounds_stand_beside_the_figures(page: Page, built: tuple[Path, Step3Result]) -> None:
    limit = built[1].verdict.blamed_below_db
    assert page.locator(f".key:has-text('to blame below {limit:.1f} dB')").is_visible()
    assert page.locator("#view svg[role=group] line.limit").count() == 1
    assert page.locator("#outputs svg[role=group] line.limit").count() == len(built[1].report.outputs)
    low = page.locator("#outputs td.low").all_inner_texts()
    assert low
    assert all(float(text.split(" dB")[0]) < 30.0 for text in low)
    assert "good from 20 dB" in page.locator("#outputs thead").inner_text()
    page.click("#view-1")
    assert page.locator("#view line.limit").count() == 0  # what came before is no layer's fault


def test_a_layer_is_told_by_mouse_and_by_keyboard(page: Page) -> None:
    row = page.locator("tr.layer").nth(2)
    row.focus()
    page.keyboard.press("Enter")
    assert page.locator("#layer").inner_text() == row.get_attribute("data-name")
    assert page.locator("#detail svg").count() >= 1
    page.click("#view-2")
    node = page.locator("#view rect.mark").first
    node.click()
    assert page.locator("#layer").inner_text() == node.get_attribute("data-name")


def test_the_page_predicts_what_the_formula_says(page: Page, built: tuple[Path, Step3Result]) -> None:
    made = _prediction(built)
    rng = np.random.default_rng(3)
    for _ in range(5):
        raised = sorted(rng.choice(len(made.units), len(made.units) // 3, replace=False).tolist())
        up = [i in raised for i in range(len(made.units))]
        found = page.evaluate("up => HQ.predict.figures(HQ.data.prediction, up)", up)
        np.testing.assert_allclose(found, made.decibels(raised), atol=0.02)  # the page has four digits
        share = page.evaluate("up => HQ.predict.share(HQ.data.prediction, up)", up)
        assert share == pytest.approx(made.base_share + sum(made.units[i].share for i in raised), abs=1e-3)


def test_whatif_by_box_operator_way_and_slider(page: Page, built: tuple[Path, Step3Result]) -> None:
    made = _prediction(built)
    before = page.locator(".tile b").first.inner_text()
    page.locator(".pick input").first.check()
    assert page.evaluate("HQ.choice.changed()") == [0]
    page.click("button:has-text('as built')")
    assert page.evaluate("HQ.choice.changed()") == []
    page.locator("select[aria-label='operator']").select_option("Conv")
    page.locator(".bar:has(select[aria-label='operator']) button:has-text('raise')").click()
    ops = {x.name: x.op for x in built[1].report.layers}
    convs = [i for i, u in enumerate(made.units) if any(ops[n] == "Conv" for n in u.layers)]
    assert page.evaluate("HQ.choice.changed()") == convs
    page.click("button:has-text('as built')")
    page.locator(".bar:has(select[aria-label='from this layer to the output']) button:has-text('raise')").click()
    assert len(page.evaluate("HQ.choice.changed()")) == len(made.units)  # the first layer leads to all
    page.locator("#front").focus()
    page.keyboard.press("End")
    assert page.evaluate("HQ.choice.raised().filter(Boolean).length") == len(made.front[-1])
    assert page.locator(".tile b").first.inner_text() != before
    page.locator("#whatif summary").click()
    assert page.locator("#whatif details tbody tr").count() == len(made.joints)


def test_the_copied_block_passes_check_and_builds_what_was_chosen(
    page: Page, built: tuple[Path, Step3Result], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _prediction(built)
    for i in (0, 2, 5):
        page.locator(".pick input").nth(i).check()
    page.click("text=copy the cfg block")
    block = page.evaluate("navigator.clipboard.readText()")
    folder = tmp_path / "build"
    shutil.copytree(built[0], folder)
    text = (folder / CFG).read_text()
    assert text.count("customized_quantize_layers: {}\n") == 1
    (folder / CFG).write_text(text.replace("customized_quantize_layers: {}\n", block))
    assert run("check", folder).code == 0
    assert run("step2", folder, "--threads", 1).code == 0
    done = {x["name"] for x in run("list", folder, "--json").json if x["precision"] == "float32"}
    assert done >= {n for i in (0, 2, 5) for n in made.units[i].layers}
    page.click("text=copy the commands")
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert lines[0].startswith("hybridq set ")
    assert lines[-1].startswith("hybridq step2 ")


def test_the_first_command_is_copied(page: Page, built: tuple[Path, Step3Result]) -> None:
    page.locator("#verdict .copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == built[1].verdict.actions[0].commands


def test_a_layers_commands_lead_to_a_new_report_and_say_where_something_else_comes_first(
    page: Page, built: tuple[Path, Step3Result]
) -> None:
    first = built[1].verdict.actions[0]
    details = built[1].extras.details
    told = {}
    for name in (n for n, one in details.items() if one["help"]):
        page.evaluate("name => document.querySelector(`tr.layer[data-name='${name}']`).click()", name)
        told[name] = "Raising it alone is not the first step" in page.locator("#detail").inner_text()
        lines = page.locator("#detail .command pre").all_inner_texts()
        assert lines == [f"{line} && {built[1].extras.then}" for line in details[name]["help"]]
    assert told == {name: name not in first.layers for name in told}
    assert set(told.values()) == {True, False}
    assert first.then == built[1].extras.then


def test_chinese_and_back(page: Page) -> None:
    page.click("#language")
    assert page.locator("h2:has-text('假设分析')").is_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    left = page.evaluate(TEXTS)
    assert [t for t in left if not any("\u4e00" <= c <= "\u9fff" for c in t)] == []
    page.click("#language")
    assert page.locator("h2:has-text('What if')").is_visible()


def test_a_sentence_is_translated_with_and_without_its_capital(page: Page) -> None:
    page.click("#language")
    weights = (
        "he weights of 'y' reach 20 in one channel and 0.1 in another at one step of 0.0784: 1 of 8 channels keep "
        "5.1 steps or fewer"
    )
    spread = "o layer stands out (none is below 20.0 dB alone): each loses a little, and the losses add up"
    for first, rest in (("t", weights), ("n", spread), ("o", "nly 17 different samples")):
        small, large = (page.evaluate("text => HQ.words.tr(text)", c + rest) for c in (first, first.upper()))
        assert small == large
        assert any("\u4e00" <= c <= "\u9fff" for c in small)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_it_fits_a_phone_and_every_text_has_contrast(
    chromium: Browser, built: tuple[Path, Step3Result], width: int, scheme: str
) -> None:
    faults: list[str] = []
    page = opened(chromium, built[0] / "report" / "index.html", width=width, scheme=scheme, faults=faults)
    page.evaluate("document.querySelector('#layer').append('/backbone/depthwise_conv_output'.repeat(4))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    low = page.evaluate(CONTRAST)
    assert low == []
    assert page.evaluate(UNNAMED) == []
    page.emulate_media(media="print")
    assert page.locator("#whatif .pick").is_hidden()
    assert faults == []
    page.context.close()


TEXTS = """[...document.querySelectorAll('h2, .note, button, dt, summary, .tile span, .bar label, th')]
  .filter(n => n.offsetParent && !n.closest('.shot, .chip, tbody, #whatif details th, #language'))
  .map(n => n.textContent.trim()).filter(t => /[a-z]{3}/.test(t) && !/\\b(hybridq|SQNR|dB)\\b/.test(t))"""
UNNAMED = """[...document.querySelectorAll('button, select, input, [role=button], [role=img], svg')]
  .filter(n => !(n.textContent.trim() || n.getAttribute('aria-label') || n.labels?.length || n.closest('.key')))
  .map(n => n.outerHTML.slice(0, 90))"""
CONTRAST = """() => {
  const part = (v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const numbers = (c) => c.match(/[\\d.]+/g).map(Number);
  const behind = (n) => {
    for (; n; n = n.parentElement) {
      const c = numbers(getComputedStyle(n).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const texts = 'p, td, th, button, label, h1, h2, h3, dt, dd, pre, a, summary, .tile span, .tile b';
  return [...document.querySelectorAll(texts)]
    .filter(n => n.offsetParent && n.textContent.trim() && !n.matches('.skip')).map(n => {
      const [a, b] = [light(numbers(getComputedStyle(n).color)), light(behind(n))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), n.textContent.slice(0, 30)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


def _renamed(report: ComparisonReport) -> ComparisonReport:
    layers = [dataclasses.replace(x, name=n, op=n[:20]) for x, n in zip(report.layers, ODD, strict=False)]
    outputs = [dataclasses.replace(x, name=ODD[1]) for x in report.outputs]
    return dataclasses.replace(report, model=ODD[0], layers=tuple(layers), outputs=tuple(outputs), warnings=tuple(ODD))


def test_hostile_names_are_shown_and_do_nothing(
    chromium: Browser, built: tuple[Path, Step3Result], tmp_path: Path
) -> None:
    report = _renamed(built[1].report)
    details = {n: next(iter(built[1].extras.details.values())) for n in ODD}
    write_report(report, tmp_path, judge(report, Known()), Extras("a'b", details=details, edges=[(ODD[0], ODD[1])]))
    faults: list[str] = []
    page = opened(chromium, tmp_path / "index.html", faults=faults)
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    assert page.locator("#main img, #main b:not(.tile b)").count() == 0
    text = page.locator("body").inner_text()
    assert "<img src=x onerror=alert(1)>" in text
    assert "\\u202eright" in text
    assert not set("\u202e\u2066\x07\x1b") & set(text)
    assert "n…n" in text
    assert (tmp_path / "index.html").stat().st_size < 3_000_000
    assert faults == []
    page.context.close()


def test_two_hundred_layers_and_a_hundred_samples_fit_three_megabytes(
    built: tuple[Path, Step3Result], tmp_path: Path
) -> None:
    report, extras, made = built[1].report, built[1].extras, _prediction(built)
    found = (report.layers[i % len(report.layers)] for i in range(200))
    layers = tuple(dataclasses.replace(x, name=f"/model/block_{i}/conv/Conv_{i}") for i, x in enumerate(found))
    some = list(extras.details.values())
    times = -(-200 // len(made.units))
    model = dataclasses.replace(
        made.model,
        own=np.tile(made.model.own, (times, 12)),
        pairs=np.tile(made.model.pairs, (times, 12)),
        first=np.tile(made.model.first, times),
        second=np.tile(made.model.second, times),
    )
    wide = dataclasses.replace(made, units=made.units * times, model=model, figures=made.figures * 12)
    noisy = np.random.default_rng(0).integers(0, 255, 9000, np.uint8).tobytes().hex()  # a picture of 18 kB, twice, each
    shots = [dataclasses.replace(s, drawn=("data:image/jpeg;base64," + noisy,) * 2) for s in extras.shots]
    whole = dataclasses.replace(
        extras,
        details={x.name: some[i % len(some)] for i, x in enumerate(layers)},
        edges=[(a.name, b.name) for a, b in pairwise(layers)],
        prediction=wide,
        shots=shots,
        sqnr=[20.0] * 100,
    )
    report = dataclasses.replace(report, layers=layers, samples=100)
    write_report(report, tmp_path, judge(report, Known()), whole)
    assert (tmp_path / "index.html").stat().st_size < 3_000_000
    json.loads((tmp_path / "report.json").read_text())

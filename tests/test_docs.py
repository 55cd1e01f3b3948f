"""Documents that repeat the program say what it does; links lead somewhere; nothing private is in them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from helpers_docs import load

from hybridq.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "demos" / "README.md",
]
SECTIONS = re.split(r"^## hybridq ?", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.M)
HELP = {section.partition("\n")[0]: section for section in SECTIONS[1:]}
NOTEBOOKS = sorted(path.stem for path in (ROOT / "demos").glob("*.ipynb"))
REMEDY = "run `python docs/write_docs.py`"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return load("docs", "write_docs")


def test_every_command_is_documented() -> None:
    assert set(HELP) == {"", *main.commands}, REMEDY


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_is_documented(name: str) -> None:
    named = set(re.findall(r"--[a-z][a-z0-9-]*", HELP[name]))
    wanted = {word for p in main.commands[name].params for word in p.opts if word.startswith("--")}
    assert wanted <= named, REMEDY
    assert named <= {*wanted, "--help"}, f"no such option; {REMEDY}"


@pytest.mark.skipif(version("click") < "8.2", reason="this click words its help otherwise")
def test_command_line_page_is_up_to_date(writer: ModuleType) -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == writer.cli_page(), REMEDY


def test_architecture_page_is_up_to_date(writer: ModuleType) -> None:
    assert (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8") == writer.architecture_page(), REMEDY


@pytest.mark.parametrize("page", ["files", "operators", "targets", "messages", "python"])
def test_reference_is_up_to_date(writer: ModuleType, page: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    assert text == writer.write_reference.pages()[f"{page}.md"], REMEDY


def test_every_page_has_its_place_on_the_site() -> None:
    placed = set(re.findall(r"(?m)^ +- [^\n]*?([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("adr/0")} == placed, "see `nav` in mkdocs.yml"


def test_architecture_page_has_a_paragraph_a_folder_and_a_row_a_file(writer: ModuleType) -> None:
    page = writer.architecture_page()
    for path in writer.modules():
        part = Path(path).relative_to("hybridq").parts[0]
        if path.endswith("__init__.py"):
            assert len(Path(path).parts) == 2 or f"## {part}\n\n" in page
        elif len(Path(path).parts) > 2:
            assert f"](../{path}) | " in page
    assert not re.search(r"^\|[^|]*\|\s*\|$", page, re.M), "a file says nothing of itself"


def test_readme_is_short() -> None:
    assert len(README.encode()) <= 11_000


@pytest.mark.parametrize("name", ["demo", "test"])
def test_readme_has_the_commands_that_ci_runs(name: str) -> None:
    assert len(re.findall(rf"<!-- command: {name} -->\n```sh\n[^\n]+\n```", README)) == 1
    assert f"as_written {name}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outputs(writer: ModuleType) -> dict[str, str]:
    """What a real run of the demo prints, and what step2 then says to a wrong word."""
    found: dict[str, str] = writer.outputs()
    return found


def without_speed(text: str) -> str:
    """Times are the machine's, and table lines as wide as its words."""
    return re.sub(r"[ ━─]+", " ", re.sub(r"\d+\.\d\dx float32", "TIMES float32", text)).strip()


@pytest.mark.parametrize("name", ["demo", "typo"])
def test_readme_shows_real_output(name: str, outputs: dict[str, str]) -> None:
    found = re.search(rf"<!-- output: {name} -->\n```text\n(.*?)```", README, re.S)
    assert found is not None
    assert without_speed(found[1]) == without_speed(outputs[name]), "run `python docs/write_docs.py --outputs`"


def test_commands_in_the_documents_exist() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```(?:sh|text)\n(.*?)```", text, re.S) + re.findall(r"`(hybridq [^`]+)`", text):
            for name, rest in re.findall(r"(?:^|\$ |&& )hybridq ([a-z0-9]+)([^\n]*)", block, re.M):
                assert name in main.commands, f"{page.name}: hybridq {name}"
                known = {word for p in main.commands[name].params for word in p.opts}
                options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.partition("#")[0]))
                assert options <= known | {"--help"}, f"{page.name}: hybridq {name} {options - known}"


def test_contributing_names_at_most_three_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (An? .*)\n((?:.*\n)*?)(?=^## )", text, re.M)
    assert len(sections) == 6
    for title, body in sections:
        rows = re.findall(r"^\| (?!file|---)(.*?) \|", body, re.M)
        assert 1 <= len(rows) <= 3, title
    for path in re.findall(r"`((?:hybridq|schemas|tests|docs)/[^` ]*)`", text):
        assert "NAME" in path or (ROOT / path).exists(), path


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


@pytest.mark.parametrize("name", ["README.zh.md", "tutorial.zh.md"])
def test_a_translation_is_level_with_the_english(writer: ModuleType, name: str) -> None:
    (page,) = (page for page in writer.TRANSLATED if page.name == name)
    chinese, english = (p.read_text(encoding="utf-8") for p in (page, writer.TRANSLATED[page]))
    assert writer.BLOCK.findall(chinese) == writer.BLOCK.findall(english), REMEDY
    assert headings(chinese) == headings(english)
    assert rows(chinese) == rows(english)


def headings(text: str) -> list[int]:
    """How deep each heading is, code left out."""
    return [len(mark) for mark in re.findall(r"(?m)^(#+) ", re.sub(r"(?s)```.*?```", "", text))]


def rows(text: str) -> list[str]:
    """The numbers and code in each row of a table, which no translation changes; what to read on may differ."""
    found = [row for row in re.findall(r"(?m)^\|(.*)\|$", text) if "](" not in row]
    told = [" ".join(re.findall(r"`[^`]+`|(?<![\w.])\d+(?:\.\d+)?", row)) for row in found]
    return [row for row in told if row]


def test_decisions_have_context_choice_and_price() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    listed = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    assert len(pages) >= 9
    for number, page in enumerate(pages, start=1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04}-"), page.name
        assert f"({page.name})" in listed
        for title in ("Context", "Choice", "Price"):
            assert f"## {title}\n" in text, f"{page.name} lacks {title}"


def test_scripts_of_ci_are_sound_shell() -> None:
    if sys.platform == "win32":
        pytest.skip("no bash")
    for script in ("run", "lowest"):
        subprocess.run(["bash", "-n", ROOT / ".ci" / script], check=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_keep_the_outputs_of_a_whole_run(name: str) -> None:
    path = ROOT / "demos" / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run `just demos`"
    assert outputs
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert len(text) < 1_000_000
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", text), "a path of the machine it ran on"

"""Every command and every piece of code that README.md and docs/ show is run, on a stand-in of the model they name."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import CFG, Run
from helpers_docs import furnish

from hybridq.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "demos" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "<!-- world: " not in page.read_text(encoding="utf-8")  # a session of its own: test_sessions.py runs it
    and not page.name.endswith(".zh.md")  # its commands are those of the English page: test_chinese.py
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.S | re.M)
HOLDERS = re.compile(
    r"\b(MODEL|DIR|FILE|FORMAT|SELECTOR|PRECISION)\b|\.\.\.|\[--?[\w-]+\]|\[OPTIONS\]"
)  # words for any
LEGAL_ONES = (  # what may end with exit code 1
    "the budget is not held",
    "that was to be an error",
    "is not installed here",  # an engine
)


def blocks(kind: str) -> list[tuple[Path, str]]:
    return [(page, m[2]) for page in PAGES for m in BLOCK.finditer(page.read_text(encoding="utf-8")) if m[1] == kind]


def shown() -> Iterator[str]:
    """Every command line, whether in a block, indented, or within a sentence."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in text.splitlines():
            if found := re.match(r"(?:    |  |\$ )?(hybridq [a-z0-9]+ .*)", line):
                yield re.split(r"\s{2,}|\s#\s|\s&&\s", found[1])[0]
        prose = BLOCK.sub("", text)
        yield from (found.replace("\\|", "|") for found in re.findall(r"`(hybridq [a-z0-9]+ [^`]+)`", prose))


def is_whole(line: str) -> bool:
    """Whether a line is a command to type: words of the program, no words for any, not a part of the demo's output."""
    words = line.split()
    partial = words[1] in ("step1", "auto") and ("-o" not in words or ".onnx" not in line)
    return words[1] in main.commands and not HOLDERS.search(line) and "hybridq-demo" not in line and not partial


COMMANDS = sorted({line.strip() for line in shown() if is_whole(line)})


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all documents speak of, after step1 and step2, with files of other toolchains."""
    folder = tmp_path_factory.mktemp("street")
    furnish(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "exported").mkdir()
        for words in (
            "step1 yolo.onnx --dataset dataset.txt --std 255,255,255 -o build --threads 1",
            "step2 build --threads 1",
            "step1 yolo.onnx --dataset dataset.txt -o small --weight-only int8 --threads 1",
            "step4 build --to rknn1 -o exported/yolo.quantization.cfg",
            "step4 build --to aimet-1.0.0 -o exported/yolo.encodings",
        ):
            main(shlex.split(words), standalone_mode=False)
        shutil.copytree("build", "device")
        main(shlex.split("step3 device --dump --seconds 0 --threads 1"), standalone_mode=False)
        shutil.copytree("device/report/dump/entire_qnt", "snapshot")
        shutil.rmtree("device")
    shutil.copy(folder / "build" / "hybrid.onnx", folder / "qat.onnx")  # a model that comes quantized
    return folder


@pytest.fixture
def here(request: pytest.FixtureRequest, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in, the current folder."""
    shutil.copytree(street, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if "import" in request.node.name:
        for file in Path("exported").iterdir():
            file.rename(file.name)
        shutil.copy("yolo.quantization.cfg", CFG)  # as RKNN's tool calls the cfg of model.onnx
    return tmp_path


def test_there_are_many() -> None:
    assert len(COMMANDS) > 30
    assert {line.split()[1] for line in COMMANDS} >= set(main.commands) - {"demo"}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_that_a_document_shows_works(run: Run, line: str) -> None:
    if line.startswith("hybridq demo"):
        pytest.skip("run by test_docs.py, which compares what it prints")
    done = run(*shlex.split(line)[1:])
    if done.code:
        assert done.code == 1
        assert any(words in done.err for words in LEGAL_ONES), done.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=lambda x: x.stem if isinstance(x, Path) else "")
def test_code_that_a_document_shows_works(page: Path, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shown.py").write_text(code)
    names = runpy.run_path("shown.py")
    if "accuracy" in names:
        assert names["accuracy"]([{"scores": np.array([3.0, 1.0, 2.0])}] * 4) == 1.0
    elif "Executor" in names:  # another library's, which is not installed: the code is well-formed
        assert issubclass(names["Ray"], names["Executor"])
    elif "session" in names:
        assert names["session"].get_outputs()
    else:
        assert float(capsys.readouterr().out) > 20


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=lambda x: x.stem if isinstance(x, Path) else "")
def test_a_cfg_that_a_document_shows_is_one(run: Run, page: Path, text: str) -> None:
    """The layers of it, in the place of those of the cfg; the rest is numbers of another model."""
    layers = re.search(r"^customized_quantize_layers:\n(?:    .*\n)*", text, re.M)
    assert layers is not None
    cfg = Path("build", CFG)
    cfg.write_text(cfg.read_text().replace("customized_quantize_layers: {}\n", layers[0]))
    done = run("check", "build")
    assert done.code == 0, done.err
    assert len(run("diff", "build", "--json").json) >= layers[0].count("\n") - 1


def test_scripts_that_documents_name_exist() -> None:
    for page in PAGES:
        for script in re.findall(r"python ((?:docs|bench|demos)/\w+\.py)", page.read_text(encoding="utf-8")):
            compile((ROOT / script).read_text(encoding="utf-8"), script, "exec")

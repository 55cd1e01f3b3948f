"""Write what documents repeat from the program, so that it is true.

    python docs/write_docs.py              # docs/cli.md from --help, docs/architecture.md, docs/reference/,
                                           # and the code in Chinese pages from the English ones
    python docs/write_docs.py --outputs    # README.md's outputs too, from a real run of the demo

``tests/test_docs.py`` fails when a document has fallen behind.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import click
import write_reference

from hybridq.cli import main

ROOT = Path(__file__).resolve().parents[1]
CLI, ARCHITECTURE, README = ROOT / "docs" / "cli.md", ROOT / "docs" / "architecture.md", ROOT / "README.md"
TRANSLATED = {ROOT / "README.zh.md": README, ROOT / "docs" / "tutorial.zh.md": ROOT / "docs" / "tutorial.md"}
BLOCK = re.compile(r"^```\w+.*?^```$", re.S | re.M)
WIDTH = 110
CLI_HEAD = """# Command line

Written by `docs/write_docs.py` from `--help`; do not edit.

Exit code 0: done. 1: the input is wrong (every problem is listed with its place, and nothing was written), or a
budget that was given cannot be held. 2: the command is wrong. Tables go to stdout, messages and progress to stderr;
with `--json` stdout holds JSON alone.

Only the search finds out that a budget cannot be held. `auto` and `step1 --proposal` then write the best choice that
was found, say which flag it misses and by how much, and end with 1. Without a flag there is no budget to miss: a
search that gains nothing ends with 0 and says so in its first line.

```text
--min-sqnr 60: not reachable, best 41.2 dB within --max-high 0.1
the budget is not held; the best choice that was found is written all the same
```

## A metric of your own

`--metric score.py:accuracy` names a Python file and a function in it. The function gets the outputs of the model, a
list of one dict `{output name: array}` per sample in the order of the dataset, and returns a number: higher is better.
The arrays are as ONNX Runtime gives them, batch axis included. What is right, the function knows by itself:

```python
from pathlib import Path

LABELS = Path("labels.txt").read_text().split()


def accuracy(outputs):
    hits = [str(o["scores"].argmax()) == label for o, label in zip(outputs, LABELS)]
    return sum(hits) / len(hits)
```

It is called twice, with the float model's outputs and with the hybrid model's. Within a search (`auto`, `step1
--proposal`) it is called for every choice, on the samples that the search measures: 16 to 64 of the calibration set,
spread evenly over it; all of them, in order, where there are no more than 16. With more, a line's number does not find
its label: give the search 16 samples (`--samples 16`) or `--min-sqnr`, and keep such a metric for step3.

## Completion

Commands, options and their words complete in the shell once one of these lines stands in its start file:

```text
eval "$(_HYBRIDQ_COMPLETE=bash_source hybridq)"       # ~/.bashrc
eval "$(_HYBRIDQ_COMPLETE=zsh_source hybridq)"        # ~/.zshrc, behind its compinit
_HYBRIDQ_COMPLETE=fish_source hybridq | source        # ~/.config/fish/completions/hybridq.fish
```

## When something is wrong

`hybridq --version --json` prints what a report needs to know of the machine. `hybridq bundle DIR` puts cfg, graph
without weights, figures and versions into one file; no weight, sample, path, host or user is in it unless `--weights`
asks.
"""


ARCHITECTURE_HEAD = """# Architecture

Written by `docs/write_docs.py` from the docstrings; do not edit.

![The data flow: step1 calibrates, you edit the cfg, step2 builds, step3 compares](dataflow.svg)

Data flows one way, and the layout shows it:

    Model + samples -> CalibrationStats -> QuantConfig (people edit) -> QuantPlan -> onnx.ModelProto -> ComparisonReport

Calibration only measures. The plan decides, once, and gives a reason for each decision. Building only obeys; comparing
only reads. What a person may edit is checked against what the plan would make of it by the same functions. The rooms
below stand in order, from what a person calls down to plain numbers; a module imports only from those below it, and
import-linter (`pyproject.toml`) keeps it so. Hard decisions are in [adr/](adr/README.md), the search is told in
[search.md](search.md), what ONNX Runtime does in [onnxruntime.md](onnxruntime.md).
"""


def cli_page() -> str:
    """``docs/cli.md``: the help of every command."""
    pages = [CLI_HEAD, _page("hybridq", main)]
    pages += [_page(f"hybridq {name}", command) for name, command in main.commands.items()]
    return "\n".join(pages)


def architecture_page() -> str:
    """``docs/architecture.md``: a section a folder, from what a person calls down to plain numbers."""
    pages = [ARCHITECTURE_HEAD]
    for folder in folders():
        names = [
            path for path in modules() if path.startswith(f"hybridq/{folder}") and not path.endswith("__init__.py")
        ]
        rows = [
            f"| [`{path.removeprefix(f'hybridq/{folder}/')}`](../{path}) | {_first_line(ROOT / path)} |"
            for path in names
        ]
        if (ROOT / "hybridq" / folder).is_dir():
            table = ["", "| file | says |", "|---|---|", *rows] if rows else []
            pages.append("\n".join([f"## {folder}", "", _markdown(_docstring(ROOT / "hybridq" / folder)), *table, ""]))
    return "\n".join(pages)


def folders() -> list[str]:
    """The rooms of the package in the order of pyproject.toml's layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers: list[str] = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return layers


def modules() -> list[str]:
    """Every module's path, in the order of pyproject.toml's layers; a package's parts stand behind it."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "hybridq").rglob("*.py"))
    rank = {name: i for i, name in enumerate(["__init__", *folders()])}

    def place(path: str) -> tuple[int, str]:
        part = Path(path).relative_to("hybridq").parts[0]
        return rank.get(part.removesuffix(".py"), len(rank)), path

    return sorted(found, key=place)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8"))) or ""


def _first_line(path: Path) -> str:
    """The first paragraph of a module's docstring as Markdown."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _markdown(" ".join(text.split("\n\n")[0].split())).replace("|", r"\|")


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _page(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, **{**main.context_settings, "max_content_width": WIDTH})
    context.terminal_width = WIDTH
    return f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"


def leveled(text: str, english: str) -> str:
    """A translation whose blocks of code are those of the English page, one by one."""
    blocks = iter(BLOCK.findall(english))
    return BLOCK.sub(lambda found: next(blocks, found[0]), text)


def outputs() -> dict[str, str]:
    """What the demo prints, and what step2 says to a wrong word in its cfg."""
    with tempfile.TemporaryDirectory() as folder:
        demo = _run(folder, "demo")
        cfg = Path(folder, "hybridq-demo", "build", "model.quantization.cfg")
        text = cfg.read_text(encoding="utf-8")
        cfg.write_text(re.sub(r"(?m)^( +\S*detections\S*): float32", r"\1: int61", text, count=1), encoding="utf-8")
        typo = _run(folder, "step2", "hybridq-demo/build", code=1)
    return {"demo": demo, "typo": f"$ hybridq step2 hybridq-demo/build\n{typo}"}


def _run(folder: str, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-c", "from hybridq.cli import main; main()", *words]
    environment = {**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    said = done.stderr if code else done.stdout  # on stderr a command that works tells how far it is
    return re.sub(r"[ \t]+$", "", said, flags=re.M).strip("\n") + "\n"


def _write(with_outputs: bool) -> None:
    CLI.write_text(cli_page(), encoding="utf-8")
    ARCHITECTURE.write_text(architecture_page(), encoding="utf-8")
    for name, text in write_reference.pages().items():
        (ROOT / "docs" / "reference" / name).write_text(text, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    for name, found in (outputs() if with_outputs else {}).items():
        block = re.compile(rf"(<!-- output: {name} -->\n```text\n).*?(```\n)", re.S)
        readme = block.sub(lambda m, found=found: m[1] + found + m[2], readme)  # type: ignore[misc]
    README.write_text(readme, encoding="utf-8")
    for page, english in TRANSLATED.items():
        page.write_text(
            leveled(page.read_text(encoding="utf-8"), english.read_text(encoding="utf-8")), encoding="utf-8"
        )


if __name__ == "__main__":
    _write("--outputs" in sys.argv[1:])

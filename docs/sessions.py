"""Pages that are sessions: their commands run in order in one folder, and what they show is what was printed.

    python docs/sessions.py [PAGE.md ...]     # run pages again and put today's figures into them

A page names its folder, one of ``demos/worlds.py``, in a comment ``<!-- world: NAME -->``. Of its blocks

* ``console`` has commands behind ``$ `` and below each some of the lines that it prints, ``...`` between them,
* ``python title="FILE"`` is a file that a reader is told to write,
* ``yaml title="FILE"`` are the lines ``customized_quantize_layers:`` that a reader writes into a cfg.

``(exit code N)`` behind the lines of a command says that it ends so. Numbers may differ a little from machine to
machine; lines with a time or a speed may differ in them altogether.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r'^```(console|python|yaml)(?: title="([^"]+)")?\n(.*?)^```$', re.S | re.M)
WORLD = re.compile(r"<!-- world: (\w+) -->")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
LAYERS = re.compile(r"^customized_quantize_layers:.*\n(?: +.*\n)*", re.M)
TIMES = re.compile(r"\bms\b|\ds\b|x float32|speed|faster|slower|unsteady|steadily")
EXIT = re.compile(r"\(exit code (\d)\)")
PROGRAMS = {"hybridq": [sys.executable, "-c", "from hybridq.cli import main; main()"], "python": [sys.executable]}
TOLERANCE, NEAR = 0.1, 0.02


class SessionError(Exception):
    """A page shows what is not so."""


@dataclass(frozen=True)
class Step:
    """A command of a page, where its lines stand, and what it printed and ended with."""

    line: str
    shown: list[str]
    start: int
    end: int


def pages() -> list[Path]:
    """Every page that is a session."""
    return sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if WORLD.search(_read(p)))


def run(page: Path, folder: Path, *, reworded: bool = False) -> str:
    """Run a page in an empty folder; its text with today's figures.

    Raises SessionError where it shows what is not so; with ``reworded`` a line that is printed in other words is taken
    as it is printed.
    """
    text = _read(page)
    _furnish(WORLD.findall(text)[0], folder)
    lines = text.splitlines()
    for block in BLOCK.finditer(text):
        kind, name, body = block[1], block[2], block[3]
        if kind == "console":
            first = text[: block.start(3)].count("\n")
            for step in _steps(body, first):
                said = _said(step, folder)
                lines[step.start : step.end] = _as_printed(step, said, page, reworded)
        elif name and kind == "python":
            (folder / name).write_text(body, encoding="utf-8")
        elif name:
            _edit(folder / name, body)
    return "\n".join(lines) + "\n"


def _read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _furnish(world: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("worlds", ROOT / "demos" / "worlds.py")
    if spec is None or spec.loader is None:
        raise SessionError("demos/worlds.py is gone")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.WORLDS[world](folder)


def _steps(body: str, first: int) -> Iterator[Step]:
    """The commands of a console block that begins in line ``first`` of its page, counted from 0."""
    lines = body.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip_longest(starts, starts[1:], fillvalue=len(lines)):
        command, after = lines[start][2:], start + 1
        while command.endswith("\\"):
            command, after = command[:-1] + lines[after].strip(), after + 1
        yield Step(command, [line for line in lines[after:end] if line.strip()], first + after, first + end)


def _said(step: Step, folder: Path) -> list[str]:
    words = shlex.split(step.line, comments=True)
    if words[0] not in PROGRAMS:
        raise SessionError(f"{step.line}: only hybridq and python are run")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [*PROGRAMS[words[0]], *words[1:]],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    told = [int(m[1]) for line in step.shown if (m := EXIT.search(line))]
    if done.returncode != (told[0] if told else 0):
        raise SessionError(f"{step.line}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout.splitlines()


def _as_printed(step: Step, said: list[str], page: Path, reworded: bool) -> list[str]:
    """The lines of a page with the figures of today; each must be among those printed, in their order."""
    found, at = [], 0
    for line in step.shown:
        if line.strip() == "..." or EXIT.search(line):
            found.append(line)
            continue
        place = next((i for i in range(at, len(said)) if _skeleton(said[i]) == _skeleton(line)), None)
        if place is None and reworded:
            near = get_close_matches(line, said[at:], n=1, cutoff=0.6)
            place = said.index(near[0], at) if near else None
        if place is None:
            raise SessionError(f"{page.name}: {step.line}\ndoes not print\n  {line}\nbut\n" + "\n".join(said))
        found.append(said[place].rstrip())
        at = place + 1
    return found


def _skeleton(line: str) -> str:
    """A line without its numbers, and without what a table's width or an ellipsis adds."""
    return re.sub(r"[\s━─]+", " ", NUMBER.sub("#", line)).strip()


def far_apart(before: str, after: str) -> list[tuple[str, str]]:
    """Lines of the same page that differ by more than machines do."""
    pairs = zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    return [(a, b) for a, b in pairs if a != b and not TIMES.search(a) and not _close(a, b)]


def _close(a: str, b: str) -> bool:
    numbers = [[float(n) for n in NUMBER.findall(line)] for line in (a, b)]
    same = _skeleton(a) == _skeleton(b) and len(numbers[0]) == len(numbers[1])
    return same and all(abs(x - y) <= max(NEAR, TOLERANCE * abs(x)) for x, y in zip(*numbers, strict=True))


def _edit(cfg: Path, layers: str) -> None:
    text = cfg.read_text(encoding="utf-8")
    cfg.write_text(LAYERS.sub(lambda _: layers, text, count=1), encoding="utf-8")


def main(names: list[str]) -> None:
    """Run pages and write them back."""
    for page in [Path(name).resolve() for name in names] or pages():
        with tempfile.TemporaryDirectory() as folder:
            page.write_text(run(page, Path(folder), reworded=True), encoding="utf-8")
        print(page.relative_to(ROOT))


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print(__doc__)
    else:
        main(sys.argv[1:])

"""Engine by model: float, the engine's plain 8 bits, hybridq's choice; score and speed, in one table.

    python -m bench.engines --zoo FOLDER --builds FOLDER              the engines that are installed here
    python -m bench.engines --zoo FOLDER --builds FOLDER --nncf PYTHON --only yunet squeezenet
    python -m bench.engines --zoo FOLDER --builds FOLDER --speeds     rows of an earlier run, timed anew
    python -m bench.engines --zoo FOLDER --builds FOLDER --write      put the table into docs/targets.md

Run it where the engines are: ``pip install 'hybridq[openvino,mnn,ncnn,litert]'``, ``onnx2tf`` on the path. ``builds``
keeps hybridq's folders (``auto`` with its default budget or step1's ``default``; ``plain``: minimum and maximum, every
layer in 8 bits) and in ``made`` every row with its engine's files: what is there is not made again. Plain 8 bits are
the engine's own (``own.py``; ``--nncf`` names NNCF's Python); MNN and ncnn have hybridq's plain folder in their own
converter. Speed is the engine's float time over the model's, CPU time of one thread, medians of alternating runs.
``--aimet`` and ``--rknn2`` name Pythons of AIMET-ONNX and RKNN-Toolkit2, whose own simulators run plain 8 bits and the
choice.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hybridq
from hybridq.compare.timing import time_pairs
from hybridq.engines.records import Runner
from hybridq.engines.table import ENGINES, is_here
from hybridq.errors import EngineError
from hybridq.exchange.view import View, make_view
from hybridq.graph.runtime import session
from hybridq.plan.plan import make_plan
from hybridq.steps.common import read_config, read_state

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import own  # noqa: E402 - beside this file
from simulators import PACKAGES, SIMULATORS, plain  # noqa: E402 - beside this file
from subjects import ZOO_SCORES, Subject, of_zoo  # noqa: E402

MODELS = ("ultraface", "yunet", "fastestdet", "squeezenet", "pfld")
SECONDS = 2.0
FEW = 20  # calibration samples for an engine that calibrates what has no range
DOCUMENT = HERE.parent / "docs" / "targets.md"
ROW = "row.json"
START, END = "<!-- engines -->", "<!-- end of engines -->"
HEAD = "| model | engine | float | plain 8 bits | speed | hybridq's choice | speed |"


@dataclass(frozen=True)
class Cell:
    """One model in one engine: its score, its speed against the engine's float (None: simulated)."""

    score: float
    speed: float | None


@dataclass(frozen=True)
class Row:
    """A model in an engine. ``plain`` is None where the engine has no way to plain 8 bits here."""

    model: str
    engine: str
    version: str
    given: float
    plain: Cell | None
    choice: Cell


def view_of(folder: Path) -> View:
    """A folder as engines take it."""
    state = read_state(folder)
    config, _ = read_config(folder, state)
    return make_view(state, make_plan(state.model, state.calibrated, config, state.weights), config)


def built(subject: Subject, builds: Path, kind: str) -> tuple[View, View]:
    """Hybridq's choice (``auto`` or step1's ``default``) and plain 8 bits; what is there already is taken."""
    choice, plain = builds / f"{subject.name}-{kind}", builds / f"{subject.name}-plain"
    if kind == "auto" and not (choice / "hybrid.onnx").exists():
        few = subject.calibration[:4]
        hybridq.auto(subject.path, subject.calibration, choice, evaluation=few, threads=1, seconds=0)
    for folder, words in ((choice, {}), (plain, {"dtype": "uint8", "algorithm": "normal"})):
        if not (folder / "hybrid.onnx").exists():
            hybridq.step1(subject.path, subject.calibration, folder, threads=1, **words)
            hybridq.step2(folder)
    return view_of(choice), view_of(plain)


def score(subject: Subject, runner: Runner) -> float:
    """The zoo's first figure."""
    names = [o.name for o in session(subject.path, threads=1).get_outputs()]
    shapes = [o.shape for o in subject.reference[0]]

    def run(feed: Any) -> list[Any]:
        found = runner.run(None, feed)
        return [np.asarray(v).reshape(s) for v, s in zip(found, shapes, strict=True)]

    assert len(names) == len(shapes)
    told = subject.zoo.score(run)
    return float(next(told[k] for k in ZOO_SCORES if k in told))


def cell(subject: Subject, given: Runner, made: Runner, known: Cell | None) -> Cell:
    """Score and speed; the score of a row that is known already is not measured again."""
    found = time_pairs(given, made, subject.evaluation[0], seconds=SECONDS, threads=1, clock=time.process_time)
    return Cell(round(score(subject, made), 4) if known is None else known.score, round(found.speedup, 2))


def rows(subject: Subject, given: argparse.Namespace) -> Iterator[Row]:
    """Every engine on one model; one that does not take it is told and left out."""
    views = None
    for name in (n for n in given.engines if is_here(n)):
        place = given.builds / "made" / f"{subject.name}-{given.choice}-{name}"
        known = row_in(place)
        if known is not None and not given.speeds:
            yield known
            continue
        views = views or built(subject, given.builds, given.choice)
        try:
            yield keep(_row(name, subject, views, given.nncf, place, known), place)
        except (EngineError, RuntimeError, ValueError) as error:
            print(f"{name}, {subject.name}: {str(error).splitlines()[0][:200]}", flush=True)


def _row(
    name: str, subject: Subject, views: tuple[View, View], nncf: Path | None, place: Path, known: Row | None
) -> Row:
    """Files are made where ``place`` has no row yet, and opened there."""
    choice, plain, theirs = (place / part for part in ("choice", "plain", "own"))
    engine, feeds = ENGINES[name], subject.calibration[:FEW]
    if known is None:
        shutil.rmtree(place, ignore_errors=True)
        for folder in (choice, plain, theirs):
            folder.mkdir(parents=True)
        engine.make(views[0], choice, feeds)
        if not own.make(name, subject, nncf, theirs) and name in ("mnn", "ncnn"):
            engine.make(views[1], plain, feeds)
    loaded = engine.open(views[0], choice, 1, feeds[0])
    lower = own.opened(name, subject, theirs)
    if lower is None and any(plain.iterdir()):
        lower = engine.open(views[1], plain, 1, feeds[0]).hybrid
    low = None if lower is None else cell(subject, loaded.given, lower, known and known.plain)
    high = cell(subject, loaded.given, loaded.hybrid, known and known.choice)
    reference = known.given if known else round(score(subject, loaded.given), 4)
    return Row(subject.name, name, loaded.version, reference, low, high)


def simulated(subject: Subject, given: argparse.Namespace) -> Iterator[Row]:
    """Every tool whose environment is named, on one model."""
    reference = subject.zoo.score(session(subject.path, threads=1))
    exact = round(float(next(reference[k] for k in ZOO_SCORES if k in reference)), 4)
    for name, (title, script, own_build, choice) in SIMULATORS.items():
        python = getattr(given, name)
        place = given.builds / "made" / f"{subject.name}-{given.choice}-{name}"
        known = row_in(place)
        if python is None or known is not None:
            yield from filter(None, [known])
            continue
        with tempfile.TemporaryDirectory() as made:
            low, high = (Path(made) / part for part in ("plain", "choice"))
            low.mkdir()
            high.mkdir()
            try:
                found = choice(subject, given.builds / f"{subject.name}-{own_build or given.choice}", python, high)
            except RuntimeError as error:
                print(f"{name}, {subject.name}: {error}", flush=True)
                continue
            lower = _plain(name, script, subject, python, low)
        yield keep(Row(subject.name, title, version_of(name, python), exact, lower, Cell(found, None)), place)


def _plain(name: str, script: str, subject: Subject, python: Path, folder: Path) -> Cell | None:
    try:
        return Cell(plain(script, subject, own.recent(subject.path, folder), python, folder), None)
    except RuntimeError as error:
        print(f"{name}, {subject.name}, plain: {error}", flush=True)
        return None


def row_in(place: Path) -> Row | None:
    """The row that an earlier run kept."""
    if not (place / ROW).exists():
        return None
    told = json.loads((place / ROW).read_text(encoding="utf-8"))
    low = told["plain"] and Cell(**told["plain"])
    return Row(**{**told, "plain": low, "choice": Cell(**told["choice"])})


def keep(row: Row, place: Path) -> Row:
    """Keep a row for later runs."""
    place.mkdir(parents=True, exist_ok=True)
    (place / ROW).write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
    return row


def version_of(name: str, python: Path) -> str:
    """What is installed of a simulator's tool in its environment."""
    said = f"from importlib.metadata import version; print(version({PACKAGES[name]!r}))"
    return subprocess.run([str(python), "-c", said], capture_output=True, text=True, check=False).stdout.strip()


def table(found: list[Row]) -> str:
    """All rows as Markdown."""
    return "\n".join([HEAD, "|---|---|---|---|---|---|---|", *map(line, found)])


def write(found: list[Row], choice: str) -> None:
    """Put the table between its marks in the document, with the day and what chose."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(START)
    _, _, behind = rest.partition(END)
    chosen = "`auto` with its default budget" if choice == "auto" else "step1's default"
    told = f"{time.strftime('%Y-%m-%d')}; choice: {chosen}; hybridq {hybridq.__version__}.\n\n{table(found)}"
    DOCUMENT.write_text(f"{before}{START}\n\n{told}\n\n{END}{behind}", encoding="utf-8")


def line(row: Row) -> str:
    """A row of the table; a choice that is nearer float than plain 8 bits is bold."""
    low = ("-", "-") if row.plain is None else _told(row.plain)
    title = ENGINES[row.engine].title if row.engine in ENGINES else row.engine
    score, speed = _told(row.choice)
    if row.plain is not None and abs(row.choice.score - row.given) < abs(row.plain.score - row.given):
        score = f"**{score}**"
    cells = (row.model, f"{title} {row.version}".strip(), f"{row.given:.3f}", *low, score, speed)
    return f"| {' | '.join(cells)} |"


def _told(one: Cell) -> tuple[str, str]:
    return f"{one.score:.3f}", "" if one.speed is None else f"{one.speed:.2f}"


def main() -> int:
    """Every model in every engine that is here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="a folder with zoo.py")
    parser.add_argument("--builds", type=Path, required=True, help="where hybridq's folders are kept")
    parser.add_argument("--only", nargs="*", default=list(MODELS), metavar="NAME")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--choice", default="auto", choices=["auto", "default"], help="a search's, or step1's default")
    parser.add_argument("--nncf", type=Path, help="a Python that has NNCF")
    for name, (title, *_) in SIMULATORS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="PYTHON", help=f"a Python for {title}")
    parser.add_argument("--speeds", action="store_true", help="time the rows that are kept anew, score nothing")
    parser.add_argument("--write", action="store_true", help=f"put the table into docs/{DOCUMENT.name}")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    found: list[Row] = []
    for subject in of_zoo(given.zoo, given.only):
        for row in itertools.chain(rows(subject, given), simulated(subject, given)):
            found.append(row)
            print(line(row), flush=True)
    print(f"\n{table(found)}")
    if given.write:
        write(found, given.choice)
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in found], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

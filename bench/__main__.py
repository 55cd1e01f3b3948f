"""One table of hybridq against the tools that people use today: ``python -m bench``.

    python -m bench                              hybridq and ONNX Runtime's own quantizer, in this environment
    python -m bench --environments FOLDER        FOLDER/nncf, aimet, ppq, quark, modelopt, rknn2: those that are there
    python -m bench --make FOLDER                make those environments first, of --tools or all (gigabytes)
    python -m bench --models small --tools hybridq,nncf
    python -m bench --zoo FOLDER                 real models, too: a folder with zoo.py (docs/benchmarks.md)
    python -m bench --write                      put the table into docs/benchmarks.md and a line into docs/history.json

The same models (those that the project trained, and those of a zoo), calibration and evaluation samples for every tool;
one thread. A tool gives a quantized ONNX model, whose score, size and speed are measured here, or, where its result
runs in its own simulator only, outputs, whose score is. Speed is float32's CPU time over the model's, medians of
alternating runs. Where a model is older than opset 13, the other tools get it converted to 17, as their documents ask.
A tool that is not installed is left out and said to be.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import version_converter

import hybridq
from hybridq import demo
from hybridq.compare.timing import time_pairs
from hybridq.execution.versions import versions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE, HISTORY = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "history.json"
START, END = "<!-- table -->", "<!-- end of the table -->"
HEAD = "| tool | score | size, kB | speed | its time, s | its memory, MB |"
ACROSS = 3  # pictures side by side
Outputs = list[list[NDArray[Any]]]  # of every sample, every output
Unloadable = onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph
Samples = list[dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Subject:
    """A model with what it is calibrated and scored on; ``score`` takes the outputs of every evaluation sample."""

    name: str
    path: Path
    calibration: Samples
    evaluation: Samples
    score: Callable[[Outputs], float]


@dataclass(frozen=True)
class Row:
    """One tool on one model. ``speed`` None: its result runs in its own simulator only."""

    model: str
    tool: str
    score: float
    size: int | None
    speed: float | None
    seconds: float
    megabytes: float


def subjects(zoo: Path | None) -> Iterator[Subject]:
    """The two detectors of the demo, the transformer of the documentation, and the models of a zoo."""
    sys.path.insert(0, str(HERE))
    yield from _of_the_project()
    if zoo is not None:
        yield from _of_zoo(zoo)


def _of_the_project() -> Iterator[Subject]:
    calibration, evaluation = ([feed for feed, _ in pairs] for pairs in (demo.calibration(), demo.evaluation()))

    def ap50(outputs: Outputs) -> float:
        return demo.score([{"detections": one[0]} for one in outputs])["ap50"]

    yield Subject("small", demo.model_path(), calibration[:32], evaluation, ap50)
    yield Subject("plain", demo.plain_path(), calibration[:32], evaluation, ap50)
    from kinds_data import tokens

    batches = [tokens(np.random.default_rng([0, seed]), count) for seed, count in ((1, 32), (2, 200))]
    fed = [[{"ids": x[None]} for x in batch.x] for batch in batches]
    labels = batches[1].truth["label"]

    def right(outputs: Outputs) -> float:
        return float(np.mean([one[0].argmax() == label for one, label in zip(outputs, labels, strict=True)]))

    yield Subject("tokens", ROOT / "demos" / "models" / "tokens.onnx", *fed, right)


def _of_zoo(folder: Path) -> Iterator[Subject]:
    """Its models that are fed from outside; a recurrent one is scored in a loop, which no other tool's file is here."""
    from subjects import ZOO_SCORES, of_zoo

    for one in of_zoo(folder, ()):
        if one.zoo.task.get("states"):
            continue

        def score(outputs: Outputs, zoo: Any = one.zoo) -> float:
            told = iter(outputs)
            scored = zoo.score(lambda _: next(told))
            return float(next(scored[name] for name in ZOO_SCORES if name in scored))

        yield Subject(one.name, one.path, list(one.calibration), list(one.evaluation), score)


# --- tools ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tool:
    """A script in ``contenders/``, the environment that it needs, and what is installed there."""

    name: str
    script: str
    options: tuple[str, ...] = ()
    environment: str = ""  # this one
    packages: tuple[str, ...] = ()


TOOLS = (
    Tool("hybridq, default", "by_hybridq.py"),
    Tool("hybridq, every layer uint8", "by_hybridq.py", ("uint8",)),
    Tool("hybridq auto", "by_hybridq.py", ("auto",)),
    Tool("hybridq auto --min-speedup 1", "by_hybridq.py", ("fast",)),
    Tool("onnxruntime, MinMax", "by_onnxruntime.py", ("MinMax",)),
    Tool("onnxruntime, Entropy", "by_onnxruntime.py", ("Entropy",)),
    Tool("NNCF", "by_nncf.py", (), "nncf", ("nncf", "onnx", "onnxruntime")),
    Tool("AIMET-ONNX", "by_aimet.py", (), "aimet", ("aimet-onnx",)),
    Tool("ESP-PPQ", "by_ppq.py", (), "ppq", ("torch", "esp-ppq", "onnx", "onnxruntime")),
    Tool("Quark, A8W8", "by_quark.py", (), "quark", ("torch", "amd-quark", "onnx", "onnxruntime")),
    Tool("ModelOpt", "by_modelopt.py", (), "modelopt", ("torch", "nvidia-modelopt[onnx]")),
    Tool("RKNN-Toolkit2", "by_rknn2.py", (), "rknn2", ("rknn-toolkit2==2.5.0",)),
)


def python_of(tool: Tool, environments: Path | None) -> Path | None:
    """The interpreter that runs a tool; None where its environment is not there."""
    if not tool.environment:
        return Path(sys.executable)
    found = environments / tool.environment / "bin" / "python" if environments else None
    return found if found and found.exists() else None


def make(environments: Path, tools: Sequence[Tool]) -> None:
    """Make the environments of tools; one that does not install is told and left out."""
    for tool in (t for t in tools if t.environment):
        python = environments / tool.environment / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environments / tool.environment], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", *tool.packages], check=False)
        print(f"{tool.name}: {'installed' if done.returncode == 0 else 'does not install here'}", flush=True)


def run(tool: Tool, python: Path, subject: Subject) -> Row | str:
    """A tool's figures for a model, or why there are none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, samples in (("calibration", subject.calibration), ("evaluation", subject.evaluation)):
            np.savez(folder / f"{part}.npz", **{k: np.stack([s[k] for s in samples]) for k in samples[0]})
        given = recent(subject.path, folder / "given.onnx", convert=not tool.name.startswith("hybridq"))
        command = [python, HERE / "contenders" / tool.script, given, folder, *tool.options]
        words = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [str(word) for word in command], env=words, cwd=folder, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            return (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1][:120]
        try:
            return figures(tool, subject, folder, json.loads((folder / "cost.json").read_text()))
        except Unloadable as error:
            return f"ONNX Runtime does not load its file: {error}".splitlines()[0][:160]


def recent(path: Path, copied: Path, *, convert: bool) -> Path:
    """A copy of the model, since some tools write into what they are given; at an opset that knows channels."""
    model = onnx.load(path)
    if not convert or max(one.version for one in model.opset_import if not one.domain) >= 13:
        shutil.copyfile(path, copied)
    else:
        onnx.save(version_converter.convert_version(model, 17), copied)
    return copied


def figures(tool: Tool, subject: Subject, folder: Path, cost: Mapping[str, float]) -> Row:
    """Score, size and speed of what a tool left in ``folder``."""
    built = folder / "quantized.onnx"
    spent = (round(cost["seconds"], 1), round(cost["megabytes"], 0))
    if not built.exists():
        with np.load(folder / "outputs.npz") as held:
            outputs = [list(one) for one in zip(*(held[name] for name in held.files), strict=True)]
        return Row(subject.name, tool.name, round(subject.score(outputs), 4), None, None, *spent)
    session = session_of(built)
    outputs = [session.run(None, sample) for sample in subject.evaluation]
    size = built.stat().st_size
    return Row(subject.name, tool.name, round(subject.score(outputs), 4), size, speed(subject, built), *spent)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def speed(subject: Subject, built: Path) -> float:
    """Float32's CPU time over the model's: the median of ratios of alternating runs."""
    pair = session_of(subject.path), session_of(built)
    found = time_pairs(*pair, subject.evaluation[0], seconds=2.0, threads=1, clock=time.process_time)
    return round(found.speedup, 2)


# --- telling ----------------------------------------------------------------------------------------------------


def table(rows: list[Row], left_out: Mapping[str, str]) -> str:
    """A part a model, a row a tool."""
    lines = []
    for subject in dict.fromkeys(row.model for row in rows):
        lines += [f"### {subject}", "", HEAD, "|---|---|---|---|---|---|"]
        lines += [_line(row) for row in rows if row.model == subject] + [""]
    lines += [f"Left out: {name} ({why})." for name, why in left_out.items()]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    size = "" if row.size is None else f"{row.size / 1e3:.0f}"
    fast = "simulated" if row.speed is None else f"{row.speed:.2f}"
    return f"| {row.tool} | {row.score:.3f} | {size} | {fast} | {row.seconds:.0f} | {row.megabytes:.0f} |"


def write(rows: list[Row], left_out: Mapping[str, str]) -> None:
    """Put the table into its page, the plots beside it, and hybridq's own figures into the history."""
    text = PAGE.read_text(encoding="utf-8")
    told = f"{date.today().isoformat()}; " + ", ".join(f"{k} {v}" for k, v in versions().items())
    head, tail = text[: text.index(START)], text[text.index(END) :]
    PAGE.write_text(f"{head}{START}\n\n{told}\n\n{table(rows, left_out)}\n{tail}", encoding="utf-8")
    own = [asdict(row) for row in rows if row.tool.startswith("hybridq")]
    history = json.loads(HISTORY.read_text(encoding="utf-8")) if HISTORY.exists() else []
    history = [one for one in history if one["version"] != hybridq.__version__]
    history.append({"version": hybridq.__version__, "date": date.today().isoformat(), "figures": own})
    HISTORY.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    plot(rows)


def plot(rows: list[Row]) -> None:
    """Score over size for every tool that leaves a model: a picture a model, and one that says which mark is whose."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row.model for row in rows))
    tools = list(dict.fromkeys(row.tool for row in rows if row.size is not None))
    marks = {tool: ("o" if tool.startswith("hybridq") else "x", f"C{i}") for i, tool in enumerate(tools)}
    high = math.ceil((len(names) + 1) / ACROSS)
    figure, axes = plt.subplots(high, ACROSS, figsize=(3.2 * ACROSS, 2.8 * high), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        for row in (r for r in rows if r.model == name and r.size is not None):
            mark, colour = marks[row.tool]
            axis.plot(row.size / 1e3, row.score, mark, color=colour)
        axis.set(title=name, xlabel="size, kB", ylabel="score")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    told = [plt.Line2D([], [], marker=mark, color=colour, ls="", label=tool) for tool, (mark, colour) in marks.items()]
    axes.flat[len(names)].legend(handles=told, loc="center left", frameon=False)
    figure.savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})


def main() -> int:
    """Run every tool that is there on every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--make", type=Path, metavar="FOLDER")
    parser.add_argument("--zoo", type=Path, help="a folder with zoo.py")
    parser.add_argument("--models", default="")
    parser.add_argument("--tools", default="", help="words that a tool's name begins with")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    words, rows, left_out = [w for w in chosen.tools.split(",") if w], [], {}
    tools = [t for t in TOOLS if not words or any(t.name.lower().startswith(w.lower()) for w in words)]
    if chosen.make:
        make(chosen.make, tools)
    environments = chosen.environments or chosen.make
    for subject in (s for s in subjects(chosen.zoo) if not chosen.models or s.name in chosen.models.split(",")):
        for tool in tools:
            python = python_of(tool, environments)
            found = run(tool, python, subject) if python else f"no environment {tool.environment}"
            if isinstance(found, str):
                left_out[f"{tool.name} on {subject.name}" if python else tool.name] = found
            else:
                rows.append(found)
            print(found if isinstance(found, Row) else f"{tool.name}, {subject.name}: {found}", flush=True)
    print(table(rows, left_out))
    if chosen.write:
        write(rows, left_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How much one line of cfg, or one option of step1, still brings over the default: every line there is, one at a time.

    python bench/best_line.py --kinds FOLDER [--zoo ../shared/zoo] [--only detector] [--all]

Tried: every kind of operator to float32, each of the first and the last five layers to float32, every ``--algorithm``.
A line that lifts more than half of the arithmetic out of 8 bits is another model, and is left out. Lines are judged on
the evaluation samples, which no default may see: the best of many is a little lucky. Prints the default's figures, the
best line by dB and by score, and by how much the default falls short of both.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from subjects import Subject, asked, asking

import hybridq
from hybridq.build.builder import build
from hybridq.calibration.ranges import ALGORITHMS
from hybridq.plan.plan import make_plan
from hybridq.plan.share_of_macs import share_of_macs
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice, QuantConfig
from hybridq.storage.state import State

ENDS = 5  # layers at each end
MOST = 0.5  # of the multiply-accumulates that a line may lift


def lines(state: State) -> Iterator[tuple[str, list[str]]]:
    """Every line in a person's words, and the layers that it raises."""
    layers = [x for x in state.model.layers if not x.float_only]
    for op in sorted({x.op for x in layers}):
        yield f"op:{op} float32", [x.name for x in layers if x.op == op]
    for layer in dict.fromkeys([*layers[:ENDS], *layers[-ENDS:]]):
        yield f"{layer.name} float32", [layer.name]


def figures_of(subject: Subject, state: State, raised: list[str], folder: Path) -> dict[str, float]:
    choices = {n: LayerChoice(Precision.FLOAT32) for n in raised}
    config = QuantConfig(state.calibrated.target, choices, state.calibrated.entries, {})
    path = folder / "line.onnx"
    build(state.model, make_plan(state.model, state.calibrated, config, state.weights), state.weights).write(path)
    return subject.figures(path)


def tried(subject: Subject, folder: Path) -> dict[str, dict[str, float]]:
    """The figures of the default ("") and of every line."""

    def calibrated(**options: str) -> State:
        made = hybridq.step1(subject.path, list(subject.calibration), folder, threads=1, force=True, **options)
        return made.state

    start = calibrated()
    found = {"": figures_of(subject, start, [], folder)}
    done = make_plan(
        start.model, start.calibrated, QuantConfig("onnxruntime", {}, start.calibrated.entries, {}), start.weights
    )
    for name, raised in lines(start):
        lifted = [n for n in raised if done.layers[n].done is not Precision.FLOAT32]
        if lifted and share_of_macs(start.model, lifted) <= MOST:
            found[name] = figures_of(subject, start, raised, folder)
    for algorithm in ALGORITHMS:
        found[f"--algorithm {algorithm}"] = figures_of(subject, calibrated(algorithm=algorithm), [], folder)
    return found


def main() -> int:
    parser = asking(__doc__)
    parser.add_argument("--all", action="store_true", help="print every line, not only the best")
    chosen = parser.parse_args()
    for subject in asked(chosen):
        with tempfile.TemporaryDirectory() as folder:
            found = tried(subject, Path(folder))
        own = found.pop("")
        score = f", {own['score']:.2f} points" if "score" in own else ""
        print(f"{subject.name}: {own['db']:.1f} dB (worst sample {own['worst_db']:.1f}){score}")
        short = {}
        for key in ("db", "score"):
            if key in own:
                best = max(found, key=lambda n: found[n][key])
                short[key] = max(found[best][key] - own[key], 0.0)
                print(f"    {found[best][key] - own[key]:+6.2f} {key:5} {best}", flush=True)
        print(f"    short by {min(short.values()):.2f} ({min(short, key=lambda k: short[k])})", flush=True)
        for name in sorted(found, key=lambda n: -found[n]["db"]) if chosen.all else ():
            said = " ".join(f"{k} {v - own[k]:+.2f}" for k, v in found[name].items())
            print(f"        {name}: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

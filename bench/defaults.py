"""What a person gets who asks for nothing: step1 and step2 by default, on the zoo and on models of other kinds.

    python bench/defaults.py --zoo ../shared/zoo --kinds FOLDER --only yunet audio --time --step1 "--algorithm mmse"

Prints a table: the score on the evaluation samples against the float model, SQNR in dB, share of multiply-accumulates
above 8 bits, the file's size over the float file's, with ``--time`` speed against float32 and what calibration costs in
plain inferences. ``--against OPTIONS`` builds the model with these options of step1 as well: ``mean`` and ``least`` are
the mean and the least over the samples of what the default has more than that, in dB. ``train_kinds.py`` makes FOLDER.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subjects import Subject, asked, asking

import hybridq
from hybridq.compare.timing import time_pairs
from hybridq.graph import runtime

COLUMNS = ("score", "db", "worst_db", "high", "size", "speed", "calibration", "mean", "least")


def measure(
    subject: Subject, folder: Path, options: Mapping[str, Any], timed: bool, against: Mapping[str, Any] | None = None
) -> dict[str, float]:
    started = time.process_time()
    made = hybridq.step1(subject.path, list(subject.calibration), folder, threads=1, force=True, **options)
    took = time.process_time() - started
    built = folder / "hybrid.onnx"
    hybridq.step2(folder)
    found = subject.figures(built)
    found["high"] = share_high(folder, made.state.model)
    found["size"] = round(built.stat().st_size / subject.path.stat().st_size, 3)
    if timed:
        one, other = (runtime.session(p, threads=1) for p in (subject.path, built))
        feed = subject.calibration[0]
        timing = time_pairs(one, other, feed, seconds=2.0, threads=1)
        found["speed"] = round(timing.speedup, 2)
        found["calibration"] = round(1e3 * took / timing.float_ms / len(subject.calibration), 1)
    if against is not None:
        own = subject.by_sample(built)
        hybridq.step1(subject.path, list(subject.calibration), folder, threads=1, force=True, **against)
        hybridq.step2(folder)
        more = [a - b for a, b in zip(own, subject.by_sample(built), strict=True)]
        found |= {"mean": round(sum(more) / len(more), 2), "least": round(min(more), 2)}
    return found


def share_high(folder: Path, model: Any) -> float:
    """The share of multiply-accumulates above 8 bits."""
    done = {x["name"]: x["done"] for x in json.loads((folder / "build.json").read_text())["layers"]}
    high = sum(x.macs for x in model.layers if done[x.name] not in ("uint8", "int8"))
    return round(high / max(sum(x.macs for x in model.layers), 1), 4)


def options_of(text: str) -> dict[str, Any]:
    """``"--algorithm mmse --samples 10"`` as step1's options."""
    words = text.split()
    pairs = zip(words[::2], words[1::2], strict=True)
    return {k.strip("-").replace("-", "_"): int(v) if v.isdigit() else v for k, v in pairs}


def main() -> int:
    parser = asking(__doc__)
    parser.add_argument("--step1", default="", help="options of step1, as the Python API names them")
    parser.add_argument("--against", help="options of step1 that the default is compared with, sample by sample")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    chosen = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    print("| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    for subject in asked(chosen):
        with tempfile.TemporaryDirectory() as folder:
            against = None if chosen.against is None else options_of(chosen.against)
            row = measure(subject, Path(folder), options_of(chosen.step1), chosen.time, against)
        rows[subject.name] = row
        print(f"| {subject.name} | " + " | ".join(str(row.get(c, "")) for c in COLUMNS) + " |", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

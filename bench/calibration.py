"""Calibration against plain inference, against ONNX Runtime's quantize_static, and its memory. Prints ratios.

    python bench/calibration.py                        MobileNetV2 and ResNet18 with random weights
    python bench/calibration.py --zoo ../shared/zoo    squeezenet and fastestdet too
    python bench/calibration.py --only r18 --rivals    quantize_static MinMax, Entropy, Percentile as well
    python bench/calibration.py --memory               peak memory, 50 against 1000 samples, a process each

Times are CPU time of alternating runs in one process, all with the same threads; figures are medians of the ratios.
Calibration includes merging, and with ``search`` choosing the range of every group by mmse, kl_divergence and
percentile in 8 bits; neither side counts the making of its session, which does not grow with the samples.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
from models import MODELS
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

from hybridq.calibration.calibrate import calibrate, measure_with, prepare
from hybridq.calibration.ranges import choose
from hybridq.calibration.statistics import pool
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision, Scheme

Feed = dict[str, Any]
SEARCHES = ("mmse", "kl_divergence", "percentile")
BUILT = {"mbv2": "mobilenet_v2", "r18": "resnet18"}
ZOO = ("squeezenet", "fastestdet")
GOALS = {"normal": 1.6, "search": 2.2}
RIVALS = {
    "MinMax": (CalibrationMethod.MinMax, 2.0),
    "Entropy": (CalibrationMethod.Entropy, 20.0),
    "Percentile": (CalibrationMethod.Percentile, 20.0),
}


def load(name: str, zoo: Path | None, samples: int) -> tuple[onnx.ModelProto, list[Feed]]:
    if name in BUILT:
        given = MODELS[BUILT[name]]()
        shape = [d.dim_value or 1 for d in given.graph.input[0].type.tensor_type.shape.dim]
        rng = np.random.default_rng(0)
        own = [{given.graph.input[0].name: rng.normal(size=shape).astype(np.float32)} for _ in range(20)]
    else:
        spec = importlib.util.spec_from_file_location("zoo", zoo / "zoo.py") if zoo else None
        if spec is None or spec.loader is None:
            raise SystemExit(f"{name} needs --zoo")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        held = module.load(name)
        given, own = onnx.load(held.model_path), list(held.calibration())
    return given, [own[i % len(own)] for i in range(samples)]


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(name: str, given: onnx.ModelProto, feeds: list[Feed], threads: int, rounds: int) -> dict[str, float]:
    """Print calibration time over plain inference time; return CPU seconds of each kind."""
    proto = canonicalize(given)
    model = analyse(proto)
    plain = runtime.session(given, threads=threads)
    programs = {"normal": prepare(model, proto, histogram=False), "search": prepare(model, proto, histogram=True)}
    sessions = {k: runtime.session(p.model, threads=threads) for k, p in programs.items()}

    def run(kind: str) -> None:
        stats = measure_with(programs[kind], sessions[kind], enumerate(feeds)).tensors
        for group in (g for g in model.groups if g.fixed is None):
            whole = pool(stats[s] for s in group.sources)
            for algorithm in SEARCHES if kind == "search" else ("normal",):
                choose(algorithm, whole, Precision.UINT8, Scheme.ASYMMETRIC)

    taken: dict[str, list[float]] = {k: [] for k in ("plain", *programs)}
    for _ in range(rounds + 1):
        taken["plain"].append(seconds(lambda: [runtime.run(plain, f) for f in feeds]))
        for kind in programs:
            taken[kind].append(seconds(lambda kind=kind: run(kind)))  # type: ignore[misc]
    print(f"{name}: {len(feeds)} samples, plain {statistics.median(taken['plain'][1:]) / len(feeds) * 1e3:.2f} ms each")
    for kind, goal in GOALS.items():
        ratios = [t / p for t, p in zip(taken[kind][1:], taken["plain"][1:], strict=True)]
        found = statistics.median(ratios)
        verdict = "reached" if found <= goal * 1.05 else "missed"
        print(f"  {kind:8s} {found:5.2f} x plain inference  (goal {goal}; {verdict})")
    return {k: statistics.median(v[1:]) for k, v in taken.items()}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds, one by one."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next feed."""
        return next(self.feeds, None)


def rivals(
    given: onnx.ModelProto, feeds: list[Feed], taken: dict[str, float], plain_samples: int, threads: int
) -> None:
    """Print how many times longer quantize_static takes; ``feeds`` may be fewer, since Entropy keeps everything."""
    share = len(feeds) / plain_samples
    original = onnxruntime.SessionOptions

    def options() -> onnxruntime.SessionOptions:
        found = original()
        found.intra_op_num_threads, found.log_severity_level = threads, runtime.SILENT
        return found

    with tempfile.TemporaryDirectory() as folder, patch("onnxruntime.SessionOptions", options):
        source, target = Path(folder) / "given.onnx", Path(folder) / "quantized.onnx"
        onnx.save(given, source)
        for name, (method, goal) in RIVALS.items():
            spent = seconds(
                lambda method=method: quantize_static(  # type: ignore[misc]
                    source, target, Reader(feeds), QuantFormat.QDQ, calibrate_method=method
                )
            )
            own = taken["normal" if name == "MinMax" else "search"] * share
            print(
                f"  quantize_static {name:10s} {spent / (taken['plain'] * share):6.1f} x plain, "
                f"{spent / own:6.1f} x ours  (goal {goal:.0f})"
            )


def peak_megabytes(model: Model, proto: onnx.ModelProto, feeds: list[Feed], samples: int) -> float:
    """Peak memory of this process after calibrating so many samples."""
    batches = ((i, feeds[i % len(feeds)]) for i in range(samples))
    calibrate(model, proto, batches, algorithms=set(SEARCHES), threads=1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(name: str, arguments: argparse.Namespace) -> None:
    command = [sys.executable, __file__, "--only", name, *(["--zoo", str(arguments.zoo)] if arguments.zoo else [])]
    few, many = (
        float(subprocess.run([*command, "--peak", str(n)], capture_output=True, text=True, check=True).stdout)
        for n in (50, 1000)
    )
    verdict = "reached" if many <= 1.05 * few else "missed"
    print(f"{name}: peak memory {few:.0f} MB at 50 samples, {many:.0f} MB at 1000: {many / few:.3f} ({verdict})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--only", nargs="*", choices=[*BUILT, *ZOO])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.only or [*BUILT, *(ZOO if arguments.zoo else ())]:
        if arguments.memory:
            memory(name, arguments)
            continue
        given, feeds = load(name, arguments.zoo, 20 if arguments.peak else arguments.samples)
        if arguments.peak:
            proto = canonicalize(given)
            print(peak_megabytes(analyse(proto), proto, feeds, arguments.peak))
            continue
        taken = compare(name, given, feeds, arguments.threads, arguments.rounds)
        if arguments.rivals:
            rivals(given, feeds[:20], taken, len(feeds), arguments.threads)


if __name__ == "__main__":
    main()

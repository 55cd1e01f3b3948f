"""Measure what step2 builds: speed against float32, size, faithfulness, memory.

    python bench/builder.py                       every measure that needs no files
    python bench/builder.py --zoo ../shared/zoo   the zoo's models at 8 bits too, against what other tools built
    python bench/builder.py --memory 600          peak memory of step2 on a model with so many MB of weights

Ratios are float32 time / built model's time: medians over alternating pairs of runs in one process, by the wall clock,
or with ``--clock cpu`` by this process's CPU time, which other load on the machine disturbs less (one thread only). A
figure is reached when it is within 5 % of its goal. Ends with 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]
GOALS = {"resnet18": 2.4, "mobilenet_v2": 1.75, "silu_yolo": 1.6, "vit": 1.5}
INT16_GOAL, INT16_SHARE = 2.0, 0.1
SIZE_GOALS = {"uint8": 0.27, "int16": 0.52}
MEMORY_GOAL = 1.5
TOLERANCE = 0.05
SAMPLES, PAIRS = 4, 25
EMPTY = "customized_quantize_layers: {}"


@dataclass(frozen=True, slots=True)
class Measure:
    """How time is measured."""

    threads: list[int]
    clock: Callable[[], float]
    pairs: int = PAIRS


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``goal`` None: for information; ``at_least``: whether bigger is better."""

    what: str
    value: float
    goal: float | None = None
    at_least: bool = True

    @property
    def missed(self) -> bool:
        """Whether the figure lies outside its goal."""
        if self.goal is None:
            return False
        low, high = self.goal * (1 - TOLERANCE), self.goal * (1 + TOLERANCE)
        return self.value < low if self.at_least else self.value > high

    def __str__(self) -> str:
        if self.goal is None:
            return f"{self.what:44s} {self.value:8.3f}"
        sign, mark = (">=" if self.at_least else "<="), ("MISSED" if self.missed else "ok")
        return f"{self.what:44s} {self.value:8.3f}   {sign} {self.goal:<6g} {mark}"


def hybridq(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line of this interpreter's environment; raises with its message."""
    command = [str(Path(sys.executable).parent / "hybridq"), *map(str, args), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr or done.stdout}")
    return done


def random_feeds(model: Path, count: int = SAMPLES) -> list[Feed]:
    """Normally distributed samples for a model with static shapes."""
    rng = np.random.default_rng(0)
    inputs = onnx.load(model, load_external_data=False).graph.input
    shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in inputs}
    return [{k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()} for _ in range(count)]


def dataset(feeds: Iterable[Feed], folder: Path) -> Path:
    """Write samples as .npy files and the list that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, feed in enumerate(feeds):
        names = [f"{i:03d}_{k}.npy" for k in range(len(feed))]
        for name, values in zip(names, feed.values(), strict=True):
            np.save(folder / name, values)
        lines.append(" ".join(names))
    path = folder / "dataset.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def build(model: Path, feeds: list[Feed], out: Path, layers: Mapping[str, str] | None = None, *options: str) -> Path:
    """Step1, the edits a person would make, step2; the built model's path."""
    shutil.rmtree(out, ignore_errors=True)
    hybridq("step1", model, "--dataset", dataset(feeds, out.with_suffix(".data")), "-o", out, *options)
    if layers:
        cfg = out / "model.quantization.cfg"
        chosen = "\n".join(f'    "{k}": {v}' for k, v in layers.items())
        cfg.write_text(cfg.read_text().replace(EMPTY, f"customized_quantize_layers:\n{chosen}", 1))
    hybridq("step2", out)
    return out / "hybrid.onnx"


def session(model: Path, threads: int, level: str = "all") -> ort.InferenceSession:
    """A quiet session on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # two sessions share the cores
    if level == "none":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def speedup(given: Path, built: Path, feed: Feed, measure: Measure, threads: int) -> float:
    """The median of float32 time / built model's time over alternating pairs."""
    one, other = session(given, threads), session(built, threads)
    start = measure.clock()
    for _ in range(3):
        one.run(None, feed)
        other.run(None, feed)
    repeats = max(1, int(3 * 0.01 / (measure.clock() - start + 1e-9)))  # short models run several times a measurement

    def seconds(s: ort.InferenceSession) -> float:
        begun = measure.clock()
        for _ in range(repeats):
            s.run(None, feed)
        return measure.clock() - begun

    return median(seconds(one) / seconds(other) for _ in range(measure.pairs))


def speeds(what: str, given: Path, built: Path, feed: Feed, measure: Measure, goal: float | None) -> list[Row]:
    """One row for every number of threads."""
    return [
        Row(f"{what}, {n} thread{'s' * (n > 1)}", speedup(given, built, feed, measure, n), goal)
        for n in measure.threads
    ]


def sqnr(reference: Path, candidate: Path, feed: Feed, levels: tuple[str, str] = ("none", "all")) -> float:
    """Signal to noise in dB over all outputs together."""
    want, have = (session(p, 1, v).run(None, feed) for p, v in zip((reference, candidate), levels, strict=True))
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in want)
    noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(want, have, strict=True))
    return float(10 * np.log10(signal / max(noise, 1e-30)))


def weight_bytes(model: Path) -> int:
    """Bytes of all initializers."""
    held = onnx.load(model).graph.initializer
    return sum(int(np.prod(t.dims)) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in held)


def layers_of(out: Path) -> list[str]:
    """Names of the layers with weights, in order."""
    listed = json.loads((out / "build.json").read_text())["layers"]
    return [x["name"] for x in listed if x["op"] in ("Conv", "Gemm", "MatMul")]


def architecture(name: str, work: Path, measure: Measure) -> list[Row]:
    """Speed, size and faithfulness of one of ``models.py``, all in 8 bits and all in 16."""
    model = models.save(name, work)
    feeds = random_feeds(model)
    built = build(model, feeds, work / f"{name}-uint8")
    rows = speeds(f"{name} uint8", model, built, feeds[0], measure, GOALS[name])
    rows.append(Row(f"{name} uint8, SQNR dB", sqnr(model, built, feeds[0])))
    rows.append(Row(f"{name} uint8, optimized against not, dB", sqnr(built, built, feeds[0])))
    rows.append(Row(f"{name} uint8, weights", weight_bytes(built) / weight_bytes(model), SIZE_GOALS["uint8"], False))
    wide = build(model, feeds, work / f"{name}-int16", None, "--dtype", "int16")
    rows.append(Row(f"{name} int16, weights", weight_bytes(wide) / weight_bytes(model), SIZE_GOALS["int16"], False))
    rows.append(Row(f"{name} int16, SQNR dB", sqnr(model, wide, feeds[0])))
    return rows


def mixed_resnet(work: Path, measure: Measure, picks: int = 3) -> list[Row]:
    """ResNet18 with a tenth of its layers in int16, for several random choices of layers."""
    model = models.save("resnet18", work)
    feeds = random_feeds(model)
    build(model, feeds, work / "resnet18-mixed")
    names, rows = layers_of(work / "resnet18-mixed"), []
    for seed in range(picks):
        chosen = random.Random(seed).sample(names, max(1, round(INT16_SHARE * len(names))))
        built = build(model, feeds, work / "resnet18-mixed", dict.fromkeys(chosen, "int16"))
        rows += speeds(f"resnet18 int16 {'+'.join(chosen)}", model, built, feeds[0], measure, INT16_GOAL)
    return rows


def zoo_models(folder: Path, work: Path, measure: Measure) -> list[Row]:
    """The zoo's models all in 8 bits; the goal is the fastest 8-bit model of the other tools, and float32's speed."""
    spec = importlib.util.spec_from_file_location("zoo", folder / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    zoo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(zoo)
    peers = json.loads((folder / "peers.json").read_text())["rows"]
    rows = []
    for name in zoo.names():
        m = zoo.load(name)
        ratios = [r["latency_ratio"] for r in peers if r["model"] == name and r.get("latency_ratio")]
        goal = 1 / min(ratios) if ratios else None
        feeds = list(m.calibration())[: SAMPLES * 4]
        path = Path(m.model_path)
        built = build(path, feeds, work / name)
        rows += speeds(f"{name} uint8", path, built, feeds[0], measure, goal)
        rows.append(Row(f"{name} uint8, SQNR dB", sqnr(path, built, feeds[0])))
    return rows


def big_model(megabytes: int, path: Path) -> None:
    """A chain of square Gemms with so many MB of float32 weights in external data."""
    width = 4096
    count = max(1, round(megabytes * 2**20 / (4 * width * width)))
    rng, names = np.random.default_rng(0), [f"w{i}" for i in range(count)]
    tensors = []
    with path.with_suffix(".data").open("wb") as data:
        for i, name in enumerate(names):
            data.write((rng.standard_normal((width, width), np.float32) / 64).tobytes())
            t = onnx.TensorProto(name=name, data_type=1, dims=[width, width], data_location="EXTERNAL")
            entries = {"location": path.with_suffix(".data").name, "offset": i * 4 * width**2, "length": 4 * width**2}
            t.external_data.extend(onnx.StringStringEntryProto(key=k, value=str(v)) for k, v in entries.items())
            tensors.append(t)
    nodes, x = [], "x"
    for i, name in enumerate(names):
        nodes.append(onnx.helper.make_node("Gemm", [x, name], [f"g{i}"], f"gemm{i}"))
        nodes.append(onnx.helper.make_node("Relu", [f"g{i}"], [x := f"r{i}"], f"relu{i}"))
    ends = [onnx.helper.make_tensor_value_info(n, 1, [1, width]) for n in ("x", x)]
    graph = onnx.helper.make_graph(nodes, "big", ends[:1], ends[1:], tensors)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(made.SerializeToString())


def memory(megabytes: int, work: Path) -> list[Row]:
    """Peak resident memory of ``step2`` as a multiple of the float weights, and both steps' seconds."""
    path = work / "big" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    big_model(megabytes, path)
    size = path.with_suffix(".data").stat().st_size
    feeds, out = random_feeds(path, 2), work / "big-build"
    start = time.perf_counter()
    hybridq("step1", path, "--dataset", dataset(feeds, work / "big-data"), "-o", out)
    middle = time.perf_counter()
    peak = peak_memory([str(Path(sys.executable).parent / "hybridq"), "step2", str(out), "--quiet"])
    return [
        Row(f"{megabytes} MB: step2's peak / float weights", peak / size, MEMORY_GOAL, False),
        Row(f"{megabytes} MB: step1, seconds", middle - start),
        Row(f"{megabytes} MB: step2, seconds", time.perf_counter() - middle),
    ]


WATCH = """import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))"""


def peak_memory(command: list[str]) -> int:
    """Bytes of resident memory a command needed at most; raises when it fails.

    A small process in between starts it: Linux counts the memory of whoever forked into the peak.
    """
    done = subprocess.run([sys.executable, "-c", WATCH, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--zoo", type=Path, help="folder of the model zoo")
    parser.add_argument("--memory", type=int, metavar="MB", help="measure step2's memory on so many MB of weights")
    parser.add_argument("--work", type=Path, help="where to build (default: a temporary folder)")
    args = parser.parse_args()
    how = Measure(args.threads, time.process_time if args.clock == "cpu" else time.perf_counter)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        measures: list[tuple[Any, ...]] = [(architecture, name, work, how) for name in args.models]
        measures += [(mixed_resnet, work, how)] if "resnet18" in args.models else []
        measures += [(zoo_models, args.zoo, work, how)] if args.zoo else []
        measures += [(memory, args.memory, work)] if args.memory else []
        for measure, *given in measures:
            for row in measure(*given):
                print(row, flush=True)
                rows.append(row)
    missed = [r for r in rows if r.missed]
    print(f"{len(missed)} of {sum(r.goal is not None for r in rows)} goals missed")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())

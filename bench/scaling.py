"""How the steps grow with layers, samples and weights: CPU seconds, start-up subtracted, and memory of their own.

    python bench/scaling.py [LAYERS ...]        by default 100 200 400 1000 2000
    python bench/scaling.py --samples           step1 and step3 over 10, 100 and 1,000 samples
    python bench/scaling.py --memory            the three steps over 128, 256 and 512 MB of weights
    python bench/scaling.py --plot FILE.svg     all of it (a few layers only), as a picture

The plan of a search is what it does without running a model: what may be raised, what noise each quantizer adds, and
the best sets for every price and for 15 % of the multiply-accumulates, on made-up damages. A chain is convolutions in a
row; a ladder has an Add across every two of them, so that tensors have several readers. Twice the layers should take
twice the time: the last column is the time of each size over that of the one before it, by the number of layers.
Start-up is what a model of three layers takes.
"""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hybridq.plan.plan import make_plan
from hybridq.plan.share_of_macs import share_of_macs
from hybridq.search.allocation.additive_noise import pairs
from hybridq.search.allocation.knapsack import solve
from hybridq.search.measuring.quantizers import sources
from hybridq.steps.common import read_config, read_state

SIZES = [100, 200, 400, 1000, 2000]
SAMPLES = [10, 100, 1000]
WEIGHTS = [128, 256, 512]  # megabytes
WIDTH = 4096
STEPS = ("step1", "step2", "step3")
COLUMNS = (*STEPS, "plan")
HYBRIDQ = [sys.executable, "-c", "from hybridq.cli import main; main()"]
SHAPE = (1, 4, 4, 4)  # small maps: what is timed is the work on graphs


def model(kind: str, layers: int, shape: tuple[int, ...] = SHAPE) -> onnx.ModelProto:
    """A chain or a ladder of convolutions with their Relus, 4 channels each."""
    rng = np.random.default_rng(0)
    nodes: list[NodeProto] = []
    weights = []
    name, before = "x", "x"
    for i in range(layers):
        if kind == "ladder" and i % 3 == 2:
            nodes.append(helper.make_node("Add", [name, before], [f"t{i}"], f"add{i}"))
            name = before = f"t{i}"
            continue
        weights.append(numpy_helper.from_array(rng.normal(0, 0.35, (4, 4, 1, 1)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [name, f"w{i}"], [f"c{i}"], f"conv{i}"))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"t{i}"], f"relu{i}"))
        name = f"t{i}"
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", name)]
    graph = helper.make_graph(nodes, kind, values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def measure(kind: str, layers: int) -> list[float]:
    """CPU seconds of each step, its start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        onnx.save(model(kind, layers), path / "model.onnx")
        sample = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
        np.save(path / "sample.npy", sample)
        (path / "dataset.txt").write_text("sample.npy\n")
        calibrate = [str(path / "model.onnx"), "--dataset", str(path / "dataset.txt"), "-o", str(path / "build")]
        given = {"step1": calibrate, "step2": [str(path / "build")], "step3": [str(path / "build")]}
        steps = [_seconds([*HYBRIDQ, step, *given[step], "--threads", "1"]) for step in STEPS]
        return [*steps, _planning(path / "build")]


def _planning(folder: Path) -> float:
    """CPU seconds of what a search plans without running a model."""
    state = read_state(folder)
    config, _ = read_config(folder, state)
    began = time.process_time()
    plan = make_plan(state.model, state.calibrated, config, state.weights)
    found = sources(state.model, plan, state.weights)
    damage = np.random.default_rng(0).lognormal(0, 2, len(found))
    cost = {g.name: share_of_macs(state.model, g.layers) for g in state.model.groups}
    made = pairs(state.model, plan, found, damage, cost)
    assert made.hull
    solve(made, 0.15)
    return time.process_time() - began


def _seconds(command: list[str]) -> float:
    """CPU seconds of a command and the processes that it starts."""
    return _cost(command)[0]


def _cost(command: list[str]) -> tuple[float, float]:
    """CPU seconds of a command, and the most megabytes that it has for itself: mapped files may come and go."""
    before, most = resource.getrusage(resource.RUSAGE_CHILDREN), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _own(process.pid))
            time.sleep(0.005)
        assert process.returncode == 0, command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, most / 1e6


def _own(pid: int) -> int:
    try:
        found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


def over_samples(counts: list[int]) -> dict[str, list[tuple[int, float, float]]]:
    """By step: samples, CPU seconds and megabytes, of a chain of 20 layers on pictures of 64 x 64."""
    found: dict[str, list[tuple[int, float, float]]] = {"step1": [], "step3": []}
    with tempfile.TemporaryDirectory() as folder:
        path, shape = Path(folder), (1, 4, 64, 64)
        onnx.save(model("chain", 20, shape), path / "model.onnx")
        for i in range(16):
            np.save(path / f"{i}.npy", np.random.default_rng(i).normal(size=shape).astype(np.float32))
        for count in (1, *counts):
            (path / "list.txt").write_text("".join(f"{i % 16}.npy\n" for i in range(count)))
            words = ["--dataset", str(path / "list.txt"), "--threads", "1"]
            calibrate = ["step1", str(path / "model.onnx"), "-o", str(path / "build"), "--weights-repair", "none"]
            found["step1"].append((count, *_cost([*HYBRIDQ, *calibrate, *words])))
            _cost([*HYBRIDQ, "step2", str(path / "build")])
            found["step3"].append((count, *_cost([*HYBRIDQ, "step3", str(path / "build"), *words, "--seconds", "0"])))
    return {step: [(n, s - rows[0][1], m) for n, s, m in rows[1:]] for step, rows in found.items()}


def over_weights(megabytes: list[int]) -> dict[str, list[tuple[int, float, float]]]:
    """By step: megabytes of weights, CPU seconds and megabytes of memory, of products of 4096 x 4096."""
    found: dict[str, list[tuple[int, float, float]]] = {step: [] for step in STEPS}
    for size in megabytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            onnx.save(_products(size * 1_000_000 // (WIDTH * WIDTH * 4)), path / "model.onnx")
            np.save(path / "sample.npy", np.random.default_rng(1).random((1, WIDTH)).astype(np.float32))
            (path / "list.txt").write_text("sample.npy\n")
            calibrate = [str(path / "model.onnx"), "--dataset", str(path / "list.txt"), "-o", str(path / "build")]
            given = {"step1": calibrate, "step2": [str(path / "build")], "step3": [str(path / "build")]}
            for step in STEPS:
                found[step].append((size, *_cost([*HYBRIDQ, step, *given[step], "--threads", "1"])))
    return found


def _products(layers: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((rng.random((WIDTH, WIDTH), np.float32) - 0.5) / 32, f"w{i}") for i in range(layers)
    ]
    nodes = [helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"], f"mm{i}") for i in range(layers)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, WIDTH)) for n in ("t0", f"t{layers}")]
    graph = helper.make_graph(nodes, "products", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def over_layers(sizes: list[int]) -> dict[str, list[tuple[int, float, float]]]:
    """By step: layers of a chain, CPU seconds without start-up."""
    start_up = measure("chain", 3)
    rows = {n: measure("chain", n) for n in sizes}
    return {step: [(n, max(rows[n][i] - start_up[i], 0.0), 0.0) for n in sizes] for i, step in enumerate(COLUMNS)}


def _table(title: str, found: dict[str, list[tuple[int, float, float]]]) -> None:
    print(f"{title:>10} " + " ".join(f"{step + ' s':>9} {'MB':>6}" for step in found))
    for rows in zip(*found.values(), strict=True):
        print(f"{rows[0][0]:10d} " + " ".join(f"{s:9.2f} {m:6.0f}" for _, s, m in rows), flush=True)


def _plot(panels: list[tuple[str, str, dict[str, list[tuple[float, float]]]]]) -> str:
    """Panels two by two: title, unit, points by name; both axes are logarithmic, a dashed line is linear growth."""
    colours, wide, high, gap = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd"), 260, 200, 70
    parts = []
    for p, (title, unit, lines) in enumerate(panels):
        points = [point for line in lines.values() for point in line]
        (x0, x1), (y0, y1) = (
            (math.log10(min(v)), math.log10(max(v))) for v in ([x for x, _ in points], [y for _, y in points])
        )
        y0, y1, left = y0 - 0.1, max(y1, y0 + 1) + 0.1, 50 + p % 2 * (wide + gap)
        top = 30 + p // 2 * (high + gap)

        def at(x: float, y: float, ends: tuple[float, ...] = (x0, x1, y0, y1, left, top)) -> str:
            a, b, c, d, start, above = ends
            along, up = (math.log10(x) - a) / (b - a or 1), (math.log10(y) - c) / (d - c)
            return f"{start + wide * along:.1f},{above + high * (1 - up):.1f}"

        parts.append(f'<text x="{left}" y="{top - 12}" font-weight="bold">{title}, {unit}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#999"/>')
        for i, (name, line) in enumerate(lines.items()):
            path, colour = " ".join(at(x, y) for x, y in line), colours[i % len(colours)]
            first, last = line[0], line[-1]
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            straight = f"{at(*first)} {at(last[0], min(first[1] * last[0] / first[0], 10**y1))}"
            parts.append(f'<polyline points="{straight}" fill="none" stroke="{colour}" stroke-dasharray="3 4"/>')
            x, y = at(*last).split(",")
            parts.append(f'<text x="{x}" y="{float(y) - 5}" text-anchor="end" fill="{colour}">{name}</text>')
        for x in sorted({x for x, _ in points}):
            place = at(x, 10**y0).split(",")[0]
            parts.append(f'<text x="{place}" y="{top + high + 16}" text-anchor="middle">{x:g}</text>')
        steps = [
            k * 10.0**e for e in range(math.floor(y0), math.ceil(y1)) for k in ((1,) if y1 - y0 > 2 else (1, 2, 5))
        ]
        for y in (one for one in steps if 10**y0 <= one <= 10**y1):
            place = at(10**x0, y).split(",")[1]
            parts.append(f'<text x="{left - 6}" y="{float(place) + 4}" text-anchor="end">{y:g}</text>')
    size = f'width="{2 * (wide + gap) + 40}" height="{math.ceil(len(panels) / 2) * (high + gap)}"'
    style = 'font-family="sans-serif" font-size="11" fill="#444"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><g {style}>{"".join(parts)}</g></svg>\n'


def picture(path: Path) -> None:
    """Measure everything, print it, and draw it."""
    layers, samples, memory = over_layers([100, 400, 1000]), over_samples(SAMPLES), over_weights(WEIGHTS)
    for title, found in (("layers", layers), ("samples", samples), ("MB weights", memory)):
        _table(title, found)
    least = 0.01  # of a second: less is not told from the start-up

    def lines(found: dict[str, list[tuple[int, float, float]]], place: int) -> dict[str, list[tuple[float, float]]]:
        return {step: [(float(row[0]), max(float(row[place]), least)) for row in rows] for step, rows in found.items()}

    panels = [
        ("layers", "CPU s", lines(layers, 1)),
        ("samples", "CPU s", lines(samples, 1)),
        ("samples", "MB of memory", lines(samples, 2)),
        ("MB of weights", "MB of memory", lines(memory, 2)),
    ]
    path.write_text(_plot(panels), encoding="utf-8")


def main(sizes: list[int]) -> None:
    """Print a table of both kinds."""
    print(f"{'':8} {'layers':>6} " + " ".join(f"{step:>7}" for step in COLUMNS) + f" {'together':>9} {'growth':>7}")
    for kind in ("chain", "ladder"):
        start_up, last = measure(kind, 3), 0.0
        for i, layers in enumerate(sizes):
            steps = [max(0.0, took - start) for took, start in zip(measure(kind, layers), start_up, strict=True)]
            growth = f"{sum(steps) / last / layers * sizes[i - 1]:7.2f}" if i else ""
            columns = " ".join(f"{took:7.2f}" for took in steps)
            print(f"{kind:8} {layers:6d} {columns} {sum(steps):9.2f} {growth}", flush=True)
            last = sum(steps)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--samples"]:
        _table("samples", over_samples(SAMPLES))
    elif sys.argv[1:2] == ["--memory"]:
        _table("MB weights", over_weights(WEIGHTS))
    elif sys.argv[1:2] == ["--plot"]:
        picture(Path(sys.argv[2]))
    else:
        main([int(word) for word in sys.argv[1:]] or SIZES)

"""How the three steps and the search's plan grow with the number of layers: CPU seconds, start-up subtracted.

    python bench/scaling.py [LAYERS ...]        by default 100 200 400 1000 2000

The plan of a search is what it does without running a model: what may be raised, what noise each quantizer adds, and
the best sets for every price and for 15 % of the multiply-accumulates, on made-up damages. A chain is convolutions in a
row; a ladder has an Add across every two of them, so that tensors have several readers. Twice the layers should take
twice the time: the last column is the time of each size over that of the one before it, by the number of layers.
Start-up is what a model of three layers takes.
"""

from __future__ import annotations

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
from hybridq.search.knapsack import solve
from hybridq.search.noise import pairs, sources
from hybridq.steps.common import read_config, read_state

SIZES = [100, 200, 400, 1000, 2000]
STEPS = ("step1", "step2", "step3")
COLUMNS = (*STEPS, "plan")
HYBRIDQ = [sys.executable, "-c", "from hybridq.cli import main; main()"]
SHAPE = (1, 4, 4, 4)  # small maps: what is timed is the work on graphs


def model(kind: str, layers: int) -> onnx.ModelProto:
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
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("x", name)]
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
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
    main([int(word) for word in sys.argv[1:]] or SIZES)

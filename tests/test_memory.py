"""How much memory the three steps take of a model's weights: what is theirs alone, of all processes of a command.

Weights lie in a sparse file that the test makes. ``HYBRIDQ_GIGABYTES=1.5,2.5`` tries larger models, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

WIDTH = 4096
SIZES = [0.5, *(float(x) for x in os.environ.get("HYBRIDQ_GIGABYTES", "").split(",") if x)]
MEGABYTES = 1 << 20


def mlp(path: Path, layers: int) -> int:
    """Products with biases and Relus, 64 MB each, of which 32 rows hold numbers; returns the weights' bytes."""
    rng, size = np.random.default_rng(2), WIDTH * WIDTH * 4
    nodes, weights, x = [], [], "x"
    with path.with_suffix(".data").open("wb") as file:
        for i in range(layers):
            file.seek(i * size)
            file.write((rng.standard_normal((32, WIDTH)) * 0.25).astype(np.float32).tobytes())
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", path.with_suffix(".data").name), ("offset", i * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            bias = numpy_helper.from_array(rng.standard_normal(WIDTH).astype(np.float32), f"b{i}")
            weights += [tensor, bias]
            nodes += [
                helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [f"m{i}"]),
                helper.make_node("Relu", [f"m{i}"], [f"r{i}"]),
            ]
            x = f"r{i}"
        file.truncate(layers * size)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return layers * size


def own_memory(process: int) -> int:
    """Bytes that a process and its children have for themselves: mapped files may come and go."""
    total = 0
    for pid in [process, *_children(process)]:
        try:
            found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        except OSError:
            continue
        total += 1024 * int(found[1]) if found else 0
    return total


def _children(process: int) -> list[int]:
    try:
        return [int(x) for x in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def peak(folder: Path, *words: str) -> int:
    command = [sys.executable, "-c", "from hybridq.cli import main; main()", *words, "--threads", "1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        most = 0
        while process.poll() is None:
            most = max(most, own_memory(process.pid))
            time.sleep(0.005)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read().decode()
    return most


@pytest.mark.parametrize("gigabytes", SIZES)
def test_steps_hold_few_of_the_weights(tmp_path: Path, gigabytes: float) -> None:
    weights = mlp(tmp_path / "model.onnx", round(gigabytes * 1e9 / (WIDTH * WIDTH * 4)))
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((1, WIDTH)).astype(np.float32))
    (tmp_path / "list.txt").write_text("0.npy\n1.npy\n")
    most = {
        "step1": peak(tmp_path, "step1", "model.onnx", "--dataset", "list.txt", "-o", "build"),
        "step2": peak(tmp_path, "step2", "build"),
        "step3": peak(tmp_path, "step3", "build"),
    }
    print({step: f"{size / weights:.2f} times the weights" for step, size in most.items()})
    assert max(most["step1"], most["step3"]) < 2.5 * weights
    assert most["step2"] < 1.5 * weights + 200 * MEGABYTES

"""Hand step4's files to the real tools: ``run.py MODEL.onnx DATASET.txt [FOLDER]`` (see README.md beside this file)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import hybridq
from hybridq.dataset import input_specs, open_dataset
from hybridq.steps.common import read_state

HERE = Path(__file__).resolve().parent
AIMET = ("aimet-0.6.1", "aimet-1.0.0", "aimet-2.0.0")
SAMPLES = 8


def exported(model: Path, dataset: Path, folder: Path, target: str, formats: tuple[str, ...]) -> dict[str, Path]:
    """The model calibrated for a target, and where each format went."""
    build = folder / target
    hybridq.step1(model, dataset, build, target=target, force=True)
    return {name: hybridq.step4(build, name).path for name in formats}


def tool(variable: str, script: Path, *words: object) -> bool:
    """Run a script in a tool's environment; a tool without one is left out. Returns whether nothing failed."""
    python = os.environ.get(variable)
    if not python:
        print(f"left out: {script.name}, ${variable} names no Python")
        return True
    done = subprocess.run([python, script, *map(str, words)], check=False)
    print(f"{script.name}: {'passed' if done.returncode == 0 else f'exit code {done.returncode}'}")
    return done.returncode == 0


def main(model: Path, dataset: Path, folder: Path) -> bool:
    """Every tool, one after the other."""
    plain = exported(model, dataset, folder, "openvino", ("openvino", "ort-overrides", "onnx-float", *AIMET))
    rknn2 = exported(model, dataset, folder, "rknn2", ("rknn2",))
    specs = input_specs(read_state(folder / "openvino").model)
    feeds = [s.feed[specs[0].name] for s in open_dataset(dataset, specs, None, SAMPLES).part(0, SAMPLES)]
    samples = folder / "samples.npz"
    np.savez(samples, **{f"{i:04d}": feed for i, feed in enumerate(feeds)})
    os.environ.setdefault("HYBRIDQ_ONNXRUNTIME", sys.executable)
    float_model, out = plain["onnx-float"], folder / "out.npz"
    passed = [
        tool("HYBRIDQ_OPENVINO", HERE / "openvino_runs.py", plain["openvino"] / f"{model.stem}.onnx", samples, out),
        tool("HYBRIDQ_AIMET", HERE / "aimet_loads.py", float_model, samples, out, *(plain[name] for name in AIMET)),
        tool(
            "HYBRIDQ_ONNXRUNTIME",
            HERE / "overrides_taken.py",
            float_model,
            plain["ort-overrides"],
            samples,
            folder / "quantized.onnx",
        ),
        tool("HYBRIDQ_RKNN2", rknn2["rknn2"] / "convert.py", "--no-analysis"),
    ]
    return all(passed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        place = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(made)
        raise SystemExit(not main(Path(sys.argv[1]), Path(sys.argv[2]), place))

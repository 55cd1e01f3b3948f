"""Ranges of RKNN-Toolkit2's own step 1 and of ours by ``normal``, on the same samples: are they equal?

    same_ranges.py MODEL DATASET FOLDER [--exported]

FOLDER keeps the toolkit's cfg (``toolkit/``) and our build (``build/``); what is there already is not made again.
``HYBRIDQ_RKNN2`` names the Python of the toolkit's environment. Prints every tensor of both whose ranges differ by more
than a hundred thousandth of their width, and how many agree. ``--exported``: the toolkit cannot load MODEL and gets
what ``step4`` writes with every layer in float.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

import hybridq
from hybridq.steps.common import read_state
from hybridq.storage.state import State

HERE = Path(__file__).resolve().parent
NEAR = 1e-5  # of a range's width
WORDS: dict[str, Any] = {"target": "rknn2", "algorithm": "normal", "weights_repair": "none", "threads": 1}
QUANTIZED = "_int8"  # what the toolkit calls the quantized form of a model's input or output


def theirs(model: Path, dataset: Path, folder: Path) -> dict[str, Any]:
    """The entries of the toolkit's cfg."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.quantization.cfg")):
        script = [os.environ["HYBRIDQ_RKNN2"], str(HERE / "rknn2_edited.py"), "step1"]
        subprocess.run([*script, str(model), str(dataset), str(folder)], check=True)
    text = min(folder.glob("*.quantization.cfg")).read_text(encoding="utf-8")
    return {str(k): v for k, v in YAML(typ="safe").load(text)["quantize_parameters"].items()}


def exported(model: Path, dataset: Path, folder: Path) -> Path:
    """The model as step4 writes it for the toolkit, its weights as given."""
    build, out = folder / "float", folder / "export"
    if not out.exists():
        hybridq.step1(model, dataset, build, **WORDS)
        hybridq.set(build, "*", "float16")
        hybridq.step4(build, "rknn2", out)
    return out / "model.onnx"


def ours(model: Path, dataset: Path, build: Path) -> State:
    """Our step 1 for the same toolkit."""
    if not build.exists():
        hybridq.step1(model, dataset, build, **WORDS)
    return read_state(build)


def pairs(entries: dict[str, Any], state: State) -> Iterator[tuple[str, list[float], list[float]]]:
    """Every tensor that both know by name, with the range of either."""
    for name, entry in entries.items():
        group = state.model.group_of.get(name)
        found = entry if entry["scale"] else entries.get(name + QUANTIZED, entry)
        if group is not None and found.get("min"):
            own = state.calibrated.entries[group.name]
            yield name, [found["min"][0], found["max"][0]], [own.min, own.max]


def agree(one: list[float], other: list[float]) -> bool:
    """Whether both ends of two ranges are as good as equal."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= NEAR * max(one[1] - one[0], 1e-9)


def main(model: Path, dataset: Path, folder: Path, *flags: str) -> bool:
    """Compare; whether all agree."""
    state = ours(model, dataset, folder / "build")
    loaded = exported(model, dataset, folder) if "--exported" in flags else model
    found = list(pairs(theirs(loaded, dataset, folder / "toolkit"), state))
    apart = [row for row in found if not agree(row[1], row[2])]
    for name, toolkits, own in apart:
        sys.stdout.write(f"  {name}: toolkit {toolkits}, here {own}\n")
    sys.stdout.write(f"{model.stem}: {len(found) - len(apart)} of {len(found)} shared tensors agree\n")
    return not apart


if __name__ == "__main__":
    raise SystemExit(not main(*map(Path, sys.argv[1:4]), *sys.argv[4:]))

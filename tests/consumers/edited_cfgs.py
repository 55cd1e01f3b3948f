"""A cfg of RKNN-Toolkit2's, edited as a person does: taken in here, and built by the toolkit; do the results agree?

    edited_cfgs.py MODEL DATASET EDITS [FOLDER] [--exported] [--algorithm normal] [--samples 6]

``EDITS`` has a line an edit, as it stands in the cfg: ``NAME: int16`` for ``custom_quantize_layers``, ``NAME: LOW
HIGH`` for min and max; ``anew`` has a YAML library write the whole file again. ``HYBRIDQ_RKNN2`` names the Python of
the toolkit's environment. Prints what the import said, which edits came in, and for every output how the errors of the
toolkit and ours against float32 correlate.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from ruamel.yaml import YAML

import hybridq
from hybridq.dataset import input_specs, open_dataset
from hybridq.steps.common import read_state

HERE = Path(__file__).resolve().parent
LAYERS = "custom_quantize_layers"


def edited(text: str, edits: list[str]) -> str:
    """The cfg with the edits written into it, as in an editor."""
    rows = [e for e in edits if re.fullmatch(r"\S+: [a-z]+\d+", e)]
    text = text.replace(f"{LAYERS}: {{}}\n", f"{LAYERS}:\n" + "".join(f"    {row}\n" for row in rows), 1)
    for edit in edits:
        if given := re.fullmatch(r"(\S+): (\S+) (\S+)", edit):
            for end, value in (("min", given[2]), ("max", given[3])):
                place = rf"(?s)(\n    {re.escape(given[1])}:\n.*?\n        {end}:[^\n]*\n        -   )\S+"
                text, count = re.subn(place, rf"\g<1>{value}", text, count=1)
                if not count:
                    raise SystemExit(f"the cfg has no {given[1]}")
    return anew(text) if "anew" in edits else text


def anew(text: str) -> str:
    """The same, printed by a YAML library: other layout, one anchor for equal lists."""
    yaml, out = YAML(typ="safe", pure=True), io.StringIO()
    yaml.dump(yaml.load(text), out)
    return out.getvalue()


def outputs(model: Path, feeds: list[dict[str, Any]]) -> list[list[np.ndarray]]:
    """What ONNX Runtime computes of every sample, without optimizing."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, feed) for feed in feeds]


def main() -> None:
    """Both ways, compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("edits", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("edited"))
    parser.add_argument(
        "--exported", action="store_true", help="the toolkit cannot load MODEL: give it what step4 writes"
    )
    parser.add_argument("--algorithm", default="normal", help="the toolkit's quantized_algorithm")
    parser.add_argument("--samples", type=int, default=6)
    given = parser.parse_args()
    folder, build = given.folder, given.folder / "build"
    folder.mkdir(parents=True, exist_ok=True)
    words = {"target": "rknn2", "algorithm": "normal", "weights_repair": "none", "threads": 1}
    hybridq.step1(given.model, given.dataset, build, **words, force=True)
    loaded = (
        hybridq.step4(build, "rknn2", folder / "export", force=True).path / "model.onnx"
        if given.exported
        else given.model
    )
    rknn = [os.environ["HYBRIDQ_RKNN2"], str(HERE / "rknn2_edited.py")]
    theirs, cfg = folder / f"{loaded.stem}.quantization.cfg", folder / "edited.cfg"
    if not theirs.exists():
        subprocess.run([*rknn, "step1", loaded, given.dataset, folder, given.algorithm], check=True)
    cfg.write_text(edited(theirs.read_text(encoding="utf-8"), given.edits.read_text(encoding="utf-8").splitlines()))
    _, problems = hybridq.import_cfg(build, cfg)
    for p in problems:
        if p.severity == "warning" or "made this tensor itself" not in p.message:
            sys.stdout.write(f"  {p.severity}, line {p.line}: {p.message}\n")
    for e in hybridq.diff(build):
        sys.stdout.write(f"  {e.key} {e.field}: {e.before} -> {e.after}\n")
    built = hybridq.step2(build, threads=1).path
    specs = input_specs(read_state(build).model)
    feeds = [s.feed for s in open_dataset(given.dataset, specs, None, given.samples).part(0, given.samples)]
    np.savez(folder / "samples.npz", **{f"{i:04d}": f[specs[0].name] for i, f in enumerate(feeds)})
    names = [f"{loaded.stem}", cfg, folder / "samples.npz", folder / "out.npz", given.algorithm]
    subprocess.run([*rknn, "step2", folder, *names], check=True)
    told(outputs(given.model, feeds), outputs(built, feeds), np.load(folder / "out.npz"))


def told(exact: list[Any], ours: list[Any], theirs: Any) -> None:
    """How the errors correlate, output by output."""
    for index in range(len(exact[0])):
        mine = np.concatenate([(b[index] - a[index]).ravel() for a, b in zip(exact, ours, strict=True)])
        toolkits = np.concatenate(
            [(theirs[f"{index}|{n:04d}"].reshape(a[index].shape) - a[index]).ravel() for n, a in enumerate(exact)]
        )
        sys.stdout.write(
            f"output {index}: correlation {np.corrcoef(mine, toolkits)[0, 1]:.3f}, "
            f"error toolkit {toolkits.std():.4g}, here {mine.std():.4g}, equal {np.mean(mine == toolkits):.3f}\n"
        )


if __name__ == "__main__":
    main()

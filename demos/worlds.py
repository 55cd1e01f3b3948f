"""The folders that pages of the documentation work in: a model, its samples, a score. Nothing is downloaded.

    python demos/worlds.py NAME [FOLDER]     # FOLDER: NAME where it is not given

| name | what |
|---|---|
| detector | the demo's detector of digits with its pictures: boxes in pixels and scores in one tensor |
| dynamic | the same up to its head, with height and width left open |
| keypad | a recurrent model that hears a telephone's keys: `.npy` samples, two inputs |
| tokens | a small transformer over tokens, twelve topics |
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from hybridq import demo

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
SCORE = """from hybridq import demo


def ap50(outputs):
    return demo.score(outputs)["ap50"]
"""
HEAD = "/head/Conv_output_0"  # what the detector's decode reads


def detector(folder: Path) -> None:
    """``detector.onnx``, ``calibration.txt``, ``evaluation.txt``, ``score.py``."""
    demo.write_dataset(folder)
    shutil.copyfile(demo.model_path(), folder / "detector.onnx")
    (folder / "score.py").write_text(SCORE, encoding="utf-8")


def dynamic(folder: Path) -> None:
    """``dynamic.onnx``, whose height and width are open, and the detector's pictures."""
    demo.write_dataset(folder)
    given = onnx.load(demo.model_path())
    body = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(given)).extract_model(["image"], [HEAD])
    for value, names in ((body.graph.input[0], ("height", "width")), (body.graph.output[0], ("rows", "columns"))):
        for dimension, name in zip(value.type.tensor_type.shape.dim[2:], names, strict=True):
            dimension.dim_param = name
    del body.graph.value_info[:]
    onnx.save(body, folder / "dynamic.onnx")


def keypad(folder: Path) -> None:
    """``keypad.onnx``, its script, ``calibration.txt`` and ``evaluation.txt`` as recorded, ``without_states.txt``."""
    sys.path.insert(0, str(HERE))
    from keypad import STATE, calls, record

    for name in ("keypad.onnx", "keypad.py"):
        shutil.copyfile((MODELS if name.endswith("onnx") else HERE) / name, folder / name)
    session = onnxruntime.InferenceSession(folder / "keypad.onnx")
    listed = record(session, calls(12, seed=1)[0], folder, "calibration").read_text(encoding="utf-8")
    record(session, calls(12, seed=3)[0], folder, "evaluation")
    np.save(folder / "zero.npy", np.zeros((1, STATE), np.float32))
    without = "".join(f"{line.split()[0]} zero.npy\n" for line in listed.splitlines())
    (folder / "without_states.txt").write_text(without, encoding="utf-8")


def tokens(folder: Path) -> None:
    """``tokens.onnx``, ``calibration.npz``, ``evaluation.npz``, ``labels.txt``."""
    sys.path.insert(0, str(HERE.parent / "bench"))
    from kinds_data import tokens as made

    shutil.copyfile(MODELS / "tokens.onnx", folder / "tokens.onnx")
    for name, seed, count in (("calibration", 1, 48), ("evaluation", 2, 200)):
        batch = made(np.random.default_rng([0, seed]), count)
        np.savez_compressed(folder / f"{name}.npz", ids=batch.x)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in batch.truth["label"]), encoding="utf-8")


WORLDS: dict[str, Callable[[Path], None]] = {
    "detector": detector,
    "dynamic": dynamic,
    "keypad": keypad,
    "tokens": tokens,
}


def main(words: list[str]) -> int:
    """Make one folder; 2 where the name is none."""
    if not 1 <= len(words) <= 2 or words[0] not in WORLDS:
        print(__doc__)
        return 2
    folder = Path(words[-1])
    folder.mkdir(parents=True, exist_ok=True)
    WORLDS[words[0]](folder)
    print(*sorted(p.name for p in folder.iterdir()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

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
    """``keypad.onnx``, its script, and whole calls: ``calibration.txt``, ``evaluation.txt``; ``without_states.txt``."""
    sys.path.insert(0, str(HERE))
    from keypad import FRAMES, STATE, calls, write

    for name in ("keypad.onnx", "keypad.py"):
        shutil.copyfile((MODELS if name.endswith("onnx") else HERE) / name, folder / name)
    heard = calls(12, seed=1)[0]
    write(heard, folder, "calibration")
    write(calls(12, seed=3)[0], folder, "evaluation")
    np.save(folder / "zero.npy", np.zeros((1, STATE), np.float32))
    (folder / "frames").mkdir(exist_ok=True)
    names = [(n, at, f"frames/{n:02}-{at:02}.npy") for n in range(len(heard)) for at in range(3, FRAMES, 7)]
    for number, at, name in names:
        np.save(folder / name, heard[number, at][None])
    (folder / "without_states.txt").write_text("".join(f"{n} zero.npy\n" for *_, n in names), encoding="utf-8")


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

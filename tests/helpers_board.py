"""Folders of captured tensors in every form, made of what RKNN-Toolkit2's simulator computed (``rknn2/*.npz``)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rknn2.make import HERE

FILES = Path(__file__).resolve().parent / "board"  # what its accuracy_analysis wrote beside those tensors

Tensors = Mapping[str, np.ndarray]
Write = Callable[[Path, Tensors], Path]


def toolkits(choice: str) -> dict[str, np.ndarray]:
    """The simulator's tensors for the first sample, by its names."""
    with np.load(HERE / f"{choice}.npz") as held:
        return {name.replace("|", "/"): held[name].astype(np.float32) for name in held.files}


def sample(number: int = 0) -> np.ndarray:
    """What entered."""
    with np.load(HERE / "samples.npz") as held:
        return np.asarray(held[f"s{number}"])


def snapshot(folder: Path, tensors: Tensors, choice: str = "mixed", *, place: str = "simulator") -> Path:
    """RKNN-Toolkit2's: the files that it wrote, its tensors as arrays."""
    for kind in (place, "golden"):
        (folder / kind / "npy").mkdir(parents=True)
    shutil.copy(FILES / f"{choice}_error_analysis.txt", folder / "error_analysis.txt")
    rows = [f"{name:<35}{name + '.txt':<35}\n" for name in tensors]
    head = f"{'layer_name':<35}{'file_name':<35}\n{'-' * 70}\n"
    (folder / "map_name_to_file.txt").write_text(head + "".join(rows))
    np.save(folder / "golden" / "npy" / "x.npy", sample())
    for name, values in tensors.items():
        np.save(folder / place / "npy" / f"{name}.npy", values)
    return folder


def last(values: np.ndarray) -> np.ndarray:
    """Channels last."""
    return np.moveaxis(values, 1, -1) if values.ndim == 4 else values


def rknn1(folder: Path, tensors: Tensors, ending: str = ".tensor") -> Path:
    """RKNN-Toolkit 1's ``qnt_npu_dump``: nodes with a number, channels last, the shape in the name."""
    place = folder / "qnt_npu_dump"
    place.mkdir(parents=True)
    for number, (name, values) in enumerate(tensors.items()):
        shape = "_".join(map(str, last(values).shape))
        path = place / f"{name}_{number}_out0_nhwc_{shape}{ending}"
        if ending == ".npy":
            np.save(path, last(values))
        else:
            np.savetxt(path, last(values).reshape(-1), "%.9g")
    return folder


def qnn(folder: Path, tensors: Tensors) -> Path:
    """SNPE's and QNN's: raw float32, channels last, no shape."""
    place = folder / "output" / "Result_0"
    place.mkdir(parents=True)
    for name, values in tensors.items():
        (place / f"{name}.raw").write_bytes(np.ascontiguousarray(last(values)).astype("<f4").tobytes())
    return folder


def named(folder: Path, tensors: Tensors) -> Path:
    """Arrays under the tensors' names."""
    folder.mkdir(parents=True)
    for name, values in tensors.items():
        np.save(folder / f"{name}.npy", values)
    return folder


def texts(folder: Path, tensors: Tensors) -> Path:
    """Text under the tensors' names."""
    folder.mkdir(parents=True)
    for name, values in tensors.items():
        np.savetxt(folder / f"{name}.txt", values.reshape(-1), "%.9g")
    return folder


WRITERS: dict[str, Write] = {
    "rknn2": snapshot,
    "rknn1": rknn1,
    "rknn1-npy": lambda folder, tensors: rknn1(folder, tensors, ".npy"),
    "qnn": qnn,
    "npy": named,
    "txt": texts,
}

"""Every tenth model of onnx's own backend suite that ONNX Runtime runs gets through step 1 and step 2."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import hybridq
from hybridq.errors import HybridqError
from hybridq.graph import runtime

Array = NDArray[Any]
EVERY = 10
EXACT = 100.0  # dB
FLOOR = {"uint8": 20.0, "int16": 45.0}  # dB
LOW = 2  # of these few cases are built on ties
REFUSED = ("quantized already",)  # with good reason, though its ends are plain
FOREIGN = ("Assertion", ".cc:", "ShapeInferenceError", "NOT_IMPLEMENTED", "ONNXRuntimeError")


def cases() -> Iterator[tuple[str, onnx.ModelProto, list[Any]]]:
    """Name, model and inputs; what the generator warns of is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)[::EVERY]
    for case in found:
        values = [numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in case.data_sets[0][0]]
        yield case.name, case.model, values


def own(feed: dict[str, Array]) -> dict[str, Array]:
    """A copy: BatchNormalization in training mode writes its running mean and variance into what it is fed."""
    return {name: values.copy() for name, values in feed.items()}


def is_plain(values: list[Any]) -> bool:
    """Arrays of finite floats, integers or booleans: what a person can feed and compare."""
    arrays = all(isinstance(v, np.ndarray) and v.dtype.kind in "fiub" for v in values)
    return arrays and not any(np.isnan(v).any() for v in values if v.dtype.kind == "f")


def outcome(model: onnx.ModelProto, feed: dict[str, Array], wanted: list[Any], dtype: str, folder: Path) -> str:
    """``""`` where all is well, ``low``, or what is wrong."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    try:
        hybridq.step1(path, [own(feed)], folder / "b", dtype=dtype, threads=1, force=True)
        hybridq.step2(folder / "b", threads=1)
    except HybridqError as error:
        if any(word in str(error) for word in REFUSED):
            return ""
        foreign = any(word in str(error) for word in FOREIGN)
        return f"refused: {error}" if is_plain([*feed.values(), *wanted]) or foreign else ""
    found = runtime.run(runtime.session(folder / "b/hybrid.onnx", threads=1), own(feed))
    signal = noise = 0.0
    for a, b in zip(wanted, found, strict=True):
        if not isinstance(a, np.ndarray):
            continue  # a sequence or an optional
        if a.dtype.kind != "f":
            if not np.array_equal(a, b):
                return "other integers"
            continue
        good = np.isfinite(a)
        if a.shape != b.shape or not np.array_equal(good, np.isfinite(b)):
            return "another shape, or other infinities"
        signal += float((a[good].astype(np.float64) ** 2).sum())
        noise += float(((a[good].astype(np.float64) - b[good]) ** 2).sum())
    quality = 10 * np.log10(max(signal, 1e-30) / noise) if noise else np.inf
    if dtype == "float32":
        return "" if quality >= EXACT else f"{quality:.1f} dB"
    return "" if quality >= FLOOR[dtype] else "low"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", *FLOOR])
def test_every_tenth_model_gets_through(tmp_path: Path, dtype: str) -> None:
    wrong, low = {}, []
    for name, model, values in cases():
        try:
            one = runtime.session(model, threads=1)
            given = dict(zip([i.name for i in model.graph.input], values, strict=False))
            feed = {i.name: given[i.name] for i in one.get_inputs()}
            wanted = runtime.run(one, own(feed))
        except (HybridqError, KeyError):
            continue  # ONNX Runtime itself does not run it
        folder = tmp_path / name
        folder.mkdir()
        found = outcome(model, feed, wanted, dtype, folder)
        if found == "low":
            low.append(name)
        elif found:
            wrong[name] = found
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())
    assert len(low) <= LOW

"""Figures in ``report.json`` against plain NumPy over ONNX Runtime's own outputs, with no code of the comparison's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from broken_models import DETECTORS, pictures

import hybridq
from hybridq.steps.common import read_state
from hybridq.storage.state import assemble

FEEDS = pictures(6)


def _inner(proto: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """A session that also gives inner tensors."""
    held = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in held)
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def _figures(pairs: list[tuple[Any, Any]]) -> dict[str, float]:
    a, b = (np.concatenate([np.ravel(x[i]) for x in pairs]).astype(np.float64) for i in (0, 1))
    noise = a - b
    return {
        "sqnr_db": 10 * math.log10((a * a).sum() / (noise * noise).sum()) if noise.any() else math.inf,
        "cosine": float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum())),
        "mse": float((noise * noise).mean()),
        "normalized_euclidean": float(np.linalg.norm(noise) / np.linalg.norm(a)),
        "largest_error": float(np.abs(noise).max()),
    }


def _centered(pairs: list[tuple[Any, Any]]) -> float:
    a, b = (np.stack([x[i] for x in pairs]).astype(np.float64) for i in (0, 1))
    return float(10 * math.log10(np.square(a - a.mean(0)).sum() / np.square(a - b).sum()))


@pytest.mark.parametrize("name", ["scaled_after", "exp_by_mask"])
def test_every_figure_is_that_of_an_independent_computation(name: str, tmp_path: Path) -> None:
    model = DETECTORS[name].make(tmp_path / "model.onnx")
    hybridq.step1(model, FEEDS, tmp_path / "build", dtype="uint8", threads=1)
    hybridq.step2(tmp_path / "build", threads=1)
    hybridq.step3(tmp_path / "build", FEEDS, threads=1, seconds=0)
    told = json.loads((tmp_path / "build" / "report" / "report.json").read_text())
    state = read_state(tmp_path / "build")
    layers = [x["name"] for x in told["layers"]]
    outputs = [o["name"] for o in told["outputs"]]
    plain = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    hybrid = onnxruntime.InferenceSession(tmp_path / "build" / "hybrid.onnx", providers=["CPUExecutionProvider"])
    whole = [(plain.run(outputs, f), hybrid.run(outputs, f)) for f in FEEDS]
    built = onnx.load(tmp_path / "build" / "hybrid.onnx")
    inside = [_inner(proto, layers) for proto in (assemble(state.model.proto, state.weights), built)]
    deep = [tuple(s.run(layers, f) for s in inside) for f in FEEDS]
    checked = [(o["figures"], _figures([(a[i], b[i]) for a, b in whole])) for i, o in enumerate(told["outputs"])]
    checked += [(x["entire"], _figures([(a[i], b[i]) for a, b in deep])) for i, x in enumerate(told["layers"])]
    for i, output in enumerate(told["outputs"]):
        assert output["centered_sqnr_db"] == pytest.approx(_centered([(a[i], b[i]) for a, b in whole]), abs=1e-6)
    assert len(checked) > 8
    for found, truth in checked:
        for key, value in truth.items():
            assert found[key] == pytest.approx(value, rel=1e-6, abs=1e-6) or (found[key] is None and value == math.inf)

"""A second engine that nobody tuned for: OpenVINO computes what ``step2 --portable`` writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is absent (hybridq[openvino])"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MODELS = ["yunet_n", "fastestdet", "squeezenet"]
ENOUGH_DB = 30.0
CHAOS_DB = 6.0  # two engines that decide ties differently, against one engine at two levels
TIES = 0.001  # of all integers, when every layer reads the same values


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "bench" / "portable.py"
    spec = importlib.util.spec_from_file_location("portable", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        pytest.skip("bench/ is absent")
    module = importlib.util.module_from_spec(spec)
    sys.modules["portable"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MODELS)
def test_eight_bits(name: str, zoo: ModuleType, bench: ModuleType, tmp_path: Path) -> None:
    """Layer by layer nothing but ties differs.

    Over a whole network of 50 to 70 rounded layers they grow up to its quantization noise, in ONNX Runtime against
    itself too: where that stays under 30 dB, OpenVINO must agree about as well.
    """
    m = zoo.load(name)
    model, feeds = bench.portable_model(m, tmp_path), bench.evaluation(m, 3)
    share, worst = bench.layer_by_layer(model, feeds[0])
    assert share < TIES
    assert worst <= 1
    plain = bench.onnxruntime_runs(model, feeds)
    itself = bench.sqnr(plain, bench.onnxruntime_runs(model, feeds, "all"))
    assert bench.sqnr(plain, bench.openvino_runs(model, feeds)) >= min(ENOUGH_DB, itself - CHAOS_DB)


@pytest.mark.parametrize("precision", ["int16", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_sixteen_bits(name: str, precision: str, zoo: ModuleType, bench: ModuleType, tmp_path: Path) -> None:
    """Finer steps leave ties no weight: whole models agree."""
    m = zoo.load(name)
    model, feeds = bench.portable_model(m, tmp_path, precision), bench.evaluation(m, 2)
    plain = bench.onnxruntime_runs(model, feeds)
    assert bench.sqnr(plain, bench.openvino_runs(model, feeds)) >= ENOUGH_DB

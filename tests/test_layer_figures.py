"""Layers' figures are those of the tensors, whatever shapes these have."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import qdq_models
from onnx import TensorProto, helper
from test_compare import FLOAT, HYBRID, SAMPLES

from hybridq.compare import Inside, Runs, compare
from hybridq.compare.probes import expose
from hybridq.compare.results import LayerPair
from hybridq.graph import runtime


def _data_dependent() -> onnx.ModelProto:
    """Two axes whose sizes are open: the batch, and how many numbers are above zero."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["y"], "scale"),
        helper.make_node("Relu", ["y"], ["r"], "relu"),
        helper.make_node("NonZero", ["r"], ["places"], "places"),
        helper.make_node("Cast", ["places"], ["z"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["z", "two"], ["w"], "double"),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", ["n", 4]), ("w", None))]
    two = onnx.numpy_helper.from_array(np.float32(2), "two")
    graph = helper.make_graph(nodes, "open", values[:1], values[1:], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 3, 2)])
def test_layers_whose_shapes_change_from_sample_to_sample_are_measured(sizes: tuple[int, ...]) -> None:
    model, other = _data_dependent(), _data_dependent()
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32(2.5), "two"))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(n, 4)).astype(np.float32)} for n in sizes]
    pairs = [LayerPair(n, "Mul", "uint8", n, n, (read,)) for n, read in (("y", "x"), ("w", "z"))]
    found = compare(model, other, feeds, inside=Inside(pairs), runs=Runs(threads=1))
    for layer in found.layers:
        for figures in (layer.entire, layer.individual):
            assert figures is not None
            assert figures.normalized_euclidean == pytest.approx(0.25, rel=1e-6)
            assert figures.sqnr_db == pytest.approx(20 * math.log10(4), rel=1e-6)
    y = np.concatenate([2 * feed["x"] for feed in feeds]).astype(np.float64)
    assert found.layers[0].entire.mse == pytest.approx(float(np.square(0.25 * y).mean()), rel=1e-6)  # type: ignore[union-attr]


def test_layer_figures_are_those_of_the_tensors_in_float64() -> None:
    pairs = qdq_models.pairs()
    report = compare(FLOAT, HYBRID, SAMPLES, inside=Inside(pairs), runs=Runs(threads=1))
    names = [[p.float_tensor for p in pairs if p.float_tensor != "x"], [p.hybrid_tensor for p in pairs]]
    sessions = [runtime.session(expose(m, n), threads=1) for m, n in zip((FLOAT, HYBRID), names, strict=True)]
    runs = [[runtime.run(s, feed, n) for feed in SAMPLES] for s, n in zip(sessions, names, strict=True)]
    for i, layer in enumerate(x for x in report.layers if x.tensor != "x"):
        a, b = (np.stack([values[i] for values in run]).astype(np.float64) for run in runs)
        lost = float(np.square(a - b).sum())
        assert layer.entire.mse == pytest.approx(lost / a.size, rel=1e-6)
        assert layer.entire.sqnr_db == pytest.approx(10 * math.log10(float(np.square(a).sum()) / lost), rel=1e-6)
        cosine = float((a * b).sum()) / math.sqrt(float(np.square(a).sum()) * float(np.square(b).sum()))
        assert layer.entire.cosine == pytest.approx(cosine, rel=1e-6)
        assert layer.entire.largest_error == pytest.approx(float(np.abs(a - b).max()), rel=1e-6)
        assert layer.histogram.least == a.min()
        assert layer.histogram.largest == a.max()

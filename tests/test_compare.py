"""What a comparison reports must be what another way of measuring gives."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
import qdq_models
from helpers_compare import FLOAT, HYBRID, RANGES, SAMPLES, compared
from onnx import TensorProto, helper
from random_graphs import make_case, random_case, random_choices

from hybridq.compare import Inside, Outside, Runs, compare, layer_pairs, load_metric, probes
from hybridq.compare.layers import load_pieces, probe_layers
from hybridq.compare.outputs import concatenated
from hybridq.compare.probes import GraphIndex, cut_out, expose, stored_as
from hybridq.compare.results import LayerPair, Timing
from hybridq.compare.timing import unsteady
from hybridq.errors import DatasetError, HybridqError, ModelError
from hybridq.execution.progress import counted
from hybridq.graph import edit, runtime
from hybridq.quant.dtypes import Precision
from hybridq.quant.metrics import Parts


def test_a_model_is_identical_to_itself() -> None:
    report = compared(FLOAT, inside=Inside(qdq_models.pairs("float32")))
    assert all(output.figures.identical and output.worst.sqnr_db == math.inf for output in report.outputs)
    assert all(layer.entire.identical for layer in report.layers)
    assert all(layer.individual.sqnr_db > 120 for layer in report.layers)
    assert report.sizes.ratio == 1


def test_individual_is_the_entire_error_of_a_model_with_only_that_layer_quantized() -> None:
    report = compared(HYBRID, inside=Inside(qdq_models.pairs()))
    for layer in report.layers:
        alone = qdq_models.quantized(FLOAT, {layer.name: RANGES[layer.name]}, [f"{layer.name}.w"])
        expected = {x.name: x.entire for x in compared(alone, inside=Inside(qdq_models.pairs())).layers}[layer.name]
        assert layer.individual.sqnr_db == pytest.approx(expected.sqnr_db, abs=0.3), layer.name
        assert layer.individual.sqnr_db > layer.entire.sqnr_db - 0.3


def test_what_is_upstream_of_the_only_quantized_layer_is_untouched() -> None:
    hybrid = qdq_models.quantized(FLOAT, {"body": RANGES["body"]}, ["body.w"])
    layers = {x.name: x for x in compared(hybrid, inside=Inside(qdq_models.pairs())).layers}
    assert layers["stem"].entire.sqnr_db > 120
    assert 20 < layers["body"].entire.sqnr_db < 60
    assert layers["box"].individual.sqnr_db > 120


def test_scores_lost_in_a_shared_tensor_show_in_the_worst_slice() -> None:
    out = compared(HYBRID).outputs[0]
    assert (out.name, out.dtype, out.shape) == ("out", "float32", (1, 6, 8, 8))
    assert out.figures.sqnr_db > 30
    assert (out.worst.axis, out.worst.start) == (1, 4)
    assert out.worst.sqnr_db < 1
    assert [(s.start, s.stop) for s in out.slices[:2]] == [(0, 4), (4, 6)]


def test_chunks_change_nothing() -> None:
    pairs = qdq_models.pairs()
    found = []
    for limit in (1, 1 << 30):
        probe = probe_layers(FLOAT, HYBRID, pairs, RANGES, threads=1, chunk_bytes=limit)
        sums = probe.nothing()
        probe.add([(sample, sample) for sample in SAMPLES], sums)
        found.append((len(probe.chunks), sums.reports(), sums.drift.seen))
    assert [n for n, *_ in found] == [5, 1]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one.entire == other.entire
        assert one.individual.sqnr_db == pytest.approx(other.individual.sqnr_db, abs=0.1)
    assert found[0][2] == found[1][2]


def test_samples_are_read_once_and_layers_on_as_many_as_asked() -> None:
    done: list[tuple[str, int, int | None]] = []

    def tell(*said: Any) -> None:
        done.append(said)

    report = compare(
        FLOAT, HYBRID, counted(SAMPLES, "comparing", 4, tell), inside=Inside(qdq_models.pairs(), samples=2)
    )
    assert (report.samples, report.layer_samples) == (4, 2)
    assert done == [("comparing", n, 4) for n in (1, 2, 3, 4)]


def test_files_are_compared_and_timed(tmp_path: Path) -> None:
    paths = tmp_path / "float.onnx", tmp_path / "hybrid.onnx"
    for path, model in zip(paths, (FLOAT, HYBRID), strict=True):
        onnx.save(model, path)
    report = compare(*paths, SAMPLES, outside=Outside(seconds=0.05), runs=Runs(threads=1))
    assert report.sizes.hybrid_bytes == paths[1].stat().st_size
    timing = report.timing
    assert timing is not None
    assert timing.pairs >= 7
    assert 0 < timing.low <= timing.speedup <= timing.high
    assert min(timing.float_ms, timing.hybrid_ms) > 0


def test_a_layer_that_cannot_be_measured_says_why() -> None:
    pairs = [
        LayerPair("a", "Conv", "uint8", "nowhere", "body", ("stem",)),
        LayerPair("b", "Conv", "uint8", "body", "nowhere", ("stem",)),
        LayerPair("c", "Conv", "uint8", "body", "body", ("elsewhere",)),
    ]
    a, b, c = compared(HYBRID, inside=Inside(pairs)).layers
    assert (a.entire, a.note) == (None, "the float model has no tensor 'nowhere'")
    assert (b.entire, b.note) == (None, "the hybrid model has no tensor 'nowhere'")
    assert c.entire is not None
    assert c.individual is None
    assert c.note == "not measured alone: reads 'x', which is not among its inputs"


def test_a_piece_begins_at_the_unquantized_input_and_ends_at_the_restored_output() -> None:
    pair = {p.name: p for p in qdq_models.pairs()}["stem"]
    piece = cut_out(GraphIndex(HYBRID), pair)
    assert [n.op_type for n in piece.nodes] == [
        "DequantizeLinear", "Conv", "Relu", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    assert piece.rename == {"x/dequantized": "x"}
    stored = LayerPair("x", "Input", "uint8", "x", "x/dequantized", ("x",))
    assert [n.op_type for n in cut_out(GraphIndex(HYBRID), stored).nodes] == ["QuantizeLinear", "DequantizeLinear"]


def test_padded_input_channels_are_padded_in_float() -> None:
    """A first convolution that reads four channels is measured alone as the one that reads three."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 9, 9), (16, 3, 3, 3)))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    shapes = {"x": [3, 9, 9], "y": [16, 7, 7]}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in shapes.items()]
    graph = helper.make_graph(nodes, "stem", values[:1], values[1:], [onnx.numpy_helper.from_array(w, "w")])
    given = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    case = make_case(given, {"x": x})
    found = []
    for portable in (False, True):
        hybrid = case.build(case.plan(case.all(Precision.UINT8), portable=portable))
        assert portable != any(node.op_type == "Pad" for node in hybrid.graph.node)
        probe = probe_layers(case.proto, hybrid, layer_pairs(case.model, hybrid), {}, threads=1)
        sums = probe.nothing()
        probe.add([(case.feed, case.feed)], sums)
        found.append(sums.reports()[0].individual)
    assert found[0] is not None
    assert found[0].sqnr_db == pytest.approx(found[1].sqnr_db, abs=0.1)  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(20))
def test_every_layer_is_found(seed: int) -> None:
    """A layer's piece reads its inputs, as the float model has them, and nothing else."""
    case = random_case(seed)
    hybrid = case.build(case.plan(random_choices(case, seed)))
    view = GraphIndex(hybrid)
    pairs = layer_pairs(case.model, hybrid)
    for pair in (p for p in pairs if not edit.subgraphs(case.model.nodes[case.model.layer[p.name].node])):
        piece = cut_out(view, pair)
        assert set(piece.reads) == set(pair.inputs), pair.name
        assert pair.precision == str(case.plan(random_choices(case, seed)).layers[pair.name].done)


def test_a_model_that_says_nothing_of_its_layers() -> None:
    case = random_case(0)
    with pytest.raises(ModelError, match="does not say what became of its layers"):
        layer_pairs(case.model, case.proto)


@pytest.mark.parametrize("as_stored", [True, False])
def test_extra_outputs_around_a_dequantize_leave_integer_kernels_in_place(tmp_path: Path, as_stored: bool) -> None:
    view, names = GraphIndex(HYBRID), [p.hybrid_tensor for p in qdq_models.pairs()]
    probe = expose(HYBRID, [stored_as(view, name).tensor for name in names] if as_stored else names)
    options = runtime.options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = runtime.session(probe, session_options=options)
    kinds = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    assert kinds.count("QLinearConv") == 4
    plain = runtime.session(HYBRID, threads=1)
    for sample in SAMPLES:
        one, other = (runtime.run(s, sample, ["out", "score"]) for s in (session, plain))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_samples_and_other_outputs_are_errors() -> None:
    with pytest.raises(DatasetError, match="no sample"):
        compare(FLOAT, HYBRID, [])
    other = onnx.ModelProto()
    other.CopyFrom(HYBRID)
    del other.graph.output[1]
    with pytest.raises(ModelError, match="outputs differ: out, score and out"):
        compared(other)
    with pytest.raises(ModelError, match="cannot be read"):
        compare(FLOAT, Path("absent.onnx"), SAMPLES)


def test_outputs_of_every_type_are_compared() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["top"], axis=1),
        helper.make_node("Greater", ["x", "zero"], ["above"]),
        helper.make_node("NonZero", ["above"], ["where"]),
    ]
    kinds = {"top": TensorProto.INT64, "above": TensorProto.BOOL, "where": TensorProto.INT64}
    model = _model(nodes, kinds, {"zero": 0.0})
    other = _model(nodes, kinds, {"zero": 0.5})
    x = [{"x": np.array([[-1.0, 0.2, 0.4, 3.0]], np.float32)}, {"x": np.zeros((1, 4), np.float32)}]
    top, above, where = compare(model, other, x).outputs
    assert top.figures.identical
    assert above.figures.largest_error == 1
    assert where.figures.mismatched == 1
    assert compare(model, other, x).warnings == ("output 'where' had another shape in 1 of 2 samples",)


def _model(
    nodes: list[onnx.NodeProto], outputs: dict[str, int], constants: dict[str, float], name: str = "m"
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info(k, kind, None) for k, kind in outputs.items()],
        [helper.make_tensor(k, TensorProto.FLOAT, [], [v]) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_where_a_concat_joined_an_output_is_found() -> None:
    assert concatenated(FLOAT) == {"out": Parts(1, (4, 2))}


def test_a_piece_that_cannot_be_loaded_costs_only_itself() -> None:
    hybrid = onnx.ModelProto()
    hybrid.CopyFrom(HYBRID)
    odd = hybrid.graph.node.add()
    odd.CopyFrom(helper.make_node("NoSuchOperator", ["body"], ["odd"], "odd", domain="nobody"))
    pairs = qdq_models.pairs()
    view, infos = GraphIndex(hybrid), {}
    for name in ("x", "stem", "body"):
        infos[name] = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    pieces = [cut_out(view, pair) for pair in pairs]
    pieces.insert(1, cut_out(view, LayerPair("odd", "?", "uint8", "odd", "odd", ("body",))))
    notes: dict[str, str] = {}
    sessions = load_pieces(view, pieces, infos, 1, notes)
    outputs = {found.name for session in sessions for found in session.get_outputs()}
    assert outputs == {f"individual/{pair.name}" for pair in pairs}
    assert list(notes) == ["odd"]


def test_times_that_disagree_are_called_unsteady() -> None:
    steady = Timing(1.0, 1.0, 1.0, 0.9, 1.1, 9, 1)
    assert unsteady(steady) == ""
    assert "times not measured steadily" in unsteady(dataclasses.replace(steady, low=0.5))


METRIC = """
from helper import LIMIT
def mean(outputs):
    assert list(outputs[0]) == ["out", "score"]
    return sum(float(o["score"].mean()) for o in outputs) / len(outputs)
def broken(outputs):
    return outputs[99]
def nothing(outputs):
    return float("nan")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("LIMIT = 1\n")
    path = tmp_path / "score.py"
    path.write_text(METRIC)
    return path


def test_a_metric_of_the_user_is_run_on_both(script: Path) -> None:
    found = compared(HYBRID, outside=Outside(load_metric(f"{script}:mean"))).metric
    assert found.name == "mean"
    assert found.drop == found.float_value - found.hybrid_value != 0
    assert abs(found.drop) < 0.05


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("score.py", "names no function"),
        ("score.py:", "names no function"),
        ("absent.py:mean", "no such file"),
        ("score.py:median", "has no function 'median'\n  It has mean, broken, nothing."),
    ],
)
def test_a_metric_that_cannot_be_loaded(script: Path, spec: str, message: str) -> None:
    with pytest.raises(HybridqError) as error:
        load_metric(spec, script.parent)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "score.py:1: SyntaxError"),
        ("\nimport nothing_of_that_name\n", "score.py:2: cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_metric_with_a_fault_is_reported_at_its_line(script: Path, text: str, message: str) -> None:
    script.write_text(text)
    with pytest.raises(HybridqError) as error:
        load_metric(f"{script}:mean")
    assert message in str(error.value)


def test_a_metric_that_fails_is_reported_at_its_line(script: Path) -> None:
    with pytest.raises(HybridqError, match=r"score.py:7: the metric broken failed: IndexError"):
        compared(HYBRID, outside=Outside(load_metric(f"{script}:broken")))
    with pytest.raises(HybridqError, match="the metric nothing gave nan"):
        compared(HYBRID, outside=Outside(load_metric(f"{script}:nothing")))


@pytest.mark.parametrize("seed", range(8))
def test_a_tensor_stored_as_integers_stands_for_what_the_graph_restores(seed: int) -> None:
    case = random_case(seed)
    hybrid = case.build(case.plan(random_choices(case, seed)))
    view = GraphIndex(hybrid)
    held = {p.hybrid_tensor: stored_as(view, p.hybrid_tensor) for p in layer_pairs(case.model, hybrid)}
    names = [name for name, one in held.items() if one.tensor != name]
    given = [*names, *(held[name].tensor for name in names)]
    values = dict(
        zip(given, runtime.run(runtime.session(expose(hybrid, given), threads=1), case.feed, given), strict=True)
    )
    for name in names:
        integers = values[held[name].tensor]
        assert integers.dtype == held[name].dtype
        assert np.array_equal(held[name].real(integers), values[name])


@pytest.mark.parametrize("seed", range(8))
def test_layers_alone_beside_float_are_those_by_themselves(seed: int) -> None:
    """In one session with float, or in one of their own: their kernels may differ, their figures do not."""
    case = random_case(seed)
    hybrid = case.build(case.plan(random_choices(case, seed)))
    found = []
    for join in (probes.join, lambda *_: None):
        with mock.patch.object(probes, "join", join):
            probe = probe_layers(case.proto, hybrid, layer_pairs(case.model, hybrid), {}, threads=1)
        assert all(bool(chunk.alone) == (join is not probes.join) for chunk in probe.chunks if chunk.pairs)
        sums = probe.nothing()
        probe.add([(case.feed, case.feed)] * 3, sums)
        found.append(sums.reports())
    for one, other in zip(*found, strict=True):
        assert one.entire == other.entire
        assert (one.individual is None) == (other.individual is None)
        if one.individual is not None and other.individual is not None:
            assert one.individual.mse == pytest.approx(other.individual.mse, rel=1e-3, abs=1e-12), one.name


def test_a_float_model_with_quantized_parts_runs_apart_from_pieces() -> None:
    """What folds constants of pieces would change it."""
    pairs = qdq_models.pairs()
    probe = probe_layers(HYBRID, HYBRID, pairs, {}, threads=1)
    assert all(chunk.alone for chunk in probe.chunks)

"""Other toolchains' formats: worked figures, and what is written."""

from __future__ import annotations

import csv
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from hybridq.exchange.encodings import offsets
from hybridq.exchange.formats import FORMATS
from hybridq.exchange.records import ExportOptions
from hybridq.exchange.tensorrt_cache import STEPS
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import quantize
from hybridq.quant.qparams import qparams_of_ranges
from hybridq.steps.step1 import step1
from tests.helpers_exchange import content, edited_cfg, export, imported, state, view

ASYMMETRIC, SYMMETRIC = Scheme.ASYMMETRIC, Scheme.SYMMETRIC
UINT8, INT8, INT16 = Precision.UINT8, Precision.INT8, Precision.INT16
CHOICES = {"conv1": "int16", "/head/sig": "int16"}


@pytest.mark.parametrize(
    ("low", "high", "precision", "scale", "zero_point"),
    [
        (-1.0, 5.0, INT8, 6 / 255, -86),
        (-2.10916, 2.60870, UINT8, 0.0185014, 114),
        (-233.46035767, 75.39134979, UINT8, 1.21118317, 193),
        (-0.23170342, 0.19608229, UINT8, 0.00167759, 138),
        (-52.340476989746094, 10.097497940063477, UINT8, 0.24485479295253754, 214),
        (-1.8, 0.5, UINT8, 0.00901961, 200),
        (0.0, 0.2, INT16, 3.0518e-06, -32768),
        (-0.5, 1.0, INT8, 1.5 / 255, -43),
    ],
)
def test_ranges_of_other_tools(low: float, high: float, precision: Precision, scale: float, zero_point: int) -> None:
    p = qparams_of_ranges(low, high, precision, ASYMMETRIC)
    assert float(p.scale) == pytest.approx(scale, rel=1e-4 if scale < 1e-5 else 1e-6, abs=5e-8)
    assert int(p.zero_point) == zero_point


def test_snpe_quantizes_by_its_worked_example() -> None:
    p = qparams_of_ranges(-1.8, 0.5, UINT8, ASYMMETRIC)
    assert quantize(np.array([-1.8, -1.0, 0.0, 0.5]), p).tolist() == [0, 89, 200, 255]
    assert (p.range.min, p.range.max) == pytest.approx((-1.80392, 0.49608), abs=1e-5)
    widened = qparams_of_ranges(-5.1, 5.1, UINT8, ASYMMETRIC).range
    assert (widened.min, widened.max) == pytest.approx((-5.12, 5.08), abs=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "precision", "scheme", "offset"),
    [
        (0.0, 7.9, UINT8, ASYMMETRIC, 0),
        (-1.0, 1.0, INT8, SYMMETRIC, -128),
        (-1.0, 1.0, INT16, SYMMETRIC, -32768),
        (-2.10916, 2.60870, UINT8, ASYMMETRIC, -114),
    ],
)
def test_offsets_of_aimet(low: float, high: float, precision: Precision, scheme: Scheme, offset: int) -> None:
    assert offsets(qparams_of_ranges(low, high, precision, scheme)) == [offset]


@pytest.mark.parametrize(("written", "amax"), [("3c010a14", 1.00024), ("3caa54fc", 2.6406)])
def test_scales_of_tensorrt_caches(written: str, amax: float) -> None:
    assert struct.unpack(">f", bytes.fromhex(written))[0] * STEPS == pytest.approx(amax, rel=2e-5)


def test_a_cache_of_negatives_has_the_largest_magnitude() -> None:
    s = state("rknn1")
    text = edited_cfg(s, {}, {"conv1": {"min": "-5", "max": "1"}})
    lines = dict(line.split(": ") for line in content(export("tensorrt-cache", s, text)).splitlines()[1:])
    assert struct.unpack(">f", bytes.fromhex(lines["conv1"]))[0] == pytest.approx(5 / 127, rel=1e-7)
    assert json.loads(content(export("tensorrt-ranges", s, text)))["act_quant_info"]["conv1"] == 5.0


def test_encodings_say_the_plan() -> None:
    s = state("qnn")
    v = view(s, edited_cfg(s, CHOICES))
    old = json.loads(content(FORMATS["aimet-0.6.1"].write(v, ExportOptions("m"))))
    mid = json.loads(content(FORMATS["aimet-1.0.0"].write(v, ExportOptions("m"))))
    new = json.loads(content(FORMATS["aimet-2.0.0"].write(v, ExportOptions("m"))))
    listed = {e["name"]: e for e in mid["activation_encodings"]}
    named = {e["name"]: e for e in new["encodings"]}
    assert "out" not in named  # a Reshape passes on what `cls` has
    for t in (t for t in v.tensors if t.name != "out"):
        p = t.stored.qparams
        assert p is not None
        first = old["activation_encodings"][t.name][0]
        assert first["scale"] == listed[t.name]["scale"][0] == named[t.name]["y_scale"] == float(p.scale)
        assert first["offset"] == listed[t.name]["offset"][0] == -(int(p.zero_point) - p.qmin)
        assert first["min"] == pytest.approx(p.range.min)
        assert first["max"] == pytest.approx(p.range.max)
        assert (first["bitwidth"], named[t.name]["output_dtype"]) == (p.precision.bits, str(p.precision))
    weights = {e["name"]: e for e in mid["param_encodings"]}
    assert weights["w2"]["enc_type"] == "PER_CHANNEL"
    assert len(old["param_encodings"]["w2"]) == len(named["w2"]["y_scale"]) == 4
    assert (named["w2"]["axis"], set(weights["w2"]["offset"])) == (0, {-128})


def test_rknn1_has_the_toolkits_form() -> None:
    found = YAML(typ="safe").load(
        content(export("rknn1", state("rknn1"), edited_cfg(state("rknn1"), {"128": "int16"})))
    )
    assert list(found) == ["customized_quantize_layers", "quantize_parameters"]
    assert set(found["customized_quantize_layers"].values()) == {"dynamic_fixed_point-i16", "float32"}
    entries = found["quantize_parameters"]
    inputs = entries["@input_0:out0"]
    assert inputs == {
        "dtype": "asymmetric_affine",
        "method": "layer",
        "max_value": [255.0],
        "min_value": [0.0],
        "zero_point": [0],
        "scale": [1.0],
        "qtype": "u8",
    }
    key = next(k for k in entries if k.startswith("@Conv_3_") and k.endswith(":out0"))
    scale = entries[key]["scale"][0]
    assert (entries[key]["dtype"], entries[key]["qtype"]) == ("dynamic_fixed_point", "i16")
    assert scale == 2.0 ** -entries[key]["fl"]


def test_rknn1_has_no_fraction_length_where_fixed_point_reads_what_is_none(tmp_path: Path) -> None:
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 3, 8, 8)).astype(np.float32)} for i in range(2)]
    given = Path(__file__).parent / "rknn2" / "model.onnx"
    s = step1(given, feeds, tmp_path / "b", target="rknn1", weights_repair="none", threads=1).state
    text = edited_cfg(s, {"leaky_c": "int8"})  # it reads `left`, which is uint8
    entries = YAML(typ="safe").load(content(export("rknn1", s, text)))["quantize_parameters"]
    bias = next(e for k, e in entries.items() if k.startswith("@n_leaky_c_") and k.endswith(":bias"))
    v = view(s, text)
    read, weight = v.tensor["left"].stored.qparams, v.weights_of["leaky_c"][0].qparams
    assert read is not None
    assert weight is not None
    assert "fl" not in bias
    assert bias["scale"] == [pytest.approx(float(read.scale) * float(weight.scale))]


def test_rknn1_params_of_inputs_and_outputs_alone() -> None:
    s = state("rknn1")
    whole = YAML(typ="safe").load(content(export("rknn1-params", s)))["quant_params"]
    ends = YAML(typ="safe").load(content(export("rknn1-params", s, only_io=True)))["quant_params"]
    assert set(ends) == {"@input_0:out0", "@attach_out/out0_0:out0"}
    assert set(ends) < set(whole)
    assert any(k.endswith(":in1") for k in whole)
    assert whole["@input_0:out0"] == {
        "op": "input",
        "qtype": "asymmetric_affine",
        "dtype": "u8",
        "scale": 1.0,
        "zero_point": 0,
    }


def test_overrides_name_the_boundary() -> None:
    s = state("onnxruntime", "uint8")
    found = json.loads(content(export("ort-overrides", s, edited_cfg(s, {"conv1": "int16", "128": "int16"}))))
    assert found["conv1"][0]["quant_type"] == "QInt16"
    assert found["conv1"][0]["convert"]["quant_type"] == "QUInt8"
    assert found["conv1"][0]["convert"]["recv_nodes"] == ["Conv_2"]
    assert [d["axis"] for d in found["w2"]] == [0, 0, 0, 0]


def test_tflite_has_biases_at_the_product_of_scales_and_zero_points_in_range() -> None:
    found = json.loads(content(export("tflite-params", state("tflite"))))["tensors"]
    assert (found["w1"]["type"], set(found["w1"]["zero_point"])) == ("INT8", {0})
    assert found["input"] == {"type": "INT8", "scale": [1.0], "zero_point": [-128], "quantized_dimension": 0}


def test_ncnn_has_weights_then_inputs_and_float_layers_behind_a_sign() -> None:
    s = state("tensorrt")
    lines = content(export("ncnn", s, edited_cfg(s, {"conv1": "float16"}))).splitlines()
    names = [line.split()[0] for line in lines]
    node = s.model.layer["conv1"].node
    assert f"#{node}_param_0" in names
    assert f"#{node}" in names
    assert [n for n in names if n.endswith("_param_0")] == [f"{n}_param_0" for n in names if "_param_0" not in n]
    weights = dict(line.split(" ", 1) for line in lines)
    amax = np.abs(s.weights["w2"]).reshape(4, -1).max(axis=1)
    scales = np.array(weights[f"{s.model.layer['/head/conv2'].node}_param_0"].split(), np.float64)
    assert scales == pytest.approx(127 / amax, rel=0.01)  # of what the integers can say


def test_mnn_lists_convolutions_that_read_and_write_integers() -> None:
    s = state("tflite")
    found = json.loads(content(export("mnn", s, edited_cfg(s, {"conv1": "float32"}))))
    layers = found["algo"][0]["quantParams"]["layer"]
    listed = {x["output"][0]["name"]: x for x in layers}
    assert "conv1" not in listed
    v = view(s)
    for name, entry in listed.items():
        p = v.tensor[name].stored.qparams
        assert p is not None
        assert entry["output"][0]["scales"] == [float(p.scale)]
        assert entry["output"][0]["zeroPoint"] == int(p.zero_point)


def test_tpu_mlir_names_tensors_by_their_operators_and_lists_floats() -> None:
    s = state("tensorrt")
    written = export("tpu-mlir", s, edited_cfg(s, {"conv1": "float16"}))
    table, qtable = (bytes(data).decode() for data in written.files.values())  # type: ignore[arg-type]
    rows = [line.split() for line in table.splitlines() if not line.startswith("#")]
    assert rows[0][0] == "input"
    assert all(float(t) == pytest.approx(max(abs(float(a)), abs(float(b))), abs=1e-5) for _, t, a, b in rows)
    producer = s.model.producers["conv1"].op_type
    assert f"conv1_{producer} F16" in qtable.splitlines()
    _, wanted = imported("tpu-mlir", qtable, s)
    assert wanted.layers["conv1"] is Precision.FLOAT16


def test_pulsar2_and_nncase_have_a_word_for_every_layer_and_tensor() -> None:
    s = state("onnxruntime", "uint8")
    text = edited_cfg(s, {"conv1": "int16", "128": "int16"})
    quant = json.loads(content(export("pulsar2", s, text)))["quant"]
    words = {name: row["data_type"] for row in quant["layer_configs"] for name in row["layer_names"]}
    assert words[s.model.layer["conv1"].node] == "U16"
    assert {x.node for x in s.model.layers} <= set(words)
    outputs = {o["Name"]: o for o in json.loads(content(export("nncase", s, text)))["Outputs"]}
    assert outputs["conv1"]["DataType"] == "i16"
    assert outputs["w2"]["DataRangeMode"] == "by_channel"
    assert len(outputs["w2"]["DataRange"]) == 4


def test_esp_ppq_shares_values_by_hash() -> None:
    s = state("esp-dl")
    found = json.loads(content(export("esp-ppq", s)))
    assert {x.node for x in s.model.layers} <= set(found["dispatchings"])
    for configs in found["configs"].values():
        for config in configs.values():
            assert str(config["dominator"]) in found["values"]
            assert config["policy"]["POWER_OF_2"]


def test_tables_and_json_hold_every_layer_and_tensor() -> None:
    s = state("rknn1")
    rows = list(csv.DictReader(io.StringIO(content(export("csv", s)))))
    found = json.loads(content(export("json", s)))
    layers = [r["name"] for r in rows if r["kind"] == "layer"]
    assert layers == list(found["layers"]) == [x.name for x in s.model.layers]
    assert {r["name"] for r in rows if r["kind"] == "tensor"} == set(found["tensors"]) == set(s.model.group_of)


def test_what_a_format_cannot_say_is_told_with_a_figure() -> None:
    s = state("onnxruntime", "uint8")
    said = [p.message for p in export("rknn1", s).losses]
    assert any(m.startswith('"conv1"') and "dB on this layer's weights" in m for m in said)
    said = [p.message for p in export("tensorrt-cache", s, edited_cfg(s, {"conv1": "int16"})).losses]
    assert any("noise changes by +" in m for m in said)
    assert any(m.startswith('"conv1": tensorrt has no int16') for m in said)
    assert not export("json", s).losses

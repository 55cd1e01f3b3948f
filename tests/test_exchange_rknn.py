"""Cfg files that RKNN-Toolkit 1.x and RKNN-Toolkit2 wrote, taken into ours."""

from __future__ import annotations

import numpy as np
import pytest

from hybridq.config import read_cfg, write_cfg
from hybridq.config.change import Change
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.records import Wanted
from hybridq.exchange.rknn_cfg import read
from hybridq.exchange.taking import take
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated
from hybridq.storage.state import State
from hybridq.storage.weights import Weights
from tests.helpers_config import PATH, small


def text_of() -> str:
    return write_cfg(*small())


def import_rknn(
    text: str, path: str, cfg: str, cfg_path: str, model: Model, calibrated: Calibrated
) -> tuple[Change, list[Problem]]:
    """An RKNN cfg taken into ours."""
    weights = Weights({w.tensor: np.ones(w.shape, np.float32) for x in model.layers for w in x.weights})
    wanted: Wanted = read(text, path, model, calibrated)
    change = take(wanted, State(model, weights, calibrated, {}), cfg, cfg_path, path)
    return change, wanted.problems


RKNN1 = """%YAML 1.2
# add layer name and corresponding quantized_dtype to customized_quantize_layers, e.g conv2_3: float32
customized_quantize_layers:
    Conv_3_12: dynamic_fixed_point-i16
    Sigmoid_Sigmoid_1_4: float32
    Reshape_1_acuity_mark_perm_9: float32
    Slice_77_3: float32
    Sign_1_8: dynamic_fixed_point-i16
quantize_parameters:
    '@input_1:out0':
        dtype: asymmetric_affine
        method: layer
        max_value: [250.0]
        min_value: [0.0]
        zero_point: [0]
        scale: [0.98]
        qtype: u8
    '@Conv_1_2:weight':
        dtype: asymmetric_affine
        method: layer
        max_value: [0.2]
        min_value: [-0.2]
        zero_point: [128]
        scale: [0.1]
        qtype: u8
    '@Conv_1_2:bias':
        dtype: asymmetric_affine
        method: layer
        max_value:
        min_value:
        zero_point: 0
        scale: [0.0002]
        qtype: i32
    '@Conv_1_2:out0':
        max_value: [7.5]
        min_value: [-3.0]
    '@Relu_1_3:out0':
        max_value: [5.5]
        min_value: [0.0]
    '@Mul_1_5:out0':
        max_value: [6.5]
        min_value: [-0.25]
    '@attach_cls/out0_0:out0':
        dtype: None
    '@Conv_2_6:out0':
        max_value: [7.25]
        min_value: [-4.5]
    '@gone_9:out0':
        max_value: [1.0]
        min_value: [0.0]
"""
RKNN2 = """custom_quantize_layers:
    "128": float16
    conv1: int16
    /head/conv2_int8: float16
quantize_parameters:
    input:
        qtype: asymmetric_quantized
        qmethod: layer
        dtype: int8
        min:
        -   0.0
        max:
        -   255.0
        scale:
        -   1.0
        zero_point:
        -   -128
        ori_min:
        -   0.0
        ori_max:
        -   255.0
    conv1_pre:
        qtype: asym
        qmethod: layer
        dtype: int8
        min:
        -   -9.0
        max:
        -   9.0
        scale:
        -   0.02
    conv1:
        qtype: asym
        qmethod: layer
        dtype: int8
        min:
        -   0.0
        max:
        -   4.6926469802856445
        scale:
        -   0.01840253717759076
        zero_point:
        -   -128
    128:
        qtype: asym
        qmethod: layer
        dtype: float16
        min: []
        max: []
        scale: []
"""


def test_a_cfg_of_rknn_toolkit_1() -> None:
    change, unmapped = import_rknn(RKNN1, "r.cfg", text_of(), PATH, *small())
    found = read_cfg(change.text, PATH, *small())
    assert {n: c.precision.value for n, c in found.choices.items()} == {
        "128": "int16",
        "/head/sig": "float32",
    }
    assert found.edited == {"input": {"max"}, "conv1": {"min", "max"}}
    assert (found.entries["conv1"].min, found.entries["conv1"].max) == (-0.25, 6.5)
    assert [p.line for p in unmapped] == [7, 8, 18, 26, 43, 48]
    assert all(p.path == "r.cfg" for p in unmapped)
    assert [p.line for p in unmapped if p.severity == "note"] == [18, 26]  # a weight, a bias
    assert "must stay float32" in unmapped[1].message


def test_a_cfg_of_rknn_toolkit_2() -> None:
    change, unmapped = import_rknn(RKNN2, "r.cfg", text_of(), PATH, *small())
    found = read_cfg(change.text, PATH, *small())
    assert {n: c.precision.value for n, c in found.choices.items()} == {"128": "float16", "conv1": "int16"}
    assert found.edited == {"conv1": {"min", "max"}}
    assert found.entries["conv1"].max == pytest.approx(4.6926469802856445, rel=1e-7)
    assert [(p.line, p.severity) for p in unmapped] == [(3, "note"), (4, "warning"), (6, "note")]
    assert "which goes by" in unmapped[0].message  # conv1 is behind the activation, and its Conv is not named
    assert "no cfg shows" in unmapped[2].message


def test_a_float_stands_for_the_other_where_the_target_has_only_one() -> None:
    model, calibrated = small("rknn1")
    change, _ = import_rknn(
        RKNN2.replace("int16", "float16"), "r.cfg", write_cfg(model, calibrated), PATH, model, calibrated
    )
    assert read_cfg(change.text, PATH, model, calibrated).choices["128"].precision is Precision.FLOAT32


def test_nothing_that_maps_is_an_error() -> None:
    """Another model's cfg: what was looked for is told, and why each entry does not fit."""
    text = "custom_quantize_layers:\n    Conv_17: int16\n    conv1: int3\nquantize_parameters: {}\n"
    with pytest.raises(ConfigError) as caught:
        import_rknn(text, "r.cfg", text_of(), PATH, *small())
    assert str(caught.value.problems[0]) == (
        "r.cfg:1: nothing could be mapped: none of its 2 entries fits 'small'\n"
        "  Looked for layers and tensors by name, such as conv1, /head/conv2, /head/sig; "
        "of @LAYER_7:out0 also LAYER_7 and LAYER.\n"
        "  Import a file that was written for the same ONNX file."
    )
    assert [(p.severity, p.line) for p in caught.value.problems] == [("error", 1), ("warning", 2), ("warning", 3)]


def test_entries_that_say_what_step1_says_are_mapped() -> None:
    text = "quantize_parameters:\n    conv1: {dtype: int8, min: [-0.278], max: [6.31]}\n"
    change, unmapped = import_rknn(text, "r.cfg", text_of(), PATH, *small())
    assert change.text == text_of()
    assert [p.code for p in unmapped] == ["searched"]


@pytest.mark.parametrize(
    "text", ["", "a: 1\n", "custom_quantize_layers: {}\n", "custom_quantize_layers:\n  @x: int16\n", "\x00"]
)
def test_what_is_no_rknn_cfg(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        import_rknn(text, "r.cfg", text_of(), PATH, *small())
    assert all(p.path == "r.cfg" and p.line > 0 for p in caught.value.problems)

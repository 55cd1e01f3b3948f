"""convert.py: the toolkit's own cfg edited in place, its log read back; the target rknn2 as its simulator computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference
from ruamel.yaml import YAML

from hybridq import targets
from hybridq.exchange.rknn2_convert import LAYERS, PARAMETERS, Plan, edited, edits_of, load_plan, read_log
from hybridq.graph.analysis import analyse
from hybridq.graph.view import Sharing
from hybridq.plan.limits import completed, joined, limit, within
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.qparams import Range
from hybridq.quant.records import Measured
from tests.helpers_exchange import content, edited_cfg, export, imported, plain_cfg, state, view

ENTRY = """    {name}:
        qtype: asym
        qmethod: layer
        dtype: {dtype}
        min:
        -   {low}
        max:
        -   {high}
        scale: {scale}
        zero_point: {scale}
        ori_min: {anchor}
        -   {low}
        ori_max:
        -   {high}
"""


def edit_cfg(text: str, dropped: set[str]) -> tuple[Any, list[str]]:
    """A cfg of the toolkit's edited by the plan, read again; and what was told."""
    found = edits_of(YAML(typ="safe").load(text)[PARAMETERS], PLAN, dropped)
    return YAML(typ="safe").load(edited(text, found)), found.lines


def theirs(*rows: tuple[str, str, float, float]) -> str:
    """A cfg as the toolkit writes it: name, dtype, range."""
    text = "custom_quantize_layers: {}\nquantize_parameters:\n"
    for name, dtype, low, high in rows:
        scale = "[]" if "float" in dtype else "[0.1]"
        text += ENTRY.format(name=f"'{name}'", dtype=dtype, low=low, high=high, scale=scale, anchor="")
    return text


PLAN = Plan(
    types={"c": "int16", "r": "int16", "out": "int16", "cls": "int16", "y": "float16", "cat_conv": "int16"},
    ranges={
        "x": [0, 1],
        "c": [0, 8],
        "r": [0, 8],
        "out": [-4, 4],
        "a": [-1, 1],
        "logit": [-7, 5],
        "cls": [0, 2],
        "y": [-3, 3],
    },
    observed={"logit": [-9, 5], "cls": [0, 1], "r": [0, 4], "out": [-2, 2]},
    readers={"logit": ["cls"]},
    nodes={"pool_1": "r"},
    joins={"a": "cat_conv", "r": "cat_conv"},
    constants=["470"],
    inputs=["x"],
    outputs=["out", "cls", "y"],
)


def test_every_name_of_a_raised_layer_is_given_its_type_and_no_other() -> None:
    text = theirs(
        ("x", "float32", 0, 1),
        ("x_int8", "int8", 0, 1),
        ("c", "int8", 0, 4),
        ("r", "int8", 0, 4),
        ("r-rs", "int8", 0, 4),
        ("r_sw_rs", "int8", 0, 4),
        ("pool_1_2gavg_2conv0", "int8", 0, 3),
        ("a", "int8", -1, 1),
        ("a_conv", "int8", -3, 3),
        ("a_conv_add", "int8", -5, 5),
        ("a-rs", "int8", -1, 1),
        ("470", "int16", -1, 1),
        ("out", "float32", -2, 2),
        ("out_int8", "int8", -2, 2),
        ("y", "float32", -3, 3),
        ("y_int8", "int8", -3, 3),
        ("r__float16", "float16", 0, 4),
    )
    cfg, lines = edit_cfg(text, set())
    assert dict(cfg[LAYERS]) == {
        "c": "int16",
        "r": "int16",
        "r-rs": "int16",
        "r_sw_rs": "int16",
        "pool_1_2gavg_2conv0": "int16",
        "a_conv": "int16",
        "a_conv_add": "int16",
        "out_int8": "int16",
        "y": "float16",
    }
    entries = cfg[PARAMETERS]
    assert [entries[n]["max"][0] for n in ("c", "r", "r-rs", "r_sw_rs", "out_int8", "a", "a_conv")] == [
        8,
        8,
        8,
        8,
        4,
        1,
        3,
    ]
    assert entries["out"]["max"][0] == 2  # a range under `scale: []` is no quantization
    assert "cls: the toolkit has no such tensor; it was folded away" in lines


def test_a_name_that_the_toolkit_refused_is_left_out() -> None:
    cfg, _ = edit_cfg(theirs(("c", "int8", 0, 4), ("r", "int8", 0, 4)), {"c"})
    assert dict(cfg[LAYERS]) == {"r": "int16"}


def test_movement_swapped_with_a_sigmoid_is_known_by_its_reach() -> None:
    """The toolkit may transpose behind a Sigmoid: `X_sw` then has the Sigmoid's values, not X's."""
    cfg, _ = edit_cfg(theirs(("logit", "int8", -7, 5), ("logit_sw", "int8", 0, 1)), set())
    assert dict(cfg[LAYERS]) == {"logit_sw": "int16"}
    assert (cfg[PARAMETERS]["logit_sw"]["min"][0], cfg[PARAMETERS]["logit_sw"]["max"][0]) == (0, 2)
    assert cfg[PARAMETERS]["logit"]["min"][0] == -7


def test_a_list_shared_by_an_anchor_stays_for_whoever_else_has_it() -> None:
    text = theirs(("c", "int8", 0, 4), ("d", "int8", 0, 4)).replace("        min:\n", "        min: &id001\n", 1)
    last = text.rindex("        min:\n        -   0\n")
    text = text[:last] + text[last:].replace("        min:\n        -   0\n", "        min: *id001\n", 1)
    text = text.replace("ori_min: \n        -   0", "ori_min: *id001", 1)
    plan = replace(PLAN, ranges={"c": [-2, 8]})
    found = edits_of(YAML(typ="safe").load(text)[PARAMETERS], plan, set())
    entries = YAML(typ="safe").load(edited(text, found))[PARAMETERS]
    assert (entries["c"]["min"], entries["c"]["ori_min"], entries["d"]["min"]) == ([-2], [0], [0])


def test_all_but_the_edits_stays_to_the_character() -> None:
    """The toolkit refuses a cfg in which anything else was changed, were it the last digit of a number."""
    text = theirs(("470", "int8", 0, 4.7223493016468584e-18), ("a", "int8", -1, 1), ("it''s", "int8", 0, 1))
    assert edited(text, edits_of(YAML(typ="safe").load(text)[PARAMETERS], PLAN, set())) == text


def test_the_log_tells_what_was_taken_refused_and_merged() -> None:
    said = "\x1b[1;33mW\x1b[0m \x1b[1;33mhybrid_quantization_step2: "
    log = "\n".join(
        [
            f"{said}The (min, max) of quantize_parameters['458'] were changed:\x1b[0m",
            f"{said}    from: (0.0, 6.5)\x1b[0m",
            f"{said}    to  : (0.0, 6.6)\x1b[0m",
            f"{said}        max = 6.6 > 6.5, may reduce the accuracy!\x1b[0m",
            f"{said}    But final to (-7.0, 1.0)!\x1b[0m",
            f"{said}The (min, max) of quantize_parameters['p'] were changed:\x1b[0m",
            f"{said}    from: (0.0, 1)\x1b[0m",
            f"{said}    to  : (0.0, 2)\x1b[0m",
            f"{said}    BUT IT IS INVALID!\x1b[0m",
            f"{said}The default output dtype of 'y' is changed from 'float32' to 'int16' in rknn model!\x1b[0m",
        ]
    )
    assert read_log(log) == {
        "taken": ["458: from (0.0, 6.5) to (0.0, 6.6)", "p: from (0.0, 1) to (0.0, 2)"],
        "refused": ["p: BUT IT IS INVALID"],
        "merged": ["458: But final to (-7.0, 1.0)"],
        "ends": ["output y: int16"],
    }


def test_the_script_reads_the_plan_that_step4_writes(tmp_path: Path) -> None:
    s = state("rknn2")
    found = export("rknn2", s, edited_cfg(s, {"conv1": "int16", "cat": "int16", "128": "int16"}))
    assert {"convert.py", "plan.json", "model.onnx", "dataset.txt", "small.quantization.cfg"} <= found.files.keys()
    data = found.files["plan.json"]
    assert isinstance(data, bytes)
    (tmp_path / "plan.json").write_bytes(data)
    plan, feed = load_plan(tmp_path / "plan.json")
    assert {"conv1", "conv1_pre", "128"} <= plan.types.keys()
    assert plan.ranges["conv1"] == plan.ranges["conv1_pre"]
    assert (plan.inputs, plan.outputs, feed) == (["input"], ["out"], {"mean": [], "std": []})
    assert json.loads(data)["plan"]["nodes"]["Conv_1"] == "conv1"
    write = found.files["model.onnx"]
    assert callable(write)
    write(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    assert ([o.version for o in model.opset_import], model.ir_version) == ([19], 9)


def test_weights_of_the_float_model_lie_on_the_targets_grid(tmp_path: Path) -> None:
    """A quantizer of the same grid, (max - min) / 255 a channel, gives the same integers again."""
    s = state("rknn2")
    v = view(s)
    weights = {w.tensor: w for w in v.parameters}
    p = weights["w2"].qparams
    assert p is not None
    assert p.scheme is Scheme.ASYMMETRIC
    kept = v.kept(weights["w2"]).reshape(4, -1)
    step = (np.maximum(kept.max(1), 0) - np.minimum(kept.min(1), 0)) / 255
    np.testing.assert_allclose(step, p.scale, rtol=1e-6)
    off = kept / step[:, None] - np.rint(kept / step[:, None])
    assert np.abs(off).max() < 1e-3


# -- the target --------------------------------------------------------------------------------------------------------


def _model(*nodes: onnx.NodeProto, outputs: tuple[str, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")],
    )
    return shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]))


def test_a_concat_has_its_own_parameters_where_the_target_says_so() -> None:
    n = helper.make_node
    proto = _model(
        n("Conv", ["x", "w"], ["a"], "A"),
        n("Concat", ["x", "a"], ["c"], "C", axis=1),
        n("Relu", ["c"], ["y"], "R"),
        outputs=("y",),
    )
    target = targets.load("rknn2")
    apart = analyse(proto, sharing=Sharing(target.outputs_share, target.inputs_share))
    tied = analyse(proto, sharing=Sharing(outputs=True))
    assert {g.name for g in apart.groups} == {"x", "a", "c", "y"}
    assert "c" in apart.layer
    assert {g.name for g in tied.groups} == {"x", "y"}


def test_a_concat_of_a_part_has_the_range_of_what_is_joined() -> None:
    n = helper.make_node
    proto = _model(
        n("Split", ["x"], ["l", "r"], "P", axis=1, num_outputs=2),
        n("Sigmoid", ["l"], ["s"], "S"),
        n("Concat", ["r", "s"], ["c"], "C", axis=1),
        n("Relu", ["c"], ["y"], "R"),
        outputs=("y",),
    )
    model = analyse(proto, sharing=Sharing(outputs=True, inputs=False))
    seen = {"x": Range(-9.0, 3.0), "s": Range(0.0, 1.0), "c": Range(-2.0, 1.5), "y": Range(0.0, 1.5)}
    found = joined({k: Measured(r, {"normal": {8: r}}) for k, r in seen.items()}, model)
    assert found["c"].ranges["normal"][8] == seen["c"]


@pytest.mark.parametrize(("outputs", "kept"), [(("s",), (-7.0, 3.0)), (("s", "a"), (-9.0, 3.0))])
def test_what_only_a_sigmoid_reads_stays_within_seven(outputs: tuple[str, ...], kept: tuple[float, float]) -> None:
    n = helper.make_node
    proto = _model(n("Conv", ["x", "w"], ["a"], "A"), n("Sigmoid", ["a"], ["s"], "S"), outputs=outputs)
    model = analyse(proto, sharing=Sharing(outputs=True))
    wide = Range(-9.0, 3.0)
    measured = Measured(wide, {"normal": {8: wide, 16: wide}})
    found = within(measured, limit(model, model.group["a"], targets.load("rknn2")))
    assert found.range == wide
    assert found.ranges["normal"][8] == Range(*kept)


def test_a_float16_tensor_that_int8_reads_has_the_range_of_its_conversion() -> None:
    s = state("rknn2")
    found = export("rknn2", s, edited_cfg(s, {"conv1": "float16"}))
    plan = json.loads(bytes(found.files["plan.json"]))["plan"]
    r = s.calibrated.measured["conv1"].range
    assert plan["ranges"]["conv1"] == pytest.approx([r.min, r.max], abs=(r.max - r.min) / 255)


def test_int16_has_headroom_only_where_no_int8_layer_reads() -> None:
    s = state("rknn2")
    alone = view(s, edited_cfg(s, {"128": "int16", "cls": "int16"})).tensor["128"].stored
    read = view(s, edited_cfg(s, {"/head/conv2": "int16", "/head/sig": "int16"})).tensor["/head/conv2"].stored
    assert alone.qparams is not None
    assert read.qparams is not None
    r128, r2 = (s.calibrated.measured[n].range for n in ("128", "/head/conv2"))
    assert float(alone.qparams.scale) == pytest.approx(2 * (r128.max - r128.min) / 65535, rel=1e-6)
    assert float(read.qparams.scale) == pytest.approx((r2.max - r2.min) / 65535, rel=1e-6)


def test_a_cfg_with_anchors_is_read_and_noise_is_no_edit() -> None:
    s = state("rknn2")
    text = content(export("rknn2", s)).replace("ori_min:\n        -", "ori_min: &id001\n        -", 1)
    assert imported("rknn2", text, s)[0].text == plain_cfg(s)
    assert s.calibrated.default is Precision.INT8


@pytest.mark.parametrize(("seen", "taken"), [(0.9991, 1.0), (0.99905, 0.99905), (0.5, 0.5)])
def test_a_sigmoid_that_comes_near_one_reaches_it(seen: float, taken: float) -> None:
    n = helper.make_node
    proto = _model(n("Conv", ["x", "w"], ["a"], "A"), n("Sigmoid", ["a"], ["s"], "S"), outputs=("s",))
    model = analyse(proto, sharing=Sharing(outputs=True), fixed_ranges=False)
    r = Range(0.0, seen)
    found = completed(Measured(r, {"normal": {8: r}}), model, model.group["s"], targets.load("rknn2"))
    assert found.ranges["normal"][8].max == taken

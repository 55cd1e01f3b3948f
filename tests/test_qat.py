"""Models trained with fake quantization come in as PyTorch writes them, and leave as they came, bit for bit.

``tests/qat`` is made by ``demos/train_qat.py --network tiny --steps 30``, form by form.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from qdq_graphs import as_written

from hybridq.errors import ModelError
from hybridq.graph.intake.recovered import recover
from hybridq.steps.editing import diff
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

HERE = Path(__file__).parent / "qat"
RANDOM = np.random.default_rng(5)
UINT8, INT8 = TensorProto.UINT8, TensorProto.INT8


def leaves_as_it_came(given: Path, feeds: list[dict[str, Any]], out: Path) -> None:
    result = step1(given, feeds, out, threads=1)
    assert not [p for p in result.problems if p.code == "quantized"]
    built = step2(out, threads=1).path
    assert not diff(out)
    for a, b in zip(as_written(given, feeds), as_written(built, feeds), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("form", ["fx", "converted", "pt2e"])
def test_pytorchs_exports_leave_bit_for_bit(form: str, tmp_path: Path) -> None:
    given = HERE / f"{form}.onnx"
    assert len(recover(onnx.load(given)).tensors) >= 5
    feeds = [{"image": RANDOM.normal(size=(1, 1, 320, 320)).astype(np.float32)} for _ in range(2)]
    leaves_as_it_came(given, feeds, tmp_path / "b")


def test_aimets_export_leaves_bit_for_bit(tmp_path: Path) -> None:
    """``QuantizationSimModel(...).to_onnx_qdq(export_int32_bias=True)`` of aimet-onnx 2.42.0."""
    given = HERE / "aimet.onnx"
    assert len(recover(onnx.load(given)).tensors) >= 20
    feeds = [{"x": RANDOM.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    leaves_as_it_came(given, feeds, tmp_path / "b")


def model(rows: list[tuple[Any, ...]], held: dict[str, Any], opset: int = 17) -> onnx.ModelProto:
    """``(op, inputs, output, attributes)`` rows from ``x`` to ``y``, (1, 2, 4, 4)."""
    nodes = [
        helper.make_node(op, [i if i != "-" else "" for i in inputs.split()], [out], name=f"{out}/n", **dict(*more))
        for op, inputs, out, *more in rows
    ]
    ends = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [1, 2, 4, 4]) for t in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in held.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


Q, DQ = "QuantizeLinear", "DequantizeLinear"
S, Z = np.float32(0.05), np.uint8(90)
W = RANDOM.normal(size=(2, 2, 1, 1)).astype(np.float32)
NUMBERS: dict[str, Any] = {"s": S, "z": Z, "w": W, "k": np.array([0.01, 0.02], np.float32), "n": np.zeros(2, np.int8)}
LOW, HIGH = np.uint8(100), np.uint8(127)
WEIGHT = [(Q, "w k n", "wq", {"axis": 0}), (DQ, "wq k n", "wd", {"axis": 0})]
AROUND = [("Conv", "d wd", "c"), (Q, "c s z", "q2"), (DQ, "q2 s z", "y")]
INPUT = [(Q, "x s z", "q"), (DQ, "q s z", "d")]
CASES: dict[str, tuple[list[tuple[Any, ...]], dict[str, Any]]] = {
    "weights quantized in the graph": ([*WEIGHT, *INPUT, *AROUND], {}),
    "weights computed": (
        [("Mul", "w k2", "w2"), (Q, "w2 k n", "wq", {"axis": 0}), *WEIGHT[1:], *INPUT, *AROUND],
        {"k2": np.float32(0.7)},
    ),
    "shared numbers behind Identities": (
        [("Identity", "s", "s2"), ("Identity", "z", "z2"), *WEIGHT, (Q, "x s2 z2", "q"), (DQ, "q s z2", "d"), *AROUND],
        {},
    ),
    "a zero point that is cast": (
        [("Cast", "z3", "z2", {"to": UINT8}), *WEIGHT, (Q, "x s z2", "q"), (DQ, "q s z2", "d"), *AROUND],
        {"z3": np.int32(90)},
    ),
    "numbers as Constants": (
        [
            ("Constant", "", "s2", {"value": numpy_helper.from_array(np.asarray(S), "s2")}),
            ("Constant", "", "wq", {"value": numpy_helper.from_array(np.array([[[[3]], [[-9]]]] * 2, np.int8), "wq")}),
            *WEIGHT[1:],
            (Q, "x s2 z", "q"),
            (DQ, "q s2 z", "d"),
            *AROUND,
        ],
        {},
    ),
    "a part of the integers of an input": (
        [*WEIGHT, (Q, "x s z", "q"), ("Clip", "q - high", "l"), (DQ, "l s z", "d"), *AROUND],
        {"high": HIGH},
    ),
    "a part of the integers of a result": (
        [*WEIGHT, ("Mul", "x x", "m"), (Q, "m s z", "q"), ("Clip", "q low high", "l"), (DQ, "l s z", "d"), *AROUND],
        {"low": LOW, "high": HIGH},
    ),
    "integers read whole and in part": (
        [(Q, "x s z", "q"), ("Clip", "q low high", "l"), (DQ, "l s z", "d"), (DQ, "q s z", "e"), ("Sub", "d e", "y")],
        {"low": LOW, "high": HIGH},
    ),
    "a cast that changes nothing": (
        [*WEIGHT, (Q, "x s z", "q"), ("Cast", "q", "l", {"to": UINT8}), (DQ, "l s z", "d"), *AROUND],
        {},
    ),
    "an input that only a float layer reads": ([(Q, "x s z", "q"), (DQ, "q s z", "d"), ("Exp", "d", "y")], {}),
    "weights alone": ([*WEIGHT, ("Conv", "x wd", "y")], {}),
    "activations alone": ([(Q, "x s z", "q"), (DQ, "q s z", "d"), ("Conv", "d w", "c"), *AROUND[1:]], {}),
    "no zero point": (
        [*WEIGHT, (Q, "x s", "q"), (DQ, "q s", "d"), ("Conv", "d wd", "c"), (Q, "c s", "r"), (DQ, "r s", "y")],
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_exporters_write_leaves_bit_for_bit(name: str, tmp_path: Path) -> None:
    rows, more = CASES[name]
    onnx.save(model(rows, {**NUMBERS, **more}), tmp_path / "given.onnx")
    feeds = [{"x": RANDOM.normal(size=(1, 2, 4, 4)).astype(np.float32) * 3} for _ in range(3)]
    leaves_as_it_came(tmp_path / "given.onnx", feeds, tmp_path / "b")


@pytest.mark.parametrize("opset", [13, 17, 19, 21])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16])
def test_types_and_opsets_leave_bit_for_bit(kind: type, opset: int, tmp_path: Path) -> None:
    if kind is np.int16 and opset < 21:
        pytest.skip("ONNX has int16 from opset 21 on")
    rows = [*WEIGHT, *INPUT, *AROUND]
    numbers = {**NUMBERS, "z": kind(0 if kind is np.int16 else 11)}
    onnx.save(model(rows, numbers, opset), tmp_path / "given.onnx")
    feeds = [{"x": RANDOM.normal(size=(1, 2, 4, 4)).astype(np.float32)} for _ in range(3)]
    leaves_as_it_came(tmp_path / "given.onnx", feeds, tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.insert(1, ("Relu", "q", "l")), "Relu 'l/n' computes with integers"),
        (lambda rows: rows.insert(1, ("Cast", "q", "l", {"to": INT8})), "Cast 'l/n' computes with integers"),
        (lambda rows: rows.insert(1, ("Concat", "q q3", "l", {"axis": 1})), "Concat 'l/n' computes with integers"),
    ],
)
def test_arithmetic_of_integers_is_refused(change: Callable[[list[Any]], None], words: str) -> None:
    rows = [(Q, "x s z", "q"), (DQ, "l s z", "y")]
    change(rows)
    if "q3" in rows[1][1]:
        rows.insert(1, (Q, "x t z", "q3"))
    with pytest.raises(ModelError, match=words):
        recover(model(rows, {**NUMBERS, "t": np.float32(1)}, 21))


def test_a_fake_quantizer_of_another_framework_is_refused_in_our_words(tmp_path: Path) -> None:
    node = helper.make_node("FakeQuantize", ["x", "s"], ["y"], domain="org.openvinotoolkit")
    given = model([("Exp", "x", "y")], {"s": S})
    given.graph.node[0].CopyFrom(node)
    given.opset_import.append(helper.make_opsetid("org.openvinotoolkit", 1))
    onnx.save(given, tmp_path / "given.onnx")
    with pytest.raises(ModelError, match="FakeQuantize"):
        step1(tmp_path / "given.onnx", [{"x": np.zeros((1, 2, 4, 4), np.float32)}], tmp_path / "b")

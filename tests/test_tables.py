"""Tables whose rows are picked: stored in integers, of which only the picked rows become real numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from hybridq.errors import ConfigError
from hybridq.graph import runtime
from hybridq.plan.defaults import PICKED
from hybridq.steps.editing import diff, list_layers, set_precision
from hybridq.steps.step1 import step1
from hybridq.steps.step2 import step2

RANDOM = np.random.default_rng(21)
KINDS = {
    "int64": "e = Gather(t, i)",
    "negative axis": "e = Gather<axis = 0>(t, j)  j = Neg(i)",
    "int32": "j = Cast<to = 6>(i)  e = Gather(t, j)",
    "deep": "e0 = Gather(u, i)  e = ReduceMax<keepdims = 0, axes = [1]>(e0)",
}


def model(path: Path, kind: str = "int64", rows: int = 2000) -> Path:
    """Rows of a table, a linear layer and the product with the table itself: an output for every row."""
    picks = KINDS[kind].split("  ")
    text = "  ".join(reversed(picks)) if kind == "negative axis" else KINDS[kind]
    given = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[1, 6] i) => (float[1, 6, {rows}] y) {{ {text}
        m = MatMul(e, w)  r = Relu(m)  y = MatMul(r, v) }}""")
    table = (RANDOM.normal(size=(rows, 40)) * np.exp(RANDOM.normal(size=(rows, 1)))).astype(np.float32)
    held = {"w": RANDOM.normal(size=(40, 40)).astype(np.float32) / 6, "v": table.T.copy() / 6}
    held |= {"u": np.stack([table, -table], 1)} if kind == "deep" else {"t": table}
    given.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in held.items())
    onnx.save(given, path)
    return path


def feeds(rows: int = 2000, seed: int = 0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"i": random.integers(0, rows, (1, 6))} for _ in range(8)]


def values(path: Path, name: str, feed: dict[str, np.ndarray]) -> np.ndarray:
    shown = onnx.load(path)
    shown.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return runtime.run(runtime.session(shown, threads=1, level="none"), feed, [name])[0]


def sqnr(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).mean() / ((wanted - found) ** 2).mean()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_table_is_stored_in_8_bits_and_its_rows_are_within_half_a_step(kind: str, tmp_path: Path) -> None:
    given = model(tmp_path / "given.onnx", kind)
    name, tensor = ("e0", "u") if kind == "deep" else ("e", "t")
    state = step1(given, feeds(), tmp_path / "b", threads=1).state
    assert str(state.calibrated.weight_only_of(name)) == "int8"
    built = step2(tmp_path / "b", threads=1).path
    assert built.stat().st_size < 0.3 * given.stat().st_size
    hybrid = onnx.load(built)
    assert not [t for t in hybrid.graph.initializer if t.name == tensor]
    table = numpy_helper.to_array(next(t for t in onnx.load(given).graph.initializer if t.name == tensor))
    steps = np.abs(table).reshape(len(table), -1).max(1) / 127
    inside = next(n.output[0] for n in hybrid.graph.node if n.op_type == "Mul")
    for feed in feeds(seed=1):
        wanted, found = values(given, name, feed), values(built, inside, feed)
        step = steps[feed["i"] if kind != "negative axis" else -feed["i"]]
        assert (np.abs(wanted - found) <= 0.501 * step.reshape(*step.shape, *[1] * (wanted.ndim - 2))).all()
        assert sqnr(wanted, found) > 40


def test_a_small_table_stays_float_until_it_is_asked_for(tmp_path: Path) -> None:
    given = model(tmp_path / "given.onnx", rows=50)
    step1(given, feeds(50), tmp_path / "b", threads=1)
    built = step2(tmp_path / "b", threads=1).path
    assert [t.data_type for t in onnx.load(built).graph.initializer if t.name == "t"] == [TensorProto.FLOAT]
    set_precision(tmp_path / "b", "e", "weight_only:int8")
    report = step2(tmp_path / "b", threads=1).report
    (row,) = (x for x in report.layers if x.name == "e")
    assert (row.asked, row.done) == ("weight_only int8", "weight_only int8")
    assert not [t for t in onnx.load(built).graph.initializer if t.name == "t"]


def test_commands_show_how_it_is_stored_and_what_was_before(tmp_path: Path) -> None:
    step1(model(tmp_path / "given.onnx"), feeds(), tmp_path / "b", threads=1)
    (row,) = (x for x in list_layers(tmp_path / "b") if x["name"] == "e")
    (told,) = (x for x in step2(tmp_path / "b", threads=1).report.layers if x.name == "e")
    assert (told.done, told.why) == ("weight_only int8", PICKED)
    assert (row["precision"], row["weight_only"]) == ("float32", "int8")
    set_precision(tmp_path / "b", "e", "float32")
    (edit,) = diff(tmp_path / "b")
    assert (edit.before, edit.after) == ("{weight_only: int8}", "float32")
    built = step2(tmp_path / "b", threads=1).path
    assert [t.data_type for t in onnx.load(built).graph.initializer if t.name == "t"] == [TensorProto.FLOAT]


def test_its_result_can_have_no_integers(tmp_path: Path) -> None:
    step1(model(tmp_path / "given.onnx"), feeds(), tmp_path / "b", threads=1)
    with pytest.raises(ConfigError, match=r"(?s)must stay float32.*weight_only: int8"):
        set_precision(tmp_path / "b", "e", "uint8")


def test_one_scale_for_the_whole_table(tmp_path: Path) -> None:
    given = model(tmp_path / "given.onnx")
    step1(given, feeds(), tmp_path / "b", threads=1, weights="layer")
    built = step2(tmp_path / "b", threads=1).path
    table = next(t for t in onnx.load(given).graph.initializer if t.name == "t")
    step = np.abs(numpy_helper.to_array(table)).max() / 127
    for feed in feeds(seed=2):
        assert np.abs(values(given, "e", feed) - values(built, "e/float", feed)).max() <= 0.501 * step


def test_a_precision_that_was_asked_for_leaves_tables_alone(tmp_path: Path) -> None:
    state = step1(model(tmp_path / "given.onnx"), feeds(), tmp_path / "b", threads=1, dtype="uint8").state
    assert state.calibrated.weight_only_of("e") is None


def test_a_scale_for_a_few_numbers_is_not_worth_it(tmp_path: Path) -> None:
    given = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[6] i) => (float[6, 1] y) { e = Gather(t, i)  y = Relu(e) }""")
    given.graph.initializer.append(numpy_helper.from_array(RANDOM.normal(size=(70_000, 1)).astype(np.float32), "t"))
    onnx.save(given, tmp_path / "given.onnx")
    picked = [{"i": RANDOM.integers(0, 70_000, 6)} for _ in range(4)]
    assert (
        step1(tmp_path / "given.onnx", picked, tmp_path / "b", threads=1).state.calibrated.weight_only_of("e") is None
    )


def test_columns_that_are_picked_are_no_table(tmp_path: Path) -> None:
    given = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (int64[6] i) => (float[40, 6] y) { e = Gather<axis = 1>(t, i)  y = Relu(e) }""")
    given.graph.initializer.append(numpy_helper.from_array(RANDOM.normal(size=(40, 3000)).astype(np.float32), "t"))
    onnx.save(given, tmp_path / "given.onnx")
    picked = [{"i": RANDOM.integers(0, 3000, 6)} for _ in range(4)]
    state = step1(tmp_path / "given.onnx", picked, tmp_path / "b", threads=1).state
    assert "e:weight" not in state.calibrated.entries

"""``step3 --board``: what a device computed against float and the plan, in every form, faults found where they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from helpers_board import WRITERS, last, named, qnn, sample, snapshot, toolkits
from helpers_cli import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from recurrent import UNITS, cell, frames, written
from rknn2.make import built

import hybridq
from hybridq.board.arranged import OTHER_AXES, Arranger
from hybridq.board.causes import cause_of
from hybridq.board.records import Captured
from hybridq.compare import BoardReport, layer_pairs, probes
from hybridq.dataset import Dataset, input_specs, open_dataset
from hybridq.errors import BoardError
from hybridq.graph.rolling import Rolled
from hybridq.graph.runtime import session
from hybridq.quant.records import QuantConfig
from hybridq.steps.common import RESULT_SCHEMAS, SCHEMAS, read_config, read_state
from hybridq.steps.step3_board import board_report
from hybridq.storage.state import State

CHOICES = ("int8", "mixed")
BEHIND = {  # what follows from each layer, in the toolkit's names
    "sum1": ("sum1", "sum1__int8", "depth", "depth_l", "branch", "residual", "gated", "pooled", "y1", "y2_c", "y2"),
    "y1": ("y1",),
}


@dataclass(frozen=True)
class Built:
    """A folder after step2, read once."""

    folder: Path
    state: State
    config: QuantConfig
    hybrid: onnx.ModelProto
    data: Dataset


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    made = tmp_path_factory.mktemp("captured")
    return {choice: read_built(built(made / choice, choice)) for choice in CHOICES}


def read_built(folder: Path, listed: Path | None = None) -> Built:
    state = read_state(folder)
    config, _ = read_config(folder, state)
    data = open_dataset(listed or folder.with_suffix(".txt"), input_specs(state.model))
    return Built(folder, state, config, onnx.load(folder / "hybrid.onnx"), data)


def compared(build: Built, dump: Path, data: Dataset | None = None) -> BoardReport:
    return board_report(dump, build.state, build.config, build.hybrid, data or build.data, 1)


@pytest.mark.parametrize(("choice", "place"), [("int8", "simulator"), ("mixed", "simulator"), ("mixed", "runtime")])
def test_the_toolkits_own_dump_is_as_planned_and_has_its_own_figures(
    builds: dict[str, Built], tmp_path: Path, choice: str, place: str
) -> None:
    found = compared(builds[choice], snapshot(tmp_path / "dump", toolkits(choice), choice, place=place))
    assert found.first_apart == ""
    assert len(found.layers) >= 15
    assert found.device == (place == "runtime")
    if place == "simulator":  # the cosine that it states has five digits
        stated = [(x.stated_cosine, x.against_float.cosine) for x in found.layers if x.stated_cosine is not None]
        assert len(stated) >= 15
        assert all(theirs == pytest.approx(ours, abs=4e-5) for theirs, ours in stated)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_says_the_same(builds: dict[str, Built], tmp_path: Path, form: str) -> None:
    found = compared(builds["mixed"], WRITERS[form](tmp_path / "dump", toolkits("mixed")))
    expected = compared(builds["mixed"], named(tmp_path / "named", toolkits("mixed")))
    assert [x.name for x in found.layers] == [x.name for x in expected.layers]
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert one.as_planned
        assert one.against_float.sqnr_db == pytest.approx(other.against_float.sqnr_db, abs=0.05), one.name


Fault = Callable[[np.ndarray], np.ndarray]
FAULTS: dict[str, tuple[Fault, str]] = {
    "scale": (lambda x: x * 1.3, "1.3 times the planned values: look at its scale"),
    "offset": (lambda x: x + 0.4 * x.max(), "look at its zero point or bias"),
    "clipped": (lambda x: x.clip(None, 0.4 * x.max()), "are cut to"),
    "nan": (lambda x: np.where(x > 0.5 * x.max(), np.nan, x), "NaN or infinite"),
    "constant": (lambda x: np.zeros_like(x), "every value is 0"),
    "reversed": (lambda x: x[:, ::-1], "its channels are reversed"),
    "channel": (lambda x: _with(x, (slice(None), slice(3, 4)), x[:, 3:4] ** 2 + 0.3), "is in channels 3"),
    "noise": (lambda x: x + np.random.default_rng(0).normal(size=x.shape, scale=x.std()), "no simple relation"),
}


def _with(x: np.ndarray, where: tuple[slice, ...], values: np.ndarray) -> np.ndarray:
    changed = x.copy()
    changed[where] = values
    return changed


@pytest.mark.parametrize(("layer", "fault"), [*(("sum1", fault) for fault in FAULTS), ("y1", "scale"), ("y1", "nan")])
def test_a_fault_is_found_where_it_is_and_told(
    builds: dict[str, Built], tmp_path: Path, layer: str, fault: str
) -> None:
    harm, says = FAULTS[fault]
    tensors = toolkits("mixed")
    harmed = {**tensors, **{n: harm(tensors[n]).astype(np.float32) for n in BEHIND[layer]}}
    found = compared(builds["mixed"], snapshot(tmp_path / "dump", harmed))
    names = [x.name for x in found.layers]
    assert found.first_apart == layer
    assert found.last_as_planned == names[names.index(layer) - 1]
    assert says in found.cause


def test_integers_are_taken_by_the_plans_scale(builds: dict[str, Built], tmp_path: Path) -> None:
    tensors = toolkits("int8")
    plan = {
        name: e
        for name, e in _entries(builds["int8"].folder).items()
        if name in tensors and e["zero_point"] is not None
    }
    whole = {n: tensors[n] / e["scale"] + e["zero_point"] for n, e in plan.items()}
    whole = {n: np.rint(v) for n, v in whole.items() if np.abs(v - np.rint(v)).max() < 1e-3}  # those that it rounds
    found = compared(builds["int8"], named(tmp_path / "a", {n: v.astype(np.int8) for n, v in whole.items()}))
    shifted = compared(builds["int8"], named(tmp_path / "b", {n: (v + 128).astype(np.uint8) for n, v in whole.items()}))
    assert found.layers == shifted.layers
    assert len(found.layers) >= 10
    assert all(x.as_planned for x in found.layers)


def _entries(build: Path) -> dict[str, dict[str, float]]:
    rows = {x["name"]: hybridq.explain(build, x["name"]).values for x in hybridq.list(build)}
    return {name: {"scale": v.step or 1.0, "zero_point": v.zero_point} for name, v in rows.items()}  # type: ignore[misc]


def test_the_sample_is_known_by_what_the_device_was_fed(builds: dict[str, Built], tmp_path: Path) -> None:
    np.savez(tmp_path / "turned.npz", x=np.concatenate([sample(5 - i) for i in range(6)]))
    turned = open_dataset(tmp_path / "turned.npz", input_specs(builds["mixed"].state.model))
    found = compared(builds["mixed"], snapshot(tmp_path / "dump", toolkits("mixed")), turned)
    assert found.samples == (5,)
    assert found.first_apart == ""


def _elsewhere(folder: Path) -> None:
    listed = folder / "map_name_to_file.txt"
    listed.write_text(listed.read_text().replace(" left.txt", " ../../left.txt"))


def _other_model(folder: Path) -> None:
    shutil.rmtree(folder)
    named(folder, {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)})


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _array(folder: Path, name: str, values: np.ndarray) -> None:
    np.save(folder / "simulator" / "npy" / f"{name}.npy", values, allow_pickle=values.dtype == object)


def _link(folder: Path) -> None:
    path = folder / "simulator" / "npy" / "left.npy"
    path.unlink()
    path.symlink_to(Path(__file__))


def _cut(folder: Path) -> None:
    path = folder / "simulator" / "npy" / "left.npy"
    path.write_bytes(path.read_bytes()[:200])


def _words(folder: Path) -> None:
    (folder / "simulator" / "npy" / "left.npy").unlink()
    (folder / "simulator" / "left.txt").write_text("0.5\n0.25\nsegmentation fault\n")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "names that lead out": (_elsewhere, "'../../left.txt' is no file of this folder"),
    "a link that leads out": (_link, "a link that leads out of the folder"),
    "another size": (lambda f: _array(f, "left", np.zeros((1, 8, 8, 7), np.float32)), "has 448 elements"),
    "pickled": (lambda f: _array(f, "left", np.array([{}], object)), "is no readable .npy"),
    "cut off": (_cut, "is no readable .npy"),
    "text that is no number": (_words, "left.txt:3: 'segmentation' is no number"),
    "another sample": (lambda f: _array(f, "x", 2 - sample(3)), "is no sample of the dataset"),
    "bgr": (lambda f: _array(f, "x", sample(3)[:, ::-1]), "Its channels are reversed"),
    "another model": (_other_model, "none of its 2 tensors is one of"),
    "an empty folder": (_empty, "no tensors of a kind that hybridq knows"),
    "no folder": (shutil.rmtree, "there is no such folder"),
    "no tensors": (lambda f: shutil.rmtree(f / "simulator"), "neither runtime nor simulator is here"),
    "a broken map": (lambda f: (f / "map_name_to_file.txt").write_bytes(b"\xff\xfe\x00"), "no UTF-8 text"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_in_our_words(builds: dict[str, Built], tmp_path: Path, damage: str) -> None:
    harm, says = DAMAGES[damage]
    dump = snapshot(tmp_path / "dump", toolkits("mixed"))
    harm(dump)
    with pytest.raises(BoardError) as caught:
        compared(builds["mixed"], dump)
    assert says in str(caught.value)
    assert str(dump) in str(caught.value)


def test_a_refused_folder_ends_with_1_and_leaves_the_report(builds: dict[str, Built], tmp_path: Path, run: Run) -> None:
    dump = snapshot(tmp_path / "dump", toolkits("mixed"))
    _cut(dump)
    done = run("step3", builds["mixed"].folder, "--board", dump, "--seconds", 0, "--threads", 1)
    assert done.code == 1
    assert "left.npy: is no readable .npy" in done.err
    assert not (builds["mixed"].folder / "report").exists()


def test_the_report_tells_it_everywhere(builds: dict[str, Built], tmp_path: Path, run: Run) -> None:
    tensors = toolkits("mixed")
    harmed = {**tensors, **{n: tensors[n] * 1.3 for n in BEHIND["sum1"]}}
    build = tmp_path / "build"
    shutil.copytree(builds["mixed"].folder, build)
    done = run("step3", build, "--board", snapshot(tmp_path / "dump", harmed), "--seconds", 0, "--threads", 1)
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "computes what was planned up to 'sum1_b'; 'sum1' (Add) differs" in said
    assert "1.3 times the planned values: look at its scale" in said
    assert "No tensor of 'swish_s'" in said
    told = json.loads((build / "report" / "report.json").read_text())
    schema = json.loads((SCHEMAS / RESULT_SCHEMAS["report.json"]).read_text())
    jsonschema.Draft202012Validator(schema).validate(told)
    assert told["verdict"]["level"] == "warning"
    assert told["verdict"]["actions"][0]["kind"] == "device"
    assert told["board"]["first_apart"] == "sum1"
    lines = (build / "report" / "individual_qnt_error_analysis_on_npu.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [x["name"] for x in told["board"]["layers"]]
    row = next(line for line in lines if line.startswith("sum1 "))
    assert "eculidean_norm=0.29" in row
    page = (build / "report" / "index.html").read_text()
    assert 'id="board"' in page
    assert "the first that differs" in page
    assert "the first layer that is not as planned" in run("explain", build, "sum1").out.replace("\n            ", " ")


def test_more_samples_than_the_dataset_has_are_refused(builds: dict[str, Built], tmp_path: Path) -> None:
    dump = qnn(tmp_path / "dump", {k: v for k, v in toolkits("mixed").items() if k != "x"})
    for number in range(1, 8):  # the dataset has six samples
        shutil.copytree(dump / "output" / "Result_0", dump / "output" / f"Result_{number}")
    with pytest.raises(BoardError, match="has fewer"):
        compared(builds["mixed"], dump)


SHAPES = st.tuples(st.just(1), st.integers(2, 5), st.integers(2, 5), st.integers(2, 5))


@settings(max_examples=30)
@given(SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-4, 4, width=16), unique=True)))
def test_a_tensor_comes_back_however_it_was_laid_out(values: np.ndarray) -> None:
    flat = Captured("t", Path("t.raw"))
    for laid_out in (values, last(values), values.reshape(-1), last(values).reshape(-1)):
        found, _ = Arranger().arrange(flat, laid_out, values)
        assert np.array_equal(found, values)


@settings(max_examples=30)
@given(
    SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-4, 4, width=16), unique=True)),
    st.permutations(range(4)),
)
def test_axes_in_another_order_are_turned_and_told_but_noise_is_not_turned_away(
    values: np.ndarray, order: list[int]
) -> None:
    """What a toolchain computes behind a Transpose that it moved comes back; other values stay where they lie."""
    moved = np.ascontiguousarray(values.transpose(order))
    found, note = Arranger().arrange(Captured("t", Path("t.raw"), nhwc=False), moved, values)
    assert np.array_equal(found, values)
    assert note in ("", OTHER_AXES)
    others = np.random.default_rng(0).permutation(values.reshape(-1)).reshape(values.shape)
    found, note = Arranger().arrange(Captured("t", Path("t.raw"), nhwc=False), others, values)
    assert (np.array_equal(found, others), note) == (True, "")


@settings(max_examples=30)
@given(arrays(np.float32, (1, 3, 4, 4), elements=st.floats(-4, 4, width=16), unique=True), st.floats(0.2, 5.0))
def test_a_factor_is_named_as_it_is(values: np.ndarray, factor: float) -> None:
    if abs(factor - 1) < 0.05 or np.ptp(values) < 1e-2:
        return
    told = cause_of("Conv", "int8", values, (values * np.float32(factor)))
    assert f"{factor:.4g} times" in told or "are cut to" in told or "shifted" not in told


def test_a_dump_has_every_layer_and_is_read_as_planned(builds: dict[str, Built], tmp_path: Path, run: Run) -> None:
    build = tmp_path / "build"
    shutil.copytree(builds["mixed"].folder, build)
    told = run("step3", build, "--dump", "--seconds", 0, "--threads", 1, "--json").json
    dump = build / "report" / "dump"
    layers = [x["name"] for x in told["layers"]]
    order = (dump / "dump_data_distribute" / "order.txt").read_text().splitlines()
    assert len(order) == len(layers)
    for kind in ("fp32", "entire_qnt", "individual_qnt"):
        files = sorted(p.name for p in (dump / kind).iterdir())
        measured = [s for s, x in zip(order, told["layers"], strict=True) if kind == "fp32" or x[_figure(kind)]]
        assert files == sorted(p for s in measured for p in files if p.startswith(f"{s}_out0_"))
        assert len(files) == len(measured)
    board = compared(builds["mixed"], dump / "entire_qnt")
    assert [x.name for x in board.layers] == layers
    assert all(x.against_plan.identical or x.against_plan.sqnr_db > 100 for x in board.layers)
    floats = compared(builds["mixed"], dump / "fp32")
    assert all(x.against_float.sqnr_db > 100 for x in floats.layers)
    counts = (dump / "dump_data_distribute" / f"{order[0]}_weight.txt").read_text().splitlines()
    assert sum(int(line.split()[2]) for line in counts) == 8 * 3 * 3 * 3


def _figure(kind: str) -> str:
    return kind.removesuffix("_qnt")


@pytest.mark.parametrize("step", [0, 5])
def test_a_step_of_a_recurrent_model_goes_on_with_the_states_of_each(tmp_path: Path, step: int) -> None:
    """A device that carries its states is as planned to the last bit; one that forgot them is not, from the start."""
    onnx.save(cell(), tmp_path / "m.onnx")
    hybridq.step1(tmp_path / "m.onnx", written(tmp_path, [frames(12)]), tmp_path / "b", dtype="uint8", threads=1)
    hybridq.step2(tmp_path / "b")
    state, hybrid = read_state(tmp_path / "b"), onnx.load(tmp_path / "b" / "hybrid.onnx")
    pairs = layer_pairs(state.model, hybrid)
    one = session(probes.expose(hybrid, [p.hybrid_tensor for p in pairs]), threads=1)
    device, held = Rolled(one, state.model.states), np.zeros((1, UNITS), np.float32)
    for number, x in enumerate(frames(12)[: step + 1]):
        feed = {"x": x, "h": held} if number == 0 else {"x": x}
        values = device.run(feed, [p.hybrid_tensor for p in pairs])
    build = read_built(tmp_path / "b", tmp_path / "dataset.txt")
    tensors = dict(zip([p.name for p in pairs], values, strict=True))
    found = compared(build, named(tmp_path / "dump", {**tensors, "x": frames(12)[step]}))
    assert found.samples == (step,)
    assert found.first_apart == ""
    assert min(x.against_plan.sqnr_db for x in found.layers) > 100
    forgot = one.run([p.hybrid_tensor for p in pairs], {"x": frames(12)[step], "h": held})
    other = dict(zip([p.name for p in pairs], forgot, strict=True))
    again = compared(build, named(tmp_path / "forgot", {**other, "x": frames(12)[step]}))
    assert bool(again.first_apart) == (step > 0)

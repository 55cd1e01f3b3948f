"""model.json and weights.data: what is written is read, the same input gives the same bytes, damage is told."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from random_graphs import random_case, run
from version_1 import restated, write

from hybridq.errors import StorageError
from hybridq.graph.analysis import analyse
from hybridq.graph.model import Model
from hybridq.quant.records import Calibrated
from hybridq.storage import state as storage
from hybridq.storage.state import MODEL, WEIGHTS, State, assemble, read_state, write_state
from hybridq.storage.tensors import ALIGNMENT

SAMPLE = {"x": np.arange(12, dtype=np.int64).reshape(3, 4), "label": np.array(["ü"])[:0].astype(np.uint8)}


@cache
def state_of(seed: int) -> State:
    case = random_case(seed)
    made = {x.name: np.arange(6, dtype=np.float32) for x in case.model.layers[:2]}
    weights = case.weights.repaired(biases=made, rounded={n: b.astype(np.int8) for n, b in made.items()})
    return State(case.model, weights, case.calibrated, {"mean": [0.0]}, 3, sample=SAMPLE)


def searched(seed: int) -> State:
    """With another entry, other biases and other roundings than step1's."""
    state = state_of(seed)
    key, entry = next(iter(state.calibrated.entries.items()))
    made = state.weights.plain().repaired(biases={"other": np.ones(3, np.float32)})
    entries = {**state.calibrated.entries, key: replace(entry, algorithm="mmse", scale=0.5)}
    return state.searched(replace(state.calibrated, entries=entries), made)


def odd_state() -> State:
    """A model whose initializers have every type, a zero size, or no axis."""
    tensors = {
        "f": np.arange(200, dtype=np.float32).reshape(10, 20),
        "f16": np.arange(70, dtype=np.float16),
        "f64": np.arange(3, dtype=np.float64),
        "i64": np.array([-(2**63), 2**63 - 1]),
        "i32": np.arange(100, dtype=np.int32),
        "u8": np.arange(256, dtype=np.uint8),
        "flags": np.array([True, False, True]),
        "scalar": np.array(np.float32(np.pi)),
        "nothing": np.zeros((0, 3), np.float32),
        "nan": np.float32([np.nan, np.inf, -np.inf, -0.0]),
    }
    nodes = [helper.make_node("MatMul", ["x", "f"], ["y"], name="m")]
    nodes += [helper.make_node("Identity", [t], [f"out/{t}"], name=f"id/{t}") for t in tensors if t != "f"]
    kinds = {t: helper.np_dtype_to_tensor_dtype(v.dtype) for t, v in tensors.items()}
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 20])]
        + [helper.make_tensor_value_info(f"out/{t}", kinds[t], v.shape) for t, v in tensors.items() if t != "f"],
        [numpy_helper.from_array(v, t) for t, v in tensors.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = analyse(proto, name="ödd")
    return State(model, storage.weights_of(proto), state_of(0).calibrated, {})


def told(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Nodes as text; older versions of onnx write empty names and doc strings down, which say nothing."""
    return [re.sub(r'(?m)^ *(name|doc_string): ""\n', "", str(node)) for node in nodes]


def assert_same(a: State, b: State) -> None:
    for part in ("initializers", "biases", "rounded"):
        ours, theirs = getattr(a.weights, part), getattr(b.weights, part)
        assert list(ours) == list(theirs)
        for name, values in ours.items():
            np.testing.assert_array_equal(theirs[name], values, strict=True)
    for field in ("preprocessing", "samples", "cfg_digest", "calibrated"):
        assert getattr(a, field) == getattr(b, field), field
    for field in ("name", "sha256", "layers", "groups", "tensors", "inputs", "outputs"):
        assert getattr(a.model, field) == getattr(b.model, field), field
    before, after = a.model.proto, b.model.proto
    assert told(before.graph.node) == told(after.graph.node)
    assert [*before.graph.input, *before.graph.output] == [*after.graph.input, *after.graph.output]
    assert {(t.name, t.data_type, tuple(t.dims)) for t in before.graph.initializer} == {
        (t.name, t.data_type, tuple(t.dims)) for t in after.graph.initializer
    }
    assert set(a.sample) == set(b.sample)
    for name, values in a.sample.items():
        np.testing.assert_array_equal(values, b.sample[name], strict=True)


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(tmp_path: Path, seed: int) -> None:
    state = state_of(seed)
    write_state(tmp_path, state)
    found = read_state(tmp_path, verify=True)
    assert_same(state, found)
    case = random_case(seed)
    whole = assemble(found.model.proto, found.weights)
    onnx.checker.check_model(whole)
    for a, b in zip(run(case.proto, case.feed), run(whole, case.feed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_search_found_comes_back_beside_what_step1_decided(tmp_path: Path) -> None:
    for seed in range(3):
        write_state(tmp_path, searched(seed))
        found = read_state(tmp_path, verify=True)
        assert_same(searched(seed), found)
        assert_same(state_of(seed), found.before_search())
        assert found.calibrated.entries != found.decided.calibrated.entries


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_folder_of_version_1_is_the_same_state(tmp_path: Path, seed: int, seal: bool) -> None:
    """Sealed it is read as it is; the first release's, without any digest, is what ``upgrade`` reads."""
    write_state(tmp_path, storage.with_cfg(state_of(seed), "text"))
    today = read_state(tmp_path, verify=True)
    write(tmp_path / MODEL, restated(json.loads((tmp_path / MODEL).read_text())), seal=seal)
    earlier = storage.read_earlier(tmp_path)
    assert earlier is not None
    assert_same(today, earlier)
    if seal:
        assert_same(today, read_state(tmp_path, verify=True))
    else:
        with pytest.raises(StorageError, match="earlier hybridq"):
            read_state(tmp_path)


def test_every_type_of_tensor(tmp_path: Path) -> None:
    write_state(tmp_path, odd_state())
    found = read_state(tmp_path, verify=True)
    assert_same(odd_state(), found)
    onnx.checker.check_model(assemble(found.model.proto, found.weights))


def test_weights_are_mapped_and_aligned(tmp_path: Path) -> None:
    write_state(tmp_path, odd_state())
    state = read_state(tmp_path)
    held = state.weights["f"]
    while isinstance(held.base, np.ndarray):
        held = held.base
    assert isinstance(held.base, mmap.mmap)
    assert not state.weights["f"].flags.writeable
    places = json.loads((tmp_path / MODEL).read_text())["weights"]["tensors"]
    assert all(t["offset"] % ALIGNMENT == 0 for t in places.values())
    np.testing.assert_array_equal(state.weights["f"], odd_state().weights["f"])


@pytest.mark.parametrize("make", [odd_state, lambda: state_of(3)])
def test_same_state_same_bytes(tmp_path: Path, make: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_state(tmp_path / name, make())
    for file in (MODEL, WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_reading_and_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write_state(tmp_path, state_of(4))
    again = tmp_path / "again"
    again.mkdir()
    write_state(again, read_state(tmp_path))
    for file in (MODEL, WEIGHTS):
        assert (tmp_path / file).read_bytes() == (again / file).read_bytes()


def test_nothing_of_the_machine_is_written(tmp_path: Path) -> None:
    write_state(tmp_path, state_of(0))
    text = (tmp_path / MODEL).read_text()
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text or Path.home() == Path("/")


def test_the_cfg_is_remembered(tmp_path: Path) -> None:
    write_state(tmp_path, storage.with_cfg(state_of(0), "text"))
    assert read_state(tmp_path).cfg_digest == storage.text_digest("text")


class TestDamage:
    """Every damage ends in one StorageError that names the file."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_state(tmp_path, state_of(1))
        return tmp_path

    def refuse(self, folder: Path, match: str, *, verify: bool = True) -> None:
        with pytest.raises(StorageError, match=match) as caught:
            read_state(folder, verify=verify)
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].path
        assert caught.value.problems[0].hint

    def test_no_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "absent", "no such folder")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "there is no model.json")

    def test_missing_weights(self, folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        self.refuse(folder, "missing")

    def test_short_weights(self, folder: Path) -> None:
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
        self.refuse(folder, "damaged", verify=False)

    def test_changed_weights(self, folder: Path) -> None:
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / WEIGHTS).write_bytes(data)
        self.refuse(folder, "checksum")

    @pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"7", b"\xff\xfe", b'{"format": 1}'])
    def test_no_json(self, folder: Path, text: bytes) -> None:
        (folder / MODEL).write_bytes(text)
        self.refuse(folder, "damaged|format")

    def test_another_version(self, folder: Path) -> None:
        text = (folder / MODEL).read_text().replace("hybridq.model/2", "hybridq.model/99")
        (folder / MODEL).write_text(text)
        self.refuse(folder, "hybridq.model/99")

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_any_key_missing_or_wrong(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        folder = tmp_path_factory.mktemp("damaged")
        write_state(folder, state_of(1))
        whole = json.loads((folder / MODEL).read_text())
        at, depth = whole, data.draw(st.integers(0, 4))
        for _ in range(depth):
            inner = [v for v in (at.values() if isinstance(at, dict) else at) if isinstance(v, (dict, list)) and v]
            if not inner:
                break
            at = data.draw(st.sampled_from(inner))
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if data.draw(st.booleans()):
            del at[key]
        else:
            at[key] = data.draw(st.sampled_from([None, -1, "?", [], {}, [1, 2], {"a": 1}, 1e99, "float32"]))
        (folder / MODEL).write_text(json.dumps(whole))
        try:
            assert isinstance(read_state(folder), State)
        except StorageError as error:
            assert error.problems[0].path  # noqa: PT017 both ends are right

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_short_json(self, folder: Path, share: float) -> None:
        text = (folder / MODEL).read_text()
        (folder / MODEL).write_text(text[: int(len(text) * share)])
        self.refuse(folder, "damaged")

    def test_weights_elsewhere_are_not_read(self, folder: Path) -> None:
        """A path in model.json must not lead out of the folder."""
        whole = json.loads((folder / MODEL).read_text())
        whole["weights"]["file"] = f"../{folder.name}/{WEIGHTS}"
        (folder / MODEL).write_text(json.dumps(whole))
        self.refuse(folder, "damaged")


def test_states_differ_where_they_should() -> None:
    """The comparison above sees differences."""
    state = state_of(0)
    other: Model = replace(state.model, name="other")
    with pytest.raises(AssertionError):
        assert_same(state, replace(state, model=other))
    changed: Calibrated = replace(state.calibrated, algorithm="mmse")
    with pytest.raises(AssertionError):
        assert_same(state, replace(state, calibrated=changed))

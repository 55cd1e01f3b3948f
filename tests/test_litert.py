"""LiteRT's ``quantize.py``: layers are found by their values however a converter lays them out, and become a recipe."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hybridq
from hybridq.engines import litert, table
from hybridq.errors import EngineError
from hybridq.exchange import litert_quantize as script
from hybridq.exchange.view import make_view
from hybridq.files.temporary import temporary_folder
from hybridq.graph.runtime import session
from hybridq.plan.plan import make_plan
from hybridq.steps.common import read_config, read_state

VALUES = arrays(np.float32, (1, 2, 2, 4), elements=st.floats(-8, 8, width=16), unique=True)


@settings(max_examples=40)
@given(VALUES, VALUES)
def test_a_tensor_is_known_in_any_layout_and_another_is_not(a: np.ndarray, b: np.ndarray) -> None:
    moved = np.moveaxis(a, 1, -1).reshape(1, -1)
    assert script.alike(script.signature(a), script.signature(moved))
    assert not script.alike(script.signature(a), script.signature(a[..., :3]))
    assume(abs(float(a.mean() - b.mean())) > 0.01 * float(a.std()))
    assert not script.alike(script.signature(a), script.signature(b))


def test_layers_go_to_the_tensors_with_their_values() -> None:
    random = np.random.default_rng(0)
    values = {n: random.normal(size=(1, 4, 6, 6)).astype(np.float32) for n in "abc"}
    ours = {n: script.signature(v) for n, v in values.items()}
    theirs = {f"model/{n};x": script.signature(np.moveaxis(v, 1, -1)) for n, v in values.items() if n != "b"}
    assert script.matched(ours, theirs) == {"a": ["model/a;x"], "b": [], "c": ["model/c;x"]}


def test_the_recipe_names_what_differs_exactly() -> None:
    plan = {"layers": {"a": "int8", "b": "float32", "c": "int16"}, "float": ["joined"]}
    names = {"a": ["t/a"], "b": ["t/b(1)", "t/b2"], "c": ["t/c"], "joined": ["t/concat"]}
    first, begin, end, *rest = script.recipe(plan, names)
    assert [(r["operation"], r["algorithm_key"]) for r in (begin, end)] == [
        ("INPUT", script.NONE),
        ("OUTPUT", script.NONE),
    ]
    assert (first["regex"], first["op_config"]["activation_tensor_config"]["num_bits"]) == (".*", 8)
    kinds = [
        (r["algorithm_key"], r.get("op_config", {}).get("activation_tensor_config", {}).get("num_bits")) for r in rest
    ]
    assert kinds == [(script.NONE, None), (script.NONE, None), (script.ALGORITHM, 16), (script.NONE, None)]
    for rule, tensor in zip(rest, ("t/b(1)", "t/b2", "t/c", "t/concat"), strict=True):
        assert re.search(
            rule["regex"], f"{tensor};"
        )  # a scope is what an operator writes, each name with a sign behind
        assert not re.search(rule["regex"], f"{tensor}/more;")


def test_our_ranges_take_the_place_of_its_own() -> None:
    found: dict[str, Any] = {"t": {"min": np.array([[-3.0]]), "max": np.array([[5.0]])}, "u": {"min": 0.0, "max": 1.0}}
    assert script.ranged(found, {"ranges": {"a": [-1.0, 2.0], "b": [0.0, 9.0]}}, {"a": ["t"], "b": []}) == 1
    assert (found["t"]["min"].tolist(), found["t"]["max"].tolist()) == ([[-1.0]], [[2.0]])
    assert found["u"] == {"min": 0.0, "max": 1.0}


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=3))
def test_a_tensor_is_measured_over_all_samples(samples: list[np.ndarray]) -> None:
    found = script.measured({"t": x, "empty": x[:0], "odd": np.full(1, np.inf)} for x in samples)
    assert set(found) == {"t"}
    assert found["t"]["min"].shape == (1, 1, 1, 1)
    assert (float(found["t"]["min"].item()), float(found["t"]["max"].item())) == (
        min(float(x.min()) for x in samples),
        max(float(x.max()) for x in samples),
    )


def test_what_stands_for_minus_infinity_is_no_value() -> None:
    padded = np.array([[-3.4e38, 0.5, 2.0]], np.float32)
    assert script.measured([{"t": padded}])["t"] == {"min": np.array([[0.5]]), "max": np.array([[2.0]])}


def test_constants_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool finds a scale for every channel of a weight only where nobody tells it a minimum and maximum."""

    class Interpreter:
        def __init__(self, _: str, **__: object) -> None:
            self.tensors = {1: np.ones((3, 2), np.float32)}

        def allocate_tensors(self) -> None:
            pass

        def get_input_details(self) -> list[dict[str, Any]]:
            return self.get_tensor_details()[:1]

        def get_tensor_details(self) -> list[dict[str, Any]]:
            names = ("fed", "weight", "made")
            return [{"index": i, "name": n, "shape": (1, 2), "dtype": np.float32} for i, n in enumerate(names)]

        def _get_ops_details(self) -> list[dict[str, Any]]:
            return [{"inputs": [0, 1], "outputs": [2]}]

        def set_tensor(self, index: int, values: np.ndarray) -> None:
            self.tensors[index] = values

        def invoke(self) -> None:
            self.tensors[2] = self.tensors[0] * 2

        def get_tensor(self, index: int) -> np.ndarray:
            return self.tensors[index]

    kinds = SimpleNamespace(BUILTIN_WITHOUT_DEFAULT_DELEGATES=0)
    module = SimpleNamespace(Interpreter=Interpreter, OpResolverType=kinds)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=module))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    (found,) = script.values_of("m.tflite", [{"x": np.ones((1, 2), np.float32)}])
    assert set(found) == {"fed", "made"}


def test_the_folder_has_all_that_the_script_reads(folder: Path) -> None:
    hybridq.set(folder / "build", "relu", "float32")
    out = hybridq.step4(folder / "build", "litert").path
    plan = json.loads((out / "plan.json").read_text())
    assert plan["layers"]["relu"] == "float32"
    assert {"pooled", "flat"} <= set(plan["ranges"])  # what is only moved, too
    assert not plan["float"]
    hybridq.set(folder / "build", "*", "float32")
    again = hybridq.step4(folder / "build", "litert").path  # what is only moved is stored as what is moved
    assert json.loads((again / "plan.json").read_text())["float"] == ["flat"]
    with np.load(out / "samples.npz") as held:
        assert list(held.files) == plan["inputs"]
        sample = {n: held[n][0] for n in held.files}
    script_text = (out / "quantize.py").read_text()
    assert script_text == Path(script.__file__).read_text()
    space: dict[str, Any] = {"__file__": str(out / "quantize.py"), "__name__": "quantize"}
    exec(compile(script_text, "quantize.py", "exec"), space)
    assert set(space["ours"](plan, sample)) == {*plan["layers"], *plan["float"], *plan["ranges"]}
    assert space["samples"](plan["inputs"])[0].keys() == sample.keys()


# -- the runtime, played: outputs in another order, channels last, integers at the ends -------------------------------


class _Played:
    """An interpreter that hands on its input times each factor, channels last, as the converter's tensors lie."""

    def __init__(self, factors: tuple[float, ...], shape: tuple[int, ...], scale: float = 0.0) -> None:
        self.factors, self.scale = factors, scale
        self.shape = (shape[0], *shape[2:], shape[1])
        self.dtype = np.int8 if scale else np.float32
        self.tensors: dict[int, np.ndarray] = {}

    def _detail(self, index: int) -> dict[str, Any]:
        return {"index": index, "shape": self.shape, "dtype": self.dtype, "quantization": (self.scale, 0)}

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self._detail(50)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [self._detail(i) for i in range(len(self.factors))]

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        assert (values.dtype, values.shape) == (self.dtype, self.shape)
        self.tensors[index] = values

    def invoke(self) -> None:
        for i, factor in enumerate(self.factors):
            self.tensors[i] = np.asarray(self.tensors[50] * factor, self.dtype)

    def get_tensor(self, index: int) -> np.ndarray:
        return self.tensors[index]


@settings(max_examples=30)
@given(st.permutations((1.0, 2.0, -1.0)), st.sampled_from([(1, 3, 4, 5), (1, 2, 6)]), st.sampled_from([0.0, 0.25]))
def test_outputs_are_known_by_their_values(factors: list[float], shape: tuple[int, ...], scale: float) -> None:
    values = np.random.default_rng(0).integers(-40, 40, shape).astype(np.float32) * np.float32(0.25)
    feed, expected = {"x": values}, [values, 2 * values, -values]
    found = tuple(litert.places_of(_Played(tuple(factors), shape), ("x",), feed, expected))
    assert [factors[p.number] for p in found] == [1.0, 2.0, -1.0]
    for played in (_Played(tuple(factors), shape), _Played(tuple(factors), shape, scale)):
        for made, reference in zip(litert.LiteRTSession(played, ("x",), found).run(None, feed), expected, strict=True):
            np.testing.assert_array_equal(made, reference)


@pytest.mark.parametrize("refusing", [("AUTO",), ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")])
def test_what_the_fast_kernels_refuse_litert_itself_computes(
    refusing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interpreter(_Played):
        def __init__(self, _: str, *, num_threads: int, experimental_op_resolver_type: str) -> None:
            super().__init__((1.0,), (1, 3, 4, 4))
            self.kernels = experimental_op_resolver_type

        def allocate_tensors(self) -> None:
            if self.kernels in refusing:
                raise RuntimeError("Node number 7 failed to prepare.")

    kinds = SimpleNamespace(AUTO="AUTO", BUILTIN_WITHOUT_DEFAULT_DELEGATES="BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    module = SimpleNamespace(Interpreter=Interpreter, OpResolverType=kinds)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=module))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    if len(refusing) > 1:
        with pytest.raises(EngineError, match=r"(?s)does not run what was made for it.*Node number 7"):
            litert.interpreter_of(Path("m.tflite"), ("x",), 1)
    else:
        assert litert.interpreter_of(Path("m.tflite"), ("x",), 1).kernels == kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def test_an_output_of_another_size_is_told() -> None:
    feed = {"x": np.ones((1, 3, 4, 4), np.float32)}
    with pytest.raises(EngineError, match="no output of 7 elements"):
        litert.places_of(_Played((1.0,), (1, 3, 4, 4)), ("x",), feed, [np.ones(7, np.float32)])


def test_a_program_that_is_not_on_the_path_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda _: object())
    monkeypatch.setattr(table.shutil, "which", lambda _: None)
    with pytest.raises(EngineError, match="needs the program onnx2tf"):
        table.engine("litert")


def test_both_models_are_converted_and_one_is_quantized_by_the_script(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter gets a copy of each model, the script the converted one; what it says of layers is kept."""
    asked: list[list[str]] = []

    def tool(words: list[str], *, cwd: Path | None = None, **_: object) -> SimpleNamespace:
        asked.append(words)
        made = Path(words[-1]) if cwd is None else cwd / "out" / "model_float32.tflite"
        made.parent.mkdir(exist_ok=True)
        shutil.copy(Path(words[2]) if cwd is None else cwd / "model.onnx", made)
        return SimpleNamespace(returncode=0, stdout=f"hello\n4 of 4 {script.FOUND}, 3 ranges taken\n", stderr="")

    litert._tflite.cache_clear()
    monkeypatch.setattr(litert.subprocess, "run", tool)
    monkeypatch.setattr(litert, "version", lambda _: "2.3.0")
    monkeypatch.setattr(litert, "interpreter_of", lambda path, *_: _Onnx(path))
    state = read_state(folder / "build")
    config, _ = read_config(folder / "build", state)
    view = make_view(state, make_plan(state.model, state.calibrated, config, state.weights), config)
    sample = {"image": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    with temporary_folder() as place:
        loaded = table.ENGINES["litert"].load(view, place, 1, [sample])
        expected = session(place / "float.onnx").run(None, sample)[0]
        assert litert.converted(place / "float.onnx", place / "again").exists()
    assert [words[0] for words in asked] == ["onnx2tf", "onnx2tf", sys.executable]  # the same model no second time
    assert loaded.notes == (f"4 of 4 {script.FOUND}, 3 ranges taken",)
    assert loaded.given.run(None, sample)[0] == pytest.approx(expected, abs=1e-5)
    assert loaded.hybrid.run(None, sample)[0] == pytest.approx(expected, abs=1e-1)


class _Onnx:
    """A model that "was converted", still in ONNX, behind the interpreter's calls."""

    def __init__(self, path: Path) -> None:
        self.session = session(path)
        self.fed: list[np.ndarray] = []
        self.found: list[np.ndarray] = []

    def get_input_details(self) -> list[dict[str, Any]]:
        return [
            {"index": i, "shape": x.shape, "dtype": np.float32, "quantization": (0.0, 0)}
            for i, x in enumerate(self.session.get_inputs())
        ]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [
            {"index": i, "shape": x.shape, "dtype": np.float32, "quantization": (0.0, 0)}
            for i, x in enumerate(self.session.get_outputs())
        ]

    def set_tensor(self, index: int, values: np.ndarray) -> None:
        self.fed = [values]

    def invoke(self) -> None:
        self.found = self.session.run(
            None, {x.name: v for x, v in zip(self.session.get_inputs(), self.fed, strict=True)}
        )

    def get_tensor(self, index: int) -> np.ndarray:
        return self.found[index]

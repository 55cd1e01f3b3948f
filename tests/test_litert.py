"""LiteRT's ``quantize.py``: layers are found by their values however a converter lays them out, and become a recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import hybridq
from hybridq.exchange import litert_quantize as script

VALUES = arrays(np.float32, (1, 3, 4, 4), elements=st.floats(-8, 8, width=16), unique=True)


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
    plan = {"layers": {"a": "int8", "b": "float32", "c": "int16"}}
    names = {"a": ["t/a"], "b": ["t/b(1)", "t/b2"], "c": ["t/c"]}
    first, *rest = script.recipe(plan, names)
    assert (first["regex"], first["op_config"]["activation_tensor_config"]["num_bits"]) == (".*", 8)
    kinds = [
        (r["algorithm_key"], r.get("op_config", {}).get("activation_tensor_config", {}).get("num_bits")) for r in rest
    ]
    assert kinds == [(script.NONE, None), (script.NONE, None), (script.ALGORITHM, 16)]
    for rule, tensor in zip(rest, ("t/b(1)", "t/b2", "t/c"), strict=True):
        assert re.search(
            rule["regex"], f"{tensor};"
        )  # a scope is what an operator writes, each name with a sign behind
        assert not re.search(rule["regex"], f"{tensor}/more;")


def test_our_ranges_take_the_place_of_its_own() -> None:
    found: dict[str, Any] = {"t": {"min": np.array([[-3.0]]), "max": np.array([[5.0]])}, "u": {"min": 0.0, "max": 1.0}}
    assert script.ranged(found, {"ranges": {"a": [-1.0, 2.0], "b": [0.0, 9.0]}}, {"a": ["t"], "b": []}) == 1
    assert (found["t"]["min"].tolist(), found["t"]["max"].tolist()) == ([[-1.0]], [[2.0]])
    assert found["u"] == {"min": 0.0, "max": 1.0}


def test_the_folder_has_all_that_the_script_reads(folder: Path) -> None:
    hybridq.set(folder / "build", "relu", "float32")
    out = hybridq.step4(folder / "build", "litert").path
    plan = json.loads((out / "plan.json").read_text())
    assert plan["layers"]["relu"] == "float32"
    assert set(plan["ranges"]) <= set(plan["layers"])
    with np.load(out / "samples.npz") as held:
        assert list(held.files) == plan["inputs"]
        sample = {n: held[n][0] for n in held.files}
    script_text = (out / "quantize.py").read_text()
    assert script_text == Path(script.__file__).read_text()
    space: dict[str, Any] = {"__file__": str(out / "quantize.py"), "__name__": "quantize"}
    exec(compile(script_text, "quantize.py", "exec"), space)
    assert set(space["ours"](plan, sample)) == set(plan["layers"])
    assert space["samples"](plan["inputs"])[0].keys() == sample.keys()

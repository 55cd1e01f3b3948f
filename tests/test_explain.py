"""``explain``: one layer on one screen, in agreement with what the other commands say."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from helpers_cli import Run

import hybridq
from hybridq.steps.common import read_config, read_state

LAYERS = ("relu", "pooled", "logits", "scores")


@pytest.mark.parametrize("layer", LAYERS)
def test_it_agrees_with_list_and_the_report(folder: Path, run: Run, layer: str) -> None:
    found = hybridq.explain(folder / "build", layer)
    row = next(r for r in hybridq.list(folder / "build") if r["name"] == layer)
    assert (found.op, found.activation, found.macs, found.asked) == (
        row["op"],
        row["activation"],
        row["macs"],
        row["precision"],
    )
    told = run("step3", "build", "--threads", 1, "--json").json
    measured = next(x for x in told["layers"] if x["name"] == layer)
    again = hybridq.explain(folder / "build", layer)
    for figures, db in ((measured["individual"], again.alone_db), (measured["entire"], again.inside_db)):
        assert db == (figures and figures["sqnr_db"])


@pytest.mark.usefixtures("folder")
def test_below_what_a_layer_is_to_blame_stands_beside_what_it_loses(run: Run) -> None:
    hybridq.set("build", "*", "uint8")
    hybridq.step2("build", threads=1)
    limit = hybridq.step3("build", threads=1, seconds=0).verdict.blamed_below_db
    assert limit is not None
    assert hybridq.explain("build", "relu").blamed_below_db == pytest.approx(limit)
    assert f"(to blame below {limit:.1f} dB)" in " ".join(run("explain", "build", "relu").out.split())


def test_every_name_of_a_layer_explains_it(folder: Path) -> None:
    for name in ("relu", "conv", "first"):
        assert hybridq.explain(folder / "build", name) == hybridq.explain(folder / "build", "relu")


@pytest.mark.usefixtures("folder")
def test_the_step_spans_the_chosen_range() -> None:
    hybridq.set("build", "relu", "uint8", params={"min": "0", "max": "5.1"})
    values = hybridq.explain("build", "relu").values
    assert values.stored == "uint8"
    assert values.chosen == pytest.approx((0.0, 5.1), abs=1e-6)
    assert values.step == pytest.approx(5.1 / 255, rel=1e-6)
    assert values.zero_point == 0


@pytest.mark.usefixtures("folder")
def test_edits_and_their_reason_are_told_and_can_be_taken_back(run: Run) -> None:
    hybridq.set("build", "logits", "int16")
    found = hybridq.explain("build", "logits")
    assert "line" in found.why
    assert [e.after for e in found.edits] == ["int16"]
    assert found.help[0] == "hybridq unset build logits"
    for name, words in ((c[0], c[1:]) for c in (shlex.split(command)[1:] for command in found.help[:1])):
        assert run(name, *words).code == 0
    assert hybridq.explain("build", "logits").edits == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("precision", ["float32", "float16", "int16"])
def test_of_a_raised_layer_it_says_what_it_was_costs_and_brought(run: Run, precision: str) -> None:
    hybridq.set("build", "*", "uint8")
    before = hybridq.explain("build", "logits")
    assert before.raised == ()
    hybridq.set("build", "logits", precision)
    now = hybridq.explain("build", "logits")
    was, costs, brought = now.raised
    if before.values.step is not None:
        assert was.startswith("was ")
    wide = {"float32": 4, "float16": 2, "int16": 2}[precision]
    assert f"{8 * 4 * wide} B of weights for {8 * 4} B" in costs
    assert f"{now.macs_share:.1%} of the MACs" in costs
    assert "hybridq unset build logits" in brought
    assert all(line in " ".join(run("explain", "build", "logits").out.split()) for line in (was, costs, brought))


@pytest.mark.usefixtures("folder")
def test_what_would_help_helps(run: Run) -> None:
    hybridq.set("build", "*", "uint8")
    before = hybridq.explain("build", "relu")
    assert before.done == "uint8"
    command = shlex.split(next(c for c in before.help if " set " in c))
    assert run(*command[1:]).code == 0
    after = hybridq.explain("build", "relu")
    assert (after.done, after.values.stored) == ("float32", "float32")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("layer", LAYERS)
def test_neighbours_read_each_other(layer: str) -> None:
    state = read_state(Path("build"))
    read_config(Path("build"), state)
    for reader in hybridq.explain("build", layer).read_by:
        groups = {state.model.group_of[t.name].name for t in hybridq.explain("build", reader.name).reads}
        assert state.model.layer[layer].group in groups


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("layer", LAYERS)
def test_it_fits_one_screen(run: Run, layer: str) -> None:
    hybridq.set("build", "*", "uint8", params={"min": "-1", "max": "9"})
    lines = run("explain", "build", layer).out.splitlines()
    assert lines[0].startswith(f"{layer}: ")
    assert len(lines) <= 25
    assert all(len(line) <= 100 for line in lines if " hybridq " not in line)


@pytest.mark.usefixtures("folder")
def test_json_has_everything(run: Run) -> None:
    found = run("explain", "build", "relu", "--json").json
    assert found == hybridq.explain("build", "relu").to_json()
    assert {"values", "weights", "edits", "reads", "read_by", "why", "help"} <= set(found)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("word", "says"),
    [("relv", "Did you mean relu?"), ("image", "a model input"), ("zzzzzzzz", "hybridq list"), ("", "no layer")],
)
def test_no_such_layer_ends_with_1_and_a_remedy(run: Run, word: str, says: str) -> None:
    done = run("explain", "build", word)
    assert done.code == 1
    assert says in done.err


def test_no_such_folder_ends_with_1(run: Run, tmp_path: Path) -> None:
    assert run("explain", tmp_path / "absent", "relu").code == 1

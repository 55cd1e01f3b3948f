"""Concats whose inputs keep scales of their own: by hand, by a search, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Run
from helpers_graphs import given
from helpers_search import Array, Feeds, damages

import hybridq
from hybridq.calibration import calibrate
from hybridq.errors import ConfigError
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.intake.canonical import canonicalize
from hybridq.graph.separated import separable, separated
from hybridq.graph.view import Sharing
from hybridq.plan.plan import make_plan
from hybridq.plan.record import with_results
from hybridq.plan.separate import may_separate, separate, union
from hybridq.steps.common import read_config, read_state
from hybridq.storage.state import CFG

SHAPE = (1, 4, 8, 8)
LOUD = 40.0  # times the other half, where it counts as much


def weights(seed: int, *shape: int, scale: float = 1.0) -> Array:
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * scale / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def joins(loud: float = LOUD) -> onnx.ModelProto:
    """Two joins in a row with a split between: in one group, the quiet half of the first has the last one's scale."""
    tensors = {
        "w": weights(0, 4, 4, 3, 3),
        "v": weights(1, 4, 4, 3, 3),
        "u": weights(2, 4, 4, 3, 3, scale=loud),
        "t": weights(3, 4, 8, 1, 1),
        "q": weights(4, 4, 8, 1, 1, scale=1 / loud),
    }
    tensors |= {n: np.array([i], np.int64) for n, i in {"zero": 0, "one": 1, "four": 4, "eight": 8}.items()}
    nodes = [
        ("Conv", "x w", "a", {"pads": [1] * 4}),
        ("Conv", "x v", "b", {"pads": [1] * 4}),
        ("Concat", "a b", "first", {"axis": 1}),
        ("Conv", "first t", "y"),
        ("Slice", "first zero four one", "left"),
        ("Slice", "first four eight one", "right"),
        ("Conv", "left u", "c", {"pads": [1] * 4}),
        ("Concat", "right c", "second", {"axis": 1}),
        ("Conv", "second q", "z"),
    ]
    return given(nodes, tensors, ["y", "z"], SHAPE)


def test_what_the_joined_tensors_tell_of_a_result_is_what_measuring_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = canonicalize(joins())
    model = analyse(proto)
    batches = list(enumerate(samples(5)))
    told = calibrate.calibrate(model, proto, batches)
    monkeypatch.setattr(calibrate, "told", lambda _: {})
    measured = calibrate.calibrate(model, proto, batches)
    assert measured.tensors.keys() - told.tensors.keys() == {"first"}
    found = with_results(model, told.tensors)
    assert found.keys() == measured.tensors.keys()
    assert all(np.array_equal(found[n].pairs, one.pairs) for n, one in measured.tensors.items())


def samples(count: int, seed: int = 0) -> Feeds:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What step1 leaves of the joins."""
    path = tmp_path_factory.mktemp("separate")
    onnx.save(joins(), path / "m.onnx")
    hybridq.step1(path / "m.onnx", samples(12), path / "made", dtype="uint8", threads=1)
    return path / "made"


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Path:
    """A folder of one's own."""
    for name in folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    return tmp_path


def ask(made: Path, line: str) -> None:
    text = (made / CFG).read_text()
    (made / CFG).write_text(text.replace("target: onnxruntime\n", f"target: onnxruntime\n{line}\n"))


def scales(made: Path, *tensors: str) -> list[float]:
    """The scale of each tensor in what step2 builds, 0 where it stays float; ONNX Runtime runs it."""
    hybridq.step2(made, threads=1)
    runtime.run(runtime.session(made / "hybrid.onnx", threads=1), samples(1)[0])
    state = read_state(made)
    plan = make_plan(state.model, state.calibrated, read_config(made, state)[0], state.weights)
    found = (plan.groups[state.model.group_of[t].name].stored.qparams for t in tensors)
    return [float(q.scale) if q is not None else 0.0 for q in found]


def test_a_separate_model_is_the_one_that_analysis_would_give(folder: Path) -> None:
    model = read_state(folder).model
    for names in (["first"], ["second"], ["first", "second"]):
        found = separated(model, names, outputs_share=False, fixed_ranges=True)
        nodes = frozenset(model.producers[n].name for n in names)
        wanted = analyse(model.proto, sharing=Sharing(apart=nodes))
        assert found.groups == wanted.groups
        assert [(x.name, x.op, x.inputs, x.group, x.macs) for x in found.layers] == [
            (x.name, x.op, x.inputs, x.group, x.macs) for x in wanted.layers
        ]


def test_parts_have_together_the_range_of_the_whole(folder: Path) -> None:
    state = read_state(folder)
    model, record = state.model, state.calibrated
    assert separable(model) == may_separate(model, record) == ("first", "second")
    parts, own = separate(model, record, ["first", "second"])
    for group in model.groups:
        inside = [own.measured[g.name] for g in parts.groups if g.tensors[0] in group.tensors]
        assert union(inside).range == record.measured[group.name].range
        assert all(m.range.max <= record.measured[group.name].range.max for m in inside)
    joined = union([own.measured[parts.group_of[t].name] for t in ("a", "b")])
    assert own.measured["first"].range == joined.range


def test_a_line_in_the_cfg_gives_the_parts_scales_of_their_own(made: Path) -> None:
    together = scales(made, "a", "b", "c")
    assert len(set(together)) == 1
    ask(made, 'separate_concats: ["first", "second"]')
    assert not hybridq.check(made)
    apart = scales(made, "a", "b", "first", "c", "second")
    assert len(set(apart)) == 3  # two of a kind: each join has the range of the widest that it joins
    assert max(apart[:3]) < together[0] / 4
    assert apart[4] == pytest.approx(together[0])
    assert {e.key for e in hybridq.diff(made)} == {"first", "second"}


def test_parts_are_edited_as_any_tensor(made: Path) -> None:
    ask(made, "separate_concats:\n    - first")
    hybridq.set(made, "first", params={"min": "-2", "max": "2"})
    assert scales(made, "first") == [pytest.approx(4 / 255, rel=1e-3)]
    hybridq.set(made, "first", "float32")
    assert scales(made, "first") == [0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('separate_concats: ["frist"]', "no Concat 'frist'"),
        ('separate_concats: ["c"]', "'c' is no Concat"),
        ("separate_concats: first", "needs a list of names"),
        ("separate_concats: [[first]]", "needs a list of names"),
    ],
)
def test_a_name_that_cannot_be_separate_is_told_with_its_line(made: Path, line: str, said: str) -> None:
    ask(made, line)
    with pytest.raises(ConfigError, match=said) as caught:
        hybridq.step2(made, threads=1)
    number = (made / CFG).read_text().splitlines().index(line) + 1
    assert [p.line for p in caught.value.problems] == [number]
    assert not (made / "hybrid.onnx").exists()


def test_a_target_that_has_one_scale_for_a_concat_says_so(tmp_path: Path) -> None:
    onnx.save(joins(), tmp_path / "m.onnx")
    hybridq.step1(tmp_path / "m.onnx", samples(2), tmp_path, target="tflite", threads=1)
    text = (tmp_path / CFG).read_text()
    (tmp_path / CFG).write_text(text.replace("target: tflite\n", "target: tflite\nseparate_concats: [first]\n"))
    with pytest.raises(ConfigError, match="one scale with its result on tflite"):
        hybridq.step2(tmp_path, threads=1)


def test_a_search_separates_where_that_is_clearly_better(tmp_path: Path) -> None:
    path, feeds = tmp_path / "m.onnx", samples(12)
    onnx.save(joins(), path)
    state = hybridq.step1(path, feeds, tmp_path / "plain", dtype="uint8", threads=1).state
    hybridq.step2(tmp_path / "plain", threads=1)
    words = {"dtype": "uint8", "max_high": 0.0, "threads": 1, "seconds": 0.0}
    found = hybridq.auto(path, feeds, tmp_path / "auto", **words).found
    assert found.separate == ("second",)  # which alone ties the quiet half to the loud one
    plain, auto = damages(path, state.model, [tmp_path / n / "hybrid.onnx" for n in ("plain", "auto")], feeds)
    assert auto < plain / 2
    assert 'separate_concats: ["second"]' in (tmp_path / "auto" / CFG).read_text()
    again = hybridq.auto(path, feeds, tmp_path / "again", **words)
    for name in ("hybrid.onnx", "model.json", CFG):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "auto" / name).read_bytes()
    assert again.found.content == found.content


def test_a_search_leaves_joins_alone_whose_parts_are_alike(tmp_path: Path) -> None:
    path, feeds = tmp_path / "m.onnx", samples(12)
    onnx.save(joins(1.0), path)
    found = hybridq.auto(path, feeds, tmp_path / "auto", dtype="uint8", threads=1, seconds=0.0).found
    assert found.separate == ()


def test_without_its_line_a_searched_cfg_shares_again(tmp_path: Path) -> None:
    onnx.save(joins(), tmp_path / "m.onnx")
    made = tmp_path / "auto"
    hybridq.auto(tmp_path / "m.onnx", samples(12), made, dtype="uint8", max_high=0.0, threads=1, seconds=0.0)
    lines = (made / CFG).read_text().splitlines()
    (made / CFG).write_text("\n".join(x for x in lines if not x.startswith("separate_concats")) + "\n")
    assert not [p for p in hybridq.check(made) if p.severity == "error"]
    assert len(set(scales(made, "a", "b", "c"))) == 1


def test_another_step1_keeps_the_line(made: Path, tmp_path: Path) -> None:
    ask(made, 'separate_concats: ["first"]')
    onnx.save(joins(), tmp_path / "m.onnx")
    hybridq.step1(tmp_path / "m.onnx", samples(8, seed=1), made, dtype="uint8", merge=True, threads=1)
    assert 'separate_concats: ["first"]' in (made / CFG).read_text()
    assert len(set(scales(made, "a", "b", "first"))) == 3


def test_the_command_says_what_it_made_separate(run: Run, tmp_path: Path) -> None:
    onnx.save(joins(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.concatenate([f["x"] for f in samples(12)]))
    words = ("--dtype", "uint8", "--max-high", "0", "--threads", "1")
    done = run("auto", tmp_path / "m.onnx", "--dataset", tmp_path / "x.npz", "-o", tmp_path / "auto", *words)
    assert done.code == 0, done.err
    assert "second: what is joined keeps scales of its own" in done.out
    assert "a layer of its own" in (tmp_path / "auto" / "build.json").read_text()

"""One growing graph says the same as a graph a variant; damage counts what a user would notice."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_graphs import given as graph
from helpers_graphs import normal
from helpers_search import feeds_of, small_case
from random_graphs import Case, make_case, random_case

from hybridq.graph import runtime
from hybridq.graph.model import Group, Model
from hybridq.plan.quant_plan import QuantPlan
from hybridq.quant.metrics import Parts, sqnr_db
from hybridq.search.measuring import alone
from hybridq.search.measuring.batch_rows import Ungrowable
from hybridq.search.measuring.damage import Cut, cuts_of, measure_reference, objective
from hybridq.search.measuring.growing import STREAM, Form, Key, grow
from hybridq.search.measuring.outputs import attention, classifications, layouts
from hybridq.search.measuring.quantizers import readers_of, sources, weight_forms
from hybridq.storage.weights import Weights


class TestGrowing:
    @pytest.mark.parametrize("seed", range(14))
    def test_equals_a_graph_a_variant(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        _grows_as_one_by_one(random_case(seed), monkeypatch, may_refuse=True)

    def test_a_shuffle_that_moves_channels_over_the_batch_keeps_rows_apart(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _grows_as_one_by_one(shuffled(), monkeypatch, may_refuse=False)

    def test_shapes_that_the_model_computes_keep_rows_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _grows_as_one_by_one(computed_shapes(), monkeypatch, may_refuse=False)

    def test_most_models_grow(self) -> None:
        grown = 0
        for seed in range(40):
            case = random_case(seed)
            plan = case.plan(case.all(case.calibrated.default))
            try:
                grow(case.model, case.weights, {}, [s.forms for s in sources(case.model, plan, case.weights)])
                grown += 1
            except Ungrowable:
                pass
        assert grown >= 30

    def test_every_variant_is_a_row_and_the_base_is_first(self) -> None:
        case, _ = small_case(0, 4)
        plan = case.plan({})
        variants = [s.forms for s in sources(case.model, plan, case.weights)]
        assert len(variants) > STREAM
        rows = grow(case.model, case.weights, {}, variants).rows[case.model.outputs[0]]
        assert rows[0] == 0
        assert sorted(rows) == list(range(len(variants) + 1))

    def test_samples_come_in_order(self) -> None:
        case, feeds = small_case(2, 3)
        reference = measure_reference(runtime.session(case.proto, threads=1), feeds, case.model)
        variants = [s.forms for s in sources(case.model, case.plan({}), case.weights)]
        asked = alone.Variants(case.model, case.weights, {}, variants, reference)
        found = list(alone.noise_of(asked, range(len(feeds))))
        one_by_one = [next(iter(alone.noise_of(asked, [i]))) for i in range(len(feeds))]
        assert all(np.array_equal(a, b) for a, b in zip(found, one_by_one, strict=True))

    def test_all_variants_are_run_once_a_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case, feeds = small_case(1, 3)
        reference = measure_reference(runtime.session(case.proto, threads=1), feeds, case.model)
        variants = [s.forms for s in sources(case.model, case.plan({}), case.weights)]
        asked = alone.Variants(case.model, case.weights, {}, variants, reference)
        runs: list[object] = []
        monkeypatch.setattr(alone, "run", lambda *words: runs.append(words[1]) or runtime.run(*words))
        assert len(list(alone.noise_of(asked, range(len(feeds))))) == len(feeds)
        assert len(runs) == len(feeds)


def _grows_as_one_by_one(case: Case, monkeypatch: pytest.MonkeyPatch, *, may_refuse: bool) -> None:
    feeds = [{"x": case.feed["x"][:1]}]
    reference = measure_reference(runtime.session(case.proto, threads=1), feeds, case.model)
    plan = case.plan(case.all(case.calibrated.default))
    for base in ({}, quantized(case.model, plan, case.weights)):
        variants = [s.forms for s in sources(case.model, plan, case.weights)]
        variants += [exact_forms(g) for g in case.model.groups] if base else []
        variants = variants[:: max(1, -(-len(variants) // 12))]
        asked = alone.Variants(case.model, case.weights, base, variants, reference)
        try:
            grow(case.model, case.weights, base, variants)
        except Ungrowable:
            assert may_refuse
            continue
        together = np.stack(list(alone.noise_of(asked, [0], from_base=False)))
        with monkeypatch.context() as patch:
            patch.setattr(alone, "grow", _only_alone)
            apart = np.stack(list(alone.noise_of(asked, [0], from_base=False)))
        assert together.shape == apart.shape
        scale = np.maximum(apart.max(), 1e-9)
        live = reference.signal > 1e-6  # a constant may lie on a tie of rounding for good
        # a tie of rounding may fall the other way in another graph: few slices may differ, and by little
        assert np.mean((np.abs(together - apart) > 0.2 * apart + 1e-4 * scale)[..., live]) < 0.02


def shuffled() -> Case:
    """ShuffleNetV2's shuffle as its authors export it: channels change places with a batch of one."""
    nodes = [
        ("Conv", "x w b", "c", {"pads": [1] * 4}),
        ("Relu", "c", "r"),
        ("Reshape", "r pairs", "p"),
        ("Transpose", "p", "t", {"perm": [1, 0, 2]}),
        ("Reshape", "t halves", "h"),
        ("Gather", "h zero", "one", {"axis": 0}),
        ("Gather", "h one_", "other", {"axis": 0}),
        ("Conv", "other v", "o"),
        ("Concat", "one o", "both", {"axis": 1}),
        ("Conv", "both u", "y"),
    ]
    tensors = {"w": normal(8, 8, 3, 3), "b": normal(8), "v": normal(4, 4, 1, 1), "u": normal(3, 8, 1, 1)}
    tensors |= {"pairs": np.array([4, 2, 64]), "halves": np.array([2, -1, 4, 8, 8])}
    tensors |= {"zero": np.array(0), "one_": np.array(1)}
    return make_case(graph(nodes, tensors, ["y"], (1, 8, 8, 8)), {"x": normal(1, 8, 8, 8)})


def computed_shapes() -> Case:
    """A detector's end as it is exported for any size: the batch is read from a tensor and put into a Reshape."""
    nodes = [
        ("Conv", "x w b", "c", {"pads": [1] * 4}),
        ("Relu", "c", "r"),
        ("Conv", "r v", "d"),
        ("Shape", "d", "s"),
        ("Gather", "s zero", "batch", {"axis": 0}),
        ("Concat", "batch rest", "to", {"axis": 0}),
        ("Reshape", "d to", "flat"),
        ("Sigmoid", "flat", "scores"),
        ("Mul", "flat two", "boxes"),
        ("Concat", "boxes scores", "y", {"axis": 1}),
    ]
    tensors = {"w": normal(8, 8, 3, 3), "b": normal(8), "v": normal(4, 8, 1, 1), "two": np.float32(2)}
    tensors |= {"zero": np.array([0]), "rest": np.array([4, -1])}
    return make_case(graph(nodes, tensors, ["y"], ("n", 8, "h", "w")), {"x": normal(2, 8, 8, 8)})


def quantized(model: Model, plan: QuantPlan, weights: Weights) -> dict[Key, Form]:
    """The forms of every quantizer of a plan: the whole model as it will be."""
    forms = weight_forms(model, plan, weights, [x.name for x in model.layers])
    forms.update({("tensor", g): p.stored.qparams for g, p in plan.groups.items() if p.stored.qparams is not None})
    return forms


def exact_forms(group: Group) -> dict[Key, Form]:
    """What makes one group's weights and tensor exact."""
    return {**{("weight", n): None for n in group.layers}, ("tensor", group.name): None}


class TestFingerprint:
    def test_is_that_of_the_content(self) -> None:
        case, _ = small_case(1, 3)
        plan = case.plan({})
        one, other = ([alone.fingerprint(s.forms) for s in sources(case.model, plan, case.weights)] for _ in range(2))
        assert one == other
        assert len(set(one)) == len(one)


def _only_alone(model: object, weights: object, base: object, variants: list[object], watch: object = ()) -> object:
    if variants:
        raise Ungrowable("told so")
    return grow(model, weights, base, variants)  # type: ignore[arg-type]


def two_headed() -> tuple[Model, list[dict[str, np.ndarray]], object]:
    """Boxes of hundreds and scores of a Sigmoid, joined by a Concat."""
    nodes = [
        ("Conv", "x w b", "h", {"pads": [1] * 4}),
        ("Relu", "h", "r"),
        ("Conv", "r wb", "boxes"),
        ("Conv", "r ws", "raw"),
        ("Sigmoid", "raw", "scores"),
        ("Concat", "boxes scores", "y", {"axis": 1}),
    ]
    tensors = {"w": normal(8, 8, 3, 3), "b": normal(8), "wb": 100 * normal(4, 8, 1, 1), "ws": normal(2, 8, 1, 1)}
    feeds = feeds_of(0, 6)
    case = make_case(graph(nodes, tensors, ["y"]), {"x": np.concatenate([f["x"] for f in feeds])})
    return case.model, feeds, case


class TestDamage:
    def test_cuts(self) -> None:
        assert cuts_of([(1, 10)], None) == (Cut(1),)
        assert cuts_of([(1, 1000)], None) == (Cut(-1),)
        assert cuts_of([(1, 6, 8400)], Parts(1, (4, 2))) == (Cut(1, (4, 2)), Cut(1))
        values = np.arange(24.0).reshape(1, 6, 4)
        assert Cut(1, (4, 2)).sums(values).tolist() == [[values[0, :4].sum(), values[0, 4:].sum()]]
        assert Cut(-1).sums(values).tolist() == [[values.sum()]]

    def test_scores_are_not_hidden_behind_boxes(self) -> None:
        model, feeds, case = two_headed()
        reference = measure_reference(runtime.session(case.proto, threads=1), feeds, model)  # type: ignore[attr-defined]
        (boxes, scores), exact = np.split(reference.outputs[0][0], [4], axis=1), reference.outputs[0][0]
        lost = np.concatenate([boxes, np.zeros_like(scores)], axis=1)
        whole = sqnr_db(exact, lost)
        assert whole > 40
        aim = objective(reference, np.zeros((len(feeds), len(reference.signal))))
        noise = reference.noise(0, [lost])
        ratio = (noise / reference.signal)[0]
        assert ratio.max() > 0.3
        assert aim.of(0, noise)[0] > 0

    def test_layout_knows_parts_and_scores(self) -> None:
        model, feeds, case = two_headed()
        layout = layouts(model)["y"]
        assert (layout.axis, layout.parts, layout.scores) == (1, Parts(1, (4, 2)), ((4, 6),))
        reference = measure_reference(runtime.session(case.proto, threads=1), feeds, model)  # type: ignore[attr-defined]
        weights = attention({"y": layout}, ("y",), reference.outputs)
        assert all((w["y"][:, 4:] == 1).all() for w in weights)
        assert np.mean([w["y"][:, :4].mean() for w in weights]) == pytest.approx(1, rel=1e-4)

    def test_classification_is_measured_by_logarithms(self) -> None:
        nodes = [
            ("Conv", "x w", "c"),
            ("GlobalAveragePool", "c", "p"),
            ("Flatten", "p", "f"),
            ("Softmax", "f", "y", {"axis": 1}),
        ]
        case = make_case(graph(nodes, {"w": normal(10, 8, 1, 1)}, ["y"]), {"x": normal(4, 8, 8, 8)})
        assert classifications(case.model) == {"y"}


class TestReaders:
    def test_readers(self) -> None:
        model, _, _ = two_headed()
        group = model.group_of["r"]
        assert sorted(n for names in readers_of(model, group).values() for n in names) == ["boxes", "raw"]

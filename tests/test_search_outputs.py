"""What errors count in a search: scores decide, values are read where these speak, loud ones where quiet ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers_graphs import given
from random_graphs import Case, make_case

from hybridq.graph.runtime import session
from hybridq.search.measuring.answers import Passed
from hybridq.search.measuring.damage import TOLERATED, Reference, measure_reference, objective
from hybridq.search.measuring.outputs import EVERYWHERE, LOUD, OutputLayout, attention

Array = np.ndarray[Any, Any]
CELLS = 50
HERE = 7  # the cell that holds something


def map_of(elsewhere: float, here: float, channels: int = 1) -> Array:
    found = np.full((1, channels, CELLS), elsewhere, np.float32)
    found[..., HERE] = here
    return found


def weights_of(**outputs: Array) -> dict[str, Array]:
    scores = {n: OutputLayout(1, None, () if n == "boxes" else ((0, x.shape[1]),)) for n, x in outputs.items()}
    return dict(attention(scores, list(outputs), [list(outputs.values())])[0])


def test_a_loud_score_is_read_where_a_quiet_one_speaks() -> None:
    found = weights_of(classes=map_of(0.7, 0.9), object=map_of(0.0, 0.8), boxes=map_of(3.0, 5.0, channels=4))
    assert set(found) == {"classes", "boxes"}  # whether something is there is read everywhere
    for weights in found.values():
        assert weights.mean() == pytest.approx(1.0)
        assert np.allclose(np.delete(weights, HERE, axis=2), EVERYWHERE)


@pytest.mark.parametrize("other", [0.0, 0.9 * LOUD])
def test_quiet_scores_stand_by_themselves(other: float) -> None:
    assert not weights_of(notes=map_of(other, 0.9), onsets=map_of(0.0, 0.9))


def test_a_loud_score_alone_is_read_everywhere() -> None:
    assert set(weights_of(classes=map_of(0.7, 0.9), boxes=map_of(3.0, 5.0, channels=4))) == {"boxes"}


def test_stretches_of_one_output() -> None:
    """Objectness, box and classes in one tensor: the classes are gated as if they were an output of their own."""
    parts = {"object": map_of(0.0, 0.8), "boxes": map_of(3.0, 5.0, channels=2), "classes": map_of(0.7, 0.9)}
    apart = weights_of(**parts)
    whole = {"y": np.concatenate(list(parts.values()), axis=1)}
    found = attention({"y": OutputLayout(1, None, ((0, 1), (3, 4)))}, ["y"], [list(whole.values())])[0]["y"]
    assert np.array_equal(found[:, :1], np.ones((1, 1, CELLS), np.float32))
    assert np.allclose(found[:, 1:3], apart["boxes"])
    assert np.allclose(found[:, 3:], apart["classes"])


def detector(shape: tuple[int | str, ...] = (1, 3, 8, 8)) -> tuple[Case, list[dict[str, Array]]]:
    """A quiet score, a loud one and a box a cell; the input is what each says before its activation."""
    random = np.random.default_rng(0)
    cells = random.normal(size=(6, 1, 3, 8, 8)).astype(np.float32)
    cells[:, :, 0] = np.where(random.random((6, 1, 8, 8)) < 0.1, 2.0, -9.0)
    body: list[tuple[Any, ...]] = [
        *(("Gather", f"x {i}", n, {"axis": 1}) for i, n in (("first", "a"), ("second", "b"), ("third", "boxes"))),
        ("Sigmoid", "a", "object"),
        ("Sigmoid", "b", "classes"),
    ]
    places = {n: np.array([i]) for i, n in enumerate(("first", "second", "third"))}
    case = make_case(given(body, places, ["object", "classes", "boxes"], shape), {"x": cells[0]})
    return case, [{"x": one} for one in cells]


@pytest.fixture(scope="module")
def reference() -> Reference:
    case, feeds = detector()
    return measure_reference(session(case.proto, threads=1), feeds, case.model)


def test_open_axes_say_no_less(reference: Reference) -> None:
    case, feeds = detector(("n", 3, "h", "w"))
    held = measure_reference(session(case.proto, threads=1), feeds, case.model)
    assert case.model.tensors["boxes"].shape != (1, 1, 8, 8)
    assert set(held.scores) == set(reference.scores) == {"object", "classes"}
    assert np.array_equal(held.tolerated, reference.tolerated)
    assert np.array_equal(held.share, reference.share)
    assert held.attention[0].keys() == reference.attention[0].keys()


def damage(reference: Reference, name: str, noise: float, where: Array | None = None) -> float:
    """What noise of some share of an output's variance does, the rest as with 8 bits of 30 dB."""
    random, shares = np.random.default_rng(1), 0.0
    rows = []
    for sample in range(len(reference.feeds)):
        outputs = []
        for n, values in zip(reference.names, reference.outputs[sample], strict=True):
            error = random.normal(size=values.shape) * np.sqrt(noise * values.var()) * (n == name)
            outputs.append((values + (error if where is None else error * where[sample])).astype(np.float32))
        rows.append(reference.noise(sample, outputs)[0])
    aim = objective(reference, 1e-3 * np.broadcast_to(reference.signal, (len(rows), len(reference.signal))))
    for sample, row in enumerate(rows):
        shares += float(aim.of(sample, row[None])[0])
    return shares


def test_a_score_counts_more_than_a_value(reference: Reference) -> None:
    assert damage(reference, "object", 1e-3) > 10 * damage(reference, "boxes", 1e-3)


def test_an_error_that_nobody_reads_counts_less(reference: Reference) -> None:
    there = np.stack([x[reference.names.index("object")] > 0.5 for x in reference.given])
    for name in ("classes", "boxes"):
        read, other = (damage(reference, name, 1e-3, w) / w.mean() for w in (there, ~there))
        assert read > 5 * other


def test_decisions_by_a_gated_score() -> None:
    scores, moved = map_of(0.7, 0.9), map_of(0.6, 0.9)
    weights = np.zeros_like(scores)
    weights[..., HERE] = 1.0
    told = Passed()
    told.add(scores, moved, weights)
    assert told.changed == 0.0


def test_a_classification_is_judged_by_its_answers() -> None:
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 3, 8, 8)).astype(np.float32)} for i in range(4)]
    body = [("GlobalAveragePool", "x", "p"), ("Softmax", "p", "y", {"axis": 1})]
    case = make_case(given(body, {}, ["y"], (1, 3, 8, 8)), feeds[0])
    held = measure_reference(session(case.proto, threads=1), feeds, case.model)
    assert held.classes == {"y"}
    assert not held.scores
    assert set(held.tolerated) == {TOLERATED}


LINE = 12  # characters of a line
CLASSES = 40
SEEN = 3  # classes that some character is


def read_line(extra: str = "") -> tuple[Reference, Array]:
    """A Softmax at every character of a line, beside an output ``extra``; the last is what it says, (samples, ...)."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(6, 1, LINE, CLASSES)).astype(np.float32)
    logits[..., :SEEN] += 12.0 * (random.integers(SEEN, size=(6, 1, LINE, 1)) == np.arange(SEEN))
    body = [("Softmax", "x", "y", {"axis": -1}), *([("Relu", "x", extra)] if extra else [])]
    outputs = ["y", extra] if extra else ["y"]
    case = make_case(given(body, {}, outputs, (1, LINE, CLASSES)), {"x": logits[0]})
    held = measure_reference(session(case.proto, threads=1), [{"x": x} for x in logits], case.model)
    return held, np.stack([sample[0] for sample in held.given])


def test_a_classification_at_every_position_is_compared_by_logarithms() -> None:
    held, _ = read_line()
    assert held.logs == {"y"}
    assert set(held.scores) == {"y"}  # its answers are counted, too
    assert set(held.tolerated) == {TOLERATED}
    assert not read_line("z")[0].logs  # what stands beside may be boxes


def test_what_is_likely_nowhere_counts_little() -> None:
    """The same factor on one class: on one that characters are, and on one that none is."""
    held, said = read_line()
    assert said[..., SEEN:].max() < 0.1 < said[..., :SEEN].max(axis=(0, 1, 2)).min()

    def damage_of(klass: int) -> float:
        rows = []
        for sample, values in enumerate(said):
            other = values.copy()
            other[..., klass] *= 0.8
            rows.append(held.noise(sample, [other])[0])
        aim = objective(held, 1e-3 * np.broadcast_to(held.signal, (len(rows), len(held.signal))))
        return sum(float(aim.of(i, row[None])[0]) for i, row in enumerate(rows))

    assert min(map(damage_of, range(SEEN))) > 10 * max(map(damage_of, range(SEEN, CLASSES)))


def test_parts_of_an_output_count_alike() -> None:
    """However many channels each has."""
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 8, 4, 6)).astype(np.float32)} for i in range(3)]
    body = [*(("Gather", f"x i{n}", f"g{n}", {"axis": 1}) for n in (2, 6)), ("Concat", "g2 g6", "y", {"axis": 1})]
    tensors = {"i2": np.arange(2), "i6": np.arange(2, 8)}
    case = make_case(given(body, tensors, ["y"], (1, 8, 4, 6)), feeds[0])
    held = measure_reference(session(case.proto, threads=1), feeds, case.model)
    channels = [s for s, (_, axis, _) in zip(held.share, held.labels, strict=True) if axis == 1]
    parts, single = channels[:2], channels[2:]
    assert parts[0] == pytest.approx(parts[1])
    assert len(single) == 8
    assert sum(single[:2]) == pytest.approx(sum(single[2:]))

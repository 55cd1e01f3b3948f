"""What a search measured stays true: another metric, other labels, other samples are another question."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hybridq.compare.metric import load_metric, metric_digest
from hybridq.search.search import _samples_digest


def test_a_metric_is_its_code_and_the_labels_beside_it(tmp_path: Path) -> None:
    def digest() -> str:
        return metric_digest(load_metric("score.py:f", tmp_path))

    (tmp_path / "score.py").write_text("def f(outputs):\n    return 1.0\n")
    seen = [digest()]
    (tmp_path / "labels.txt").write_text("cat dog")
    seen.append(digest())
    (tmp_path / "labels.txt").write_text("dog cat")
    seen.append(digest())
    (tmp_path / "score.py").write_text("def f(outputs):\n    return 2.0\n")
    seen.append(digest())
    assert len(set(seen)) == len(seen)
    (tmp_path / "picture.png").write_bytes(b"no label")
    assert digest() == seen[-1]


def test_samples_are_their_values() -> None:
    one, other = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert _samples_digest([{"x": one}, {"x": other}]) != _samples_digest([{"x": other}, {"x": one}])
    assert _samples_digest([{"x": one}]) != _samples_digest([{"y": one}])
    assert _samples_digest([{"x": one}]) == _samples_digest([{"x": one.copy()}])

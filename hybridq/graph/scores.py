"""Scores: what a Sigmoid, a Softmax or the like gives, moved around or combined, lies within 0..1 and decides."""

from __future__ import annotations

from collections.abc import Callable

from hybridq.graph.model import Model
from hybridq.graph.operators import Kind, Operator, Role, row_of
from hybridq.graph.shared_qparams import moved


def is_score(tensor: str, model: Model, makes: Callable[[Operator], bool] = lambda row: row.makes_scores) -> bool:
    """Whether a tensor holds nothing but what the operators give that ``makes`` tells."""
    waiting, seen = [tensor], set[str]()
    while waiting:
        name = waiting.pop()
        node = model.producers.get(name)
        if node is None:
            return False
        row = row_of(node)
        if name in seen or makes(row):
            continue
        seen.add(name)
        if row.kind is Kind.MOVEMENT:
            waiting += moved(node)
            continue
        steered = {n for i, n in enumerate(node.input) if row.inputs[i] is Role.PARAMETER}
        if not row.keeps_unit or not steered <= model.initializers.keys():
            return False
        waiting += [n for n in node.input if n not in steered]
    return True

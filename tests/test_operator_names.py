"""What an operator means stands in the table; a module that names operators itself says with what right."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from onnx import defs

import hybridq

ROOT = Path(hybridq.__file__).parent
OPERATORS = {s.name for s in defs.get_all_schemas() if s.domain == ""}
WRITES = "nodes that it adds to a graph"
READS = "a form that it knows again, node by node: written out, folded or quantized by another tool"
THEIRS = "what another tool does, which is no property of the operator"
OWN = "a rule of this module alone, with its reason beside it"
RIGHT = {
    "graph/operators/table.py": "the table",
    # what the built model, and models that measure, are made of
    "build/barriers.py": WRITES,
    "build/boundaries.py": WRITES,
    "build/packing.py": WRITES,
    "build/padding.py": WRITES,
    "build/pools.py": WRITES,
    "build/tables.py": WRITES,
    "build/writer.py": WRITES,
    "calibration/instrument.py": WRITES,
    "calibration/recurrent.py": WRITES,
    "compare/probes.py": WRITES,
    "graph/halves.py": WRITES,
    "graph/saturation.py": WRITES,
    "plan/pools.py": WRITES,
    "repair/algebra.py": WRITES,
    "repair/bias_correction.py": WRITES,
    "search/allocation/costs.py": WRITES,
    "search/measuring/growing.py": WRITES,
    # the given model's forms
    "calibration/datafree.py": READS,
    "compare/by_name.py": READS,
    "compare/drift.py": READS,
    "compare/fidelity.py": READS,
    "graph/intake/converter.py": READS,
    "graph/intake/folded.py": READS,
    "graph/intake/given.py": READS,
    "graph/intake/linear.py": READS,
    "graph/intake/picked.py": READS,
    "graph/intake/qoperators.py": READS,
    "graph/intake/recovered.py": READS,
    "graph/intake/scans.py": READS,
    "graph/shapes.py": READS,
    "graph/intake/unfused.py": READS,
    "graph/intake/whole_pools.py": READS,
    "plan/fused.py": READS,
    "steps/prepare.py": READS,
    # other tools
    "exchange/encodings.py": THEIRS,
    "exchange/mnn.py": THEIRS,
    "exchange/ncnn.py": THEIRS,
    # own rules
    "graph/chosen.py": OWN,
    "calibration/unbounded.py": OWN,
    "graph/intake/one_opset.py": OWN,
    "graph/intake/all_axes.py": OWN,
    "graph/intake/spelled_out.py": OWN,
    "graph/opset.py": WRITES,
}
NO_OPERATORS = {
    ("exchange/nncase.py", "Max"),
    ("exchange/nncase.py", "Min"),
    ("dataset/__init__.py", "Resize"),
    ("graph/fixed.py", "Optional"),
}


def named(path: Path) -> Iterator[str]:
    """Operators that a module names in its code, alone or in a list of words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            words = node.value.split()
            if words and OPERATORS.issuperset(words):
                yield from words


@cache
def found() -> dict[str, set[str]]:
    names = {path.relative_to(ROOT).as_posix(): set(named(path)) for path in sorted(ROOT.rglob("*.py"))}
    left = {place: {n for n in held if (place, n) not in NO_OPERATORS} for place, held in names.items()}
    return {place: held for place, held in left.items() if held - {"If", "Loop", "Scan"} or place in RIGHT}


def test_operators_are_named_in_the_table_or_with_a_right_of_ones_own() -> None:
    assert sorted(set(found()) - set(RIGHT)) == [], "ask the table, or say here what gives the module the right"


def test_no_right_is_left_over() -> None:
    assert sorted(place for place in RIGHT if not found().get(place)) == []


def test_the_table_names_every_operator() -> None:
    schemas = [s for s in defs.get_all_schemas() if s.domain == "" and not s.deprecated]
    assert {s.name for s in schemas} - found()["graph/operators/table.py"] - {"If", "Loop"} == set()

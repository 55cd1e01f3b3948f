"""Docstrings speak of what is there: every name between double backticks exists in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hybridq

ROOT = Path(hybridq.__file__).parent
QUOTED = re.compile(r"``([A-Za-z_][\w./]*)``")
FILES = (".py", ".md", ".npy", ".raw", ".json", ".cfg", ".onnx", ".data", ".txt", ".html", ".csv")
THEIRS = {  # other tools' words, and examples
    *(
        "auto_hybrid",
        "extra_options",
        "quantize_static",
        "ptq_options.quant_scheme",
        "ncnn2int8",
        "onnx2ncnn",
        "imread",
    ),
    *("imread", "Result_N", "conv1_Conv", "name_2", "name_3", "t/as_uint8", "l"),
}


def words(node: ast.AST) -> Iterator[str]:
    """What a node of the code names, or says as a short text."""
    for name in ("id", "attr", "name", "arg"):
        found = getattr(node, name, None)
        if isinstance(found, str):
            yield from found.split(".")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 40:
        yield from (node.value, *re.split(r"\W+", node.value))


def test_what_docstrings_name_is_there() -> None:
    known, said = set(THEIRS), dict[str, str]()
    for path in sorted(ROOT.rglob("*.py")):
        place, text = path.relative_to(ROOT.parent), path.read_text(encoding="utf-8")
        known.update(place.with_suffix("").parts)
        for node in ast.walk(ast.parse(text)):
            known.update(words(node))
        said.update({name: str(place) for name in QUOTED.findall(text) if not name.endswith(FILES)})
    wrong = {n: at for n, at in said.items() if n not in known and not known.issuperset(re.split(r"[./]", n))}
    assert not wrong

"""The reference pages, from what the program itself reads: schemas, tables, signatures and golden messages.

``docs/write_docs.py`` writes them; each function here makes the text of one page.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import hybridq
from hybridq import targets
from hybridq.graph.operators import TABLE, Kernel, Kind, Operator

ROOT = Path(__file__).resolve().parents[1]
HEAD = "Written by `docs/write_docs.py` from {}; do not edit.\n"


def pages() -> dict[str, str]:
    """The name of every page in ``docs/reference/`` and its text."""
    return {
        "files.md": files_page(),
        "operators.md": operators_page(),
        "targets.md": targets_page(),
        "messages.md": messages_page(),
        "python.md": python_page(),
    }


# --- files ------------------------------------------------------------------------------------------------------


def files_page() -> str:
    """A section a schema, a row a field."""
    parts = ["# Files and their fields\n", HEAD.format("`schemas/`")]
    for path in sorted((ROOT / "schemas").glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {schema['title']}\n", f"{schema['description']} ([schema](../../schemas/{path.name}))\n"]
        parts += ["| field | type | says |", "|---|---|---|"]
        parts += [f"| `{where}` | {kind} | {says} |" for where, kind, says in _fields(schema, schema, "")]
        parts.append("")
    return "\n".join(parts)


def _fields(schema: dict[str, Any], node: dict[str, Any], where: str, depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """Every field below ``node``, its place written ``a.b[].c``; ``NAME`` stands for a key that is free."""
    node = _resolved(schema, node)
    for name, child in node.get("properties", {}).items():
        yield from _field(schema, child, f"{where}.{name}".lstrip("."), depth)
    free = node.get("additionalProperties")
    if isinstance(free, dict):
        yield from _field(schema, free, f"{where}.NAME".lstrip("."), depth)


def _field(schema: dict[str, Any], child: dict[str, Any], where: str, depth: int) -> Iterator[tuple[str, str, str]]:
    found = _resolved(schema, child)
    yield where, _type(found), _cell(child.get("description") or found.get("description", ""))
    if depth > 5:
        return
    items = found.get("items")
    for one in [found, *found.get("oneOf", []), *found.get("anyOf", [])]:
        yield from _fields(schema, one, where, depth + 1)
    if isinstance(items, dict):
        yield from _fields(schema, items, f"{where}[]", depth + 1)


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    found = node
    while "$ref" in found:
        found = schema["$defs"][found["$ref"].rsplit("/", 1)[1]]
    return found


def _type(node: dict[str, Any]) -> str:
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{word}`" for word in node["enum"])
    kinds = node.get("type") or sorted({k for one in node.get("oneOf", node.get("anyOf", [])) for k in _kinds(one)})
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def _kinds(node: dict[str, Any]) -> list[str]:
    kind = node.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


# --- operators --------------------------------------------------------------------------------------------------


def operators_page() -> str:
    """A row an operator: whether it is a layer, its inputs, its kernel in 8 bits."""
    parts = [
        "# Operators and what each does in 8 bits\n",
        HEAD.format("the table in `hybridq/graph/operators/`"),
        "A *parameter* of an operator steers it (a scale, an index, a grid) and is never quantized. *Moves data*: no",
        "layer, its input and output share one range. The kernel is ONNX Runtime's on a CPU, between",
        "DequantizeLinear and QuantizeLinear; on an NPU ask the [target](targets.md). An operator that is not listed",
        "stays float32, and step1 says so.\n",
        "| operator | in 8 bits | inputs | 8-bit kernel on a CPU | its result lies in |",
        "|---|---|---|---|---|",
    ]
    parts += [_operator_row(name, row) for name, row in sorted(TABLE.items()) if row.kind is not Kind.OTHER]
    others = sorted(name for name, row in TABLE.items() if row.kind is Kind.OTHER)
    parts += ["", f"No float result, so nothing to quantize: {', '.join(others)}.", ""]
    return "\n".join(parts)


def _operator_row(name: str, row: Operator) -> str:
    inputs = ", ".join(word if word.removesuffix("...") == role else f"{word} ({role})" for role, word in _inputs(row))
    kernel = "" if row.kernel is Kernel.NONE else str(row.kernel)
    ends = "" if row.range is None else f"{row.range[0]:g} .. {row.range[1]:g}"
    return f"| `{name}` | {_meaning(row)} | {inputs} | {kernel} | {ends} |"


def _meaning(row: Operator) -> str:
    if row.kind in (Kind.FLOAT, Kind.SUBGRAPH):
        return f"stays float32: {_cell(row.note)}"
    if row.kind is Kind.MOVEMENT:
        return f"moves data: {row.movement}"
    return "a layer" + (", or absorbed by the layer before it" if row.absorbed else "")


def _inputs(row: Operator) -> list[tuple[str, str]]:
    """``(role, word)`` of each; dots behind the last where it stands for any number."""
    words = list(row.inputs.words)
    if row.inputs.more:
        words[-1] += "..."
    return [(str(role), word) for role, word in zip(row.inputs.roles, words, strict=True)]


# --- targets ----------------------------------------------------------------------------------------------------


def targets_page() -> str:
    """A section a target, a row a precision."""
    parts = [
        "# Targets, as data\n",
        HEAD.format("`hybridq/targets/`"),
        "`hybridq step1 --target NAME`. The way to the board, and what was verified: [targets](../targets.md).\n",
    ]
    for name in targets.names():
        target = targets.load(name)
        parts += [f"## {name}\n", f"{target.title}. Source: {target.source}. Verified: {target.verified}.\n"]
        parts += ["| precision | activations | weights | bias |", "|---|---|---|---|"]
        for i, (precision, support) in enumerate(target.precisions.items()):
            word = f"`{precision}`" + (" (default)" if i == 0 else "")
            parts.append(f"| {word} | {_storage(support.activation)} | {_storage(support.weight)} | {support.bias} |")
        notes = [f"searched: {', '.join(f'`{p}`' for p in target.search)}"]
        notes += [f"values entering {op} stay within {low:g} .. {high:g}" for op, (low, high) in target.limits.items()]
        notes += [f"{op} is slow in 8 bits ({why})" for op, why in target.slow_8bit.items()]
        parts += ["", "; ".join(notes) + ".", ""]
    return "\n".join(parts)


def _storage(storage: Any) -> str:
    said = str(storage.dtype)
    if storage.scheme is not None:
        said += f", {storage.scheme}, {'a scale a channel' if storage.per_channel else 'one scale'}"
    return said + (f", range times {storage.headroom:g}" if storage.headroom != 1 else "")


# --- messages ---------------------------------------------------------------------------------------------------


def messages_page() -> str:
    """Every mistake that the tests of the cfg know, with what hybridq says and what mends it."""
    parts = [
        "# Messages of the cfg and their remedies\n",
        HEAD.format("the golden messages in `tests/cfg/invalid/`"),
        "Every problem is told at once, with line, column, a caret and a remedy; with `--json` each carries the code",
        "that heads a section here. Nothing is written while one is left.\n",
    ]
    by_code: dict[str, dict[str, str]] = {}
    for path in sorted((ROOT / "tests" / "cfg" / "invalid").glob("*.errors.txt")):
        for code, message, remedy in _golden(path.read_text(encoding="utf-8")):
            by_code.setdefault(code, {}).setdefault(message, remedy)
    for code, told in sorted(by_code.items()):
        parts += [f"## {code}\n", "| message | remedy |", "|---|---|"]
        parts += [f"| {_cell(message)} | {_cell(remedy)} |" for message, remedy in told.items()]
        parts.append("")
    return "\n".join(parts)


def _golden(text: str) -> Iterator[tuple[str, str, str]]:
    """``(code, message, remedy)`` of each problem in a golden file."""
    for block in re.split(r"(?m)^(?=\[\w+ [\w-]+\] )", text):
        found = re.match(r"\[\w+ ([\w-]+)\] \S+?(?::\d+)*: (.*)\n", block)
        if found:
            remedy = [line.strip() for line in block.splitlines()[1:] if re.match(r"  \S", line)]
            yield found[1], found[2], " ".join(remedy)


# --- Python -----------------------------------------------------------------------------------------------------


def python_page() -> str:
    """A section a function, with its signature, its docstring and what it returns."""
    parts = ["# Python\n", HEAD.format("signatures and docstrings"), f"```text\n{inspect.getdoc(hybridq)}\n```\n"]
    for name in sorted(n for n in hybridq.__all__ if not n.startswith("__")):
        one = getattr(hybridq, name)
        parts += [f"## hybridq.{name}\n", f"```text\n{name}{_signature(one)}\n\n{inspect.getdoc(one)}\n```\n"]
    return "\n".join(parts)


def _signature(one: Any) -> str:
    """A parameter a line where they are many; types without what the command line says of them."""
    if isinstance(one, type):
        return ""
    found = inspect.signature(one)
    words = [_parameter(p) for p in found.parameters.values()]
    star = next((i for i, p in enumerate(found.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None:
        words.insert(star, "*")
    joined = ", ".join(words)
    returns = f" -> {found.return_annotation}"
    return f"({joined}){returns}" if len(joined) < 80 else "(\n    " + ",\n    ".join(words) + f",\n){returns}"


def _parameter(given: inspect.Parameter) -> str:
    said = f"{given.name}: {_plain(str(given.annotation))}"
    if given.default is given.empty:
        return said
    value = given.default
    shown = value.value if isinstance(value, Enum) else value
    if is_dataclass(shown):
        return f"{said} = {type(shown).__name__}()"
    return f"{said} = {shown.__name__ if inspect.isfunction(shown) else repr(shown)}"


def _plain(annotation: str) -> str:
    """``Annotated[T, ...]`` is T."""
    tree = ast.parse(annotation, mode="eval").body
    if isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated" and isinstance(tree.slice, ast.Tuple):
        return ast.unparse(tree.slice.elts[0])
    return annotation

"""Problems in other forms than a terminal's: JSON for editors, annotations for GitHub."""

from __future__ import annotations

from collections.abc import Iterable

from hybridq.errors import Problem


def to_json(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """One object a problem; lines and columns count from 1 (0: the whole file), ``end_column`` is exclusive."""
    return [
        {
            "path": p.path,
            "line": p.line,
            "column": p.column,
            "end_line": p.line,
            "end_column": p.end_column,
            "severity": p.severity,
            "code": p.code,
            "message": p.message,
            "hint": p.hint,
        }
        for p in problems
    ]


def to_github(problems: Iterable[Problem]) -> str:
    """GitHub's workflow commands, one a line: ``::error file=...,line=...,col=...::message``."""
    return "\n".join(map(_annotation, problems))


def _annotation(p: Problem) -> str:
    command = {"error": "error", "warning": "warning"}.get(p.severity, "notice")
    fields = {"file": p.path, "line": p.line, "col": p.column, "endColumn": p.end_column, "title": p.code}
    shown = ",".join(f"{name}={_property(str(value))}" for name, value in fields.items() if value)
    text = f"{p.message}\n{p.hint}" if p.hint else p.message
    return f"::{command} {shown}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

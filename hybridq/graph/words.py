"""What ONNX and ONNX Runtime say, in our words: what is wrong, where, and what to do; theirs is kept as the detail."""

from __future__ import annotations

import re
from collections.abc import Callable

from hybridq.errors import Problem

Match = re.Match[str]
THEIR_WORDS = "--verbose shows the words of ONNX Runtime."
PRIVATE = "Give a model of standard ONNX operators: export it again, without operators of its own."

# What ONNX Runtime says: what it means, and the remedy.
SAYINGS: tuple[tuple[str, Callable[[Match], tuple[str, str]]], ...] = (
    (
        r"Fatal error: (?:(\S*):)?(\w+)\([-\d]+\) is not a registered function/op",
        lambda m: (f"has the operator {_operator(m[2], m[1])}, which ONNX Runtime does not know", PRIVATE),
    ),
    (
        r"No Op registered for (\w+) with domain_version of (\d+)",
        lambda m: (f"has the operator {m[1]}, which opset {m[2]} does not know", PRIVATE),
    ),
    (
        r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'",
        lambda m: (
            f"has the operator {m[1]} (node '{m[3]}') with types or in a version that ONNX Runtime cannot compute here",
            "Export the model in float32, with opset 13 to 21.",
        ),
    ),
    (
        r"two nodes with same node name \(([^)]*)\)",
        lambda m: (f"has two nodes of the name '{m[1]}'", "Give each node a name of its own."),
    ),
    (
        r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)'",
        lambda m: (f"fails at node '{m[2]}' ({m[1]})", THEIR_WORDS),
    ),
    (
        r"Node \(([^)]*)\) Op \((\w+)\) \[(?:Shape|Type)InferenceError\]",
        lambda m: (f"has shapes or types that do not fit at node '{m[1]}' ({m[2]})", THEIR_WORDS),
    ),
    (
        r"Type Error: .*?(?:of node|node|input) \(([^)]*)\)",
        lambda m: (f"has types that do not fit at '{m[1]}'", THEIR_WORDS),
    ),
)


def explained(error: Exception, what: str) -> Problem:
    """``what`` (a subject: "the model") and what ONNX Runtime says of it, as a problem of ours."""
    text = str(error)
    for pattern, words in SAYINGS:
        found = re.search(pattern, text, re.DOTALL)
        if found:
            message, hint = words(found)
            return Problem(f"{what} {message}", hint=hint, detail=text)
    return Problem(f"{what} is none that ONNX Runtime runs", hint=THEIR_WORDS, detail=text)


def first_line(error: Exception) -> str:
    """The first line of an error that says something, cut to what a person reads."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _operator(name: str, domain: str | None) -> str:
    return f"{name} of '{domain}'" if domain else name

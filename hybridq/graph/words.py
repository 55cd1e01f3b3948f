"""What ONNX and ONNX Runtime say, in our words: what is wrong, where, and what to do; theirs is kept as the detail."""

from __future__ import annotations

import re
from collections.abc import Callable

from hybridq.errors import Problem

Match = re.Match[str]
THEIR_WORDS = "--verbose shows the words of ONNX Runtime."
PRIVATE = "Give a model of standard ONNX operators: export it again, without operators of its own."
AGAIN = "Export the model again."

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
    (
        r"Node input '([^']*)' is not a graph input, initializer",
        lambda m: (f"reads the tensor '{m[1]}', which nothing makes", AGAIN),
    ),
    (
        r"Graph output \(([^)]*)\) does not exist",
        lambda m: (f"declares the output '{m[1]}', which nothing makes", AGAIN),
    ),
    (r"Duplicate definition of name \(([^)]*)\)", lambda m: (f"makes the tensor '{m[1]}' twice", AGAIN)),
    (r"the graph is not acyclic", lambda _: ("has nodes that wait for each other's results", AGAIN)),
    (r"Missing opset in the model", lambda _: ("does not say which opset its operators are of", AGAIN)),
    (
        r"No opset import for domain '([^']*)'",
        lambda m: (f"has operators of the domain '{m[1]}', which it does not import", AGAIN),
    ),
    (
        r'Node, \("([^"]*)", (\w+),.*has (in|out)put size (\d+) not in range \[min=(\d+), max=(\d+)\]',
        lambda m: (f"has {m[4]} {m[3]}puts at node '{m[1]}' ({m[2]}), which takes {m[5]} to {m[6]}", AGAIN),
    ),
    (
        r'Node, \("([^"]*)", .*Unrecognized attribute: (\w+) for operator (\w+)',
        lambda m: (f"has the attribute '{m[2]}' at node '{m[1]}' ({m[3]}), which no opset of that number knows", AGAIN),
    ),
    (
        r"Initializer '([^']*)': raw_data size \((\d+) bytes\) does not match expected size .*?\((\d+) bytes\)",
        lambda m: (f"has {m[2]} bytes for the weight '{m[1]}', whose shape takes {m[3]}", "Copy or export it again."),
    ),
    (
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        lambda m: (
            f"is of IR version {m[1]}, and the installed ONNX Runtime reads up to {m[2]}",
            "Export it with an older onnx, or update ONNX Runtime.",
        ),
    ),
    (
        r"MLDataType for: tensor\((\w+)\)",
        lambda m: (f"has tensors of the type {m[1]}, which ONNX Runtime does not compute with", AGAIN),
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

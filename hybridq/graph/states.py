"""States of recurrent models: which output of one step is which input of the next, told or read off names and shapes.

A pair is detected where name and shape both say so: what is left of the two names without the words for coming in and
going out (``prev``, ``out``, ``N``, ...) is the same and is what people call a state, the types are the same, and no
axis differs. Everything else is for ``--state IN=OUT`` to tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import onnx

from hybridq.errors import ModelError, Problem
from hybridq.graph.edit import inputs_of
from hybridq.quant.words import join, nearest_hint

States = Mapping[str, str]  # input of a step: output of the step before
Words = tuple[str, ...]

NONE = "none"  # said instead of pairs: the model has no states
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
COMING = frozenset(["in", "input", "i", "past", "prev", "previous", "last", "old", "init", "initial", "0"])
GOING = frozenset(["out", "output", "o", "n", "next", "new", "present", "updated", "final"])
CALLED = frozenset(  # what people call a state
    "h c hx cx hidden cell state states cache caches mem memory".split()  # noqa: SIM905
    + "rnn gru lstm past context ctx buffer buf kv history hist carry".split()  # noqa: SIM905
)
JOINED = {"hn": ("h", "n"), "cn": ("c", "n"), "hin": ("h", "in"), "hout": ("h", "out"), "cin": ("c", "in")}
NUMBERED = re.compile(r"[hcrsmkv]\d*")  # a whole name: r1, h, s0


def detected(proto: onnx.ModelProto) -> dict[str, str]:
    """The pairs that names and shapes say, by input, in the model's order.

    At least one input has to be left that is none: a model without any other is fed nothing.
    """
    inputs, free = inputs_of(proto.graph), list(proto.graph.output)
    found: dict[str, str] = {}
    for one in inputs:
        fits = [other for other in free if _same_name(one.name, other.name) and not differs(one, other)]
        if len(fits) == 1:
            found[one.name] = fits[0].name
            free.remove(fits[0])
    return found if len(found) < len(inputs) else {}


def told(proto: onnx.ModelProto, pairs: Sequence[str]) -> dict[str, str]:
    """The pairs that a person wrote as ``IN=OUT``. Raises ModelError with everything that is wrong with them."""
    inputs = {v.name: v for v in inputs_of(proto.graph)}
    outputs = {v.name: v for v in proto.graph.output}
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for pair in pairs:
        name, output = _split(pair, inputs)
        said = _unknown(pair, name, output, inputs, outputs) or _twice(pair, name, output, found)
        if not said and (other := differs(inputs[name], outputs[output], guess=False)):
            said = Problem(f"state {pair!r}: {other}", hint="What comes out must fit what goes in.")
        problems += [said] if said else []
        found[name] = output
    if not problems and found and len(found) == len(inputs):
        problems = [Problem("every input is a state, so that there is nothing to feed", hint="Leave a pair out.")]
    if problems:
        raise ModelError(problems)
    return {name: found[name] for name in inputs if name in found}


def states_of(proto: onnx.ModelProto, pairs: Sequence[str]) -> dict[str, str]:
    """The states of a model: ``none``, the pairs that are told, or by default those that are detected."""
    if list(pairs) == [NONE]:
        return {}
    return told(proto, pairs) if pairs else detected(proto)


def differs(one: onnx.ValueInfoProto, other: onnx.ValueInfoProto, *, guess: bool = True) -> str:
    """Why an output cannot be an input of the next step, or nothing.

    Where it is a ``guess``, axes that go by two names are different: a cache that grows has such.
    """
    kinds = [v.type.tensor_type.elem_type for v in (one, other)]
    if kinds[0] != kinds[1]:
        said = [onnx.TensorProto.DataType.Name(k).lower() for k in kinds]
        return f"'{one.name}' is {said[0]}, but '{other.name}' {said[1]}"
    if not all(v.type.tensor_type.HasField("shape") for v in (one, other)):
        return ""
    a, b = ([d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in (one, other))
    if len(a) == len(b) and all(_may_equal(x, y, guess) for x, y in zip(a, b, strict=True)):
        return ""
    shown = ["[" + ",".join(str(d or "?") for d in dims) + "]" for dims in (a, b)]
    return f"'{one.name}' is {shown[0]}, but '{other.name}' {shown[1]}"


def _may_equal(coming: int | str, going: int | str, guess: bool) -> bool:
    if isinstance(coming, int) and isinstance(going, int):
        return coming == going
    named = isinstance(coming, str) and isinstance(going, str) and coming and going
    return not (guess and named) or coming == going


def _split(pair: str, inputs: Iterable[str]) -> tuple[str, str]:
    """Input and output of a pair: names may hold ``=`` themselves."""
    places = [i for i, letter in enumerate(pair) if letter == "="]
    split = [(pair[:i], pair[i + 1 :]) for i in places]
    return next((s for s in split if s[0] in inputs), split[0] if split else (pair, ""))


def _unknown(pair: str, name: str, output: str, inputs: Iterable[str], outputs: Iterable[str]) -> Problem | None:
    """What is wrong with the names of a pair."""
    if not output:
        hint = f"Write --state INPUT=OUTPUT, as in --state {next(iter(inputs))}={next(iter(outputs))}, or --state none."
        return Problem(f"state {pair!r} is no pair", hint=hint)
    for given, known, what in ((name, list(inputs), "input"), (output, list(outputs), "output")):
        if given not in known:
            hint = nearest_hint(given, known) or f"The {what}s are {join(map(repr, known), 'and')}."
            return Problem(f"state {pair!r}: {given!r} is no {what} of the model", hint=hint)
    return None


def _twice(pair: str, name: str, output: str, found: States) -> Problem | None:
    if name in found or output in found.values():
        again = f"input {name!r}" if name in found else f"output {output!r}"
        return Problem(f"state {pair!r}: {again} is in an earlier pair already", hint="Give each one state.")
    return None


def _same_name(coming: str, going: str) -> bool:
    """Whether two names differ by the words for coming in and going out alone, and speak of a state."""
    if coming == going:
        return False
    pairs = product(_stems(_words(coming), COMING), _stems(_words(going), GOING))
    return any(a == b and _speaks_of_state(a, coming, going) for a, b in pairs)


def _words(name: str) -> Words:
    found = (w.lower() for w in WORD.findall(name))
    return tuple(part for w in found for part in JOINED.get(w, (w,)))


def _stems(words: Words, marks: frozenset[str]) -> set[Words]:
    """What a name may say beside its mark, at its front or its end: as it is, or without one."""
    found = {words}
    if words and words[0] in marks:
        found.add(words[1:])
        if words[:3] in (("past", "key", "values"), ("present", "key", "values")):
            found.add(words[3:])
    if len(words) > 1 and words[-1] in marks:
        found.add(words[:-1])
    if len(words) > 2:  # in the middle: rnn_in_state
        found |= {words[:i] + words[i + 1 :] for i in range(1, len(words) - 1) if words[i] in marks}
    return found


def _speaks_of_state(stem: Words, coming: str, going: str) -> bool:
    if not stem:
        return False
    keys = _words(coming)[0] == "past" and _words(going)[0] == "present"
    return keys or bool(CALLED & set(stem)) or NUMBERED.fullmatch("".join(stem)) is not None

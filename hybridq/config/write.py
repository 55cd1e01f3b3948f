"""Write the cfg: the only file of the three that is meant for editing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from hybridq import targets
from hybridq.graph.model import Group, Layer, Model
from hybridq.quant.dtypes import Precision, Scheme
from hybridq.quant.numerics import float32_text
from hybridq.quant.records import FIELDS, WEIGHT_SUFFIX, Calibrated, Entry, LayerChoice
from hybridq.quant.words import join

FORMAT = "hybridq.cfg/1"
SCHEMA = "cfg-1.schema.json"  # beside the cfg, so that an editor finds it wherever the folder goes
LAYERS = "customized_quantize_layers"
PARAMETERS = "quantize_parameters"
SEPARATE = "separate_concats"
EMPTY = f"{LAYERS}: {{}}"
SHOWN = 6  # names in a comment
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*|[0-9a-f]*[a-df][0-9a-f]*")
_USUAL = re.compile(r"[\w/.:+ -]*+", re.ASCII)
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_INVISIBLE = re.compile("[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]")


def write_cfg(
    model: Model,
    calibrated: Calibrated,
    choices: Mapping[str, LayerChoice] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> str:
    """The cfg of a model just calibrated. ``choices`` and ``reasons`` (both by layer) hold a proposal, if any."""
    lines = [
        "%YAML 1.2",
        "---",
        f"# yaml-language-server: $schema={SCHEMA}",
        "# What step1 measured and chose, for you to edit. `hybridq check` finds all mistakes, `hybridq step2` builds,",
        "# `hybridq set` and `unset` edit from the command line, `hybridq diff` shows the edits.",
        f"format: {FORMAT}",
        f"model: {{name: {plain(model.name)}, sha256: {plain(model.sha256)}}}",
        f"target: {plain(calibrated.target)}",
        *_separate(calibrated.separate),
        "",
        *_layers(model, calibrated, choices or {}, reasons or {}),
        "",
        "# One tensor a line. A changed number wins; what is not changed is computed again. min/max: the real range;",
        "# real = scale * (integer - zero_point). Tensors that share parameters have one line.",
        f"{PARAMETERS}:" if calibrated.entries else f"{PARAMETERS}: {{}}",
    ]
    entries = (entry_line(key, entry, comment(model, calibrated, key)) for key, entry in calibrated.entries.items())
    return "\n".join([*lines, *entries]) + "\n"


def _separate(concats: Iterable[str]) -> list[str]:
    """The line that names the Concats whose inputs keep scales of their own, where there are any."""
    names = ", ".join(map(quote, concats))
    return [f"{SEPARATE}: [{names}]  # what these join keeps scales of its own"] if names else []


def _layers(
    model: Model, calibrated: Calibrated, choices: Mapping[str, LayerChoice], reasons: Mapping[str, str]
) -> list[str]:
    """The block that gives layers a precision, with an example of this model's own."""
    words = join(targets.load(calibrated.target).precisions)
    lines = [
        f"# Layers are {calibrated.default} (float32 where a line below says why) unless they stand here: {words}.",
        '# Names, globs ("head/*"), "re:...", "op:Sigmoid", "from:A..to:B", "group:NAME", joined by and, or, not;',
        "# a name wins over a glob, a glob over op:.",
    ]
    if choices:
        return [*lines, f"{LAYERS}:", *(choice_line(k, choice_text(c), reasons.get(k, "")) for k, c in choices.items())]
    lines.append(EMPTY)
    free = [x for x in model.layers if x.weights and not x.float_only] or [x for x in model.layers if not x.float_only]
    others = [p for p in targets.load(calibrated.target).precisions if p != calibrated.default]
    if free and others:
        wide = Precision.INT16 if Precision.INT16 in others else others[-1]
        lines += [f"    # {quote(free[-1].name)}: {wide}    # without the braces above"]
    return lines


def choice_text(choice: LayerChoice) -> str:
    """The value that asks for ``choice``."""
    return f"{{weight_only: {choice.weight_only}}}" if choice.weight_only else str(choice.precision)


def choice_line(name: str, value: str, reason: str = "", indent: int = 4) -> str:
    """One line of ``customized_quantize_layers``."""
    return f"{' ' * indent}{quote(name)}: {value}" + (f"  # {_one_line(reason)}" if reason else "")


def entry_line(key: str, entry: Entry, note: str = "", indent: int = 4) -> str:
    """One line of ``quantize_parameters``."""
    text = f"{' ' * indent}{quote(key)}: {entry_text(entry)}"
    return f"{text}  # {note}" if note else text


def entry_text(entry: Entry) -> str:
    """``{dtype: ..., min: ...}``: the fields that apply; per-channel numbers stay in model.json."""
    shown = entry_fields(entry)
    return "{" + ", ".join([f"{name}: {value}" for name, value in shown.items()]) + "}"


def entry_fields(entry: Entry) -> dict[str, str]:
    """The fields of an entry that the cfg shows, as they are written."""
    if not entry.dtype.is_integer:
        shown: tuple[str, ...] = ("min", "max")
    elif entry.qtype is Scheme.DYNAMIC_FIXED_POINT:
        shown = FIELDS[1:]
    else:
        shown = FIELDS[1:-1]
    found = {"dtype": str(entry.dtype)}
    for name in shown:
        value = getattr(entry, name)
        if value is not None and type(value) is not tuple:
            found[name] = float32_text(value) if name in _REAL else str(value)
    return found


_REAL = ("min", "max", "scale")


def value_text(value: object) -> str:
    """A field's value as the cfg writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(value_text(x) for x in value) + "]"
    return float32_text(value) if isinstance(value, float) else str(value)


def comment(model: Model, calibrated: Calibrated, key: str) -> str:
    """What a person wants to know of the tensor behind ``key``: its operator, who shares it, why it stays float."""
    if key in model.group:
        return _one_line(_group_comment(model, calibrated, model.group[key]))
    layer = model.layer.get(key.removesuffix(WEIGHT_SUFFIX))
    if layer is None:
        return ""
    shapes = " and ".join("x".join(map(str, w.shape)) for w in layer.weights)
    return f"{layer.op} weight {shapes}".rstrip()


def _group_comment(model: Model, calibrated: Calibrated, group: Group) -> str:
    parts = []
    if any(s in model.inputs for s in group.sources):
        parts.append("model input" if len(group.sources) == 1 else f"model input {_some(model.inputs)}")
    layers = [model.layer[name] for name in group.layers]
    if len(layers) == 1:
        parts.append(operator(layers[0]))
    elif layers:
        parts.append("shared by " + _some(f"{x.name} ({operator(x)})" for x in layers))
    if len(group.tensors) > 1:
        sharing = [t for t in group.tensors if t != group.name and t not in group.sources]
        parts += ["also " + _some(sharing)] if sharing else []
    if any(t in model.outputs for t in group.tensors):
        parts.append("model output")
    return "; ".join([*parts, *_reasons(layers, calibrated)])


def _reasons(layers: list[Layer], calibrated: Calibrated) -> list[str]:
    """Why layers do not have the usual precision."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        own = calibrated.layers.get(layer.name)
        if layer.float_only:
            found.setdefault(f"stays float32: {layer.float_only}", []).append(layer.name)
        elif own and own.why:
            found.setdefault(f"{own.precision} by default: {own.why}", []).append(layer.name)
    return [f"{_some(names)} {why}" if len(layers) > 1 else why for why, names in found.items()]


def operator(layer: Layer) -> str:
    """``Conv + Relu``: the operator and the activation it absorbs."""
    return f"{layer.op} + {layer.activation_op}" if layer.activation_op else layer.op


def quote(name: str) -> str:
    """A name in double quotes, as YAML and JSON read it."""
    if _USUAL.fullmatch(name):
        return f'"{name}"'
    text = json.dumps(name, ensure_ascii=False)
    return _INVISIBLE.sub(lambda m: f"\\u{ord(m.group()):04x}", text)


def plain(text: str) -> str:
    """A value without quotes where every YAML reader takes it for this text."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else quote(text)


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _one_line(text: str) -> str:
    return " ".join(_INVISIBLE.sub("?", text).split())

"""The cfg to a ``QuantConfig``, or to every problem in it at once."""

from __future__ import annotations

from collections.abc import Iterable

from hybridq import targets
from hybridq.config.customized_layers import Asked, choices_of, refusal
from hybridq.config.document import Document
from hybridq.config.edits import Changed, changes
from hybridq.config.meaning import Meaning
from hybridq.config.names import Names, defaults_of
from hybridq.config.schema import check_shape
from hybridq.config.schema_words import START
from hybridq.config.selectors import Rank
from hybridq.config.write import PARAMETERS, SEPARATE, choice_text, entry_line
from hybridq.config.yaml.nodes import Scalar
from hybridq.config.yaml.reader import read
from hybridq.config.yaml.text import CfgText, source_of
from hybridq.errors import ConfigError, Problem
from hybridq.graph.model import Model
from hybridq.graph.operators import row_of
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import Calibrated, Edit, LayerChoice, QuantConfig
from hybridq.quant.words import join
from hybridq.targets import Target

WRITE_ANEW = "Write a cfg for this model with `hybridq step1 ... --force`, or `--merge` to keep the edits."


def check(text: str, path: str, model: Model, calibrated: Calibrated) -> tuple[QuantConfig | None, list[Problem]]:
    """The cfg resolved to layers and entries, None where it has errors; and all problems by line, warnings too."""
    config, source, _ = examine(text, path, model, calibrated)
    return config, source.sorted()


def read_cfg(text: str, path: str, model: Model, calibrated: Calibrated) -> QuantConfig:
    """The cfg resolved to layers and entries. Raises ConfigError with every problem."""
    config, problems = check(text, path, model, calibrated)
    if config is None:
        raise ConfigError(problems)
    return config


def examine(
    text: str, path: str, model: Model, calibrated: Calibrated, known: dict[str, str] | None = None
) -> tuple[QuantConfig | None, CfgText, Document | None]:
    """As ``check``, with the document and its places for whoever edits it. ``known`` spares computing it again."""
    source = source_of(text, path)
    if source.failed:
        return None, source, None
    known = known_lines(calibrated) if known is None else known
    found, target = Document(read(source, known, PARAMETERS)), targets.load(calibrated.target)
    if not found.top.pairs:
        _empty(source)
        return None, source, None
    check_shape(found, calibrated.entries, target.precisions, source)
    _head(found, model, calibrated, source)
    names = Names(model, calibrated.entries)
    separate = _separate(found, names, target, source)
    defaults = defaults_of(model, calibrated)
    asked = choices_of(found, names, defaults, target, source)
    changed = changes(found, names, calibrated, source)
    _retyped_layers(changed.values(), names, asked, target, source)
    meaning = Meaning(names, calibrated, target, defaults, asked, source)
    for one in changed.values():
        meaning.check(one)
    _kinds(names, asked, calibrated, target, source)
    config = None if source.failed else _config(meaning, changed, separate)
    return config, source, found


def _empty(source: CfgText) -> None:
    if not source.failed:
        source.error("empty", "the file is empty", START, "Write it anew with `hybridq step1 ... --force`.")


def known_lines(calibrated: Calibrated) -> dict[str, str]:
    """Lines without comments that need not be read since step1 wrote them, to their keys."""
    entries = [*calibrated.entries.items(), *calibrated.written]
    lines = ((entry_line(key, entry), key) for key, entry in entries)
    return {line: key for line, key in lines if "\\" not in line and line.find("}") == len(line) - 1}


def separate_of(text: str) -> tuple[str, ...]:
    """The names in a cfg's ``separate_concats``; whether they make sense, ``check`` says."""
    if SEPARATE not in text:
        return ()
    source = source_of(text, "")
    return () if source.failed else tuple(x.text for x in Document(read(source, {}, PARAMETERS)).separate)


def _separate(found: Document, names: Names, target: Target, source: CfgText) -> list[Edit]:
    """The Concats that are separate, as edits; a problem for every other name."""
    edits = []
    for item in found.separate:
        layer = names.model.layer.get(names.model.names.get(item.text, ""))
        if layer is not None and row_of(names.model.nodes[layer.node]).moves_all:
            edits.append(Edit(layer.name, "separate", "no", "yes", item.line))
        elif not target.concats_separate:
            message = f"what a Concat joins has one scale with its result on {target.name}"
            source.error("separate", message, item.place, f"Remove it from `{SEPARATE}`.")
        elif names.layers(item.text) or item.text in names.model.nodes:
            message = f"'{item.text}' is no Concat that lets different tensors share a scale"
            source.error("separate", message, item.place, f"Remove it from `{SEPARATE}`.")
        else:
            hint = source.nearest(item.text, names.known)
            source.error("unknown-layer", f"there is no Concat '{item.text}'", item.place, hint)
    return edits


def _head(found: Document, model: Model, calibrated: Calibrated, source: CfgText) -> None:
    """Whether the cfg belongs to this model and target."""
    sha256, name = found.text("model", "sha256"), found.text("model", "name")
    if sha256 is None and not source.failed:
        hint = f"Restore the line `model: {{name: ..., sha256: {model.sha256[:12]}...}}`."
        source.warning(
            "model", "without `model: {sha256: ...}` nothing says that this cfg is for this model", START, hint
        )
    if sha256 is not None and sha256.text != model.sha256:
        message = f"this cfg belongs to another model (sha256 {sha256.text[:12]}..., here {model.sha256[:12]}...)"
        source.error("other-model", message, sha256.place, WRITE_ANEW)
    elif name is not None and name.text != model.name:
        source.warning("model", f"the model is called '{model.name}', not '{name.text}'", name.place)
    wanted = found.text("target")
    if wanted is None or wanted.text == calibrated.target:
        return
    if wanted.text not in targets.names():
        hint = source.nearest(wanted.text, targets.names(), f"Choose {join(targets.names())}.")
        source.error("unknown-target", f"'{wanted.text}' is no target", wanted.place, hint)
    else:
        hint = f"Run `hybridq step1 ... --target {wanted.text} --merge` to calibrate for it."
        source.error("target", f"step1 calibrated for {calibrated.target}, not {wanted.text}", wanted.place, hint)


def _retyped_layers(
    changed: Iterable[Changed], names: Names, asked: dict[str, Asked], target: Target, source: CfgText
) -> None:
    """An edited dtype of an activation asks its layers for that precision; what is asked above must agree."""
    for one in changed:
        wanted = one.values.get("dtype")
        if not isinstance(wanted, Precision) or names.is_weight(one.key):
            continue
        place = one.places["dtype"]
        layers = names.key_layers(one.key)
        if wanted not in target.precisions:
            message = f"the target {target.name} has no {wanted}"
            source.error("target-precision", message, place, f"Choose {join(target.precisions)}.")
            continue
        if not layers:
            hint = "It takes the widest precision among the layers that read it; give those another one."
            source.error("input", f"'{one.key}' is a model input, which has no precision of its own", place, hint)
            continue
        choice = LayerChoice(wanted, line=place.line)
        for layer in layers:
            other = asked.get(layer.name)
            if other is None and (why := refusal(layer, choice, target)):
                source.error("float-only", f"'{layer.name}' {why}", place)
            elif other is not None and other.choice.precision is not wanted:
                message = f"dtype {wanted}, but line {other.key.line} gives '{layer.name}' {choice_text(other.choice)}"
                source.error("two-values", message, place, "Keep one; `customized_quantize_layers` is the usual place.")
                break
        for layer in layers:
            asked.setdefault(layer.name, Asked(choice, Rank.NAME, _key(one)))


def _key(one: Changed) -> Scalar:
    place = one.places["dtype"]
    return Scalar(one.key, place.line, place.column, place.end)


def _kinds(names: Names, asked: dict[str, Asked], calibrated: Calibrated, target: Target, source: CfgText) -> None:
    """Whether the target can hold so many precisions in one model. Layers that must stay float do not count."""
    if target.max_kinds is None:
        return
    first: dict[Precision, Asked] = {}
    for one in sorted(asked.values(), key=lambda a: a.key.line):
        first.setdefault(one.choice.precision, one)
    free = [x.name for x in names.model.layers if not x.float_only]
    kinds = [] if all(n in asked for n in free) else [calibrated.default]
    kinds += [p for p in first if p not in kinds]
    if len(kinds) > target.max_kinds:
        extra = kinds[target.max_kinds]
        message = (
            f"{target.name} takes at most {target.max_kinds} precisions in one model; here are {join(kinds, 'and')}"
        )
        hint = f"Give these layers {join(kinds[: target.max_kinds])}."
        source.error("kinds", message, first[extra].key.place, hint)


def _config(meaning: Meaning, changed: dict[str, Changed], separate: list[Edit]) -> QuantConfig:
    calibrated, asked = meaning.calibrated, meaning.asked
    choices = {x.name: asked[x.name].choice for x in meaning.names.model.layers if x.name in asked}
    settled = {key: meaning.settle(one) for key, one in changed.items()}
    edits = separate + [
        Edit(name, "precision", _usual(meaning, name), choice_text(choice), choice.line)
        for name, choice in choices.items()
        if choice.selector
    ]
    edits += [edit for one in changed.values() for edit in one.edits()]
    return QuantConfig(
        target=calibrated.target,
        choices=choices,
        entries={**calibrated.entries, **settled},
        edited={key: one.edited for key, one in changed.items()},
        edits=tuple(sorted(edits, key=lambda e: e.line)),
    )


def _usual(meaning: Meaning, layer: str) -> str:
    """What a layer has by default, in the cfg's words."""
    return choice_text(LayerChoice(meaning.defaults[layer], meaning.calibrated.weight_only_of(layer)))

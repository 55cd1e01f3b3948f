"""``customized_quantize_layers``: every key to its layers, every value to a precision, precedence among them."""

from __future__ import annotations

from collections.abc import Mapping as MappingLike
from dataclasses import dataclass

from hybridq.config import rknn
from hybridq.config.document import Document
from hybridq.config.names import Names
from hybridq.config.selectors import Rank, Selection, SelectorError, select
from hybridq.config.yaml.nodes import Mapping, Node, Scalar
from hybridq.config.yaml.text import CfgText
from hybridq.graph.model import Layer
from hybridq.quant.dtypes import Precision
from hybridq.quant.records import LayerChoice
from hybridq.quant.words import join
from hybridq.targets import Target


@dataclass(frozen=True, slots=True)
class Asked:
    """What one key asks of one layer."""

    choice: LayerChoice
    rank: Rank
    key: Scalar


WEIGHTS_MAY = "; its weights alone can have fewer bits (weight_only: int8)"


def choices_of(
    document: Document, names: Names, defaults: MappingLike[str, Precision], target: Target, source: CfgText
) -> dict[str, Asked]:
    """What the cfg's keys ask of each layer. Keys with ``boundary`` see the precisions that all others give."""
    best: dict[str, Asked] = {}
    late: list[tuple[Scalar, LayerChoice]] = []
    for key, value in document.layers:
        choice = None if document.is_wrong_layer(key.text) else _choice(key, value, target, source)
        if choice is None:
            _select(key, names, {}, source)
        elif "boundary" in key.text.split() and not names.layers(key.text):
            late.append((key, choice))
        else:
            _apply(key, choice, _select(key, names, {}, source), names, target, best, source)
    current = {**defaults, **{name: asked.choice.precision for name, asked in best.items()}}
    for key, choice in late:
        _apply(key, choice, _select(key, names, current, source), names, target, best, source)
    return best


def _choice(key: Scalar, value: Node, target: Target, source: CfgText) -> LayerChoice | None:
    """The precision that a value of the right shape asks for; problems where the target has none such."""
    if isinstance(value, Mapping):
        return _weight_only(key, value, target, source)
    found = rknn.precision_of(value.text) if isinstance(value, Scalar) else None
    if found is None or not isinstance(value, Scalar):
        return None
    precision, scheme = found
    if precision not in target.precisions:
        message = f"the target {target.name} has no {precision}"
        source.error("target-precision", message, value.place, f"Choose {join(target.precisions)}.")
        return None
    given = target.precisions[precision].activation.scheme
    if scheme is not None and given is not scheme:
        message = f"'{value.text}' is read as {precision}, which the target {target.name} stores as {given}"
        source.note("scheme", message, value.place)
    return LayerChoice(precision, selector=key.text, line=key.line)


def _weight_only(key: Scalar, value: Mapping, target: Target, source: CfgText) -> LayerChoice | None:
    word = value.pairs[0].value
    if Precision.FLOAT32 not in target.precisions:
        message = f"the target {target.name} has no float32, which weight_only leaves the activations in"
        source.error("target-precision", message, value.place, f"Choose {join(target.precisions)}.")
        return None
    bits = Precision(word.text) if isinstance(word, Scalar) else None
    return LayerChoice(Precision.FLOAT32, bits, selector=key.text, line=key.line)


def _select(key: Scalar, names: Names, precisions: MappingLike[str, Precision], source: CfgText) -> Selection | None:
    try:
        found = select(key.text, names, precisions, source.nearest)
    except SelectorError as error:
        source.error("unknown-layer", str(error), key.place, error.hint)
        return None
    for note in found.notes:
        source.note("selector", note, key.place)
    return found


def _apply(
    key: Scalar,
    choice: LayerChoice,
    found: Selection | None,
    names: Names,
    target: Target,
    best: dict[str, Asked],
    source: CfgText,
) -> None:
    """Let ``choice`` decide for the layers where no key of a higher rank does."""
    if found is None:
        return
    clashes: dict[Scalar, list[str]] = {}
    for name in _able(key, choice, found, names, target, source):
        old = best.get(name)
        if old is None or found.rank > old.rank:
            best[name] = Asked(choice, found.rank, key)
        elif found.rank == old.rank and not _agree(old.choice, choice) and old.key.text != key.text:
            clashes.setdefault(old.key, []).append(name)  # (one key twice is reported as such)
    for other, layers in clashes.items():
        more = f" and {len(layers) - 1} more layer{'s' * (len(layers) > 2)}" if len(layers) > 1 else ""
        message = f"'{key.text}' and '{other.text}' (line {other.line}) give '{layers[0]}'{more} different precisions"
        hint = "Keep one name." if found.rank is Rank.NAME else "Name the layer itself, or narrow one by `and not ...`."
        source.error("two-values", message, key.place, hint)


def _able(
    key: Scalar, choice: LayerChoice, found: Selection, names: Names, target: Target, source: CfgText
) -> list[str]:
    """The layers that can take ``choice``; an error where a named one cannot, a note where a pattern met some."""
    layers = [names.model.layer[n] for n in found.layers]
    refused = {x.name: why for x in layers if (why := refusal(x, choice, target))}
    if refused:
        name, why = next(iter(refused.items()))
        if found.rank >= Rank.TENSOR or len(refused) == len(layers):
            hint = "Remove the line." if len(refused) == len(layers) else ""
            source.error("float-only", f"'{name}' {why}", key.place, hint)
        else:
            more = f", nor have {len(refused) - 1} more" if len(refused) > 1 else ""
            source.note("float-only", f"'{name}' does not become {_what(choice)}: it {why}{more}", key.place)
    return [x.name for x in layers if x.name not in refused]


def refusal(layer: Layer, choice: LayerChoice, target: Target) -> str:
    """Why a layer cannot have what is asked ("must stay float32: ..."); empty if it can."""
    if choice.weight_only:
        return "" if layer.weights else "has no weights"
    narrow = choice.precision is not Precision.FLOAT32
    if layer.float_only and narrow and (choice.precision.is_integer or Precision.FLOAT32 in target.precisions):
        return f"must stay float32: {layer.float_only}" + WEIGHTS_MAY * bool(layer.weights)
    return ""


def _agree(a: LayerChoice, b: LayerChoice) -> bool:
    return (a.precision, a.weight_only) == (b.precision, b.weight_only)


def _what(choice: LayerChoice) -> str:
    return f"weight_only {choice.weight_only}" if choice.weight_only else str(choice.precision)

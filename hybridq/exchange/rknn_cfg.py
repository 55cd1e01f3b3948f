"""RKNN's own ``.quantization.cfg`` files, of RKNN-Toolkit 1.7.5 and of RKNN-Toolkit2, read onto ours.

The layers a person chose there get that precision here; the ranges of its quantized tensors become edited ``min`` and
``max`` here. Toolkit 1.x calls a tensor ``@{layer}_{id}:{weight|bias|outN}``, after the ONNX node or its output, at
times with the operator's name or ``attach_`` before it; Toolkit2 uses the ONNX tensor's name.
"""

from __future__ import annotations

from functools import cached_property

from hybridq import targets
from hybridq.config.document import LAYERS_ALIAS
from hybridq.config.names import Names
from hybridq.config.rknn import TYPES, WORDS
from hybridq.config.write import LAYERS, PARAMETERS, quote
from hybridq.config.yaml.nodes import Mapping, Node, Pair, Scalar, Sequence
from hybridq.config.yaml.reader import read as read_yaml
from hybridq.config.yaml.text import CfgText, TextPlace, source_of
from hybridq.errors import ConfigError, Problem
from hybridq.exchange.records import Wanted
from hybridq.exchange.rknn2_convert import Plan
from hybridq.exchange.rknn_names import ASIDE, SUFFIX, candidates, plain_names, toolkit_names
from hybridq.graph.model import Model
from hybridq.quant.dtypes import Precision, widest
from hybridq.quant.numerics import single
from hybridq.quant.qparams import Range
from hybridq.quant.records import Calibrated
from hybridq.quant.words import nearest_hint

END = "_int8"  # the quantized form of a model input or output, in Toolkit2
DERIVED = "the toolkit made this tensor itself; convert.py finds it again"
SEARCHED = (
    "ranges are the file's; with quantized_algorithm='mmse' the toolkit searches others later, which no cfg shows"
)


def read(text: str, path: str, model: Model, calibrated: Calibrated) -> Wanted:
    """What an RKNN cfg asks for. Raises ConfigError where it is no such file."""
    source = source_of(text, path)
    top = Mapping([], 1, 1, flow=False) if source.failed else read_yaml(source, anchors=True)
    parts = {p.key.text: p for p in top.pairs}
    layers, entries = parts.get(LAYERS) or parts.get(LAYERS_ALIAS), parts.get(PARAMETERS)
    if not source.failed and layers is None and entries is None:
        source.error("format", f"neither `{LAYERS_ALIAS}` nor `{PARAMETERS}`: no RKNN cfg", TextPlace(1, 1, 2))
    if source.failed:
        raise ConfigError(source.sorted())
    pairs = entries.value.pairs if entries and isinstance(entries.value, Mapping) else []
    first = any(p.key.text.startswith("@") for p in pairs) or LAYERS in parts
    reader = _Reader(source, model, calibrated, first, {p.key.text: p.value for p in pairs})
    if layers and isinstance(layers.value, Mapping):
        for pair in layers.value.pairs:
            reader.layer(pair)
        reader.remark([p.key for p in layers.value.pairs])
    for pair in pairs:
        reader.entry(pair)
    reader.settle()
    if not first and pairs:
        note = Problem(SEARCHED, path, pairs[0].key.line, severity="note", code="searched")
        reader.wanted.problems.append(note)
    reader.wanted.problems.sort(key=lambda p: p.line)
    return reader.wanted


class _Reader:
    """Maps one file, whose entries are ``given``; ``first`` says it is Toolkit 1.x's."""

    def __init__(
        self, source: CfgText, model: Model, calibrated: Calibrated, first: bool, given: dict[str, Node]
    ) -> None:
        self.source, self.model, self.calibrated, self.first, self.given = source, model, calibrated, first, given
        self.names = Names(model, calibrated.entries)
        self.precisions = list(targets.load(calibrated.target).precisions)
        self.wanted = Wanted()
        self.plain = plain_names(self.names.known)
        self.found: dict[str, list[tuple[int, Range]]] = {}  # by key: how well the name fits, and the range

    # -- layers -------------------------------------------------------------------------------------------------------

    def layer(self, pair: Pair) -> None:
        """One line of ``custom(ized)_quantize_layers``."""
        key, value = pair
        precision = self._precision(value)
        if precision is None:
            self._unmapped(key, f"'{_shown(value)}' is no precision that {self.calibrated.target} has")
            return
        if _shown(value) != precision and not precision.is_integer:
            self._told(key, f"{_shown(value)} is taken as {precision}: {self.calibrated.target} has no other")
        layers = self._layers(key)
        if not layers:
            self._unmapped(key, f"there is no layer '{key.text}'", nearest_hint(key.text, self.names.known))
        for name in layers:
            float_only = self.model.layer[name].float_only
            if float_only and precision.is_integer:
                self._unmapped(key, f"'{name}' must stay float32: {float_only}")
            elif not float_only:
                self._choose(key, name, precision)

    def _layers(self, key: Scalar) -> tuple[str, ...]:
        """The layers that a name stands for; of a name that Toolkit2 derived, those that it was made from."""
        for name in self._candidates(key.text):
            if found := self.names.layers(name):
                return found
        found = self.names.layers(self._origin(key.text))
        if found:
            self._told(key, f"the toolkit made it from {quote(found[0])}, which gets this precision")
        return found

    def remark(self, keys: list[Scalar]) -> None:
        """Tell what Toolkit2 does otherwise: activations that it ignores in silence, inputs that it leaves in int8."""
        named = {} if self.first else {key.text: key for key in keys}
        for text, key in named.items():
            layer = self.model.layer.get(text)
            own = self.model.nodes[layer.node].output[0] if layer and layer.activation else text
            if own not in named and text in self.wanted.layers:
                self._told(key, f"alone it changes nothing in the toolkit, which goes by {quote(own)}")
        for name in (i for i in self.model.inputs if i + END in self.given and i + END not in named):
            readers = [x.name for x in self.model.layers if name in x.inputs]
            if readers and all(self.wanted.layers.get(r) is Precision.INT16 for r in readers):
                asked = (
                    f"it reads {quote(name)} in int16 here, the toolkit in int8 where `{name + END}: int16` is missing"
                )
                self._told(named.get(readers[0]) or keys[0], asked)

    def _choose(self, key: Scalar, name: str, precision: Precision) -> None:
        before = self.wanted.layers.get(name, precision)
        if before is not precision:
            self._unmapped(key, f"'{name}' gets {before} and {precision} by two of its names: the wider is taken")
        self.wanted.layers[name] = widest([before, precision])
        self.wanted.seen += 1

    def _precision(self, value: Node) -> Precision | None:
        """Our precision; one float stands for the other where the target has only that."""
        text = value.text if isinstance(value, Scalar) else ""
        found = WORDS[text][0] if text in WORDS else TYPES.get(text)
        if found in self.precisions or found is None:
            return found
        floats = [p for p in self.precisions if not p.is_integer]
        return floats[0] if not found.is_integer and floats else None

    # -- ranges -------------------------------------------------------------------------------------------------------

    def entry(self, pair: Pair) -> None:
        """One tensor of ``quantize_parameters``: its range, if it is an activation's."""
        key, value = pair
        suffix = SUFFIX.search(key.text) if self.first else None
        if suffix and not suffix[2]:
            self._unmapped(key, "weights and biases are computed from the model", note=True)
            return
        if _is_float(value):  # a range under `scale: []` is no quantization
            self.wanted.seen += self._key(key.text, 0) is not None
            return
        r = self._range(key, value)
        if r is None:
            return
        target = self._key(key.text, int(suffix[2]) if suffix and suffix[2] else 0)
        if target:
            self.found.setdefault(target[0], []).append((target[1], r.with_zero()))
        elif self._origin(ASIDE.sub("", key.text)):
            self._unmapped(key, DERIVED, note=True)
        else:
            hint = nearest_hint(key.text, self.names.known_keys) if len(self.wanted.problems) < 20 else ""
            self._unmapped(key, f"there is no tensor '{key.text}'", hint)

    def settle(self) -> None:
        """One range for each key: that of the best names; several tensors that share parameters make one range."""
        self.wanted.seen += len(self.found)
        for key, found in self.found.items():
            best = max(rank for rank, _ in found)
            ranges = [r for rank, r in found if rank == best]
            joint = ranges[0]
            for r in ranges[1:]:
                joint = joint.union(r)
            self.wanted.ranges[key] = joint

    def _range(self, key: Scalar, value: Node) -> Range | None:
        fields = _fields(value)
        low, high = (self._number(fields.get(f"{n}_value", fields.get(n))) for n in ("min", "max"))
        if low is None or high is None:
            kind = _shown(fields.get("dtype")) if fields else "it"
            self._unmapped(key, f"it has no range ({kind}); give its layer a float precision to leave it so")
            return None
        if low > high:
            self._unmapped(key, f"min {low:g} is above max {high:g}")
            return None
        return Range(low, high)

    @staticmethod
    def _number(node: Node | None) -> float | None:
        if isinstance(node, Sequence) and len(node.items) == 1:
            node = node.items[0]
        try:
            value = single(float(node.text)) if isinstance(node, Scalar) else None
        except ValueError:
            return None
        return value if value is not None and abs(value) < float("inf") else None

    def _key(self, text: str, output: int) -> tuple[str, int] | None:
        """The entry that RKNN's tensor means, and how well its name fits: 2 after the activation, 1 moved, 0 before."""
        for name in self._candidates(text):
            node = self.model.nodes.get(name)
            if node and output and output < len(node.output):
                name = node.output[output]
            key = self.names.key(name)
            if not key or self.names.is_weight(key):
                continue
            layer = self.model.layer.get(self.model.names.get(name, ""))
            if layer is None:
                return key, 2 if name in self.model.inputs else 1
            after = not layer.activation or name in (layer.name, layer.activation)
            return key, 2 if after else 0
        return None

    # -- names --------------------------------------------------------------------------------------------------------

    def _candidates(self, text: str) -> list[str]:
        """What a name may be called here, the likeliest first."""
        if self.first:
            return candidates(text, self.plain)
        end = text.removesuffix(END)
        return [text, end] if end in (*self.model.inputs, *self.model.outputs) else [text]

    def _origin(self, text: str) -> str:
        """What a tensor that Toolkit2 made itself was made from; empty for what it was not."""
        if self.first or text.endswith(END):
            return ""
        fields = _fields(self.given.get(text))
        reach = [self._number(fields.get(f"ori_{end}", fields.get(end))) for end in ("min", "max")]
        return self.derived.owner(text, [x for x in reach if x is not None])[0]

    @cached_property
    def derived(self) -> Plan:
        """What tells Toolkit2's names."""
        return toolkit_names(self.model, self.calibrated)

    def _told(self, key: Scalar, message: str) -> None:
        """What is to be known of a line that is taken."""
        self._say(key, f"{quote(key.text)}: {message}", "note")

    def _unmapped(self, key: Scalar, message: str, hint: str = "", *, note: bool = False) -> None:
        self._say(key, f"{quote(key.text)} is not imported: {message}", "note" if note else "warning", hint)

    def _say(self, key: Scalar, text: str, severity: str, hint: str = "") -> None:
        line, place = self.source.lines[key.line - 1], (key.line, key.column, key.end)
        self.wanted.problems.append(
            Problem(text, self.source.path, *place, hint=hint, source=line, severity=severity, code="unmapped")
        )


def _is_float(value: Node) -> bool:
    """Whether an entry of Toolkit2's is not quantized: it has a range but no scale."""
    scale = _fields(value).get("scale")
    return isinstance(scale, Sequence) and not scale.items


def _fields(value: Node | None) -> dict[str, Node]:
    """An entry's values by their names."""
    return {p.key.text: p.value for p in value.pairs} if isinstance(value, Mapping) else {}


def _shown(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else "no value"

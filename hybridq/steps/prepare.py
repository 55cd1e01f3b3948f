"""The first half of step 1: the given model made canonical and understood, and the proof that it stayed the same."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.dataset import Sample
from hybridq.dataset.images import is_image
from hybridq.errors import DatasetError, ModelError, Problem
from hybridq.files.temporary import Scratch
from hybridq.graph import runtime
from hybridq.graph.analysis import analyse
from hybridq.graph.chance import random_nodes, seeded
from hybridq.graph.cut import cut
from hybridq.graph.intake.canonical import canonicalize, light, name_everything, remarks
from hybridq.graph.intake.given import read_model
from hybridq.graph.intake.recovered import Recovered, is_quantized, recover
from hybridq.graph.intake.whole_pools import split_whole_pools
from hybridq.graph.model import Model
from hybridq.graph.outside import any_outside, dtype_of, values_of
from hybridq.graph.runtime import Feed, RuntimeModelError
from hybridq.graph.shapes import measure_shapes, open_tensors, with_shapes
from hybridq.graph.states import states_of
from hybridq.graph.view import Sharing
from hybridq.plan.as_given import apart
from hybridq.targets import Target

SHAPES = 16  # different shapes of samples that multiply-accumulates are counted for
NO_SIZE = "Give a size that the model takes: --size HEIGHTxWIDTH, often a multiple of 32."
CANONICAL_TOLERANCE = 1e-5
HALF_TOLERANCE = 2e-3  # of a model given in float16, which rounds away that much itself


@dataclass
class Seen:
    """What of the samples is needed again: the first, the last, and one of each shape with how often it came."""

    first: Feed | None = None
    last: Sample | None = None
    feeds: list[Feed] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    place: dict[tuple[tuple[int, ...], ...], int] = field(default_factory=dict)
    sequences: int = 0  # samples that hold every input

    def add(self, sample: Sample) -> None:
        """Take in a single sample; of more than ``SHAPES`` shapes, the later ones are not kept.

        A step that lacks the states gets those of the first: they have the same shapes.
        """
        self.first = sample.feed if self.first is None else self.first
        begins = len(sample.feed) == len(self.first)
        self.sequences += begins
        feed = sample.feed if begins else {**self.first, **sample.feed}
        self.last = sample if feed is sample.feed else replace(sample, feed=dict(feed))
        shapes = tuple(np.shape(feed[name]) for name in self.first)
        if shapes not in self.place and len(self.feeds) < SHAPES:
            self.place[shapes] = len(self.feeds)
            self.feeds.append(feed)
            self.counts.append(0)
        if shapes in self.place:
            self.counts[self.place[shapes]] += 1

    def merge(self, later: Seen) -> None:
        """Take in what was seen of the samples that follow."""
        self.first = later.first if self.first is None else self.first
        self.last = later.last if later.last is not None else self.last
        self.sequences += later.sequences
        for shapes, at in later.place.items():
            if shapes not in self.place and len(self.feeds) < SHAPES:
                self.place[shapes] = len(self.feeds)
                self.feeds.append(later.feeds[at])
                self.counts.append(0)
            if shapes in self.place:
                self.counts[self.place[shapes]] += later.counts[at]


@dataclass(frozen=True)
class Prepared:
    """The model as given (or the part that was cut out of it), canonical, and our view of it.

    ``changed``: ONNX Runtime runs ``given`` and not the file, of which a part was cut or two nodes shared a name.
    ``recovered`` holds the quantizers of a model that arrived quantized; ``given`` is its float graph then.
    """

    path: Path
    given: onnx.ModelProto
    changed: bool
    proto: onnx.ModelProto
    model: Model
    recovered: Recovered | None = None
    scratch: Scratch | None = None  # where weights of a large model lie

    def session(self, threads: int) -> runtime.Session:
        """The given model. Raises ModelError where ONNX Runtime does not load it."""
        try:
            source = self.given if self.changed or any_outside(self.given.graph) else self.path
            return runtime.session(seeded(self.given) if random_nodes(self.given.graph) else source, threads=threads)
        except RuntimeModelError as error:
            raise ModelError([replace(p, path=str(self.path)) for p in error.problems]) from error

    def difference(self, feed: Feed, threads: int) -> float:
        """Largest difference of an output between given and canonical model, relative to the output's largest value."""
        reference = runtime.run(self.session(threads), feed)
        found = runtime.run(runtime.session(seeded(self.proto), threads=threads), feed)
        worst = 0.0
        for a, b in zip(_arrays(reference), _arrays(found), strict=True):
            if np.issubdtype(a.dtype, np.floating) and a.size:
                good = np.isfinite(a)
                peak = float(np.abs(a[good]).max(initial=0.0))
                far = float(np.abs(a[good] - b[good]).max(initial=0.0)) if a.shape == b.shape else math.inf
                worst = max(worst, far / peak if peak else far)
        return worst

    def explain(self, sample: Sample | None, path: str, threads: int) -> None:
        """Raise DatasetError where the given model itself does not run on a sample."""
        if sample is None:
            return
        try:
            runtime.run(self.session(threads), sample.feed)
        except RuntimeModelError as error:
            shapes = ", ".join(f"'{n}' {list(np.shape(v))}" for n, v in sample.feed.items())
            said = error.problems[0].message.removeprefix("the model ")
            message = f"the model does not take {sample.name} ({shapes}): it {said}"
            hint = NO_SIZE if any(map(is_image, sample.files.values())) else "Look at the shape of that sample."
            found = Problem(message, path, sample.line, hint=hint, detail=error.problems[0].detail)
            raise DatasetError(found) from error

    def need_numbers(self) -> None:
        """Raise ModelError where a weight holds NaN: no sample is at fault then."""
        for tensor in self.given.graph.initializer:
            if dtype_of(tensor).kind == "f" and np.isnan(values_of(tensor)).any():
                hint = "The file is broken, not the samples: look at the training, and export it again."
                raise ModelError(f"the model has NaN in the weight '{tensor.name}'", path=str(self.path), hint=hint)

    def of_shapes(self, seen: Seen, threads: int) -> Prepared:
        """The same with what the samples' shapes say of the model: multiply-accumulates, numbers of axes."""
        names = open_tensors(self.model)
        if not names or not seen.feeds:
            return self
        shapes = measure_shapes(self.proto, names, seen.feeds, threads)
        return replace(self, model=with_shapes(self.model, self.proto, shapes, seen.counts))

    def problems(self, difference: float) -> list[Problem]:
        """How the model was made canonical, and a warning where it is not the given one."""
        notes = remarks(self.proto, str(self.path))
        drawing = random_nodes(self.proto.graph)
        notes += [_random(drawing, str(self.path))] if drawing else []
        notes += (
            []
            if any(x.weights or not x.float_only for x in self.model.layers)
            else [_nothing(self.proto, str(self.path))]
        )
        half = any(p.code == "float16" for p in notes)
        if difference <= (HALF_TOLERANCE if half else CANONICAL_TOLERANCE):
            return notes
        message = f"the canonical model differs from the given one by {difference:.2g} of the largest output"
        return [*notes, Problem(message, path=str(self.path), severity="warning", code="canonical")]


def _arrays(values: Any) -> Iterator[NDArray[Any]]:
    """Every array of some outputs: those inside sequences and optionals too."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, list):
            yield from _arrays(value)


def _random(nodes: Sequence[str], path: str) -> Problem:
    named = f"'{nodes[0]}'" + (f" and {len(nodes) - 1} more" if len(nodes) > 1 else "")
    message = f"random numbers are drawn inside, by {named}: two runs differ by themselves"
    hint = "Step3 and a search give both models the same numbers. Calibration sees other ones than later runs will."
    return Problem(message, path=path, hint=hint, severity="warning", code="random")


def _nothing(proto: onnx.ModelProto, path: str) -> Problem:
    double = any(t.data_type == onnx.TensorProto.DOUBLE for t in proto.graph.initializer)
    message = "no layer of this model can have 8 bits" + ": it computes in float64" * double
    hint = "Export it in float32 (PyTorch: model.float())." if double else "What is built of it is the given model."
    return Problem(message, path=path, hint=hint, severity="warning", code="nothing")


def prepare(
    path: Path, inputs: Sequence[str], outputs: Sequence[str], target: Target, states: Sequence[str] = ()
) -> Prepared:
    """Read a model, cut it, make it canonical, analyse it. Raises ModelError.

    ``states`` are pairs ``IN=OUT``, or ``none``; by default those that names and shapes say.
    """
    given = read_model(path)
    _refuse_sequences(given, str(path))
    named = [n.name for n in given.graph.node if n.name]
    changed = len(set(named)) < len(named)
    if changed:
        name_everything(given.graph)
    recovered = recover(given, str(path)) if is_quantized(given) and _holds_parameters(given) else None
    if recovered is not None:
        given, changed = recovered.proto, True
    if inputs or outputs:
        given, changed = cut(given, inputs, outputs, str(path)), True
    scratch = Scratch()
    given = light(given, scratch)
    proto = canonicalize(given, str(path), folds_layers=recovered is None, scratch=scratch)
    if target.whole_pools and recovered is None:
        split_whole_pools(proto, target.whole_pools)
    digest = fingerprint(path, inputs, outputs)
    separate = apart(proto, recovered.tensors) if recovered else frozenset()
    model = analyse(
        proto,
        given,
        name=path.stem,
        sha256=digest,
        sharing=Sharing(target.outputs_share, target.inputs_share, separate),
        fixed_ranges=target.fixed_ranges and recovered is None,
        states=_states(proto, states, str(path)),
    )
    return Prepared(path, given, changed, proto, model, recovered, scratch)


def _states(proto: onnx.ModelProto, pairs: Sequence[str], path: str) -> dict[str, str]:
    try:
        return states_of(proto, pairs)
    except ModelError as error:
        raise ModelError([replace(p, path=path) for p in error.problems]) from None


def _holds_parameters(given: onnx.ModelProto) -> bool:
    """Whether a quantizer's work is in a model: some quantized operator with a constant scale or zero point.

    Where all are fed or computed, quantization is what the model does, and not what was done to it.
    """
    held = {t.name for t in given.graph.initializer}
    held |= {o for n in given.graph.node if n.op_type == "Constant" for o in n.output}
    return any("Linear" in n.op_type and not held.isdisjoint(n.input[1:]) for n in given.graph.node)


def _refuse_sequences(given: onnx.ModelProto, path: str) -> None:
    """Refuse inputs that no file can feed."""
    for value in given.graph.input:
        kind = value.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            what = {"sequence_type": "a sequence", "optional_type": "an optional", "map_type": "a map"}.get(kind, kind)
            hint = "Cut the model behind it: --inputs TENSOR."
            raise ModelError(f"input '{value.name}' is {what}, which no file can feed", path=path, hint=hint)


def fingerprint(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """The model's fingerprint: its bytes, and what was cut out of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if inputs or outputs:
        digest.update(json.dumps([list(inputs), list(outputs)]).encode())
    return digest.hexdigest()

"""Per-layer errors: *entire* (inside the whole hybrid model) and *individual* (each layer alone, float inputs)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hybridq.compare import probes
from hybridq.compare.damages import Damages
from hybridq.compare.desk import BoundSession, Desk, LaidBatch, Side, difference, drift_of, spread_of
from hybridq.compare.drift import DriftWatch
from hybridq.compare.dumping import ALONE, ENTIRE, FLOAT
from hybridq.compare.held import Held
from hybridq.compare.histograms import HistogramWatch
from hybridq.compare.probes import OUTPUT, GraphIndex, Piece, Unprobed, stored_as
from hybridq.compare.results import LayerPair, LayerReport, TensorFigures
from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.outside import size_of
from hybridq.graph.runtime import Feed, Session

CHUNK_BYTES = 256 << 20  # of one side's tensors held at once, as far as their shapes are known
FOLDED_BYTES = 64 << 20  # of constants that pieces read: more are not held as float32, but made anew in every run
AS_FLOATS = "session.disable_quant_qdq"  # ONNX Runtime then folds what dequantizes a constant, too

Keep = Callable[[str, str, NDArray[Any]], object]  # which run, the layer, its values
Ranges = Mapping[str, tuple[float, float]]
Ends = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Layers measured by one run of each probe; ``alone`` are sessions that run pieces which float's does not.

    ``stored`` and ``own`` say how each layer is held within the hybrid model and by its piece.
    """

    pairs: tuple[LayerPair, ...]
    watched: tuple[str, ...]
    stored: tuple[Held, ...]
    own: tuple[Held, ...]
    alone: tuple[Session, ...] = ()

    @property
    def reads(self) -> list[str]:
        """The float tensors that the pieces are fed."""
        return [found.name for session in self.alone for found in session.get_inputs()]


@dataclass
class LayerSums:
    """What was measured inside so far, by layer; ``notes`` say what cannot be measured."""

    pairs: Sequence[LayerPair]
    drift: DriftWatch
    spread: HistogramWatch
    notes: Mapping[str, str] = field(default_factory=dict)
    entire: Damages = field(init=False)
    individual: Damages = field(init=False)
    samples: int = 0

    def __post_init__(self) -> None:
        self.entire, self.individual = Damages(len(self.pairs)), Damages(len(self.pairs))

    @classmethod
    def of(cls, pairs: Sequence[LayerPair], ranges: Ranges, ends: Ends | None = None) -> LayerSums:
        """Nothing yet; ``ends`` are those of histograms, (layers, 2), if they are known."""
        tensors = [pair.float_tensor for pair in pairs]
        layers = {pair.float_tensor: pair.name for pair in pairs}
        return cls(pairs, DriftWatch(ranges, layers), HistogramWatch(tensors, ranges, ends))

    def merge(self, later: LayerSums) -> None:
        """Take in what was measured on samples that follow."""
        self.notes, self.samples = later.notes, self.samples + later.samples
        self.drift.merge(later.drift)
        self.spread.merge(later.spread)
        self.entire.merge(later.entire)
        self.individual.merge(later.individual)

    def reports(self) -> tuple[LayerReport, ...]:
        """What was measured, in the order of the pairs."""
        return tuple(self._report(number, pair) for number, pair in enumerate(self.pairs))

    def _report(self, number: int, pair: LayerPair) -> LayerReport:
        entire, individual = self.entire.of(number), self.individual.of(number)
        return LayerReport(
            name=pair.name,
            op=pair.op,
            precision=pair.precision,
            tensor=pair.float_tensor,
            entire=TensorFigures.of(entire) if entire else None,
            individual=TensorFigures.of(individual) if individual else None,
            note=self.notes.get(pair.name, ""),
            histogram=self.spread.of(number),
        )


@dataclass(frozen=True)
class LayerProbe:
    """Both models with their insides showing; ``notes`` say what cannot be measured."""

    pairs: Sequence[LayerPair]
    ranges: Ranges
    reference: Session
    hybrid: Session
    chunks: tuple[Chunk, ...]
    notes: Mapping[str, str]
    keep: Keep | None = None
    desks: dict[int, tuple[Chunk, Desk]] = field(default_factory=dict)  # by thread, each with memory of its own

    def nothing(self, ends: Ends | None = None) -> LayerSums:
        """Sums to add to; ``ends`` are those of histograms, (layers, 2)."""
        return replace(LayerSums.of(self.pairs, self.ranges, ends), notes=self.notes)

    def add(self, fed: Sequence[tuple[Feed, Feed]], sums: LayerSums) -> None:
        """Measure samples, chunk after chunk; each model is fed its own states where it has some."""
        sums.samples += len(fed)
        for chunk in self.chunks:
            desk = self._desk(chunk)
            for measured in desk.measured(fed):
                self._add(chunk, desk, measured, sums)

    def _desk(self, chunk: Chunk) -> Desk:
        """A chunk's, of the thread that asks; what it had for another chunk goes before."""
        held, desk = self.desks.pop(get_ident(), (None, None))
        if held is not chunk or desk is None:
            del desk
            desk = self._made(chunk)
        self.desks[get_ident()] = chunk, desk
        return desk

    def _made(self, chunk: Chunk) -> Desk:
        number = {pair.name: i for i, pair in enumerate(self.pairs)}
        floats, alone = [pair.float_tensor for pair in chunk.pairs], [one.tensor for one in chunk.own]
        return Desk(
            [number[pair.name] for pair in chunk.pairs],
            (Side([Held(name) for name in floats]), Side(chunk.stored), Side(chunk.own)),
            BoundSession(self.reference, [*floats, *alone, *chunk.reads, *chunk.watched]),
            BoundSession(self.hybrid, [one.tensor for one in chunk.stored]),
            [BoundSession(one, alone) for one in chunk.alone],
        )

    def _add(self, chunk: Chunk, desk: Desk, measured: LaidBatch, sums: LayerSums) -> None:
        drift_of(desk, measured, chunk.watched, sums.drift)
        self._shown(chunk, measured)
        spread_of(desk, measured, sums.spread)
        difference(desk, measured, 1, sums.entire)
        difference(desk, measured, 2, sums.individual)

    def _shown(self, chunk: Chunk, measured: LaidBatch) -> None:
        if self.keep is None:
            return
        for sample in measured.samples:
            for run, laid in zip((FLOAT, ENTIRE, ALONE), sample.laid, strict=True):
                for i, pair in enumerate(chunk.pairs):
                    if (values := laid.real(i)) is not None:
                        self.keep(run, pair.name, values)


def probe_layers(
    reference: onnx.ModelProto,
    hybrid: onnx.ModelProto,
    pairs: Sequence[LayerPair],
    ranges: Ranges,
    *,
    threads: int,
    chunk_bytes: int = CHUNK_BYTES,
    keep: Keep | None = None,
) -> LayerProbe:
    """Prepare the probes. A layer that cannot be measured gets a note; nothing fails for its sake."""
    views = GraphIndex(reference), GraphIndex(hybrid)
    notes: dict[str, str] = {}
    measured = [pair for pair in pairs if _is_in_both(pair, *views, notes)]
    pieces = dict(_pieces(views[1], measured, notes))
    watched = [name for name in ranges if views[0].has(name)]
    shown = [*(p.float_tensor for p in measured), *watched]
    wanted = [*shown, *(t for piece in pieces.values() for t in piece.reads)]
    stored = {pair.name: stored_as(views[1], pair.hybrid_tensor) for pair in measured}
    inside = runtime.session(probes.expose(reference, wanted), threads=threads)
    beside = runtime.session(probes.expose(hybrid, [one.tensor for one in stored.values()]), threads=threads)
    infos = probes.value_infos(inside)
    _leave_out_unread(pieces, infos, notes)
    sizes = {name: probes.nbytes(info) for name, info in infos.items()}
    parts = _by_size(measured, pieces, watched, sizes, chunk_bytes)
    both = None
    if len(parts) == 1 and pieces:
        alone = probes.assemble(views[1], list(pieces.values()), infos.__getitem__)
        both = _together(probes.expose(reference, shown), alone, threads)

    def chunk(own: Sequence[LayerPair], beside: tuple[str, ...]) -> Chunk:
        cut = [pieces[pair.name] for pair in own if pair.name in pieces and both is None]
        sessions = load_pieces(views[1], cut, infos, threads, notes)
        held = tuple(stored[pair.name] for pair in own)
        return Chunk(tuple(own), beside, held, tuple(_own(pair, pieces, stored) for pair in own), sessions)

    chunks = tuple(chunk(*part) for part in parts)
    return LayerProbe(pairs, ranges, both or inside, beside, chunks, notes, keep)


def _own(pair: LayerPair, pieces: Mapping[str, Piece], stored: Mapping[str, Held]) -> Held:
    """How a layer's piece gives its value."""
    piece = pieces.get(pair.name)
    return replace(piece.stored if piece else stored[pair.name], tensor=OUTPUT + pair.name)


def _together(exposed: onnx.ModelProto, alone: onnx.ModelProto, threads: int) -> Session | None:
    """One session of float and pieces, where its constants may be held twice and ONNX Runtime takes it."""
    both = probes.join(exposed, alone)
    if both is None or sum(map(size_of, both.graph.initializer)) > FOLDED_BYTES:
        return None
    try:
        return _alone(both, threads)
    except ModelError:
        return None


def _leave_out_unread(
    pieces: dict[str, Piece], infos: Mapping[str, onnx.ValueInfoProto], notes: dict[str, str]
) -> None:
    """Take away pieces that read what is no tensor."""
    for name in [name for name, piece in pieces.items() if any(tensor not in infos for tensor in piece.reads)]:
        notes[name] = "not measured alone: reads what is no tensor"
        del pieces[name]


def _is_in_both(pair: LayerPair, reference: GraphIndex, hybrid: GraphIndex, notes: dict[str, str]) -> bool:
    if not reference.has(pair.float_tensor):
        notes[pair.name] = f"the float model has no tensor '{pair.float_tensor}'"
    elif not hybrid.has(pair.hybrid_tensor):
        notes[pair.name] = f"the hybrid model has no tensor '{pair.hybrid_tensor}'"
    return pair.name not in notes


def _pieces(hybrid: GraphIndex, pairs: Iterable[LayerPair], notes: dict[str, str]) -> Iterator[tuple[str, Piece]]:
    for pair in pairs:
        try:
            yield pair.name, probes.cut_out(hybrid, pair)
        except Unprobed as reason:
            notes[pair.name] = f"not measured alone: {reason}"


def _by_size(
    pairs: Sequence[LayerPair],
    pieces: Mapping[str, Piece],
    watched: Iterable[str],
    sizes: Mapping[str, int],
    limit: int,
) -> list[tuple[tuple[LayerPair, ...], tuple[str, ...]]]:
    """Neighbouring pairs, and watched tensors, that together hold ``limit`` bytes at most (at least one of each).

    A watched tensor is with the first pair that holds it anyway, else with the last ones.
    """
    left = {name: i for i, name in enumerate(dict.fromkeys(watched))}
    parts: list[tuple[list[LayerPair], list[str]]] = []
    filled = 0
    needs = [({p.float_tensor, *(pieces[p.name].reads if p.name in pieces else ())}, [p]) for p in pairs]
    held = set().union(*(tensors for tensors, _ in needs))
    for tensors, own in (*needs, *(({name}, []) for name in left if name not in held)):
        size = sum(sizes.get(name, 0) for name in tensors)
        if not parts or filled + size > limit:
            parts.append(([], []))
            filled = 0
        filled += size
        here = sorted(tensors & left.keys(), key=left.__getitem__)
        parts[-1][0].extend(own)
        parts[-1][1].extend(here)
        for name in here:
            del left[name]
    return [(tuple(own), tuple(names)) for own, names in parts]


def load_pieces(
    hybrid: GraphIndex,
    pieces: Sequence[Piece],
    infos: Mapping[str, onnx.ValueInfoProto],
    threads: int,
    notes: dict[str, str],
) -> tuple[Session, ...]:
    """One session for all pieces; a piece that ONNX Runtime refuses is found by halving, and gets a note."""
    if not pieces:
        return ()
    try:
        return (_alone(probes.assemble(hybrid, pieces, infos.__getitem__), threads),)
    except ModelError as error:
        if len(pieces) == 1:
            notes[pieces[0].pair.name] = f"not measured alone: {error}"
            return ()
    middle = len(pieces) // 2
    halves = (load_pieces(hybrid, half, infos, threads, notes) for half in (pieces[:middle], pieces[middle:]))
    return tuple(session for half in halves for session in half)


def _alone(model: onnx.ModelProto, threads: int) -> Session:
    """A session of pieces. They read floats, so that none of their kernels computes with integers anyway."""
    options = runtime.options(threads=threads)
    if sum(size_of(constant) for constant in model.graph.initializer) <= FOLDED_BYTES:
        options.add_session_config_entry(AS_FLOATS, "1")
    return runtime.session(model, session_options=options)

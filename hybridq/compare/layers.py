"""Per-layer errors: *entire* (inside the whole hybrid model) and *individual* (each layer alone, float inputs)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from numpy.typing import NDArray

from hybridq.board.dumping import ALONE, ENTIRE, FLOAT
from hybridq.compare import probes
from hybridq.compare.drift import DriftWatch
from hybridq.compare.histograms import HistogramWatch
from hybridq.compare.probes import OUTPUT, Piece, Unprobed, View
from hybridq.compare.results import Figures, LayerPair, LayerReport
from hybridq.errors import ModelError
from hybridq.graph import runtime
from hybridq.graph.runtime import Feed, Session
from hybridq.quant.metrics import Damage

CHUNK_BYTES = 256 << 20  # of one side's tensors held at once, as far as their shapes are known

Values = dict[str, NDArray[Any]]
Keep = Callable[[str, str, NDArray[Any]], object]  # which run, the layer, its values
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Layers measured by one run of each probe; ``alone`` are the sessions that run their pieces."""

    pairs: tuple[LayerPair, ...]
    watched: tuple[str, ...]
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
    entire: dict[str, Damage] = field(default_factory=dict)
    individual: dict[str, Damage] = field(default_factory=dict)
    samples: int = 0

    @classmethod
    def of(cls, pairs: Sequence[LayerPair], ranges: Ranges, ends: Ranges | None = None) -> LayerSums:
        """Nothing yet."""
        layers = {pair.float_tensor: pair.name for pair in pairs}
        return cls(pairs, DriftWatch(ranges, layers), HistogramWatch(ranges, dict(ends or {})))

    def merge(self, later: LayerSums) -> None:
        """Take in what was measured on samples that follow."""
        self.notes, self.samples = later.notes, self.samples + later.samples
        self.drift.merge(later.drift)
        self.spread.merge(later.spread)
        for own, other in ((self.entire, later.entire), (self.individual, later.individual)):
            for name, damage in other.items():
                own.setdefault(name, Damage(quick=True)).merge(damage)

    def reports(self) -> tuple[LayerReport, ...]:
        """What was measured, in the order of the pairs."""
        return tuple(self._report(pair) for pair in self.pairs)

    def _report(self, pair: LayerPair) -> LayerReport:
        entire, individual = self.entire.get(pair.name), self.individual.get(pair.name)
        return LayerReport(
            name=pair.name,
            op=pair.op,
            precision=pair.precision,
            tensor=pair.float_tensor,
            entire=Figures.of(entire) if entire else None,
            individual=Figures.of(individual) if individual else None,
            note=self.notes.get(pair.name, ""),
            histogram=self.spread.of(pair.name),
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

    def nothing(self, ends: Ranges | None = None) -> LayerSums:
        """Sums to add to; ``ends`` are those of histograms, by layer."""
        return replace(LayerSums.of(self.pairs, self.ranges, ends), notes=self.notes)

    def add(self, feed: Feed, hybrid: Feed, sums: LayerSums) -> None:
        """Measure one sample, chunk after chunk; the ``hybrid`` model is fed its own states where it has some."""
        sums.samples += 1
        for chunk in self.chunks:
            self._add(chunk, feed, hybrid, sums)

    def _add(self, chunk: Chunk, feed: Feed, theirs: Feed, sums: LayerSums) -> None:
        reference = _values(
            self.reference, feed, [*(p.float_tensor for p in chunk.pairs), *chunk.reads, *chunk.watched]
        )
        for name in chunk.watched:
            sums.drift.add(name, reference[name])
        hybrid = _values(self.hybrid, theirs, [p.hybrid_tensor for p in chunk.pairs])
        for pair in chunk.pairs:
            damage = sums.entire.setdefault(pair.name, Damage(quick=True))
            damage.add(reference[pair.float_tensor], hybrid[pair.hybrid_tensor])
            sums.spread.add(pair.name, pair.float_tensor, reference[pair.float_tensor])
            if self.keep is not None:
                self.keep(FLOAT, pair.name, reference[pair.float_tensor])
                self.keep(ENTIRE, pair.name, hybrid[pair.hybrid_tensor])
        del hybrid
        tensors = {OUTPUT + pair.name: pair for pair in chunk.pairs}
        for session in chunk.alone:
            inputs = {found.name: reference[found.name] for found in session.get_inputs()}
            alone = _values(session, inputs, [found.name for found in session.get_outputs()])
            for name, value in alone.items():
                damage = sums.individual.setdefault(tensors[name].name, Damage(quick=True))
                damage.add(reference[tensors[name].float_tensor], value)
                if self.keep is not None:
                    self.keep(ALONE, tensors[name].name, value)


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
    views = View(reference), View(hybrid)
    notes: dict[str, str] = {}
    measured = [pair for pair in pairs if _is_in_both(pair, *views, notes)]
    pieces = dict(_pieces(views[1], measured, notes))
    watched = [name for name in ranges if views[0].has(name)]
    wanted = [*(p.float_tensor for p in measured), *(t for piece in pieces.values() for t in piece.reads), *watched]
    inside = runtime.session(probes.expose(reference, wanted), threads=threads)
    beside = runtime.session(probes.expose(hybrid, [p.hybrid_tensor for p in measured]), threads=threads)
    infos = probes.value_infos(inside)
    _leave_out_unread(pieces, infos, notes)
    chunks = tuple(
        Chunk(chunk, own, load_pieces(views[1], here, infos, threads, notes))
        for chunk, here, own in _shared_out(_by_size(measured, pieces, infos, chunk_bytes), pieces, watched)
    )
    return LayerProbe(pairs, ranges, inside, beside, chunks, notes, keep)


def _leave_out_unread(
    pieces: dict[str, Piece], infos: Mapping[str, onnx.ValueInfoProto], notes: dict[str, str]
) -> None:
    """Take away pieces that read what is no tensor."""
    for name in [name for name, piece in pieces.items() if any(tensor not in infos for tensor in piece.reads)]:
        notes[name] = "not measured alone: reads what is no tensor"
        del pieces[name]


def _shared_out(
    chunks: Iterable[tuple[LayerPair, ...]], pieces: Mapping[str, Piece], watched: Iterable[str]
) -> Iterator[tuple[tuple[LayerPair, ...], list[Piece], tuple[str, ...]]]:
    """Chunks with their pieces and the watched tensors that they are the first to hold; then those that none holds."""
    left = dict.fromkeys(watched)
    for chunk in chunks:
        here = [pieces[p.name] for p in chunk if p.name in pieces]
        held = {p.float_tensor for p in chunk}.union(*(piece.reads for piece in here))
        own = tuple(name for name in left if name in held)
        left = {name: None for name in left if name not in held}
        yield chunk, here, own
    yield from (((), [], (name,)) for name in left)


def _is_in_both(pair: LayerPair, reference: View, hybrid: View, notes: dict[str, str]) -> bool:
    if not reference.has(pair.float_tensor):
        notes[pair.name] = f"the float model has no tensor '{pair.float_tensor}'"
    elif not hybrid.has(pair.hybrid_tensor):
        notes[pair.name] = f"the hybrid model has no tensor '{pair.hybrid_tensor}'"
    return pair.name not in notes


def _pieces(hybrid: View, pairs: Iterable[LayerPair], notes: dict[str, str]) -> Iterator[tuple[str, Piece]]:
    for pair in pairs:
        try:
            yield pair.name, probes.cut_out(hybrid, pair)
        except Unprobed as reason:
            notes[pair.name] = f"not measured alone: {reason}"


def _by_size(
    pairs: Sequence[LayerPair],
    pieces: Mapping[str, Piece],
    infos: Mapping[str, onnx.ValueInfoProto],
    limit: int,
) -> Iterator[tuple[LayerPair, ...]]:
    """Runs of neighbouring pairs whose tensors stay under ``limit`` bytes (at least one pair each)."""
    chunk: list[LayerPair] = []
    total = 0
    for pair in pairs:
        tensors = {pair.float_tensor, *(pieces[pair.name].reads if pair.name in pieces else ())}
        size = sum(probes.nbytes(infos[t]) for t in tensors if t in infos)
        if chunk and total + size > limit:
            yield tuple(chunk)
            chunk, total = [], 0
        chunk.append(pair)
        total += size
    if chunk:
        yield tuple(chunk)


def load_pieces(
    hybrid: View,
    pieces: Sequence[Piece],
    infos: Mapping[str, onnx.ValueInfoProto],
    threads: int,
    notes: dict[str, str],
) -> tuple[Session, ...]:
    """One session for all pieces; a piece that ONNX Runtime refuses is found by halving, and gets a note."""
    if not pieces:
        return ()
    try:
        return (runtime.session(probes.assemble(hybrid, pieces, infos.__getitem__), threads=threads),)
    except ModelError as error:
        if len(pieces) == 1:
            notes[pieces[0].pair.name] = f"not measured alone: {error}"
            return ()
    middle = len(pieces) // 2
    halves = (load_pieces(hybrid, half, infos, threads, notes) for half in (pieces[:middle], pieces[middle:]))
    return tuple(session for half in halves for session in half)


def _values(session: Session, feed: Feed, names: Iterable[str]) -> Values:
    """Tensors by name, those that were fed included."""
    known: Values = {name: feed[name] for name in names if name in feed}
    wanted = [name for name in dict.fromkeys(names) if name not in known]
    if wanted:
        known.update(zip(wanted, runtime.run(session, feed, wanted), strict=True))
    return known

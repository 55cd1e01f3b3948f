"""One pass over the samples: statistics of every tensor, an audit of what entered, what is needed of them again.

Samples that lie in files are measured shard by shard, here or by workers that read them by themselves; the result is
the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from hybridq.calibration.calibrate import TASK, Batch, Pile, calibrate, measure, prepare
from hybridq.calibration.instrument import Program
from hybridq.calibration.ranges import ALGORITHMS
from hybridq.calibration.recorder import NotANumberError
from hybridq.calibration.statistics import CalibrationStats
from hybridq.dataset import Audit, Dataset, Sample
from hybridq.errors import HybridqError
from hybridq.execution.pool import Pool, pool
from hybridq.execution.progress import Progress, no_progress
from hybridq.execution.shared import Shared
from hybridq.steps.options.step1 import Step1Options
from hybridq.steps.prepare import Prepared, Seen


@dataclass
class Looked:
    """What a pass has seen of the samples so far, and the first error it met."""

    audit: Audit
    seen: Seen
    error: HybridqError | None = None

    @classmethod
    def at(cls, data: Dataset) -> Looked:
        """Nothing yet."""
        return cls(Audit.of(data), Seen())

    def add(self, sample: Sample) -> None:
        """Take in a single sample."""
        self.seen.add(sample)
        self.audit.add(sample)

    def merge(self, later: Looked) -> None:
        """Take in what was seen of the samples that follow."""
        self.audit.merge(later.audit)
        self.seen.merge(later.seen)


@dataclass(frozen=True)
class Pass:
    """Who measures what: the model with the options of step 1, and where shards may go."""

    prepared: Prepared
    options: Step1Options
    progress: Progress
    executor: Executor | None = None

    def over(self, data: Dataset) -> tuple[CalibrationStats, Looked]:
        """Measure every sample. Raises HybridqError that names the sample and says what is wrong with it."""
        looked = Looked.at(data)
        try:
            with pool(self.options.workers, self.options.cluster, self.executor, self.options.threads) as place:
                if place is None or not data.splits:
                    return self._together(data, looked, place), looked
                return self._apart(data, looked, place), looked
        except HybridqError as error:
            looked.audit.check()  # says more: it knows the sample's file
            places = looked.audit.places
            if isinstance(error, NotANumberError):
                self.prepared.need_numbers()
                if error.sample < len(places):
                    raise error.at(places[error.sample].located) from error
            self.prepared.explain(looked.seen.last, data.path, self.options.threads)
            raise

    def _together(self, data: Dataset, looked: Looked, place: Pool | None) -> CalibrationStats:
        """Read here, whoever measures."""
        options = self.options
        return calibrate(
            self.prepared.model,
            self.prepared.proto,
            _batches(data, options.batch, looked, self.progress),
            algorithms=set(ALGORITHMS),  # with a histogram always: findings need one
            threads=options.threads,
            batch=options.batch,
            executor=place.executor if place is not None else None,
            workers=place.workers if place is not None else 1,
            count=self._count(data),
        )

    def _count(self, data: Dataset) -> int | None:
        """How many batches there are, where that is known."""
        return None if data.count is None else -(-data.count // self.options.batch)

    def _apart(self, data: Dataset, looked: Looked, place: Pool) -> CalibrationStats:
        """Whoever measures reads, too."""
        options = self.options
        program = prepare(self.prepared.model, self.prepared.proto, histogram=True)
        shards = data.shards(place.portion(self._count(data), TASK) * options.batch)
        shared = place.share(program)
        parts = ((shared, part, first, options.batch, place.threads) for first, part in shards)
        pile = Pile.of(program)
        for stats, later in place.over(measure_part, parts):
            looked.merge(later)
            if later.error is not None:
                raise later.error
            pile.add(stats)
            self.progress(_doing(data), looked.audit.samples, data.count)
        return pile.merged()


def measure_part(
    shared: Shared[Program], data: Dataset, first: int, batch: int, threads: int
) -> tuple[CalibrationStats | None, Looked]:
    """One shard, in any process; ``first`` is the number of its first sample. None where an error was met."""
    looked = Looked.at(data)
    try:
        return measure(shared, _batches(data, batch, looked, no_progress, first), batch, threads), looked
    except HybridqError as error:
        looked.error = error
        return None, looked


def _doing(data: Dataset) -> str:
    """What is done, in words, with what was taken because nothing was said."""
    size = data.preprocessing.size
    return f"calibrating at {size[0]}x{size[1]}, the first picture's size" if data.sizing and size else "calibrating"


def _batches(data: Dataset, size: int, looked: Looked, progress: Progress, first: int = 0) -> Iterator[Batch]:
    """Batches with the index of their first sample; every single sample is looked at, every batch counted."""
    index = first
    for sample in data.batches(size, looked.add):
        yield index, sample.feed
        index += sample.count
        progress(_doing(data), index, data.count)

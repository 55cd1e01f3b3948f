"""What step3 puts on the page besides the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridq import targets
from hybridq.compare.run import Runner
from hybridq.compare.shards import SHARD, Models, Ran, run_both
from hybridq.dataset import Audit, Dataset, Sample
from hybridq.execution.pool import Pool
from hybridq.execution.progress import Progress, counted
from hybridq.execution.shared import Shared
from hybridq.quant.records import QuantConfig
from hybridq.report.again import rebuilding
from hybridq.report.extras import Entered, Extras
from hybridq.report.gallery import Gallery
from hybridq.report.known import Known
from hybridq.steps.details import details_of, edges_of, words_of
from hybridq.steps.known import trials
from hybridq.storage.state import State

PROBLEMS = 12  # of the audit


@dataclass
class Watched:
    """A dataset whose samples are audited and shown as they pass."""

    data: Dataset
    gallery: Gallery
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        self.audit = Audit.of(self.data)

    def feeds(self, progress: Progress) -> Iterator[dict[str, Any]]:
        """Every sample's feed."""
        yield from self.gallery.feeds(counted(self._audited(), "comparing", self.data.count, progress))

    def runner(self, pool: Pool | None, progress: Progress) -> Runner | None:
        """What runs both models over the samples where workers read them; None where they do not lie in files."""
        if pool is None or not self.data.splits:
            return None

        def run(models: Models) -> Iterator[Ran]:
            shared = pool.share(models)
            parts = ((shared, part, pool.threads) for _, part in self.data.shards(SHARD))
            for found in pool.over(run_part, parts):
                for sample, ran in found:
                    self.audit.add(sample)
                    self.gallery.names.append(sample.name)
                    yield ran
                    progress("comparing", self.audit.samples, self.data.count)

        return run

    def _audited(self) -> Iterator[Any]:
        for sample in self.data:
            self.audit.add(sample)
            yield sample


def run_part(shared: Shared[Models], data: Dataset, threads: int) -> list[tuple[Sample, Ran]]:
    """Both models over the samples of a shard, in any process."""
    samples = list(data)
    ran = run_both(shared.value, [sample.feed for sample in samples], threads)
    return list(zip(samples, ran, strict=True))


def extras_of(folder: Path, state: State, config: QuantConfig, watched: Watched, known: Known) -> Extras:
    """Everything that the folder and its samples say."""
    audit = watched.audit
    asked, usual = words_of(state, config)
    return Extras(
        folder=str(folder),
        points=trials(folder),
        then=rebuilding(known),
        prediction=known.prediction,
        details=details_of(folder, state, config),
        edges=edges_of(state.model),
        target=targets.load(state.calibrated.target),
        choices=asked,
        defaults=usual,
        shots=watched.gallery.shots(),
        sqnr=watched.gallery.sqnr,
        entered=[Entered(r.input, r.channel, r.min, r.max, r.mean) for r in audit.rows],
        problems=[p.message for p in audit.problems if p.severity != "note"][:PROBLEMS],
    )

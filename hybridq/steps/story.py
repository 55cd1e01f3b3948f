"""What step3 puts on the page besides the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybridq.dataset import Audit, Dataset
from hybridq.execution.progress import Progress, counted
from hybridq.quant.records import QuantConfig
from hybridq.report.extras import Entered, Extras
from hybridq.report.gallery import Gallery
from hybridq.report.prediction import Prediction
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

    def _audited(self) -> Iterator[Any]:
        for sample in self.data:
            self.audit.add(sample)
            yield sample


def extras_of(
    folder: Path, state: State, config: QuantConfig, watched: Watched, prediction: Prediction | None
) -> Extras:
    """Everything that the folder and its samples say."""
    audit = watched.audit
    asked, usual = words_of(state, config)
    return Extras(
        folder=str(folder),
        points=trials(folder),
        prediction=prediction,
        details=details_of(folder, state, config),
        edges=edges_of(state.model),
        choices=asked,
        defaults=usual,
        shots=watched.gallery.shots(),
        sqnr=watched.gallery.sqnr,
        entered=[Entered(r.input, r.channel, r.min, r.max, r.mean) for r in audit.rows],
        problems=[p.message for p in audit.problems if p.severity != "note"][:PROBLEMS],
    )

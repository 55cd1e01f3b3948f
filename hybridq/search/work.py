"""How much a search measures, and when its time is over.

What is measured follows from the size of the model and not from a clock, so that a result does not depend on what else
the machine does; a clock only ends a search that takes longer than it may.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from hybridq.graph.model import Model

USUAL_SECONDS = 60.0  # CPU seconds that a search may take by itself, or
USUAL_RUNS = 1000  # float inferences of one sample, whichever is more
KEPT = 0.85  # of it; the rest is for building and comparing the result
MACS_A_SECOND = 1e11  # of one core that has AVX-512 or the like, about
ELEMENTS_A_SECOND = 3.3e9
TOGETHER = 20.0  # seconds for joint models, about
APART = 15.0  # seconds for quantizers alone, about
BUILDING = 0.08  # seconds to build a joint model and its session, about, and a layer:
BUILDING_LAYER = 8e-4
SAMPLES = (8, 64)  # calibration samples that every choice is measured on: at least, at most
ALONE = (1, 16)  # of these, on which each quantizer is measured
TRIALS = (24, 150)  # joint models
SCARCE = 70  # of these


@dataclass(frozen=True)
class Work:
    """Samples of every joint model and of each quantizer alone, and how many joint models there may be, about."""

    samples: int
    alone: int
    trials: int

    @property
    def scarce(self) -> bool:
        """Whether joint models are dear, so that only the likeliest are tried."""
        return self.trials < SCARCE


def planned(model: Model, available: int, budget: float = USUAL_SECONDS) -> Work:
    """What fits into a budget of CPU seconds where so many samples are available."""
    share = budget / USUAL_SECONDS
    elements = sum(int(np.prod([d for d in t.shape or () if isinstance(d, int)])) for t in model.tensors.values())
    run = sum(x.macs for x in model.layers) / MACS_A_SECOND + elements / ELEMENTS_A_SECOND
    samples = min(available, int(np.clip(0.4 / max(run, 1e-9), *SAMPLES)))
    quantizers = 2.2 * len(model.groups)  # tensors, weights, edges
    alone = int(np.clip(share * APART / max(0.6 * quantizers * run, 1e-9), *ALONE))
    joint = BUILDING + BUILDING_LAYER * len(model.layers) + samples * run
    return Work(samples, min(alone, samples), int(np.clip(share * TOGETHER / joint, *TRIALS)))


@dataclass
class Deadline:
    """When a search ends with the best found: after ``seconds`` of the clock, or else of usual CPU time."""

    seconds: float | None = None
    wall: float = 0.0
    cpu: float = 0.0
    usual: float = USUAL_SECONDS

    @classmethod
    def starting(cls, seconds: float | None = None) -> Deadline:
        """The clock runs from now."""
        return cls(seconds, time.perf_counter(), time.process_time())

    def allow(self, run: float) -> None:
        """A float inference takes ``run`` CPU seconds: as many as are usual are allowed, if that is more."""
        self.usual = max(USUAL_SECONDS, USUAL_RUNS * run)

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """Seconds that are left, of the clock or of CPU time."""
        if self.seconds is not None:
            return KEPT * self.seconds - (time.perf_counter() - self.wall)
        return KEPT * self.usual - (time.process_time() - self.cpu)

"""How much a search measures, and when it ends.

Everything that is measured has a price: the seconds that one core needs for it, about, worked out from the sizes of the
model alone. A search spends what it is allowed, the most promising first, and ends with the best found. So the same
question gets the same answer whatever else the machine does; only where somebody set a time does a clock end it sooner.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from hybridq.execution.progress import Progress
from hybridq.graph.model import Model

USUAL_SECONDS = 60.0  # that calibrating, searching, building and comparing may take by themselves, or
USUAL_RUNS = 1000  # float inferences of one sample, whichever is more
KEPT = 0.85  # of it is the search's, where weights are repaired within
REPAIRING = 8.0  # seconds there are for repairs, before a search and within; what they take beyond is missing in it
PASSES, PATCHES = 13, 2e-3  # that repairs take a sample: float inferences, and seconds to look at a layer's inputs
AROUND, LAYERS, LOOKED_AT = 4, 8, 16  # float inferences of calibrating and comparing a sample; and of layers, so many
TIMED = 8.0  # seconds in which float, result and single layers are timed, sessions made, files written
LEAST = 0.8  # of its price an inference takes, at least
MACS_A_SECOND = 1e11  # of one core that has AVX-512 or the like, about
ELEMENTS_A_SECOND = 3.3e9
IN_8_BITS = 0.65  # of a float inference: the model with most layers in 8 bits
BUILDING, BUILDING_NODE = 0.01, 5e-4  # seconds to build a joint model and its session, and a node of the graph
LOOKING, LOOKING_ELEMENT = 3e-4, 3e-8  # seconds to compare the outputs of one sample, and an element of them
GROWING, GROWING_NODE = 3e-3, 6e-5  # seconds that a quantizer adds to the making of a growing graph
GROWN = 0.4  # of a float inference: a quantizer in a growing graph, which joins about half way
AT_ONCE = 0.3  # of comparing elements one row at a time: many rows together
TOLD = 0.1  # of what is allowed is kept to say why layers are raised
TOGETHER = 0.55  # of what is allowed is for joint models, about
APART = 0.3  # for quantizers alone, about
SAMPLES = (8, 64)  # calibration samples that every choice is measured on: at least, at most
SAMPLES_SECONDS = 0.4  # of float inferences that they should not exceed
ALONE = (1, 16)  # of these, on which each quantizer is measured
FINE = 2  # of these at least, or whole groups are measured first
STRETCHES = 12  # of a model at least that are measured alone
TRIALS = (24, 400)  # joint models
SCARCE = 70  # of these
PROBES = 4  # float inferences that tell how fast the machine is


class TimeUp(Exception):  # noqa: N818 - no error: the search ends with the best found
    """What a search may spend is spent."""


@dataclass(frozen=True)
class Prices:
    """Seconds of one core, about: the float model on a sample, building a joint model, comparing a sample's outputs.

    ``growing`` is what a quantizer adds to the making of a graph that carries many, ``row`` what comparing its outputs
    takes there. ``layer_repairs``: layers whose weights may be repaired.
    """

    inference: float
    building: float
    looking: float
    growing: float
    row: float
    layer_repairs: int = 0

    @classmethod
    def of(cls, model: Model) -> Prices:
        """The prices of a model."""
        sizes = {n: _elements(t.shape) for n, t in model.tensors.items()}
        nodes = len(model.proto.graph.node)
        outputs = sum(sizes.get(n, 0) for n in model.outputs)
        return cls(
            sum(x.macs for x in model.layers) / MACS_A_SECOND + sum(sizes.values()) / ELEMENTS_A_SECOND,
            BUILDING + BUILDING_NODE * nodes,
            LOOKING + LOOKING_ELEMENT * outputs,
            GROWING + GROWING_NODE * nodes,
            AT_ONCE * LOOKING_ELEMENT * outputs,
            sum(bool(x.weights) for x in model.layers),
        )

    def joint(self, samples: int) -> float:
        """A joint model on so many samples."""
        return self.building + samples * (IN_8_BITS * self.inference + self.looking)

    def repairs(self, samples: int) -> float:
        """Corrected biases and weights rounded together, learned from so many samples."""
        return samples * (PASSES * self.inference + PATCHES * self.layer_repairs)

    def around(self, samples: int) -> float:
        """Calibrating before a search and comparing after it, so many samples each."""
        return TIMED + self.inference * (AROUND * samples + LAYERS * min(samples, LOOKED_AT))

    def alone(self, samples: int, *, together: bool = True) -> float:
        """One quantizer on so many samples, in a graph ``together`` with others or in one of its own."""
        if together:
            return self.growing + samples * (GROWN * self.inference + self.row)
        return self.building + samples * (self.inference + self.looking)


def _elements(shape: tuple[int | str, ...] | None) -> int:
    return int(np.prod([d for d in shape or () if isinstance(d, int)]))


@dataclass(frozen=True)
class Work:
    """Samples of every joint model and of each quantizer alone, and how many joint models there may be, about.

    ``coarse``: quantizers are so many and dear that whole groups are measured first, or stretches of the model where
    there are more groups than may be measured alone (``apart``, without limit by default).
    """

    samples: int
    alone: int
    trials: int
    coarse: bool = False
    apart: float = math.inf

    @property
    def scarce(self) -> bool:
        """Whether joint models are so dear that only the likeliest are tried."""
        return self.trials < SCARCE


def allowed(prices: Prices, seconds: float | None = None, samples: int = 0) -> float:
    """Seconds' worth of work that a search may do: the usual, or as many as were asked for where that is more.

    Repairs of weights, from so many ``samples`` before a search and from few within, calibrating and comparing are done
    in the same time.
    """
    whole = max(USUAL_SECONDS, USUAL_RUNS * LEAST * prices.inference, seconds or 0.0)
    repairs = prices.repairs(samples) + prices.repairs(min(samples, SAMPLES[0]))
    beside = max(0.0, repairs - REPAIRING) + max(0.0, prices.around(samples) - (1 - KEPT) * whole)
    return KEPT * whole - min(beside, whole / 2)


def planned(model: Model, available: int, seconds: float = KEPT * USUAL_SECONDS, *, together: bool = True) -> Work:
    """What fits into so many seconds' worth of work where so many samples are available.

    ``together``: one graph can carry many quantizers.
    """
    prices = Prices.of(model)
    most = (TOGETHER * seconds / TRIALS[0] - prices.joint(0)) / (prices.joint(1) - prices.joint(0))
    wanted = min(most, SAMPLES_SECONDS / max(prices.inference, 1e-9))
    samples = min(available, int(np.clip(wanted, *SAMPLES)))
    quantizers = 4.5 * len(model.groups)  # tensors, weights, edges, and the other forms of those that matter
    once, one = (prices.alone(n, together=together) for n in (0, 1))
    alone = (APART * seconds / quantizers - once) / max(one - once, 1e-9) if quantizers else 1.0
    trials = int(np.clip(TOGETHER * seconds / prices.joint(samples), *TRIALS))
    measured = min(int(np.clip(alone, *ALONE)), samples)
    apart = max(STRETCHES, int(APART * seconds / prices.alone(measured, together=together)))
    return Work(samples, measured, trials, alone < FINE, apart)


@dataclass
class Deadline:
    """When a search ends by the clock: ``seconds`` after it began, if any were set, less what the ``rest`` needs."""

    seconds: float | None = None
    began: float = field(default_factory=lambda: time.perf_counter())
    rest: float = 0.0

    @property
    def left(self) -> float:
        """Seconds that are left; infinite where none were set."""
        if self.seconds is None:
            return float("inf")
        return self.seconds - self.rest - self.passed

    @property
    def passed(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.began

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    def keeping(self, seconds: float) -> Deadline:
        """The deadline with so many seconds kept for what follows, at most half of all."""
        return self if self.seconds is None else replace(self, rest=min(seconds, self.seconds / 2))

    def part(self, share: float, least: float = 0.0) -> Deadline:
        """One that ends when a share of what is left has passed, or the ``least`` seconds where that is more."""
        return Deadline() if self.seconds is None else Deadline(max(share * self.left, least))

    def ending(self, progress: Progress) -> Progress:
        """The progress of work that ends with TimeUp as soon as the time is over."""

        def told(what: str, done: int, total: int | None) -> None:
            progress(what, done, total)
            if self.over:
                raise TimeUp

        return told


def slowness(prices: Prices, run: Callable[[int], object]) -> float:
    """Seconds of the clock that a second's worth of work takes here and now, at least 1.

    ``run`` makes the float model and runs it so many times.
    """
    began = time.perf_counter()
    run(PROBES)
    price = prices.building + PROBES * prices.inference
    return max(1.0, (time.perf_counter() - began) / price)


@dataclass
class Effort:
    """Seconds' worth of work that may be done and that was done; a ``reserve`` is kept to say why a choice is good."""

    allowed: float = float("inf")
    deadline: Deadline = field(default_factory=Deadline)
    spent: float = 0.0
    reserve: float = 0.0

    def affords(self, price: float) -> bool:
        """Whether something may still be done."""
        return self.spent + price <= self.allowed - self.reserve and not self.deadline.over

    @contextmanager
    def within(self, share: float) -> Iterator[None]:
        """What is done here ends when a share of the time that is left has passed, if a time was set; the rest goes on.

        Raises TimeUp where nothing may be done any more.
        """
        whole = self.deadline
        self.deadline = whole if whole.seconds is None else whole.part(share)
        try:
            yield
        except TimeUp:
            if whole.seconds is None or whole.over:
                raise
        finally:
            self.deadline = whole

    def spend(self, price: float) -> None:
        """Pay for something. Raises TimeUp where it can no longer be afforded."""
        if not self.affords(price):
            raise TimeUp
        self.spent += price

"""What entered the model: ranges per channel, and warnings where they look wrong. It measures, and never changes.

What a model was trained with is unknown, so nothing here guesses a mean or a std; it says what looks odd and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from statistics import median

import numpy as np

from hybridq.dataset.feeds import Dataset
from hybridq.dataset.figures import AuditRow, InputFigures, SampleName
from hybridq.dataset.images import is_image
from hybridq.dataset.preprocessing import Preprocessing
from hybridq.dataset.sources import fed_inputs
from hybridq.dataset.spec import Array, InputSpec, Sample
from hybridq.errors import DatasetError, Problem

FEW_SAMPLES = 20  # RKNN's and ONNX Runtime's guides ask for 20 to 200
FAR_OUTSIDE = 20.0  # normalized values lie within a few units
TWICE = 6.0  # values before mean and std that look normalized already ...
PIXEL_STD = 10.0  # ... while a std above this is meant for pixels
ODD_ONE_OUT = 50.0  # times the median magnitude of the samples
FEW = 0.1  # of the samples; more are no exception but the way the data is
MOST_NAMED = 3
HASHED = 4096  # elements an input, besides the extremes and sums of all of them


class Audit:
    """Watches samples on their way into the model.

    Feed it every sample with ``add`` (``Dataset.batches(n, each=audit.add)``), or run ``audit_dataset`` before.
    ``rows`` is the summary to print, ``problems`` what looks wrong: NaN is an error, the rest are warnings and
    notes. Of a sample its name, its extremes and a digest are kept, some hundred bytes.
    """

    def __init__(
        self,
        inputs: Sequence[InputSpec],
        preprocessing: Preprocessing | None = None,
        path: str = "",
        notes: Sequence[Problem] = (),
    ) -> None:
        self.preprocessing = preprocessing or Preprocessing()
        self.path = path
        self.notes = tuple(notes)
        self.samples = 0
        self._watches = {spec.name: InputFigures(spec) for spec in inputs}
        self.places: list[SampleName] = []  # of every sample, in order
        self._digests: list[bytes] = []  # likewise
        self._seen: dict[bytes, SampleName] = {}
        self._repeated: list[tuple[SampleName, SampleName]] = []
        self._repeats = 0

    @classmethod
    def of(cls, dataset: Dataset) -> Audit:
        """An audit for a dataset, nothing added yet. States of recurrent models are left to calibration."""
        return cls(fed_inputs(dataset.inputs), dataset.preprocessing, dataset.path, dataset.notes)

    def add(self, sample: Sample) -> None:
        """Take in one sample, unstacked."""
        digest = hashlib.blake2b(digest_size=16)
        for name, watch in self._watches.items():
            values, file = sample.feed[name], sample.files.get(name, sample.name)
            figures = watch.add(values, SampleName(file, sample.line), is_image(file) and name in sample.files)
            digest.update(str(values.shape).encode() + figures.tobytes())
            digest.update(_subsample(values).tobytes())
        self._count(SampleName(sample.name, sample.line), digest.digest())

    def merge(self, later: Audit) -> None:
        """Take in an audit of samples that follow: the same as if all had been seen here."""
        for name, watch in self._watches.items():
            watch.merge(later._watches[name])
        for place, digest in zip(later.places, later._digests, strict=True):
            self._count(place, digest)

    def _count(self, place: SampleName, digest: bytes) -> None:
        self.samples += 1
        self.places.append(place)
        self._digests.append(digest)
        first = self._seen.setdefault(digest, place)
        if first is not place:
            self._repeats += 1
            if len(self._repeated) < MOST_NAMED:
                self._repeated.append((place, first))

    @property
    def distinct(self) -> int:
        """The number of samples that repeat no earlier one."""
        return self.samples - self._repeats

    @property
    def rows(self) -> list[AuditRow]:
        """Min, max and mean of what entered: a row a channel, one for an input without (or with many) channels."""
        return [row for watch in self._watches.values() for row in watch.rows]

    @property
    def problems(self) -> list[Problem]:
        """Everything odd so far: errors, then warnings, then notes, each by line."""
        found = list(self.notes)
        for watch in self._watches.values():
            found += self._not_finite(watch)
            found += self._infinite(watch)
            found += self._constant(watch)
            found += self._dead_channels(watch)
            if watch.spec.is_float and watch.extremes:
                found += self._scaling(watch)
                found += self._odd_one_out(watch)
        found += self._amount()
        rank = ("error", "warning", "note")
        return sorted(found, key=lambda problem: (rank.index(problem.severity), problem.line))

    def check(self) -> None:
        """Raise DatasetError when a sample holds NaN."""
        errors = [problem for watch in self._watches.values() for problem in self._not_finite(watch)]
        if errors:
            raise DatasetError(errors)

    def _problem(self, place: SampleName | None, code: str, said: str, hint: str, severity: str = "warning") -> Problem:
        line = place.line if place else 0
        return Problem(said, self.path, line, hint=hint, severity=severity, code=code)

    def _not_finite(self, watch: InputFigures) -> list[Problem]:
        name, hint = watch.spec.name, "Take the sample out of the dataset or repair it."
        return [
            self._problem(place, "not-finite", f"{place} holds {what} for input {name!r}", hint, "error")
            for place, what in watch.not_finite
        ]

    def _infinite(self, watch: InputFigures) -> list[Problem]:
        """Infinities are right in a mask; ranges are made of the other values."""
        if not watch.infinite:
            return []
        place, what = watch.infinite[0]
        said = f"{place} holds {what} for input {watch.spec.name!r}" + _and_more(len(watch.infinite) - 1)
        return [self._problem(place, "infinite", said, "Right for a mask; else take such samples out or repair them.")]

    def _constant(self, watch: InputFigures) -> list[Problem]:
        """An input that is the same number everywhere; a state or a mask beside other inputs may well be."""
        if not watch.constant or not watch.spec.is_float:
            return []
        place, value = watch.constant[0]
        severity = "warning" if watch.images or len(self._watches) == 1 else "note"
        said = f"{place} is constant: input {watch.spec.name!r} is {value:g} everywhere"
        said += _and_more(len(watch.constant) - 1)
        return [self._problem(place, "constant", said, "Such a sample says nothing about ranges.", severity)]

    def _dead_channels(self, watch: InputFigures) -> list[Problem]:
        dead = [row for row in watch.rows if row.channel is not None and row.min == row.max]
        if not dead or len(dead) == len(watch.rows) or not watch.spec.is_float:
            return []
        hint = "Every sample has this value there; is a channel missing from the data?"
        return [
            self._problem(
                None, "constant-channel", f"channel {row.channel} of input {row.input!r} is always {row.min:g}", hint
            )
            for row in dead
        ]

    def _scaling(self, watch: InputFigures) -> list[Problem]:
        name = watch.spec.name
        if self.preprocessing.keeps_values(name):
            return self._unscaled_images(watch)
        std = max(abs(value) for value in self.preprocessing.std_of(name))
        worst = int(np.argmax(watch.magnitudes))
        if std != 1 and watch.magnitudes[worst] > FAR_OUTSIDE:
            return [self._far_outside(watch, worst)]
        return self._normalized_twice(watch)

    def _unscaled_images(self, watch: InputFigures) -> list[Problem]:
        if not watch.images:
            return []
        low, high = float(watch.low.min()), float(watch.high.max())
        said = f"images enter input {watch.spec.name!r} as they are, {low:g}..{high:g}: no --mean or --std changes them"
        hint = "Right if the model was trained on such values; else give its --mean and --std."
        return [self._problem(None, "unscaled", said, hint, "note")]

    def _far_outside(self, watch: InputFigures, worst: int) -> Problem:
        name, place = watch.spec.name, watch.places[worst]
        low, high = watch.extremes[worst]
        many = sum(magnitude > FAR_OUTSIDE for magnitude in watch.magnitudes)
        said = f"{place} enters input {name!r} as {low:.4g}..{high:.4g}, far outside what mean and std suggest"
        hint = "Normalized values lie within a few units; check --mean and --std."
        if watch.images and max(self.preprocessing.std_of(name)) <= 1:
            mean, std = (_times_255(f(name)) for f in (self.preprocessing.mean_of, self.preprocessing.std_of))
            hint = f"They look meant for pixels in 0..1, and images hold 0..255: that is --mean {mean} --std {std}."
        return self._problem(place, "far-outside", said + _and_more(many - 1), hint)

    def _normalized_twice(self, watch: InputFigures) -> list[Problem]:
        """Values that were small, or negative, before a mean and std meant for pixels touched them."""
        name = watch.spec.name
        mean = np.array(self.preprocessing.mean_of(name))
        std = np.array(self.preprocessing.std_of(name))
        if watch.images == len(watch.extremes):
            return []
        if len(mean) != len(watch.low) or len(std) != len(watch.low):  # one row for many channels, or one number
            mean, std = mean[:1], std[:1]
        before = np.sort([watch.low * std + mean, watch.high * std + mean], axis=0)
        low, high = float(before.min()), float(before.max())
        pixels = bool(std.min() >= PIXEL_STD) and max(-low, high) <= TWICE
        unit = bool(std.max() < 1 and mean.min() > 0 and mean.max() < 1) and low < -0.5 and high <= TWICE
        if not (pixels or unit):
            return []
        what = "normalized already" if low < -0.1 else "scaled to 0..1 already"
        place = watch.places[0]
        said = f"input {name!r} was {low:.3g}..{high:.3g} before mean and std (such as {place}): it looks {what}"
        return [self._problem(place, "twice", said, "Leave --mean and --std out, or save the raw values.")]

    def _odd_one_out(self, watch: InputFigures) -> list[Problem]:
        """Few samples of quite another magnitude than the others, such as one file left at 0..255.

        Too small is odd for images alone: there is silence in sound, and zeros in a state.
        """
        sizes = watch.magnitudes
        middle = median(sizes)
        small = watch.spec.layout is not None
        odd = [n for n, size in enumerate(sizes) if small and 0 < size < middle / ODD_ONE_OUT]
        odd += [n for n, size in enumerate(sizes) if 0 < middle * ODD_ONE_OUT < size]
        if not odd or len(odd) > max(1, len(sizes) * FEW) or len(sizes) < 3:
            return []
        place, (low, high) = watch.places[min(odd)], watch.extremes[min(odd)]
        said = f"{place} enters input {watch.spec.name!r} as {low:.4g}..{high:.4g}, where the others reach {middle:.4g}"
        hint = "Samples should all be made in one way."
        return [self._problem(place, "odd-one-out", said + _and_more(len(odd) - 1), hint)]

    def _amount(self) -> list[Problem]:
        found = []
        if self._repeats:
            named = "; ".join(f"{place.located} is {first.located}" for place, first in self._repeated)
            said = f"{self._repeats} of {self.samples} samples repeat an earlier one: {named}"
            said += "" if self._repeats <= MOST_NAMED else "; ..."
            found.append(self._problem(self._repeated[0][0], "repeated", said, "They take time and add nothing."))
        if 0 < self.distinct < FEW_SAMPLES:
            said = f"only {self.distinct} different sample{'s' if self.distinct > 1 else ''}"
            hint = f"Ranges from few samples clip what others hold; {FEW_SAMPLES} to 200 are usual."
            found.append(self._problem(None, "few-samples", said, hint))
        return found


def audit_dataset(dataset: Dataset, samples: int | None = None) -> Audit:
    """Read the first ``samples`` (all by default) and audit them."""
    audit = Audit.of(dataset)
    for sample in islice(dataset, samples):
        audit.add(sample)
    return audit


def _subsample(values: Array) -> Array:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // HASHED)]


def _and_more(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _times_255(values: Sequence[float]) -> str:
    return ",".join(f"{value * 255:g}" for value in values)

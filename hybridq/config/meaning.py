"""Whether changed entries make sense: for their tensor, their precision, the target, and with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hybridq.config.customized_layers import Asked
from hybridq.config.edits import Changed
from hybridq.config.names import Names
from hybridq.config.precisions import group_precision, group_storage, resolve
from hybridq.config.yaml.text import CfgText, TextPlace
from hybridq.graph.model import Layer
from hybridq.quant.dtypes import Precision, Scheme, Storage
from hybridq.quant.entry_params import (
    EXPRESSES,
    RANGE_FIELDS,
    STEP_FIELDS,
    TOGETHER,
    WEIGHT_ALGORITHMS,
    activation_entry,
    activation_params,
    activation_range,
    channel_axis,
    is_per_channel,
    weight_entry,
    weight_params_of_edits,
)
from hybridq.quant.qparams import QParams, Range
from hybridq.quant.records import Calibrated, Entry, Measured
from hybridq.quant.words import join
from hybridq.targets import Target

WIDE = 100.0  # times the measured range: legal but odd
NARROW = 0.1


@dataclass(frozen=True)
class Meaning:
    """What entries are checked against."""

    names: Names
    calibrated: Calibrated
    target: Target
    defaults: Mapping[str, Precision]
    asked: Mapping[str, Asked]
    source: CfgText

    def settle(self, changed: Changed) -> Entry:
        """The entry of a change without problems, its unedited numbers as they follow from the edited ones."""
        entry, edited, stored = changed.entry, changed.edited, self.stored(changed)
        if not self.names.is_weight(changed.key):
            return activation_entry(entry, edited, stored, self.calibrated.measured[changed.key])
        if not stored.dtype.is_integer:
            return entry
        params = weight_params_of_edits(entry, edited, stored, self._axis(changed, stored), self._channels(changed))
        return weight_entry(entry, edited, stored, params)

    def check(self, changed: Changed) -> None:
        """Every problem of one changed entry."""
        weight, stored = self.names.is_weight(changed.key), self.stored(changed)
        if weight:
            self._weight(changed, stored)
        elif "qmethod" in changed.edited and changed.values["qmethod"] == "channel":
            self._error("qmethod", "activations have one scale for the whole tensor", changed, "Write qmethod: layer.")
        self._scheme(changed, stored)
        known = self._algorithm(changed, weight)
        shaped = self._signs(changed, stored) and self._counts(changed, weight, stored)
        if shaped and self._order(changed) and self._retyped(changed, stored) and known and not weight:
            self._range(changed, stored)

    # -- what the tensor becomes --------------------------------------------------------------------------------------

    @cached_property
    def done(self) -> Mapping[str, Precision]:
        """The precision that each layer ends with."""
        asked = {n: self.asked[n].choice.precision if n in self.asked else p for n, p in self.defaults.items()}
        return resolve(self.names.model, self.calibrated, asked).done

    def stored(self, changed: Changed) -> Storage:
        """How the tensor of an entry is stored where nothing that reads it wants it narrower."""
        model = self.names.model
        if not self.names.is_weight(changed.key):
            group = model.group[changed.key]
            kept = group_precision(model, group, self.calibrated, self.done)
            return group_storage(model, group, self.calibrated, self.done, kept)
        layer = self._layer(changed)
        asked = self.asked.get(layer.name)
        alone = asked.choice.weight_only if asked else self.calibrated.weight_only_of(layer.name)
        precision = alone or self.done[layer.name]
        return self.target.constant(precision, channels=any(w.axis is not None for w in layer.weights))

    def _layer(self, changed: Changed) -> Layer:
        """The layer whose weight an entry describes."""
        return self.names.key_layers(changed.key)[0]

    # -- words --------------------------------------------------------------------------------------------------------

    def _weight(self, changed: Changed, stored: Storage) -> None:
        layer = self._layer(changed)
        if changed.values.get("dtype", stored.dtype) != stored.dtype:
            has = self.done[layer.name]
            hint = f'Give the layer another precision: "{layer.name}": ..., or {{weight_only: int8}}.'
            message = f"the weights of a {has} layer are {stored.dtype} on {self.target.name}"
            self._error("dtype", message, changed, hint)
        if changed.values.get("qmethod") == "channel":
            if not stored.per_channel:
                self._error("qmethod", f"{self.target.name} has one scale for a whole weight", changed, "Write layer.")
            elif all(channel_axis(w.axis, w.shape) is None for w in layer.weights):
                self._error("qmethod", "this weight has no channel axis", changed, "Write qmethod: layer.")

    def _scheme(self, changed: Changed, stored: Storage) -> None:
        wanted = changed.values.get("qtype")
        if not isinstance(wanted, Scheme) or stored.scheme is None:
            return
        choices = EXPRESSES[stored.scheme]
        if wanted not in choices:
            message = f"{stored.dtype} on {self.target.name} is {stored.scheme}, not {wanted}"
            self._error("qtype", message, changed, f"Choose {join(choices)}.")

    def _algorithm(self, changed: Changed, weight: bool) -> bool:
        """Whether an edited algorithm is one that step1 recorded; a problem otherwise."""
        wanted = changed.values.get("algorithm")
        if wanted is None:
            return True
        measured = self.calibrated.measured.get(changed.key)
        known = self._weight_algorithms(changed) if weight else _recorded(measured)
        place = changed.places["algorithm"]
        if not known:
            hint = "Its range is known without measuring; give min and max to change it."
            self.source.error("algorithm", f"'{changed.key}' is not calibrated by an algorithm", place, hint)
        elif wanted not in known:
            hint = self.source.nearest(str(wanted), known, f"Recorded: {', '.join(known)}.")
            again = "" if weight else f" To have another, run step1 again with --algorithm {wanted}."
            if weight and wanted == TOGETHER:
                again = f" To have its weights rounded together, run step1 again with --weights-repair {TOGETHER}."
            self.source.error("algorithm", f"step1 recorded no '{wanted}' for it", place, hint + again)
        elif {"min", "max"} <= changed.edited or "scale" in changed.edited or "fl" in changed.edited:
            message = "algorithm chooses the range, which is edited too"
            self.source.error("contradiction", message, place, "Undo one of the two edits.")
        return wanted in known

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _signs(self, changed: Changed, stored: Storage) -> bool:
        """Zero points within their type, the schemes' own rules; False when any is wrong."""
        before = self.source.counts.get("error", 0)
        dtype = changed.values.get("dtype", stored.dtype)
        if isinstance(dtype, Precision) and dtype.is_integer:
            for value in _several(changed.values.get("zero_point")):
                if not dtype.qmin <= value <= dtype.qmax:
                    hint = f"Choose {dtype.qmin} to {dtype.qmax}."
                    self._error("zero_point", f"zero_point {value:g} does not fit {dtype}", changed, hint)
                    break
            self._symmetric(changed, stored, dtype)
        return self.source.counts.get("error", 0) == before

    def _symmetric(self, changed: Changed, stored: Storage, dtype: Precision) -> None:
        scheme = changed.values.get("qtype", stored.scheme)
        scheme = scheme if isinstance(scheme, Scheme) else stored.scheme
        middle = (dtype.qmin + dtype.qmax + 1) // 2
        points = _several(changed.values.get("zero_point"))
        if scheme and scheme.is_symmetric and any(z != middle for z in points):
            hint = f"It is {middle} for {dtype}; remove the edit."
            self._error("zero_point", f"{scheme} has its zero point in the middle", changed, hint)
        if scheme is Scheme.DYNAMIC_FIXED_POINT:
            scales = _several(changed.values.get("scale"))
            if not all(is_power_of_two(s) for s in scales):
                self._error("scale", f"scale {scales[0]:g} is no power of two", changed, "scale = 2 ** -fl; give fl.")
            elif scales and "fl" in changed.edited and scales[0] != 2.0 ** -_several(changed.values["fl"])[0]:
                self._error(
                    "scale", "scale and fl contradict each other", changed, "scale = 2 ** -fl.", "contradiction"
                )
        elif "fl" in changed.edited:
            self._error("fl", "fl belongs to dynamic_fixed_point", changed, "Give scale, or min and max.")

    def _counts(self, changed: Changed, weight: bool, stored: Storage) -> bool:
        """One value a channel where a weight has channels, one value elsewhere; False when any count is wrong."""
        before = self.source.counts.get("error", 0)
        per_channel = weight and self._axis(changed, stored) is not None
        wanted = self._channels(changed) if per_channel else 1
        for name in ("min", "max", "scale", "zero_point"):
            if name not in changed.values:
                continue
            value = changed.values[name]
            count = len(value) if isinstance(value, tuple) else 1
            if count != wanted or (per_channel and not isinstance(value, tuple) and wanted != 1):
                what = f"{wanted} channels" if per_channel else "one scale for the whole tensor"
                hint = f"Give a list of {wanted} numbers, or qmethod: layer." if per_channel else "Give one number."
                values = "1 value" if count == 1 else f"{count} values"
                self._error(name, f"{name} has {values}, '{changed.key}' has {what}", changed, hint, "channels")
        return self.source.counts.get("error", 0) == before

    def _axis(self, changed: Changed, stored: Storage) -> int | None:
        """The axis along which a weight has a scale a channel, as far as its layer and its entry say."""
        if not is_per_channel(changed.entry, changed.edited, stored, self.calibrated.weights_per):
            return None
        return next((channel_axis(w.axis, w.shape) for w in self._layer(changed).weights), None)

    def _channels(self, changed: Changed) -> int:
        weights = self._layer(changed).weights
        found = {w.shape[w.axis] for w in weights if w.axis is not None}
        return found.pop() if len(found) == 1 else 1

    def _order(self, changed: Changed) -> bool:
        """Whether min <= max for every pair, an unedited end as step1 wrote it; a problem otherwise."""
        if not changed.edited & {"min", "max"}:
            return True
        lows, highs = _several(changed.entry.min), _several(changed.entry.max)
        for low, high in zip(lows, highs, strict=False):
            if low > high:
                name = "min" if "min" in changed.edited else "max"
                hint = "Swap them." if {"min", "max"} <= changed.edited else f"step1 wrote {_as_written(changed)}."
                self._error(name, f"min {low:g} is above max {high:g}", changed, hint, "min-above-max")
                return False
        return True

    def _retyped(self, changed: Changed, stored: Storage) -> bool:
        """What is said of an integer type belongs to the dtype it was written for; False and a problem otherwise."""
        agrees = changed.values.get("qtype") is stored.scheme
        names = [n for n in (*STEP_FIELDS, "qtype") if n in changed.edited and not (n == "qtype" and agrees)]
        if names and not stored.dtype.is_integer and changed.entry.dtype is stored.dtype:
            hint = "Edit min and max, or give its layer an integer precision."
            self._error(names[0], f"a {stored.dtype} tensor has no {names[0]}", changed, hint, "retyped")
            return False
        if not names or changed.entry.dtype is stored.dtype:
            return True
        message = f"{names[0]} is edited for {changed.entry.dtype}, but the tensor becomes {stored.dtype}"
        hint = f"Edit min and max instead, or write dtype: {stored.dtype} on this line too."
        self._error(names[0], message, changed, hint, "retyped")
        return False

    def _range(self, changed: Changed, stored: Storage) -> None:
        """An activation's range: contains zero, agrees with an edited scale, resembles what was measured."""
        entry, edited = changed.entry, changed.edited
        measured = self.calibrated.measured[changed.key]
        wanted = activation_range(entry, edited, stored, measured)
        self._zero(changed, entry, wanted)
        numbers = edited & {*STEP_FIELDS, *RANGE_FIELDS}
        if not numbers:
            return
        if stored.dtype.is_integer and edited & set(STEP_FIELDS):
            p = activation_params(entry, edited, stored, measured)
            clash = contradiction(p, wanted, edited, stored.headroom)
            if clash:
                name = next(n for n in STEP_FIELDS if n in edited)
                hint = "Undo one of the two; what is not edited is computed."
                self._error(name, f"{name} contradicts the edited {clash}", changed, hint, "contradiction")
                return
            wanted = p.range
        self._width(changed, wanted, measured.range.with_zero(), min(changed.places[n].line for n in numbers))

    def _zero(self, changed: Changed, entry: Entry, wanted: Range) -> None:
        low, high = _several(entry.min), _several(entry.max)
        if changed.edited & {"min", "max"} and low and high and (low[0] > 0 or high[0] < 0):
            name = "min" if low[0] > 0 else "max"
            place = changed.places.get(name) or changed.place
            widened = f"widened to [{wanted.min:g}, {wanted.max:g}]"
            message = f"[{low[0]:g}, {high[0]:g}] lacks zero, which must be exact: {widened}"
            self.source.note("zero", message, place)

    def _width(self, changed: Changed, wanted: Range, measured: Range, line: int) -> None:
        width, usual = wanted.max - wanted.min, measured.max - measured.min
        place = next(p for p in changed.places.values() if p.line == line)
        seen = f"calibration saw [{measured.min:g}, {measured.max:g}]"
        if usual > 0 and width > WIDE * usual:
            message = f"the range of '{changed.key}' is {width / usual:.0f} times wider than needed: {seen}"
            self.source.warning("wide", message, place, "Few steps are left for the values that occur.")
        elif usual > 0 and width < NARROW * usual:
            message = (
                f"the range of '{changed.key}' is {usual / max(width, 1e-38):.3g} times narrower than needed: {seen}"
            )
            self.source.warning("narrow", message, place, "Values beyond it saturate.")

    def _weight_algorithms(self, changed: Changed) -> list[str]:
        """What may be asked for a weight: to be rounded together only where step1 did so."""
        together = self._layer(changed).name in self.calibrated.rounded
        return [*WEIGHT_ALGORITHMS, *([TOGETHER] if together else [])]

    def _error(self, name: str, message: str, changed: Changed, hint: str = "", code: str = "") -> None:
        place: TextPlace = changed.places.get(name) or changed.place
        self.source.error(code or name.replace("_", "-"), message, place, hint)


def _several(value: object) -> tuple[float, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (float(value),)  # type: ignore[arg-type]


def _as_written(changed: Changed) -> str:
    other = "max" if "min" in changed.edited else "min"
    return f"{other}: {_several(getattr(changed.recorded, other))[0]:g}"


def _recorded(measured: Measured | None) -> list[str]:
    """The algorithms whose range of a tensor is recorded; none where it is known without."""
    return sorted(measured.ranges) if measured and not measured.fixed else []


def contradiction(p: QParams, r: Range, edited: frozenset[str], headroom: float) -> str:
    """Which edited end of the range the edited scale or zero point denies by more than a step, in words; else empty."""
    said = p.range
    step = float(p.scale.max()) * 1.01
    factor = 1.0 if p.scheme is Scheme.DYNAMIC_FIXED_POINT else headroom
    room = 2.0 if p.scheme is Scheme.DYNAMIC_FIXED_POINT else 1.0  # power-of-two scales leave up to a factor of 2
    for name, wanted, given in (("min", r.min, said.min), ("max", r.max, said.max)):
        fits = abs(given - wanted) <= step or abs(given - wanted * factor) <= step
        if p.scheme.is_symmetric:  # one end is given by the other
            fits = r.amax - step <= said.amax <= r.amax * factor * room + step
        if name in edited and not fits:
            return f"{name} {wanted:g} (they give {given:g})"
    return ""


def is_power_of_two(value: float) -> bool:
    """Whether ``value`` is ``2 ** n``."""
    return value > 0 and math.frexp(value)[0] == 0.5

"""``Preprocessing``: what happens to values on their way into the model, as the user states it; nothing is guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from numbers import Real
from typing import Any, TypeAlias

from hybridq.dataset.spec import InputSpec, is_dynamic, show_shape
from hybridq.errors import DatasetError, OptionError, Problem
from hybridq.quant.qparams import Range
from hybridq.quant.words import number_of, word_of

Numbers: TypeAlias = tuple[float, ...]
PIXELS = (0.0, 255.0)  # what a picture's file holds
Given: TypeAlias = float | str | Sequence[Any] | Mapping[str, Any] | None


class ChannelOrder(StrEnum):
    """The order of an image's channels in the model's input."""

    RGB = "rgb"
    BGR = "bgr"


class Resize(StrEnum):
    """How an image gets the input's size.

    ``stretch`` ignores the aspect. ``letterbox`` keeps it and pads with ``pad``. ``crop`` brings the image to cover
    the input and cuts out the centre.
    """

    STRETCH = "stretch"
    LETTERBOX = "letterbox"
    CROP = "crop"


class Anchor(StrEnum):
    """Where a letterboxed image lies: in the centre (Ultralytics, RKNN's model zoo) or top left (YOLOX, YuNet)."""

    CENTER = "center"
    TOPLEFT = "topleft"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Float values become ``(x - mean) / std``; ``channel_order``, ``resize``, ``anchor`` and ``pad`` concern images.

    ``mean`` and ``std`` map an input's name, or ``""`` for every float input without an own entry, to one number or
    one a channel, in units of the file's values (0..255 for images) and in the order of the model's channels.
    ``pad`` is a pixel value, before mean and std. ``size`` is the (height, width) of pictures where the model leaves it
    open; None: each keeps its own. Raises OptionError for a std of 0 and for NaN or Inf.
    """

    mean: Mapping[str, Numbers] = field(default_factory=dict)
    std: Mapping[str, Numbers] = field(default_factory=dict)
    channel_order: ChannelOrder = ChannelOrder.RGB
    resize: Resize = Resize.STRETCH
    anchor: Anchor = Anchor.CENTER
    pad: int = 114
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_order", word_of(ChannelOrder, self.channel_order, "channel_order"))
        object.__setattr__(self, "resize", word_of(Resize, self.resize, "resize"))
        object.__setattr__(self, "anchor", word_of(Anchor, self.anchor, "anchor"))
        for name in ("mean", "std"):
            values = {key: _numbers(value, name) for key, value in sorted(getattr(self, name).items())}
            object.__setattr__(self, name, values)
        if any(value == 0 for values in self.std.values() for value in values):
            raise OptionError("std is 0, and values are divided by it", hint="Give 1 to leave values as they are.")
        number_of(self.pad, "pad", 0, 255, whole=True)
        object.__setattr__(self, "size", size_of(self.size, "size"))

    @classmethod
    def of(
        cls,
        mean: Given = None,
        std: Given = None,
        channel_order: str = "rgb",
        resize: str = "stretch",
        anchor: str = "center",
        pad: int = 114,
        size: str | Sequence[int] | None = None,
    ) -> Preprocessing:
        """From what people write.

        ``mean`` and ``std``: a number, numbers (one a channel), a mapping by input, a text such as ``"123.7,116.3,
        103.5"``, ``"image=127.5"`` or RKNN's ``"[[127.5, 127.5, 127.5]]"``, or a list of such texts.
        """
        means, stds = parse_numbers(mean, "mean"), parse_numbers(std, "std")
        order, fit = word_of(ChannelOrder, channel_order, "channel_order"), word_of(Resize, resize, "resize")
        return cls(means, stds, order, fit, word_of(Anchor, anchor, "anchor"), pad, size_of(size, "size"))

    def mean_of(self, name: str) -> Numbers:
        """The mean that applies to an input, (0,) if none was given."""
        return self.mean.get(name, self.mean.get("", (0.0,)))

    def std_of(self, name: str) -> Numbers:
        """The std that applies to an input, (1,) if none was given."""
        return self.std.get(name, self.std.get("", (1.0,)))

    def keeps_values(self, name: str) -> bool:
        """Whether mean and std leave an input's values as they are."""
        return not any(self.mean_of(name)) and all(value == 1 for value in self.std_of(name))

    def pixel_ranges(self, inputs: Sequence[InputSpec]) -> dict[str, Range]:
        """What pictures become, ``(0..255 - mean) / std`` over all channels, by input.

        Left out are inputs without mean and std, and those that no picture fits: the unit of their values is not known.
        """
        given = self.mean.keys() | self.std.keys()
        found = {}
        for spec in inputs:
            if spec.is_float and spec.layout is not None and not given.isdisjoint((spec.name, "")):
                mean, std = self.mean_of(spec.name), self.std_of(spec.name)
                channels = range(max(len(mean), len(std)))
                ends = [(v - mean[c % len(mean)]) / std[c % len(std)] for c in channels for v in PIXELS]
                found[spec.name] = Range(min(ends), max(ends))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives the same object back."""
        plain = asdict(self)
        plain.update({key: str(plain[key]) for key in ("channel_order", "resize", "anchor")})
        plain["size"] = list(self.size) if self.size else None
        plain.update({key: {k: list(v) for k, v in plain[key].items()} for key in ("mean", "std")})
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Preprocessing:
        """Read ``to_json``'s values. Raises DatasetError for a key or value that has no meaning."""
        unknown = sorted(set(plain) - set(cls.__dataclass_fields__))
        if unknown:
            raise DatasetError(f"preprocessing has no {', '.join(map(repr, unknown))}")
        return cls(**plain)

    def problems(self, inputs: Sequence[InputSpec]) -> list[Problem]:
        """What does not suit these inputs: names they do not have, a wrong number of channels, integer inputs."""
        return [
            Problem(f"--{what}: {said}", hint=hint)
            for what, given, neutral in (("mean", self.mean, 0), ("std", self.std, 1))
            for name, values in given.items()
            for said, hint in _misfits(name, values, inputs, given, neutral)
        ]


def _misfits(
    name: str, values: Numbers, inputs: Sequence[InputSpec], given: Mapping[str, Numbers], neutral: float
) -> list[tuple[str, str]]:
    """Reasons and remedies why one entry does not suit the inputs."""
    hint = "Give one number or one a channel; for one input alone write INPUT=values."
    named = [spec for spec in inputs if (spec.name == name if name else spec.name not in given)]
    if not named and name:
        return [(f"the model has no input {name!r}", f"Its inputs are {', '.join(repr(s.name) for s in inputs)}.")]
    floats = [spec for spec in named if spec.is_float]
    if named and not floats and any(value != neutral for value in values):
        return [(f"input {named[0].name!r} is of type {named[0].dtype} and passes as it is", "Leave the option out.")]
    return [
        (
            f"{len(values)} values given, but input {spec.name!r} of shape {show_shape(spec.shape)} has no such axis",
            hint,
        )
        for spec in floats
        if len(values) > 1 and spec.shape is not None and values_axis(spec, len(values)) is None
    ]


def values_axis(spec: InputSpec, count: int) -> int | None:
    """The axis that ``count`` per-channel numbers lie on: the channel axis if it can hold them, else the last."""
    shape = spec.shape
    if shape is None or not shape:
        return None
    channel, last = spec.channel_axis, len(shape) - 1
    if channel is not None and (is_dynamic(shape[channel]) or shape[channel] == count):
        return channel
    open_end = channel is None and is_dynamic(shape[last])  # an open width says nothing of a picture's channels
    return last if shape[last] == count or open_end else None


def parse_numbers(given: Given, what: str) -> dict[str, Numbers]:
    """``Preprocessing.of``'s forms to a mapping by input; raises OptionError for anything else."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): _numbers(values, what) for name, values in given.items()}
    if isinstance(given, str):
        name, _, values = given.rpartition("=")
        return {name.strip(): _numbers(re.findall(r"[^\s,;\[\]()]+", values), what)}
    if isinstance(given, Sequence) and any(isinstance(one, str) and not _is_number(one) for one in given):
        found: dict[str, Numbers] = {}
        for one in given:
            found.update(parse_numbers(one, what))
        return found
    return {"": _numbers(given, what)}


def size_of(given: object, what: str) -> tuple[int, int] | None:
    """``"640x480"`` or two numbers as height and width, one for a square, None for None; else OptionError."""
    if given is None:
        return None
    words = re.split("[xX,* ]+", given.strip()) if isinstance(given, str) else given
    each: Sequence[Any] = words if isinstance(words, Sequence) else [words]
    try:
        numbers = [number_of(int(w), what, 1, whole=True) for w in each]
        height, width = (int(n) for n in (numbers * 2 if len(numbers) == 1 else numbers))
    except (TypeError, ValueError):
        raise OptionError(f"{what} {given!r} is no height and width", hint="Write HEIGHTxWIDTH: 480x640.") from None
    return height, width


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(values: Any, what: str) -> Numbers:
    """One number or a flat or nested sequence of them, as finite floats."""
    while isinstance(values, Sequence) and len(values) == 1 and not isinstance(values, str):
        values = values[0]
    each = re.split(r"[\s,;]+", values.strip()) if isinstance(values, str) else values
    try:
        found = (float(each),) if isinstance(each, Real) else tuple(float(v) for v in each)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(math.isfinite(value) for value in found):
        raise OptionError(
            f"{what} {values!r} is no list of numbers", hint=f"Write --{what} 127.5 or --{what} 123,117,104."
        )
    return found

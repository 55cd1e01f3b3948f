"""``InputSpec`` and ``Sample``: what the model wants to be fed, and one feed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hybridq.errors import DatasetError
from hybridq.graph.halves import half_ends
from hybridq.graph.model import Model

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | str, ...]
IMAGE_CHANNELS = (1, 3, 4)  # gray, colour, colour with alpha
FEEDABLE = "fiub"  # numpy kinds: float, signed, unsigned, bool


@dataclass(frozen=True, slots=True)
class ImageAxes:
    """Where an image's axes lie in an input. ``channel`` is None when the input has no such axis (gray images)."""

    channel: int | None
    height: int
    width: int
    channels: int


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of the model.

    ``shape`` holds ints, or names for axes of any size; None accepts every shape. ``dtype`` is NumPy's name.
    ``state``: after the first step of a sequence its values come from the step before.
    """

    name: str
    shape: Shape | None
    dtype: str
    state: bool = False

    def __post_init__(self) -> None:
        try:
            feedable = np.dtype(self.dtype).kind in FEEDABLE
        except TypeError:
            feedable = False
        if not feedable:
            raise DatasetError(
                f"input {self.name!r} has the type {self.dtype!r}, which no file can feed",
                hint="Cut the model behind it with --inputs.",
            )

    @property
    def is_float(self) -> bool:
        """Whether mean and std apply; integers and booleans pass as they are."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def layout(self) -> ImageAxes | None:
        """How an image fits in, read off the shape; None where it cannot."""
        return image_layout(self.shape)

    @property
    def channel_axis(self) -> int | None:
        """The axis that channels lie on: the image's, else axis 1; None where that has any size or is not there."""
        layout = self.layout
        axis = layout.channel if layout is not None else 1
        shape = self.shape or ()
        return axis if axis is not None and axis < len(shape) and not is_dynamic(shape[axis]) else None

    @property
    def has_batch_axis(self) -> bool:
        """Whether axis 0 is 1 or of any size, so that samples may come without it."""
        return bool(self.shape) and (self.shape is not None and (self.shape[0] == 1 or is_dynamic(self.shape[0])))

    def __str__(self) -> str:
        return f"{self.name!r} {show_shape(self.shape)} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One feed and where it came from. A step that goes on with the sequence of the one before lacks the states.

    ``name`` is the sample as its source writes it (the files' names, or ``"sample 3"``); ``line`` counts from 1 and
    is the line of the list, 0 where there is none. ``files`` gives the file behind each input.
    ``count`` is the number of samples stacked into this one.
    """

    name: str
    line: int
    feed: dict[str, Array]
    files: Mapping[str, str] = field(default_factory=dict)
    count: int = 1


def input_specs(model: Model) -> tuple[InputSpec, ...]:
    """The specs of a model's inputs, in order; what was float16 in the given file is fed so."""
    halves, tensors = half_ends(model.proto) or (), [model.tensors[name] for name in model.inputs]
    types = ["float16" if t.name in halves else t.dtype for t in tensors]
    return tuple(InputSpec(t.name, t.shape, d, t.name in model.states) for t, d in zip(tensors, types, strict=True))


def is_dynamic(axis: int | str) -> bool:
    """Whether an axis accepts every size."""
    return isinstance(axis, str) or axis < 0


def shape_fits(actual: Iterable[int], wanted: Iterable[int | str]) -> bool:
    """Whether every axis has the size asked for; dynamic axes accept any."""
    actual, wanted = tuple(actual), tuple(wanted)
    return len(actual) == len(wanted) and all(is_dynamic(w) or a == w for a, w in zip(actual, wanted, strict=True))


def show_shape(shape: Iterable[int | str] | None) -> str:
    """A shape as users read it: ``[1,3,N,N]``."""
    return "[?]" if shape is None else "[" + ",".join(str(axis) for axis in shape) + "]"


def image_layout(shape: Shape | None) -> ImageAxes | None:
    """NCHW or NHWC (CHW, HWC, NHW without a batch or channel axis), or None when no image fits.

    An axis of 1, 3 or 4 is the channel axis; where both ends could be, the first wins. A dynamic channel axis holds 3.
    """
    if shape is None or len(shape) not in (3, 4):
        return None
    if len(shape) == 3:
        first, last = shape[0], shape[2]
        if first in IMAGE_CHANNELS[1:]:
            return ImageAxes(0, 1, 2, int(first))
        if last in IMAGE_CHANNELS:
            return ImageAxes(2, 0, 1, int(last))
        return ImageAxes(None, 1, 2, 1) if first == 1 or is_dynamic(first) else None
    second, last = shape[1], shape[3]
    if second in IMAGE_CHANNELS:
        return ImageAxes(1, 2, 3, int(second))
    if last in IMAGE_CHANNELS:
        return ImageAxes(3, 1, 2, int(last))
    if is_dynamic(second):
        return ImageAxes(1, 2, 3, 3)
    return ImageAxes(3, 1, 2, 3) if is_dynamic(last) else None

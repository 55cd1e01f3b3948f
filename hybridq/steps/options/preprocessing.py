"""What may be asked of the way in: how pictures and numbers become what enters the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from hybridq.dataset import Anchor, ChannelOrder, Preprocessing, Resize
from hybridq.errors import OptionError
from hybridq.steps.options.validation import Checked, Extent, Number, OneWord, Values

WORDS = ("mean", "std", "channel_order", "resize", "anchor", "pad", "size")


@dataclass(frozen=True, kw_only=True)
class PreprocessingOptions(Checked):
    """What becomes of samples before they enter the model. Raises OptionError for what does not exist or fit.

    ``preprocessing`` may stand for ``mean`` to ``size``; it always holds what they say.
    """

    mean: Annotated[
        Any, Values("Subtracted from each channel: `0,0,0`, or `image=0,0,0` for one input.", "NUMBERS")
    ] = None
    std: Annotated[Any, Values("Divides each channel: `255,255,255`.", "NUMBERS")] = None
    channel_order: Annotated[ChannelOrder, OneWord("Order of a picture's channels.", ChannelOrder)] = ChannelOrder.RGB
    resize: Annotated[Resize, OneWord("How a picture gets the input's size.", Resize)] = Resize.STRETCH
    anchor: Annotated[Anchor, OneWord("Where a letterboxed picture lies.", Anchor)] = Anchor.CENTER
    pad: Annotated[int, Number("Pixel value around a letterboxed picture.", 0, 255, whole=True)] = 114
    size: Annotated[
        tuple[int, int] | None, Extent("Height and width of pictures where the model leaves them open (480x640).")
    ] = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        super().__post_init__()
        made = Preprocessing.of(**{name: getattr(self, name) for name in WORDS})
        if Preprocessing() not in (self.preprocessing, made):
            raise OptionError("preprocessing holds mean and std: give them there", hint="Give one of the two.")
        if self.preprocessing == Preprocessing():
            object.__setattr__(self, "preprocessing", made)

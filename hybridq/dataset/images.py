"""Image files to arrays: decoding, colour, size, layout.

Decoding follows OpenCV's ``imread``, which scripts for RKNN-Toolkit stand on: EXIF orientation is applied, an alpha
channel is dropped (unless the input has four channels), 16 bits become 8 by their high byte, palettes are looked up.
Resizing is Pillow's bilinear, which averages when it shrinks; where every pixel matters, give ``.npy``.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hybridq.dataset.preprocessing import Anchor, ChannelOrder, Preprocessing, Resize
from hybridq.dataset.spec import Array, ImageAxes, InputSpec, is_dynamic, show_shape
from hybridq.errors import DatasetError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
ORIENTATION = 0x0112  # the EXIF tag
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
DECODER_ERRORS = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def is_image(path: str | Path) -> bool:
    """Whether a file's name says that it is an image."""
    return Path(path).suffix.lower() in SUFFIXES


def read_image(path: Path, spec: InputSpec, preprocessing: Preprocessing) -> Array:
    """An image as uint8 in the input's shape, a batch axis of 1 included; mean and std come later.

    Raises DatasetError when the file is no readable image or the input takes none.
    """
    layout = spec.layout
    if layout is None:
        hint = "Feed it with .npy files."
        raise DatasetError(f"input {spec.name!r} of shape {show_shape(spec.shape)} takes no image", hint=hint)
    picture = decode(path, layout.channels)
    width, height = input_size(spec, layout, preprocessing.size or (picture.height, picture.width))
    picture = resized(picture, (width, height), preprocessing)
    return to_layout(np.asarray(picture), layout, preprocessing.channel_order, spec)


def decode(path: Path, channels: int) -> Image.Image:
    """The upright picture with 1 (gray), 3 (RGB) or 4 (RGBA) channels of 8 bits."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return _to_mode(_upright(opened), MODES[channels])
    except UnidentifiedImageError:
        raise DatasetError("is no image", hint="Its content is of no known image format.") from None
    except DECODER_ERRORS as error:
        raise DatasetError(f"cannot be decoded: {error}", hint="The file is damaged; replace it.") from error


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data says; data that cannot be read turns nothing, as in OpenCV."""
    try:
        turned = picture.getexif().get(ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(picture) if turned else picture
    except DECODER_ERRORS:
        return picture


def _to_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == mode:
        return picture
    if picture.mode.startswith("I"):  # 16 bits; Pillow would clip them at 255
        values = np.asarray(picture).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() <= 65535:
            raise ValueError("pixels of 32 bits")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("pixels are floats")
    elif picture.mode in ("P", "PA", "LA", "La"):  # a palette may hold transparency that only RGBA can take
        picture = picture.convert("RGBA")
    return picture.convert(mode)


def input_size(spec: InputSpec, layout: ImageAxes, free: tuple[int, int]) -> tuple[int, int]:
    """Width and height in pixels; a dynamic axis takes that of ``free``, a height and width."""
    shape = spec.shape or ()
    width, height = shape[layout.width], shape[layout.height]
    return free[1] if is_dynamic(width) else int(width), free[0] if is_dynamic(height) else int(height)


def resized(picture: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    """The picture in ``size`` (width, height)."""
    if picture.size == size:
        return picture
    if preprocessing.resize is Resize.LETTERBOX:
        return _letterbox(picture, size, preprocessing)
    if preprocessing.resize is Resize.CROP:
        return _crop(picture, size)
    return picture.resize(size, Image.Resampling.BILINEAR)


def _letterbox(picture: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    """Keep the aspect and pad. Sizes are rounded as the origins do: Ultralytics to nearest, YOLOX down."""
    ratio = min(size[0] / picture.width, size[1] / picture.height)
    centered = preprocessing.anchor is Anchor.CENTER
    inner = [max(1, round(n * ratio) if centered else int(n * ratio)) for n in picture.size]
    left, top = [(outer - n) // 2 if centered else 0 for outer, n in zip(size, inner, strict=True)]
    bands = len(picture.getbands())
    color = (preprocessing.pad,) * bands if bands > 1 else preprocessing.pad
    made = Image.new(picture.mode, size, color)
    made.paste(picture.resize((inner[0], inner[1]), Image.Resampling.BILINEAR), (left, top))
    return made


def _crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale until the picture just covers ``size``, then cut out the centre."""
    ratio = max(size[0] / picture.width, size[1] / picture.height)
    width, height = (max(least, round(n * ratio)) for least, n in zip(size, picture.size, strict=True))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size[0], top + size[1]))


def to_layout(pixels: Array, layout: ImageAxes, order: ChannelOrder, spec: InputSpec) -> Array:
    """Pixels, H W or H W C in RGB, in the input's axes and channel order."""
    if order is ChannelOrder.BGR and pixels.ndim == 3:
        pixels = pixels[:, :, ::-1] if pixels.shape[2] == 3 else pixels[:, :, [2, 1, 0, 3]]
    if pixels.ndim == 2 and layout.channel is not None:
        pixels = pixels[:, :, None]
    if layout.channel is not None and layout.channel < layout.height:
        pixels = pixels.transpose(2, 0, 1)
    wanted = len(spec.shape or ())
    return np.ascontiguousarray(pixels[(None,) * (wanted - pixels.ndim)])

"""Pictures of samples: what was fed, restored to pixels, and what a model says of it drawn on top."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hybridq.compare import Outputs, load_function
from hybridq.compare.named.boxes import DECODERS, found_boxes, layout_of
from hybridq.compare.named.common import classes, first
from hybridq.dataset import Preprocessing
from hybridq.dataset.spec import image_layout
from hybridq.errors import HybridqError

Array = NDArray[Any]
Draw = Callable[[Image.Image, Outputs], Image.Image]

LEAST = 8  # pixels a side: less is no picture
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324")
BEST = 5  # classes that are named
HINT = "Choose boxes (or boxes:yolov8), classes, mask, or a FILE.py:FUNCTION of (picture, outputs)."


def picture_of(name: str, values: Array, preprocessing: Preprocessing, order: str) -> Image.Image | None:
    """An input as a picture, mean and std taken back; None where it is none.

    Values that are no pixels even so are stretched from their least to their most.
    """
    layout = image_layout(values.shape) if values.size else None
    if layout is None or not values.size or min(values.shape[layout.height], values.shape[layout.width]) < LEAST:
        return None
    axes = [layout.height, layout.width, *([layout.channel] if layout.channel is not None else [])]
    kept = np.transpose(values, [*(i for i in range(values.ndim) if i not in axes), *axes])
    while kept.ndim > len(axes):
        kept = kept[0]
    pixels = kept.astype(np.float64) * np.array(preprocessing.std_of(name)) + np.array(preprocessing.mean_of(name))
    pixels = _in_bytes(np.where(np.isfinite(pixels), pixels, 0.0))
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3][..., :: -1 if order == "bgr" else 1]
    return Image.fromarray(np.ascontiguousarray(pixels))


def drawer(spec: str) -> Draw:
    """What draws outputs on a picture: by name, or the user's ``module.py:function``. Raises HybridqError."""
    name, _, layout = spec.partition(":")
    if name == "boxes" and (not layout or layout in DECODERS):
        return lambda picture, outputs: _boxes(picture, outputs, layout)
    if spec == "classes":
        return _classes
    if spec == "mask":
        return _mask
    if not spec.rpartition(":")[0].endswith(".py"):
        raise HybridqError(f"'{spec}' is no way to draw", hint=HINT)
    own = load_function(spec, hint=HINT)

    def draw(picture: Image.Image, outputs: Outputs) -> Image.Image:
        canvas = picture.copy()
        try:
            found = own(canvas, outputs)
        except Exception as error:
            raise HybridqError(f"{spec} failed: {type(error).__name__}: {error}", hint=HINT) from error
        return found if isinstance(found, Image.Image) else canvas

    return draw


def as_uri(picture: Image.Image, most: int, quality: int = 70) -> str:
    """The picture as a JPEG that an HTML page can hold, ``most`` pixels at its longer side."""
    small = picture.convert("RGB")
    small.thumbnail((most, most))
    with io.BytesIO() as file:
        small.save(file, "JPEG", quality=quality, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _in_bytes(pixels: Array) -> NDArray[np.uint8]:
    least, most = float(pixels.min()), float(pixels.max())
    if least < -1.0 or most > 256.0 or most <= 2.0:
        pixels = (pixels - least) * (255.0 / max(most - least, 1e-12))
    return np.asarray(pixels.clip(0, 255).round(), np.uint8)


def _boxes(picture: Image.Image, outputs: Outputs, layout: str) -> Image.Image:
    decode = DECODERS[layout] if layout else layout_of(outputs)
    if decode is None:
        shapes = ", ".join(str(list(x.shape)) for x in outputs.values())
        raise HybridqError(f"no boxes are known in outputs of {shapes}", hint=HINT)
    canvas = picture.convert("RGB")
    draw = ImageDraw.Draw(canvas)
    rows = found_boxes(decode, outputs)
    unit = 1.0 if len(rows) and rows[:, :4].max() > 2.0 else np.array([canvas.width, canvas.height] * 2)
    width = max(1, max(canvas.size) // 160)
    for row in rows:
        corners = (row[:4] * unit).clip(-9999, 9999)
        ends = [*np.minimum(corners[:2], corners[2:]), *np.maximum(corners[:2], corners[2:])]
        draw.rectangle(ends, outline=COLOURS[int(row[5]) % len(COLOURS)], width=width)
        draw.text((ends[0] + 2, ends[1] + 1), f"{int(row[5])} {row[4]:.2f}", fill=COLOURS[int(row[5]) % len(COLOURS)])
    return canvas


def _classes(picture: Image.Image, outputs: Outputs) -> Image.Image:
    values = first(outputs).reshape(-1)
    best = np.argsort(-values, kind="stable")[:BEST]
    return _told(picture, [f"{i}: {values[i]:.4g}" for i in best])


def _told(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    canvas = picture.convert("RGB")
    draw = ImageDraw.Draw(canvas, "RGBA")
    size = max(10, canvas.height // 14)
    draw.rectangle((0, 0, canvas.width, 4 + (size + 2) * len(lines)), fill=(0, 0, 0, 160))
    draw.multiline_text((4, 2), "\n".join(lines), fill="white", font_size=size, spacing=2)
    return canvas


def _mask(picture: Image.Image, outputs: Outputs) -> Image.Image:
    values = first(outputs)
    if values.ndim < 3:
        raise HybridqError(f"an output of {list(values.shape)} is no mask", hint=HINT)
    found = values > 0.5 * (values.min() + values.max()) if 1 in values.shape[1:2] else classes(values)
    marks = np.asarray(found).reshape(-1, *np.asarray(found).shape[-2:])[0].astype(int)
    colours = np.array([[0, 0, 0], *(tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in COLOURS)], np.uint8)
    layer = Image.fromarray(colours[np.where(marks > 0, 1 + (marks - 1) % len(COLOURS), 0)])
    base = picture.convert("RGB")
    return Image.blend(base, layer.resize(base.size, Image.Resampling.NEAREST), 0.45)

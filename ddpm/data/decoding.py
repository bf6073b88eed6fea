"""From one encoded image to pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

GRAYSCALE_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")  # of Pillow

Encoded = np.ndarray | Mapping[str, Any]
"""An image as a source holds it: (H, W) or (H, W, C) uint8, or a record with the "bytes" or the "path" of a file."""


class NotSquareError(Exception):
    """Width and height of an image differ, and no resolution is given to which it could be cropped.

    Attributes:
        size: "WIDTHxHEIGHT" in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = f"{width}x{height}"
        super().__init__(self.size)


class Decoded(NamedTuple):
    """Pixels as (H, W, C) uint8 with C 1 or 3, and whether the image was in colour before it was converted to them."""

    pixels: np.ndarray
    colour: bool


def decode(encoded: Encoded, channels: int | None, resolution: int | None) -> Decoded:
    """Decode an image.

    It is turned as its EXIF data say, transparent parts become white, 16 bits per pixel are scaled to 8.

    Args:
        channels: 1 or 3; None: as the image has them.
        resolution: resize the short side to so many pixels and crop the rest; None: keep the size.
    Raises:
        NotSquareError: the image is not square, and `resolution` is None.
        Exception: whatever Pillow raises for a damaged file, or for a kind of pixels that cannot be used.
    """
    from PIL import Image, ImageOps

    if isinstance(encoded, np.ndarray):
        image = Image.fromarray(encoded)
    elif isinstance(encoded, Mapping):
        image = Image.open(io.BytesIO(encoded["bytes"]) if encoded.get("bytes") is not None else encoded["path"])
    else:
        raise TypeError(f"not an image but {type(encoded).__name__}")
    if resolution is None and image.width != image.height:
        raise NotSquareError(*image.size)  # before the pixels are decoded
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("pixels are 32-bit floats, whose range is not known")
    if image.mode == "P" and np.ptp(np.reshape(image.getpalette() or [], (-1, 3)), axis=1).max() == 0:
        image = image.convert("LA" if "transparency" in image.info else "L")
    colour = image.mode not in GRAYSCALE_MODES
    if image.mode.startswith("I"):  # 16 bits per pixel, which convert("L") would clip instead of scaling
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB" if (channels or (3 if colour else 1)) == 3 else "L")
    if resolution and image.size != (resolution, resolution):
        image = ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), colour)

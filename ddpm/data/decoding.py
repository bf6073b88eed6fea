"""From one encoded image to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddpm.data.cells import open_image
from ddpm.data.transparency import lay_on, stored_as, transparent_shade, with_opacity
from ddpm.names import Colour, Size

if TYPE_CHECKING:
    from PIL.Image import Image

SEVERAL = ("GIF", "TIFF", "PNG", "WEBP", "AVIF")  # formats that may hold several pictures of equal rank
NEARLY_GRAY = 3  # of 255: by so much the channels of a gray picture differ after lossy compression in colour

Encoded = np.ndarray | Mapping[str, Any] | bytes | str | list | None
"""An image as a source holds it; ddpm/data/cells.py lists the forms."""


class NoRangeError(Exception):
    """Which values of an image are black and white is not known, and neither `value_range` nor `float_range` says it.

    Attributes:
        low, high: the smallest and the largest value of the image.
        whole: whether its values are integers, which do not fit 0 to 255.
    """

    def __init__(self, low: float, high: float, whole: bool) -> None:
        self.low, self.high, self.whole = low, high, whole
        super().__init__("integers that do not fit 0 to 255" if whole else "floating-point numbers of unknown range")


class Values(NamedTuple):
    """The values of an image before they become 0 to 255.

    Attributes:
        low, high: the smallest and the largest one.
        white: what becomes white without a `value_range`: 255, or 65535 for 16 and 32 bits per pixel.
        halved: whether the file has 16 bits per channel in colour, of which Pillow reads only the upper 8.
        floats: whether they are floating-point numbers.
    """

    low: float
    high: float
    white: int
    halved: bool = False
    floats: bool = False


class Decoded(NamedTuple):
    """Pixels as (H, W, C) uint8 with C 1 or 3, and what the image was before it was converted to them.

    Attributes:
        colour: whether it has colour channels.
        gray: whether these are all the same, nearly. False for an image without colour channels.
        values: those of its pixels.
        laid: whether it is transparent somewhere, so that the background can be seen.
        size: that of the image, of which `pixels` may be a part.
        lost: the share of its pixels that were cut off.
        several: whether its file holds more pictures, frames or pages, after this one.
    """

    pixels: np.ndarray
    colour: bool
    gray: bool
    values: Values
    laid: bool = False
    size: Size = (0, 0)
    lost: float = 0.0
    several: bool = False


def decode(
    encoded: Encoded,
    channels: int | None,
    size: Size | None,
    value_range: tuple[float, float] | None = None,
    background: Colour = (255, 255, 255),
    float_range: tuple[float, float] | None = None,
) -> Decoded:
    """Decode an image.

    It is turned as its EXIF data say, and laid on the background where it is transparent. Values become 0 to 255
    linearly: 8 bits per pixel stay as they are, 16 and 32 bits are scaled from 0 to 65535, numbers in lists must be
    integers up to 255.

    Args:
        channels: 1 or 3; None: as the image has them.
        size: resize the image until it fills this size, and cut off what stands over; None: take the middle square,
            in the pixels of the image.
        value_range: the values that become black and white instead, whatever the kind of image. Those outside are
            clipped.
        background: the red, green and blue of what lies behind transparent parts, 0 to 255. The `value_range` does not
            change it.
        float_range: the values of floating-point numbers that become black and white, if there is no `value_range`.
    Raises:
        NoRangeError: the values have no usual range, and none is given.
        Exception: whatever Pillow raises for a damaged file, or for a kind of pixels that cannot be used.
    """
    from PIL import Image, ImageOps

    source = opened = open_image(encoded)
    stored = stored_as(opened)  # Pillow forgets it when it reads the pixels
    if not isinstance(opened, np.ndarray):
        opened = ImageOps.exif_transpose(opened) if _is_turned(opened) else opened
    image, values = _to_eight_bits(opened, stored, value_range, float_range)
    image, laid = lay_on(image, background)  # before it is resized: hidden colours must not bleed into the edges
    colour = image.mode == "RGB"
    image = image.convert("RGB" if (channels or (3 if colour else 1)) == 3 else "L")
    whole = (image.height, image.width)
    height, width = size or (min(whole), min(whole))
    if size is None:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    elif whole != size:
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    lost = 1 - min(whole[0] * width, whole[1] * height) / max(whole[0] * width, whole[1] * height)
    return Decoded(pixels, colour, colour and _is_gray(image), values, laid, whole, lost, _holds_several(source))


def _holds_several(opened: Image | np.ndarray) -> bool:
    """Whether a file holds several frames, of which only the first one is used. Asked when its pixels have been read,
    because Pillow looks at the second frame to find out."""
    try:
        return getattr(opened, "format", None) in SEVERAL and bool(getattr(opened, "is_animated", False))
    except Exception:  # that frame is damaged, so there is one
        return True


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers as uint8: `low` becomes 0, `high` 255, what lies between is linear, and the rest is clipped."""
    return ((values.astype(np.float64) - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)


def _to_eight_bits(
    opened: Image | np.ndarray,
    stored: str,
    value_range: tuple[float, float] | None,
    float_range: tuple[float, float] | None,
) -> tuple[Image, Values]:
    """An image of mode L, LA, RGB or RGBA, and the values that it had before. Raises as `decode`.

    Args:
        stored: what `stored_as` returned.
    """
    from PIL import Image

    if isinstance(opened, np.ndarray):
        array = opened.astype(np.uint8) * 255 if opened.dtype == bool else opened
        pixels, values = _scaled_numbers(array, 255, value_range, float_range)
        return Image.fromarray(np.ascontiguousarray(pixels)), values
    if opened.mode == "F" or opened.mode.startswith("I"):
        array, shade = np.asarray(opened), transparent_shade(opened, stored)
        white = None if opened.mode == "F" else 65535
        pixels, values = _scaled_numbers(array, white, value_range, float_range)
        image = Image.fromarray(pixels)
        return image if shade is None else with_opacity(image, array == shade), values
    halved = opened.mode in ("LA", "RGB", "RGBA") and ";16" in stored
    if halved and value_range:
        raise ValueError("of 16 bits per channel, only 8 are read, so --value_range cannot be applied; convert it")
    image = _plain(opened, stored)
    bands: Any = [image.getextrema()] if image.mode == "L" else image.getextrema()
    bands = bands[:-1] if "A" in image.getbands() else bands
    values = Values(min(low for low, _ in bands), max(high for _, high in bands), 255, halved)
    if value_range:
        array = np.array(image)
        colour = (..., slice(len(bands))) if array.ndim == 3 else ...
        array[colour] = scaled(np.arange(256), *value_range)[array[colour]]
        image = Image.fromarray(array)
    return image, values


def _scaled_numbers(
    array: np.ndarray,
    white: int | None,
    value_range: tuple[float, float] | None,
    float_range: tuple[float, float] | None,
) -> tuple[np.ndarray, Values]:
    """Numbers as uint8, and their values.

    Args:
        array: (H, W) or (H, W, C).
        white: the value that becomes white if there is no `value_range`; None if there is no such value.
        float_range: the `value_range` of floating-point numbers if there is no other.
    Raises:
        NoRangeError: see `decode`.
        ValueError: a number is NaN or infinite.
    """
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds numbers that are NaN or infinite")
    whole = array.dtype.kind in "ui"
    value_range = value_range or (None if whole else float_range)
    if not value_range and (not whole or (white == 255 and not 0 <= low <= high <= 255)):
        raise NoRangeError(low, high, whole)
    values = Values(low, high, white or 255, floats=not whole)
    if not value_range and white == 255:
        return array.astype(np.uint8), values
    return scaled(array, *(value_range or (0, white or 255))), values


def _is_gray(image: Image) -> bool:
    from PIL import ImageChops

    red, *others = image.split()
    extrema: Any = [ImageChops.difference(red, other).getextrema() for other in others]
    return all(largest <= NEARLY_GRAY for _, largest in extrema)


def _is_turned(image: Image) -> bool:
    return image.getexif().get(0x0112, 1) != 1


def _plain(image: Image, stored: str) -> Image:
    """An image of 8 bits per channel in mode L, LA, RGB or RGBA. For `stored`, see `_to_eight_bits`."""
    transparent = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    if (shade := transparent_shade(image, stored)) is not None:
        image = image.copy()
        image.info["transparency"] = shade
    gray = (
        image.mode in ("1", "L", "LA", "La")
        or stored.startswith("LA")
        or (image.mode == "P" and np.ptp(np.reshape(image.getpalette() or [], (-1, 3)), axis=1).max() == 0)
    )
    mode = ("L" if gray else "RGB") + "A" * transparent
    return image if image.mode == mode else image.convert(mode)

"""Transparent pictures: which of their pixels are, and how they are laid on a background.

Composition takes place on the stored values, in gamma space, as browsers and most image editors do it: a pixel of
opacity a over background B becomes a C + (1 - a) B. Pictures with soft edges are drawn for that, because their edges
are smoothed where they are stored; composition in linear light would make every dark edge on white thinner, and every
bright edge on black thicker, than it looks anywhere else.

Pictures are laid on the background before they are resized. Filters for resizing are linear and their weights add up
to 1, so the result is the one of resizing with premultiplied colours: the hidden colour of a pixel that is wholly
transparent counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm.names import Colour

if TYPE_CHECKING:
    from PIL.Image import Image

# What the levels of gray in a PNG of less than 8 bits are multiplied by when Pillow reads them.
STRETCHED = {"1": 255, "L;2": 85, "L;4": 17}


def lay_on(image: Image, background: Colour) -> tuple[Image, bool]:
    """An image without transparency, and whether anything of the background can be seen in it.

    Args:
        image: of mode L, LA, RGB or RGBA.
        background: red, green and blue, 0 to 255.
    Returns:
        an image of mode L or RGB. A gray image stays gray where the background is.
    """
    import PIL.Image

    if "A" not in image.getbands():
        return image, False
    lowest: Any = image.getchannel("A").getextrema()
    if lowest[0] == 255:
        return image.convert(image.mode[:-1]), False
    below = PIL.Image.new("RGBA", image.size, (*background, 255))
    laid = PIL.Image.alpha_composite(below, image.convert("RGBA"))  # rounds each value once
    gray = image.mode == "LA" and len(set(background)) == 1
    return laid.getchannel("R") if gray else laid.convert("RGB"), True


def stored_as(image: Image | np.ndarray) -> str:
    """How the pixels of an image file are stored, in Pillow's words, such as "RGB;16B"; empty if that is not known.

    It is known only until the pixels are read.
    """
    tiles = getattr(image, "tile", ())
    kind = tiles[0][3] if tiles else ""
    return str(kind[0] if isinstance(kind, tuple) else kind)


def transparent_shade(image: Image, stored: str) -> int | tuple[int, ...] | None:
    """The one value or colour that is transparent in an image as a PNG says it, on the scale of its pixels as Pillow
    reads them; None if there is no such colour.

    Of 16 bits per channel in colour, Pillow reads only the upper 8, so colours that have these in common are
    transparent as well.

    Args:
        stored: what `stored_as` returned for the file.
    """
    shade = image.info.get("transparency")
    if image.mode == "P" or not isinstance(shade, int | tuple):
        return None  # a palette has an opacity for each of its colours, which Pillow applies
    if isinstance(shade, int):
        return shade * STRETCHED.get(stored, 1)
    return tuple(value >> 8 for value in shade) if ";16" in stored else shade


def with_opacity(image: Image, transparent: np.ndarray) -> Image:
    """An image of mode L or RGB, transparent where `transparent` (H, W) bool says so."""
    import PIL.Image

    image.putalpha(PIL.Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8)))
    return image

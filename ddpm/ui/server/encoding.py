"""Bytes and pictures as text, which is how they travel to the browser."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def to_base64(data: bytes | np.ndarray) -> str:
    """The bytes of an array, row by row, as ASCII."""
    return base64.b64encode(data.tobytes() if isinstance(data, np.ndarray) else data).decode()


def png_to_base64(image: Image.Image) -> str:
    """An image as a PNG file, as ASCII."""
    png = io.BytesIO()
    image.save(png, "PNG")
    return to_base64(png.getvalue())

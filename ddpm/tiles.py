"""Pictures side by side, as tiles of one. Importing this loads neither torch nor matplotlib."""

from __future__ import annotations

import numpy as np
from PIL import Image


def grid(images: np.ndarray, columns: int, gap: int = 2, background: int = 90) -> Image.Image:
    """Images as tiles of one picture, row by row, each magnified to a height of about 64 px.

    They are magnified by whole pixels; below 16 px smoothly, since nobody can read a digit in 8x8 squares.

    Args:
        images: (N, H, W, C) uint8.
        columns: tiles per row.
        gap: px between tiles, which have `background` as their gray value, 0 to 255.
    """
    n, height, width, channels = images.shape
    scale = max(1, round(64 / height))
    filter = Image.Resampling.BICUBIC if height < 16 else Image.Resampling.NEAREST
    # The gap is added after magnifying. Without it digits would run into each other, since they fill their tiles.
    h, w = height * scale + gap, width * scale + gap
    canvas = Image.new("L" if channels == 1 else "RGB", (columns * w + gap, -(-n // columns) * h + gap))
    canvas.paste(background if channels == 1 else (background,) * 3, (0, 0, *canvas.size))
    for i, pixels in enumerate(images):
        tile = Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)
        tile = tile.resize((width * scale, height * scale), filter)
        canvas.paste(tile, ((i % columns) * w + gap, (i // columns) * h + gap))
    return canvas

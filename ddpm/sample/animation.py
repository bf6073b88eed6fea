"""The way of pictures from noise to the end, as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddpm import tiles
from ddpm.files import replacing

ANIMATED = 16  # pictures, at most: noise cannot be compressed, and a larger file is slow to load
FRAMES = 60
FRAME_MS = 60
END_MS = 2000


def moments(steps: int) -> set[int]:
    """Which steps of a sampling are shown, evenly spread: at most FRAMES of them."""
    return set(np.linspace(0, steps - 1, min(steps, FRAMES)).round().astype(int).tolist())


def save_animation(frames: Sequence[np.ndarray], columns: int, path: Path) -> None:
    """Save frames as a GIF that begins again at its end, where it rests for two seconds.

    Args:
        frames: (N, H, W, C) uint8 each.
        columns: pictures in a row.
    Raises:
        OSError: the disk is full or the folder is not writable; an earlier file is unchanged.
    """
    shown = [tiles.grid(frame, columns) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        shown[0].save(
            temporary,
            "GIF",
            save_all=True,
            append_images=shown[1:],
            duration=[FRAME_MS] * (len(shown) - 1) + [END_MS],
            loop=0,
        )

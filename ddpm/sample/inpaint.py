"""The picture that is filled in, and the mask that says where: files read so that no known pixel changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.data.transparency import stored_as
from ddpm.names import Size
from ddpm.sample.options import SampleConfig

WHITE = 128  # a pixel of the mask is white from this value on: brushes leave gray edges


@dataclass(frozen=True, eq=False)
class Inpainting:
    """What is filled in.

    Attributes:
        pixels: (H, W, C) uint8.
        mask: (H, W) bool, True where it is filled in.
    """

    pixels: np.ndarray
    mask: np.ndarray

    @classmethod
    def read(cls, config: SampleConfig, model: Checkpoint) -> Inpainting | None:
        """The two files that the options name; None if they name none.

        Raises:
            ValueError: one cannot be read, or has another form than the model's pictures; in one line what is needed.
        """
        if config.inpaint is None or config.mask is None:
            return None
        size = model.size
        pixels = _read("inpaint", config.inpaint, size, model.channels)
        mask = _read("mask", config.mask, size, 1)[..., 0] >= WHITE
        if not mask.any():
            raise ValueError(f"--mask {config.mask}: nothing in it is white, so nothing is to be filled in")
        return cls(pixels, mask)

    @property
    def digest(self) -> str:
        """SHA-256 of what the pictures depend on: the known pixels, and where they are."""
        known = np.where(self.mask[..., None], 0, self.pixels).astype(np.uint8)
        return hashlib.sha256(known.tobytes() + self.mask.tobytes()).hexdigest()

    def arguments(self, config: SampleConfig) -> dict[str, Tensor | int | None]:
        """The arguments that `reverse_process` takes for this."""
        known = torch.from_numpy(self.pixels.astype(np.float64) / 127.5 - 1).permute(2, 0, 1)
        mask = torch.from_numpy(self.mask)
        return {"known": known, "mask": mask, "jumps": config.resamplings, "jump_length": config.jump_length}


def _read(name: str, path: str, size: Size, channels: int) -> np.ndarray:
    """A picture as (H, W, channels) uint8, without any change to its pixels. Raises as `Inpainting.read`."""
    flag = f"--{name} {path}"
    try:
        with Image.open(path) as image:
            stored = stored_as(image)
            image.load()
            image = ImageOps.exif_transpose(image)  # as the decoder of training images does
    except UnidentifiedImageError:
        raise ValueError(f"{flag}: this is no picture that can be read; a PNG is needed") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # Pillow's own faults have no text
        reason = getattr(error, "strerror", None) or "the file is damaged"
        raise ValueError(f"{flag}: {reason}") from None
    height, width = size
    if image.size != (width, height):
        raise ValueError(
            f"{flag}: it has {image.width} x {image.height} pixels, and {width} x {height} are needed, as the model "
            "draws"
        )
    if image.mode.startswith(("I", "F")) or ";16" in stored:  # Pillow cuts 16-bit colours to 8
        raise ValueError(f"{flag}: it has more than 8 bits per pixel and channel; a picture with 8 is needed")
    opacity: Any = image.convert("RGBA").getchannel("A").getextrema()
    if opacity[0] < 255:
        raise ValueError(f"{flag}: it is transparent in places; {_needed(name)} is needed")
    pixels = np.asarray(image.convert("RGB"))
    if channels == 3:
        return pixels
    if (np.ptp(pixels, axis=2) > 0).any():
        raise ValueError(f"{flag}: it has colours, and {_needed(name, gray=True)} is needed")
    return pixels[..., :1]


def _needed(name: str, gray: bool = False) -> str:
    if name == "mask":
        return "a mask in black (known) and white (to be filled in)"
    return "a gray picture, as the model draws," if gray else "an opaque picture"

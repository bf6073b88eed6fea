"""The folder of numbered pictures. It remembers how they were drawn, so that the same command goes on after a stop, and
pictures of another kind are never mixed with them or lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm import plots
from ddpm.checkpoint import Checkpoint
from ddpm.files import write_text
from ddpm.sample.inpaint import Inpainting
from ddpm.sample.options import SampleConfig

RECORD = "samples.json"
NAMED = ("model", "inpaint", "mask")  # settings for people: what counts is the contents, which may go by other names
DIGESTS = {"weights": "by other weights", "filled": "from another picture or another mask"}


class PictureFolder:
    """The numbered pictures of one command.

    Attributes:
        path: None if no numbered pictures are wanted; then nothing is read or written.
    """

    def __init__(self, config: SampleConfig, model: Checkpoint, filling: Inpainting | None = None) -> None:
        self.path, self.count = config.folder, config.num_images
        self._size, self._channels = model.size, model.channels
        self._settings = {
            "model": model.name,
            "weights": _digest(model),
            "label": list(config.label),
            "guidance_scale": config.guidance_scale,
            "sampler": config.sampler,
            "eta": config.eta,
            "num_inference_steps": config.num_inference_steps or model.schedule.num_steps,
            "seed": config.seed,
            "precision": config.precision,
        }
        self._filling = filling is not None
        if filling:
            self._settings |= {
                "inpaint": config.inpaint,
                "mask": config.mask,
                "filled": filling.digest,
                "jumps": config.resamplings,
                "jump_length": config.jump_length,
            }

    def prepare(self) -> None:
        """Make the folder, or check that what is in it belongs to these pictures.

        Raises:
            ValueError: it holds other pictures; in one line which setting was another one.
            OSError: it cannot be written to.
        """
        if self.path is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        record, pictures = self.path / RECORD, any(path.stem.isdigit() for path in self.path.glob("*.png"))
        if record.is_file() and pictures:
            self._compare(record)
        elif pictures:
            raise ValueError(f"{self.path} holds numbered pictures of another program: pass another --output")
        else:
            write_text(record, json.dumps(self._settings, indent=1, ensure_ascii=False) + "\n")

    def _compare(self, record: Path) -> None:
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
            assert isinstance(found, dict)
        except (ValueError, AssertionError):
            raise ValueError(f"{record} is damaged: pass another --output, or remove the folder") from None
        if ("filled" in found) != self._filling:
            what = "without --inpaint" if self._filling else f"with --inpaint {found.get('inpaint')}"
            raise ValueError(f"{self.path} holds pictures that were drawn {what}: pass another --output")
        found = {"precision": "float32", "eta": 0.0} | found  # which older folders do not say
        for name, value in self._settings.items():
            if name not in NAMED and found.get(name) != value:
                what = DIGESTS.get(name) or f"with {_flag(name, found.get(name))}"
                raise ValueError(f"{self.path} holds pictures that were drawn {what}: pass another --output")

    def there(self) -> set[int]:
        """The numbers of the pictures that are in the folder already."""
        return {i for i in range(self.count) if self.path and self._file(i).is_file()}

    def write(self, numbers: Sequence[int], images: np.ndarray) -> None:
        """Write pictures, (N, H, W, C) uint8, under their numbers."""
        for number, pixels in zip(numbers, images, strict=True) if self.path else ():
            plots.save_image(
                Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels), self._file(number)
            )

    def read(self, number: int) -> np.ndarray:
        """(H, W, C) uint8.

        Raises:
            ValueError: it is damaged, or of another size.
        """
        path, (height, width), channels = self._file(number), self._size, self._channels
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except (OSError, SyntaxError):  # which Pillow raises for a broken PNG
            raise ValueError(f"{path} cannot be read: remove it, and the same command draws it again") from None
        if pixels.shape[:2] != (height, width):
            found = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise ValueError(f"{path} is {found}: {width} x {height} is needed; remove it")
        return pixels.reshape(height, width, channels)

    def _file(self, number: int) -> Path:
        assert self.path
        return self.path / f"{number:05d}.png"


def _flag(name: str, value: Any) -> str:
    """A setting as people typed it, such as "--label 3 5"."""
    if isinstance(value, list):
        return f"--{name} {' '.join(map(str, value))}" if value else f"no --{name}"
    if value is None:
        return f"no --{name}"
    return f"--{name} {value}"


def _digest(model: Checkpoint) -> str:
    """SHA-256 of the weights, and of the class vectors if there are some."""
    digest = hashlib.sha256()
    for name, value in sorted(model.unet.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    if model.classes:
        digest.update(model.classes.vectors.contiguous().numpy().tobytes())
    return digest.hexdigest()

"""What is on the page before a visitor does anything: the pictures of the pads, and the first seeds, steps and t_0."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from ddpm.names import JUMPS, Size

ASSETS = Path(__file__).resolve().parents[2] / "assets"
EMOJI = ASSETS / "emoji"

FIRST_PICTURE = 3  # on the pads at first; the server computes what the network says about it before the first visit
FIRST_NOISE = 7  # seed of the noise that is added to it
SECOND_PICTURE = 8  # the other end of the first interpolation
FIRST_SEED = 0  # of the first trajectory
FIRST_DENOISED = 3  # seed of the first pictures that are denoised from x_t0
T0_SHARE = 0.4  # the first t_0 as a share of T: there the first picture is half forgotten
FIRST_STEPS = 50  # sampling steps of both, if the model has as many timesteps
COMPARED_JUMPS = (0, JUMPS)  # of the two rows that show why there are jumps
INVERTED_STEPS = (10, 25, 50, 100, 250)  # that the error of the way to noise and back is shown for


class Shown(Protocol):
    """A model as far as its pictures need it: a checkpoint, or what is known of one (`facts.Facts`)."""

    @property
    def directory(self) -> Path: ...

    @property
    def size(self) -> Size: ...

    @property
    def channels(self) -> int: ...


def first_t0(num_steps: int) -> int:
    """t_0 of a model with `num_steps` timesteps, 1-based."""
    return max(1, round(T0_SHARE * num_steps))


def inverted_steps(num_steps: int) -> list[int]:
    """INVERTED_STEPS as far as a model of T = num_steps has them, and where that is one number at most, T and its half,
    since it takes two to see what more steps change."""
    counts = [n for n in INVERTED_STEPS if n <= num_steps]
    return counts if len(counts) > 1 else sorted({max(1, num_steps // 2), num_steps})


def stored_pictures(model: Shown) -> np.ndarray | None:
    """The pictures of the pads, (10, height, width) uint8 or (10, height, width, 3): digits for a gray model, and for
    the embedded emoji ten of the pictures that its training held out. None: the model's own samples take their place.
    """
    if model.channels == 1:
        return example_digits(model.size)
    if model.directory.resolve() == EMOJI:
        return np.load(ASSETS / "emoji32.npy")
    return None


def example_digits(size: Size) -> np.ndarray:
    """One digit of each class, (10, height, width) uint8: MNIST's, or scikit-learn's at their own 8 x 8. In a picture
    that is not square they stand in the middle."""
    if size == (8, 8):
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        first = [int(np.flatnonzero(digits == k)[0]) for k in range(10)]
        return np.round(pixels[first].reshape(10, 8, 8) * (255 / 16)).astype(np.uint8)
    digits28 = np.load(ASSETS / "digits28.npy")
    if size == (28, 28):
        return digits28
    from PIL import Image

    (height, width), side = size, min(size)
    digits = [np.asarray(Image.fromarray(d).resize((side, side), Image.Resampling.BICUBIC)) for d in digits28]
    top, left = (height - side) // 2, (width - side) // 2
    return np.pad(np.stack(digits), ((0, 0), (top, height - side - top), (left, width - side - left)))

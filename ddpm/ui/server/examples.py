"""The stored pictures that are on the page before a visitor draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parents[2] / "assets"
FIRST_DIGIT = 3  # is on the pads, and what the network says about it is computed before the first visitor asks
FIRST_NOISE = 7  # the seed of its noise, as in static/ddpm.js
SECOND_DIGIT = 8  # the other end of the first interpolation
FIRST_DENOISED = 3  # the seed of the first way back


def example_digits(resolution: int) -> np.ndarray:
    """One digit of each class, (10, resolution, resolution) uint8: MNIST's, or scikit-learn's at their own 8 x 8."""
    if resolution == 8:
        from sklearn.datasets import load_digits

        digits = load_digits()
        first = [int(np.flatnonzero(digits.target == k)[0]) for k in range(10)]
        return np.round(digits.images[first] * (255 / 16)).astype(np.uint8)
    digits28 = np.load(ASSETS / "digits28.npy")
    if resolution == 28:
        return digits28
    from PIL import Image

    size = (resolution, resolution)
    return np.stack([np.asarray(Image.fromarray(d).resize(size, Image.Resampling.BICUBIC)) for d in digits28])

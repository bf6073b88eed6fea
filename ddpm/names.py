"""The names and bounds that options, model files, the mathematics and the page share. Importing this loads nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

PredictionType = Literal["epsilon", "sample", "v_prediction"]
"""What a network predicts, in diffusers' words: the noise, x_0, or the velocity v of Salimans & Ho 2022."""

VarianceType = Literal["fixed_small", "fixed_large"]
"""The variance sigma_t^2 of the reverse process (section 3.2): beta-tilde_t or beta_t."""

LearnedVariance = Literal["learned_range", "learned"]
"""A variance that the network predicts: a mixture of beta_t and beta-tilde_t (Nichol & Dhariwal 2021, Eq. 15), or its
logarithm itself."""

Precision = Literal["float32", "bfloat16"]
"""What a CPU computes a network's layers in."""

OPTIMAL = "optimal"
"""The variance that suits a trained network best (Bao et al. 2022), see `ddpm.optimal`."""

Sampler = Literal["ddpm", "ddpm_fixed_small", "ddpm_fixed_large", "ddpm_optimal", "ddim", "dpm_solver++"]
"""How images are drawn. "ddpm" is ancestral sampling (Algorithm 2) with the model's own variance; what follows it in
other names is the variance."""

AnyVariance = Literal["fixed_small", "fixed_large", "optimal", "learned_range", "learned"]
"""A variance of any kind."""

PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)
VARIANCE_TYPES: tuple[str, ...] = get_args(VarianceType)
LEARNED_VARIANCES: tuple[str, ...] = get_args(LearnedVariance)
SAMPLERS: tuple[str, ...] = tuple(name for name in get_args(Sampler) if name != "ddpm_optimal")
"""The samplers that need nothing but a network and its schedule."""
ETA_SAMPLERS: tuple[Sampler, ...] = ("ddim", "dpm_solver++")
"""The samplers whose share of fresh noise is a choice, eta: 0 is none, and 1 as much as ancestral sampling with the
small variance adds."""
FILLING_SAMPLERS: tuple[str, ...] = tuple(name for name in get_args(Sampler) if name != "dpm_solver++")
"""The samplers that can fill in a part of a picture (`ddpm.inpainting`): each of their steps needs x_t alone."""

FRESH_NOISE = ("until_last", "never", "always")
""""until_last" is line 3 of Algorithm 2, z ~ N(0, I) if t > 1, else 0; the other two are mistakes."""

JUMPS = 10
"""How often the sampler jumps back when it fills in, unless something else is asked for: about as in the paper."""

MAX_RESOLUTION = 1024
"""The largest height and width of an image, in pixels."""

Size = tuple[int, int]
"""Height and width of an image, in pixels."""

MAX_TIMESTEPS = 10_000
"""The largest T."""

CONTROLS = ("Cc", "Cs", "Zl", "Zp")
"""Categories of characters that no name has: control characters, halves of characters, ends of lines."""

MAX_SCALE = 20.0
"""The largest guidance scale."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255 each."""

COLOURS: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0)}
"""Colours that go by a name."""


def size_of(resolution: int | str) -> Size:
    """The size that a `resolution` names: the side of a square, or HEIGHTxWIDTH.

    Raises:
        ValueError: it names none; the message says what is accepted.
    """
    words = str(resolution).strip().lower().replace("×", "x").split("x")
    numbers = [int(word) if word.isascii() and word.isdigit() else 0 for word in words]
    if len(numbers) > 2 or not all(1 <= number <= MAX_RESOLUTION for number in numbers):
        needed = f"1 to {MAX_RESOLUTION} pixels, or HEIGHTxWIDTH such as 32x48,"
        raise ValueError(f"{resolution!s}: {needed} is needed")
    return numbers[0], numbers[-1]


def size_name(size: Size) -> int | str:
    """The `resolution` that names a size, the same for equal sizes; the reverse of `size_of`."""
    height, width = size
    return height if height == width else f"{height}x{width}"


def colour_of(text: str) -> Colour:
    """The colour that a text names: "white", "black", or "R,G,B".

    Raises:
        ValueError: it names none; the message says what is accepted.
    """
    words = text.strip().lower()
    if words in COLOURS:
        return COLOURS[words]
    numbers = [int(part) if part.strip().isascii() and part.strip().isdigit() else 256 for part in words.split(",")]
    if len(numbers) != 3 or max(numbers) > 255:
        raise ValueError(f"{text!r}: {', '.join(COLOURS)} or R,G,B from 0 to 255, such as 250,128,0, is needed")
    return numbers[0], numbers[1], numbers[2]


def colour_name(colour: Colour) -> str:
    """The text that names a colour, the same for equal colours; the reverse of `colour_of`."""
    return next((name for name, known in COLOURS.items() if known == colour), ",".join(map(str, colour)))


def grid_steps(sample_steps: int, trained: int) -> int:
    """In how many sampling steps a sample grid is drawn: no more than the network has been trained for.

    The samples of a network that has hardly been trained look like noise in any number of steps.

    Args:
        sample_steps: that were asked for.
        trained: optimizer steps so far.
    """
    return max(1, min(sample_steps, trained))


def times(count: int) -> str:
    """ "once", "twice", "3 times", for messages."""
    return {1: "once", 2: "twice"}.get(count) or f"{count:,} times"


def counted(count: int, noun: str) -> str:
    """ "1 image", "2,000 images", "2 processes", for messages.

    Args:
        noun: in the singular; its plural ends in s, or in es after an s.
    """
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def is_name(text: object) -> bool:
    """Whether a value can be the name of a class: text of one line, which UTF-8 can write and people can read."""
    return isinstance(text, str) and bool(text.strip()) and not any(unicodedata.category(c) in CONTROLS for c in text)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes as `is_name` wants them; those that occurred before get a number behind them."""
    seen: set[str] = set()
    found = []
    for raw in names:
        words = "".join(" " if unicodedata.category(c) in CONTROLS else c for c in raw).split()
        name = free = " ".join(words) or "unnamed"
        number = 1
        while free in seen:
            number += 1
            free = f"{name} ({number})"
        seen.add(free)
        found.append(free)
    return tuple(found)

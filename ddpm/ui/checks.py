"""What a visitor may ask for: every input is checked here before anything is computed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import traceback
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ddpm.sampling import SAMPLERS

from .text import say

MAX_SEED = 2**31 - 1


class InputError(ValueError):
    """An input out of range: names the value and what is accepted, in the visitor's language once it is in the browser.

    Args:
        key: of `text.TEXT`, one of refused.*.
        fields: what that string needs; `name` is an argument's name.
    """

    def __init__(self, key: str, **fields: Any) -> None:
        nothing = {name: say("refused.nothing") for name, value in fields.items() if value is None}
        super().__init__(say(key, **{**fields, **nothing}))
        self.key, self.fields = key, fields


def answered(work: Generator[dict[str, Any], None, None], run: int | None) -> Iterator[dict[str, Any]]:
    """The messages of an event, each with the `run` that it answers. What goes wrong becomes the last of them:
    {"kind": "refused", "key", "fields"}, or {"kind": "failed"} for a fault of ours, which is logged."""
    try:
        with closing(work):  # so that closing this stops the work, too
            for message in work:
                yield {**message, "run": run}
    except InputError as refused:
        yield {"kind": "refused", "key": refused.key, "fields": refused.fields, "run": run}
    except Exception:
        traceback.print_exc()
        yield {"kind": "failed", "run": run}


def _shown(value: object) -> str | None:
    """A value as a message quotes it, cut to a readable length; None, a field left empty, is put into words later."""
    if value is None:
        return None
    shown = str(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def check_real(name: str, value: object, low: float, high: float) -> float:
    """A finite number in [low, high]. JSON's true is a number to Python, so bool is refused by hand."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError("refused.real", name=name, value=_shown(value), low=low, high=high)
    return float(value)


def check_whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number in [low, high], written as 50 or 50.0; NaN and infinity fail the comparison."""
    whole = not isinstance(value, bool) and isinstance(value, (int, float)) and low <= value <= high
    if not whole or value != math.floor(value):
        raise InputError("refused.whole", name=name, value=_shown(value), low=low, high=high)
    return int(value)


def check_array(
    name: str, value: object, shape: tuple[int, ...], low: float, high: float, whole: bool = False
) -> np.ndarray:
    """Nested lists of finite numbers in [low, high], of this shape; `whole`: and whole. As float64."""
    numbers = None
    with suppress(ValueError, TypeError, OverflowError, RecursionError):  # rows of different lengths, ...
        numbers = np.array(value)
    if numbers is None or numbers.dtype.kind not in "iuf" or numbers.shape != shape:
        raise InputError("refused.shape", name=name, shape=" x ".join(map(str, shape)), low=low, high=high)
    numbers = numbers.astype(np.float64)
    fine = (numbers >= low) & (numbers <= high)
    if whole:
        fine &= np.floor(numbers) == numbers
    if not fine.all():
        at = tuple(int(i) for i in np.argwhere(~fine)[0])
        key = "refused.whole" if whole else "refused.real"
        raise InputError(key, name=f"{name}{list(at)}", value=f"{numbers[at]:g}", low=low, high=high)
    return numbers


@dataclass(frozen=True)
class SampleRequest:
    """What determines a trajectory, and so names it: the same request gives the same pictures."""

    sampler: str
    num_inference_steps: int
    num_images: int
    seed: int
    eta: float = 0.0

    @classmethod
    def check(cls, raw: object, num_steps: int, max_images: int) -> SampleRequest:
        """From whatever the browser sent.

        Raises:
            InputError: a value missing or out of range, named with the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        sampler = raw.get("sampler")
        if not isinstance(sampler, str) or sampler not in SAMPLERS:
            raise InputError("refused.choice", name="sampler", value=_shown(sampler), choices=", ".join(SAMPLERS))
        return cls(
            sampler=sampler,
            num_inference_steps=check_whole("num_inference_steps", raw.get("num_inference_steps"), 1, num_steps),
            num_images=check_whole("num_images", raw.get("num_images"), 1, max_images),
            seed=check_whole("seed", raw.get("seed"), 0, MAX_SEED),
            eta=check_real("eta", raw.get("eta", 0.0), 0, 1) if sampler == "ddim" else 0.0,
        )

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class PictureRequest:
    """A picture and the seed of its noise, and what is asked about it."""

    kind: str
    pixels: bytes
    noise_seed: int

    @classmethod
    def check(cls, raw: object, kind: str, shape: tuple[int, int, int]) -> PictureRequest:
        """From whatever the browser sent: `x0`, base64 of the (H, W, C) bytes, and `noise_seed`.

        Raises:
            InputError: a value missing or out of range, named with the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        needed, x0 = math.prod(shape), raw.get("x0")
        pixels = None
        if isinstance(x0, str) and len(x0) <= 4 * -(-needed // 3):
            with suppress(binascii.Error, ValueError):
                pixels = base64.b64decode(x0, validate=True)
        if pixels is None or len(pixels) != needed:
            raise InputError("refused.pixels", name="x0", needed=needed)
        return cls(kind, pixels, check_whole("noise_seed", raw.get("noise_seed"), 0, MAX_SEED))

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.kind} {self.noise_seed} ".encode() + self.pixels).hexdigest()[:24]

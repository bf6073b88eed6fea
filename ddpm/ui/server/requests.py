"""What a visitor may ask for. Every input is checked here before anything is computed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ddpm.class_names import NO_LABEL, Named
from ddpm.names import ETA_SAMPLERS, FILLING_SAMPLERS, FRESH_NOISE, MAX_SCALE, SAMPLERS
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.visitors import StoppedError
from ddpm.ui.text import say

MAX_SEED = 2**31 - 1
MIN_ROWS, MAX_ROWS = 2, 4
MAX_ROW_IMAGES = 8
MAX_JUMPS = 20
FILLERS = tuple(name for name in FILLING_SAMPLERS if name in SAMPLERS)
NOISE_LIMIT = 20  # of |x_t| that a program sends: nothing that q draws is further from 0


def addressed(sent: Any) -> tuple[object, Any]:
    """What a browser sends a server function, {"model": a name, "asked": anything} or only the latter: the name, None
    if there is none, and what is asked."""
    if isinstance(sent, dict) and "asked" in sent:
        return sent.get("model"), sent["asked"]
    return None, sent


class InputError(ValueError):
    """An input that is out of range. Its message names the value and what is accepted.

    The page shows the message in the visitor's language, which is why key and fields are kept.

    Args:
        key: of the texts, one of refused.*.
        fields: the fields of that text; `name` is an argument's name.
    """

    def __init__(self, key: str, **fields: Any) -> None:
        nothing = {name: say("refused.nothing") for name, value in fields.items() if value is None}
        super().__init__(say(key, **{**fields, **nothing}))
        self.key, self.fields = key, fields


def answered(work: Generator[dict[str, Any], None, None], number: int) -> Iterator[dict[str, Any]]:
    """The messages of an event, each with the number of the request that it answers, as `run`.

    If the work fails, the last message says so: {"kind": "refused", "key", "fields"} for an `InputError`, and
    {"kind": "failed"} for a fault of ours, which is logged. Work that is stopped ends without a message.
    """
    try:
        with closing(work):  # so that the work stops, too, when this generator is closed
            for message in work:
                yield {**message, "run": number}
    except InputError as refused:
        yield {"kind": "refused", "key": refused.key, "fields": refused.fields, "run": number}
    except StoppedError:
        return
    except Exception:
        traceback.print_exc()
        yield {"kind": "failed", "run": number}


def _shown(value: object) -> str | None:
    """A value as a message quotes it, cut to a readable length. None, an empty field, is put into words later."""
    if value is None:
        return None
    shown = str(value).encode(errors="replace").decode()  # half a surrogate pair would break the stream
    return shown if len(shown) <= 40 else shown[:37] + "..."


def check_real(name: str, value: object, low: float, high: float) -> float:
    """A finite number in [low, high]. To Python, JSON's `true` is a number, so bool is refused separately."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError("refused.real", name=name, value=_shown(value), low=low, high=high)
    return float(value)


def check_whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number in [low, high], written as 50 or 50.0. NaN and infinity fail the comparison."""
    if not isinstance(value, bool) and isinstance(value, (int, float)) and low <= value <= high:
        whole = math.floor(value)
        if whole == value:
            return whole
    raise InputError("refused.whole", name=name, value=_shown(value), low=low, high=high)


def check_array(
    name: str, value: object, shape: tuple[int, ...], low: float, high: float, whole: bool = False
) -> np.ndarray:
    """Nested lists of finite numbers in [low, high], of this shape, as float64.

    Args:
        whole: the numbers must also be whole.
    Raises:
        InputError: another shape, or a number out of range; the error gives its position.
    """
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


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of a few names."""
    if not isinstance(value, str) or value not in choices:
        raise InputError("refused.choice", name=name, value=_shown(value), choices=", ".join(choices))
    return value


def check_label(value: object, classes: Named | None) -> int:
    """The number of a class, -1 for "no label", as the page sends it.

    Raises:
        InputError: there is no such class; the error lists the names.
    """
    last = len(classes) - 1 if classes else NO_LABEL
    if not isinstance(value, bool) and isinstance(value, int | float) and value in range(NO_LABEL, last + 1):
        return int(value)
    raise no_such_label(value, classes)


def label_named(name: object, classes: Named | None) -> int:
    """The number of a class by its name, -1 for no name, as programs send it.

    Raises:
        InputError: there is no such class; the error lists the names.
    """
    if name is None or (classes is None and isinstance(name, str) and name.strip().lower() in ("", "none")):
        return NO_LABEL
    if classes is not None and isinstance(name, str | int) and not isinstance(name, bool):
        with suppress(ValueError):
            return classes.number(name)
    raise no_such_label(name, classes)


def no_such_label(value: object, classes: Named | None) -> InputError:
    """Why a label is refused: the model knows others, which are listed, or none at all."""
    if classes is None:
        return InputError("refused.no_labels", name="label", value=_shown(value))
    return InputError("refused.label", name="label", value=_shown(value), choices=classes.listed())


@dataclass(frozen=True)
class SampleRequest:
    """Everything that determines a trajectory: the same request gives the same pictures, so it serves as their key.

    `clip`, `fresh_noise` and `start_t` mean what they mean in `reverse_process`, but `start_t` is 1-based. `label` is
    the number of a class for all pictures, -1 for "no label". `guidance_scale` is s in
    eps = eps_0 + s (eps_c - eps_0); without a label it has no effect and is 1.
    """

    sampler: str
    num_inference_steps: int
    num_images: int
    seed: int
    eta: float = 0.0
    clip: bool | None = None
    fresh_noise: str = "until_last"
    start_t: int | None = None
    label: int = NO_LABEL
    guidance_scale: float = 1.0

    @classmethod
    def check(cls, raw: object, num_steps: int, max_images: int, classes: Named | None = None) -> SampleRequest:
        """The request in what the browser sent, which may be anything.

        Args:
            classes: those of the model; None if it has none.
        Raises:
            InputError: a value is missing or out of range; the error states the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        sampler = check_choice("sampler", raw.get("sampler"), SAMPLERS)
        clip = raw.get("clip")
        if clip is not None and not isinstance(clip, bool):
            raise InputError("refused.choice", name="clip", value=_shown(clip), choices="true, false")
        choices = FRESH_NOISE if sampler.startswith("ddpm") else FRESH_NOISE[:1]  # the others have no such choice
        start_t = check_whole("start_t", raw.get("start_t", num_steps), 1, num_steps)
        label = check_label(raw.get("label", NO_LABEL), classes)
        guidance_scale = check_real("guidance_scale", raw.get("guidance_scale", 1.0), 0, int(MAX_SCALE))
        return cls(
            sampler=sampler,
            num_inference_steps=check_whole("num_inference_steps", raw.get("num_inference_steps"), 1, start_t),
            num_images=check_whole("num_images", raw.get("num_images"), 1, max_images),
            seed=check_whole("seed", raw.get("seed"), 0, MAX_SEED),
            eta=check_real("eta", raw.get("eta", 0.0), 0, 1) if sampler in ETA_SAMPLERS else 0.0,
            clip=clip,
            fresh_noise=check_choice("fresh_noise", raw.get("fresh_noise", FRESH_NOISE[0]), choices),
            start_t=None if start_t == num_steps else start_t,
            label=label,
            guidance_scale=1.0 if label == NO_LABEL else guidance_scale,
        )

    @property
    def calls(self) -> int:
        """How often the network computes all pictures: twice a step where guidance needs eps_0 and eps_c."""
        return self.num_inference_steps * (2 if self.guidance_scale not in (0, 1) else 1)

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check_picture(name: str, value: object, shape: tuple[int, int, int]) -> bytes:
    """The (H, W, C) bytes of a picture that came as base64.

    Raises:
        InputError: it is something else; the error states how many bytes a picture has.
    """
    needed, pixels = math.prod(shape), None
    if isinstance(value, str) and len(value) <= 4 * -(-needed // 3):
        with suppress(binascii.Error, ValueError):
            pixels = base64.b64decode(value, validate=True)
    if pixels is None or len(pixels) != needed:
        raise InputError("refused.pixels", name=name, needed=needed)
    return pixels


Limit = tuple[int, int, Named | None]
"""What a model allows: its T, the most images of one sampling, and its classes, None if it has none."""


def check_rows(
    raw: object,
    num_steps: int,
    max_images: int,
    classes: Named | None = None,
    of: Callable[[object], Limit] | None = None,
) -> list[SampleRequest]:
    """Samplings of the same noise.

    Args:
        raw: from the browser: `rows`, a list of the fields of SampleRequest in which they differ, and one `seed` and
            `num_images` for all.
        classes: those of the model; None if it has none.
        of: the limits of a row's model, which the row calls `model`; None if all rows are of one model.
    Raises:
        InputError: a value is missing or out of range; the error states the range, and its field `row` counts from 1.
    """
    raw = raw if isinstance(raw, dict) else {}
    rows = raw.get("rows")
    if not isinstance(rows, list) or not MIN_ROWS <= len(rows) <= MAX_ROWS:
        count = len(rows) if isinstance(rows, list) else None
        raise InputError("refused.whole", name="rows", value=count, low=MIN_ROWS, high=MAX_ROWS)
    num_images = check_whole("num_images", raw.get("num_images"), 1, min(MAX_ROW_IMAGES, max_images))
    shared, requests = {"num_images": num_images, "seed": check_whole("seed", raw.get("seed"), 0, MAX_SEED)}, []
    steps = num_steps
    for number, row in enumerate(rows, 1):
        try:
            fields = {**(row if isinstance(row, dict) else {}), **shared}
            own_steps, _, own_classes = of(fields.get("model")) if of else (num_steps, max_images, classes)
            requests.append(SampleRequest.check(fields, own_steps, num_images, own_classes))
            steps = max(steps, own_steps)
        except InputError as refused:
            raise InputError(refused.key, **refused.fields, row=number) from None
    calls = sum(request.calls for request in requests)
    if calls > 2 * steps:
        raise InputError("refused.calls", value=calls, high=2 * steps)
    return requests


@dataclass(frozen=True)
class PictureRequest:
    """A picture, the seed of its noise, and what the network is to say about it: "predict", "bound", "classify" or
    "denoise"."""

    kind: str
    pixels: bytes
    noise_seed: int

    @classmethod
    def check(cls, raw: object, kind: str, shape: tuple[int, int, int]) -> PictureRequest:
        """The request in what the browser sent: `x0`, base64 of the (H, W, C) bytes, and `noise_seed`.

        Raises:
            InputError: a value is missing or out of range; the error states the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        pixels = check_picture("x0", raw.get("x0"), shape)
        return cls(kind, pixels, check_whole("noise_seed", raw.get("noise_seed"), 0, MAX_SEED))

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.kind} {self.noise_seed} ".encode() + self.pixels).hexdigest()[:24]


@dataclass(frozen=True)
class DenoiseRequest:
    """A picture that is noised to t_0 (1-based) and denoised again as `sampling` says.

    Without a second picture it is denoised several times, each time with fresh noise of its own. With a second one,
    the sampling starts from several points on the line between the two, all with the same noise.
    """

    picture: PictureRequest
    second: bytes | None
    t0: int
    sampling: SampleRequest

    @classmethod
    def check(
        cls,
        raw: object,
        num_steps: int,
        max_images: int,
        shape: tuple[int, int, int],
        classes: Named | None = None,
    ) -> DenoiseRequest:
        """The request in what the browser sent: the fields of PictureRequest and of SampleRequest, `t0`, and `second`,
        which is None or a picture in the form of x0.

        Raises:
            InputError: a value is missing or out of range; the error states the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        picture = PictureRequest.check(raw, "denoise", shape)
        second = None if raw.get("second") is None else check_picture("second", raw["second"], shape)
        t0 = check_whole("t0", raw.get("t0"), 1, num_steps)
        check_whole("num_images", raw.get("num_images"), 1 if second is None else 2, max_images)  # a line has two ends
        return cls(picture, second, t0, SampleRequest.check(raw, t0, max_images, classes))

    @property
    def num_images(self) -> int:
        return self.sampling.num_images

    @property
    def num_inference_steps(self) -> int:
        return self.sampling.num_inference_steps

    @property
    def key(self) -> str:
        named = f"{self.picture.key} {self.t0} {self.sampling.key} ".encode()
        return hashlib.sha256(named + (self.second or b"")).hexdigest()[:24]

    def as_json(self) -> dict[str, Any]:
        """The fields as the browser sent them."""
        x0, second = (pixels and to_base64(pixels) for pixels in (self.picture.pixels, self.second))
        drawn = {"x0": x0, "second": second, "noise_seed": self.picture.noise_seed, "t0": self.t0}
        return {**self.sampling.as_json(), **drawn}

"""What visitors ask for with a picture of theirs beside denoising it: to fill in what they erased, to turn the picture
into noise and back, and to walk from it to a second picture through their noise.

t is 0-based in `ddpm.sampling`, and so is it here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.class_names import NO_LABEL
from ddpm.classes import Classes
from ddpm.inpainting import order_of
from ddpm.inversion import encoding, slerp
from ddpm.sampling import EpsTheta, ReverseStep, reverse_process, timesteps_for
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.examples import COMPARED_JUMPS, FIRST_DENOISED, inverted_steps
from ddpm.ui.server.pictures import pixels_to_tensor
from ddpm.ui.server.requests import (
    FILLERS,
    MAX_JUMPS,
    DenoiseRequest,
    InputError,
    SampleRequest,
    check_choice,
    check_picture,
    check_whole,
)

KINDS = ("denoise", "walk", "fill", "invert")


@dataclass(frozen=True)
class FillRequest:
    """A picture of which a part is erased, filled in several times, each time with noise of its own.

    Args:
        pixels: (H, W, C) bytes; those that are erased are 0, since nothing depends on them.
        mask: (H, W) bytes, 1 where the picture is erased and 0 elsewhere.
        jumps: see `ddpm.inpainting`.
    """

    pixels: bytes
    mask: bytes
    jumps: int
    sampling: SampleRequest
    shows_from = 0  # the step from which on its pictures are shown

    @classmethod
    def check(
        cls,
        raw: object,
        num_steps: int,
        max_images: int,
        shape: tuple[int, int, int],
        classes: Classes | None = None,
    ) -> FillRequest:
        """The request in what the browser sent: the fields of SampleRequest, `x0`, `mask`, both in base64, and `jumps`.

        Raises:
            InputError: a value is missing or out of range; the error states the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        pixels, mask = (
            check_picture("x0", raw.get("x0"), shape),
            check_picture("mask", raw.get("mask"), (*shape[:2], 1)),
        )
        return cls.of(pixels, mask, raw.get("jumps"), raw, num_steps, max_images, shape, classes)

    @classmethod
    def of(
        cls,
        pixels: bytes,
        mask: bytes,
        jumps: object,
        fields: dict[str, Any],
        num_steps: int,
        max_images: int,
        shape: tuple[int, int, int],
        classes: Classes | None,
    ) -> FillRequest:
        """The request for these bytes; the other values are checked as in `check`."""
        erased = np.frombuffer(mask, np.uint8)
        if (erased > 1).any() or not erased.any():
            raise InputError("refused.mask", name="mask")
        check_choice("sampler", fields.get("sampler"), FILLERS)
        jumps = check_whole("jumps", jumps, 0, MAX_JUMPS)
        check_whole("num_inference_steps", fields.get("num_inference_steps"), 2 if jumps else 1, num_steps)
        known = np.where(erased.reshape(*shape[:2], 1), 0, np.frombuffer(pixels, np.uint8).reshape(shape))
        sampling = SampleRequest.check(fields, num_steps, max_images, classes)
        return cls(known.astype(np.uint8).tobytes(), mask, jumps, sampling)

    @property
    def num_images(self) -> int:
        return self.sampling.num_images

    @property
    def num_inference_steps(self) -> int:
        return self.sampling.num_inference_steps

    @property
    def key(self) -> str:
        named = f"fill {self.jumps} {self.sampling.key} ".encode()
        return hashlib.sha256(named + self.mask + self.pixels).hexdigest()[:24]

    def as_json(self) -> dict[str, Any]:
        """The fields as the browser sent them, with the erased pixels 0."""
        drawn = {"x0": to_base64(self.pixels), "mask": to_base64(self.mask), "jumps": self.jumps}
        return {**self.sampling.as_json(), **drawn}

    def timesteps(self, num_steps: int) -> list[int]:
        """The timestep of each step, those that are taken again included."""
        taken = timesteps_for(self.num_inference_steps, num_steps - 1)
        return [taken[place] for place in order_of(len(taken), self.jumps, None)]

    def steps(self, checkpoint: Checkpoint, eps_theta: EpsTheta) -> Iterator[ReverseStep]:
        """Its steps, see `reverse_process`."""
        size, sampling = checkpoint.size, self.sampling
        shape = (*size, checkpoint.channels)
        return reverse_process(
            eps_theta,
            checkpoint.scheduler,
            (self.num_images, checkpoint.channels, *size),
            sampler=sampling.sampler,
            num_inference_steps=sampling.num_inference_steps,
            seed=sampling.seed,
            eta=sampling.eta,
            known=pixels_to_tensor(self.pixels, shape),
            mask=torch.from_numpy(np.frombuffer(self.mask, np.uint8).reshape(size).copy()),
            jumps=self.jumps,
            **labels_of(sampling, self.num_images),
        )


@dataclass(frozen=True)
class InvertRequest:
    """A picture that DDIM turns into noise and back, or with a second one a walk between the noises of the two.

    Args:
        first, second: (H, W, C) bytes; second is None where there is no walk.
        sampling: in how many steps each way, how many points of the walk, and with which label.
    """

    first: bytes
    second: bytes | None
    sampling: SampleRequest

    @classmethod
    def check(
        cls,
        raw: object,
        num_steps: int,
        max_images: int,
        shape: tuple[int, int, int],
        classes: Classes | None = None,
    ) -> InvertRequest:
        """The request in what the browser sent: `x0`, and the fields of SampleRequest but for those that DDIM without
        fresh noise does not need; for a walk `second` and `num_images`.

        Raises:
            InputError: a value is missing or out of range; the error states the range.
        """
        raw = raw if isinstance(raw, dict) else {}
        first = check_picture("x0", raw.get("x0"), shape)
        second = None if raw.get("second") is None else check_picture("second", raw["second"], shape)
        count = 1 if second is None else check_whole("num_images", raw.get("num_images"), 2, max_images)
        asked = {name: raw[name] for name in ("num_inference_steps", "label", "guidance_scale") if name in raw}
        fixed = {"sampler": "ddim", "seed": 0, "num_images": count}
        return cls(first, second, SampleRequest.check({**asked, **fixed}, num_steps, max_images, classes))

    @property
    def num_images(self) -> int:
        return self.sampling.num_images

    @property
    def num_inference_steps(self) -> int:
        return self.sampling.num_inference_steps

    @property
    def shows_from(self) -> int:
        """The step from which on there are `num_images` pictures: a walk has but two on the way to noise."""
        return 0 if self.second is None else self.num_inference_steps

    @property
    def key(self) -> str:
        return hashlib.sha256(f"invert {self.sampling.key} ".encode() + self.first + (self.second or b"")).hexdigest()[
            :24
        ]

    def as_json(self) -> dict[str, Any]:
        """The fields as the browser sent them."""
        x0, second = (pixels and to_base64(pixels) for pixels in (self.first, self.second))
        return {**self.sampling.as_json(), "x0": x0, "second": second}

    def timesteps(self, num_steps: int) -> list[int]:
        """The timestep of each step: to noise, then back."""
        back = timesteps_for(self.num_inference_steps, num_steps - 1)
        return [*back[::-1], *back]

    def steps(self, checkpoint: Checkpoint, eps_theta: EpsTheta) -> Iterator[ReverseStep]:
        """Its steps, those on the way to noise included: the last of these has the noise as its `x_prev`."""
        size, count = checkpoint.size, self.num_inference_steps
        shape = (*size, checkpoint.channels)
        pictures = torch.cat([pixels_to_tensor(each, shape) for each in (self.first, self.second) if each is not None])
        code, scheduler = pictures, checkpoint.scheduler
        asked = {"num_inference_steps": count}
        for step in encoding(eps_theta, scheduler, pictures, **asked, **labels_of(self.sampling, len(pictures))):
            code = step.x_next
            yield ReverseStep(step.index, 2 * count, step.t, step.xt, step.x0_hat, step.eps_hat, code)
        if self.second is not None:
            code = slerp(code[0], code[1], torch.linspace(0, 1, self.num_images, dtype=torch.float64))
        decoding = reverse_process(
            eps_theta,
            scheduler,
            (len(code), checkpoint.channels, *size),
            sampler="ddim",
            clip=False,
            x_start=code,
            **asked,
            **labels_of(self.sampling, len(code)),
        )
        for step in decoding:
            yield replace(step, index=count + step.index, num_steps=2 * count)


def labels_of(sampling: SampleRequest, count: int) -> dict[str, Any]:
    """The label and the guidance scale of so many pictures, as `reverse_process` takes them."""
    labels: Tensor | None = None if sampling.label == NO_LABEL else torch.full((count,), sampling.label)
    return {"labels": labels, "guidance_scale": sampling.guidance_scale}


FromPicture = DenoiseRequest | FillRequest | InvertRequest


def check_from_picture(
    raw: object,
    num_steps: int,
    max_images: int,
    shape: tuple[int, int, int],
    classes: Classes | None = None,
) -> list[FromPicture]:
    """The rows in what the browser sent.

    Args:
        raw: of each `kind` the fields of its request. "denoise", which is meant where there is none: those of
            `DenoiseRequest`. "walk": the same with a second picture; the second row is the walk through their noise, in
            `walk_steps` steps each way. "fill": those of `FillRequest`, a row for each of COMPARED_JUMPS. "invert":
            those of `InvertRequest`, a row for each of INVERTED_STEPS.
    Raises:
        InputError: a value is missing or out of range; the error states the range.
    """
    raw = raw if isinstance(raw, dict) else {}
    kind = check_choice("kind", raw.get("kind", KINDS[0]), KINDS)
    limits = (num_steps, max_images, shape, classes)
    if kind == "fill":
        return [FillRequest.check({**raw, "jumps": jumps}, *limits) for jumps in COMPARED_JUMPS]
    if kind == "invert":
        asked = {**raw, "second": None}
        return [InvertRequest.check({**asked, "num_inference_steps": n}, *limits) for n in inverted_steps(num_steps)]
    rows: list[FromPicture] = [DenoiseRequest.check(raw, *limits)]
    if kind == "walk":
        check_picture("second", raw.get("second"), shape)
        steps = check_whole("walk_steps", raw.get("walk_steps"), 1, num_steps)
        rows.append(InvertRequest.check({**raw, "num_inference_steps": steps}, *limits))
    return rows


def left_half(shape: tuple[int, int, int]) -> bytes:
    """The mask of the stored example, (H, W): the left half of the picture is erased."""
    mask = np.zeros(shape[:2], np.uint8)
    mask[:, : shape[1] // 2] = 1
    return mask.tobytes()


def first_rows(
    between: DenoiseRequest, shape: tuple[int, int, int], num_steps: int, fast: Callable[[int], bool]
) -> dict[str, list[FromPicture]]:
    """The rows that the page shows before the first click, by kind, smaller if the model is slow.

    Args:
        between: what it shows between two pictures, for which the walk is drawn as well.
        fast: whether the network computes so many pictures, one by one, soon enough.
    """
    picture, walked = between.picture.pixels, between.sampling
    walk = SampleRequest("ddim", walked.num_inference_steps, walked.num_images, 0)
    kinds: dict[str, list[FromPicture]] = {"between": [between, InvertRequest(picture, between.second, walk)]}
    for images, steps in ((4, 25), (2, 20), (1, 10), (1, 4)):
        steps = max(2, min(steps, num_steps))
        sampling = SampleRequest("ddpm", steps, images, FIRST_DENOISED)
        fields = {**sampling.as_json(), "start_t": num_steps}
        limits = (num_steps, images, shape, None)
        fills = [FillRequest.of(picture, left_half(shape), jumps, fields, *limits) for jumps in COMPARED_JUMPS]
        kinds["fill"] = list(fills)
        if fast(images * sum(len(fill.timesteps(num_steps)) for fill in fills)):
            break
    counts = inverted_steps(num_steps)
    while len(counts) > 1 and not fast(2 * sum(counts)):
        counts.pop()
    kinds["invert"] = [InvertRequest(picture, None, SampleRequest("ddim", n, 1, 0)) for n in counts]
    return kinds

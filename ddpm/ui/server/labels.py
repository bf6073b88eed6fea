"""Tab "Labels": what visitors ask for by its name, from the same noise at several guidance scales, in one run.

A run computes eps_0 and eps_c for every picture, whatever its s, and keeps both: the page shows what the label changes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm.class_names import NO_LABEL
from ddpm.guidance import guided
from ddpm.sampling import ReverseStep, generators, normal, reverse_process
from ddpm.schedule import Joined
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.guided_rows import GuidedRow, check_guided
from ddpm.ui.server.pictures import thinned, thinned_size, to_bytes
from ddpm.ui.server.readings import READING_BYTES
from ddpm.ui.server.samplings import (
    FRAME_BYTES_PER_S,
    FRAME_INTERVAL_S,
    MIN_SIDE,
    Message,
    Request,
    Samplings,
    frame_of,
)
from ddpm.ui.server.store import Trajectory

HALVES = ("xt", "eps_0", "eps_c")
MAX_HALF = 6e4  # half precision ends a little above


@dataclass(eq=False)
class GuidedTrajectory(Trajectory):
    """The trajectory of a row.

    Args:
        calls, seconds: of the run, which draws all rows together.
        halves_side, halves_height: width and height of the pictures in `halves`.
        halves: x_t, eps_0 and eps_c of each noisy frame, (3, n, halves_height, halves_side, C) float16.
    """

    halves_side: int = 0
    halves_height: int = 0
    halves: list[bytes] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + sum(map(len, self.halves))

    def halves_as_json(self, picture: object) -> dict[str, Any] | None:
        """`halves` of one picture of the row, (len(t), 3, height, side, C) float16 in base64; None if there is none."""
        n = self.request.num_images
        if type(picture) is not int or not 0 <= picture < n or not self.halves:
            return None
        each = len(self.halves[0]) // (len(HALVES) * n)
        starts = [(plane * n + picture) * each for plane in range(len(HALVES))]
        data = b"".join(frame[start : start + each] for frame in self.halves for start in starts)
        size = {"side": self.halves_side, "height": self.halves_height}
        return {"t": self.t[: len(self.halves)], **size, "data": to_base64(data)}


class LabelledSamplings(Samplings):
    """`Samplings`, and rows with labels, all of which one run draws."""

    def sample_guided(self, raw: object) -> Iterator[Message]:
        """Answer the event behind "Labels": as `sample_rows`, with the fields of `check_guided`."""
        limits = (self.num_steps, self.max_images, self.classes)
        return self._answer("labels", raw, lambda: check_guided(raw, *limits))

    def draw_guided(self, rows: list[GuidedRow], stopped: Callable[[], bool]) -> list[Trajectory] | None:
        """The trajectories of rows; None if the drawing was stopped."""
        for _ in self._draw_together(dict(enumerate(dict.fromkeys(rows))), stopped):
            if stopped():
                return None
        found = [self.stored(row.key) for row in rows]
        return [each for each in found if each] if all(found) else None

    def halves(self, asked: object) -> dict[str, Any] | None:
        """What a run kept for one picture of a row: {"key" of the row, "picture": its place}. None if it is not there.
        Called outside Gradio's queue: it only looks up."""
        asked = asked if isinstance(asked, dict) else {}
        found = self.stored(asked.get("key"))
        return found.halves_as_json(asked.get("picture")) if isinstance(found, GuidedTrajectory) else None

    def _draw_side_by_side(
        self, requests: dict[int, Request], stopped: Callable[[], bool], by: Mapping[int, Samplings] | None = None
    ) -> Generator[Message, None, None]:
        rows = {row: request for row, request in requests.items() if isinstance(request, GuidedRow)}
        return self._draw_together(rows, stopped) if rows else super()._draw_side_by_side(requests, stopped, by)

    def _draw_together(self, rows: dict[int, GuidedRow], stopped: Callable[[], bool]) -> Generator[Message, None, None]:
        """Draw rows of the same noise in one run: as `_draw_side_by_side`, but every call of the network is for all
        rows, and so is every "frame" message, which has their "row" and "data" in "parts"."""
        began, next_frame = time.monotonic(), 0.0
        first = next(iter(rows.values()))
        factor, keep = self._to_keep(first)
        run = _Run(self, rows, factor, stopped)
        for step in run.steps():
            now = time.monotonic()
            self._allowance.check(run.seconds, now - began)
            if step.index in keep:
                frames = run.keep(step)
                if now >= next_frame:
                    size = sum(map(len, frames.values()))
                    next_frame = now + max(FRAME_INTERVAL_S, size / FRAME_BYTES_PER_S)
                    yield _message(step, frames, first.num_images)
            if step.index + 1 == step.num_steps:
                for row, trajectory in run.finish(step).items():
                    self._store.put(trajectory)
                    yield {"kind": "row", "row": row, "key": trajectory.key}


def _message(step: ReverseStep, frames: dict[int, bytes], n: int) -> Message:
    """A live frame of all rows: one message, since whoever takes messages slowly misses some of them."""
    done = {"step": step.index + 1, "steps": step.num_steps, "share": round((step.index + 1) / step.num_steps, 4)}
    parts = [{"row": row, "data": to_base64(frame)} for row, frame in frames.items()]
    return {"kind": "frame", **done, "t": step.t + 1, "n": n, "parts": parts}


class _Run:
    """One run: the pictures of all rows are one batch, row by row, and each row begins with the same x_T.

    Args:
        rows: by their place on the page.
        factor: of how many pixels along a side a frame has one.
    """

    def __init__(
        self, samplings: LabelledSamplings, rows: dict[int, GuidedRow], factor: int, stopped: Callable[[], bool]
    ) -> None:
        checkpoint, requests = samplings._checkpoint, list(rows.values())
        size, channels, n = checkpoint.size, checkpoint.channels, requests[0].num_images
        self._scheduler, self._request, self._rows, self._n, self._factor = (
            checkpoint.scheduler,
            requests[0],
            rows,
            n,
            factor,
        )
        self._shape = (n * len(rows), channels, *size)
        # Of one picture, all x_t, eps_0 and eps_c travel at once, so those of large pictures lose pixels.
        whole = 2 * len(HALVES) * channels * math.prod(size) * requests[0].num_inference_steps
        self._coarse = max(1, min(math.ceil(math.sqrt(whole / READING_BYTES)), min(size) // MIN_SIDE))
        self._labels = torch.tensor([request.label for request in requests]).repeat_interleave(n)
        self._scales = torch.tensor([request.guidance_scale for request in requests]).repeat_interleave(n)
        (height, side), (halves_height, halves_side) = (thinned_size(size, each) for each in (factor, self._coarse))
        self._made = {
            row: GuidedTrajectory(
                request, side=side, height=height, halves_side=halves_side, halves_height=halves_height
            )
            for row, request in rows.items()
        }
        self._counted = Trajectory(requests[0])  # what the run costs
        self._network = samplings._in_small_calls(self._counted, stopped)
        self._halves: tuple[Tensor, Tensor] | None = None

    @property
    def seconds(self) -> float:
        """Spent on the run's own steps so far, without the time in which others had their turn."""
        return self._counted.seconds

    def _eps_theta(self, xt: Tensor, t: Tensor) -> Tensor:
        """Guided eps_hat, and v as in `ddpm.guidance.Guided`, see `Joined`."""
        labels = torch.cat([torch.full_like(self._labels, NO_LABEL), self._labels])
        both, v = self._network.with_variance(torch.cat([xt, xt]), torch.cat([t, t]), labels)
        eps_0, eps_c = both.chunk(2)
        self._halves = eps_0, eps_c
        eps_hat = guided(eps_0, eps_c, self._scales)
        if v is None:
            return eps_hat
        bare, given = v.chunk(2)
        return torch.cat([eps_hat, torch.where(self._scales.reshape(-1, 1, 1, 1) == 0, bare, given)], 1)

    def steps(self) -> Iterator[ReverseStep]:
        """The steps of all pictures. `seconds` counts the time that they take."""
        request = self._request
        x_T = normal((self._n, *self._shape[1:]), generators(request.seed, self._n))
        steps = reverse_process(
            Joined(self._eps_theta, self._scales),
            self._scheduler,
            self._shape,
            sampler=request.sampler,
            num_inference_steps=request.num_inference_steps,
            x_start=x_T.repeat(len(self._rows), 1, 1, 1),
        )
        while True:
            began = time.perf_counter()
            step = next(steps, None)
            self._counted.seconds += time.perf_counter() - began
            if step is None:
                return
            yield step

    def _parts(self) -> Iterator[tuple[int, slice]]:
        """Each row, and where its pictures lie in the batch."""
        for k, row in enumerate(self._rows):
            yield row, slice(k * self._n, (k + 1) * self._n)

    def keep(self, step: ReverseStep) -> dict[int, bytes]:
        """Add a step to the trajectories, and return its frames by row."""
        assert self._halves is not None
        xt, eps_0, eps_c = (thinned(x, self._coarse, smooth=False) for x in (step.xt, *self._halves))
        frames = {}
        for row, part in self._parts():
            frames[row] = frame_of(step.xt[part], step.x0_hat[part], step.eps_hat[part], self._factor)
            self._made[row].add(step.t + 1, frames[row], step.x0_hat[part])
            half = torch.stack([x[part] for x in (xt, eps_0, eps_c)]).clamp(-MAX_HALF, MAX_HALF)
            self._made[row].halves.append(half.permute(0, 1, 3, 4, 2).numpy().astype("<f2").tobytes())
        return frames

    def finish(self, step: ReverseStep) -> dict[int, GuidedTrajectory]:
        """Add the finished pictures, and return the complete trajectories by row."""
        for row, part in self._parts():
            x0, made = step.x_prev[part], self._made[row]
            made.add(0, frame_of(x0, x0, torch.zeros_like(x0), self._factor, is_noisy=False), x0)
            made.whole = to_bytes(x0, -1, 1) if self._factor > 1 else b""
            made.calls, made.seconds = self._counted.calls, self._counted.seconds
        return self._made

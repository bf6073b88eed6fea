"""Samplings that visitors ask for: one trajectory, several of one noise side by side, or back from a picture of theirs.

t is 0-based in `ddpm.sampling` and 1-based in everything that leaves this module, with t = 0 the finished sample.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.sampling import EpsTheta, ReverseStep, reverse_process, timesteps_for
from ddpm.schedule import Joined
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.from_picture import FillRequest, FromPicture, InvertRequest, check_from_picture, labels_of
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.pictures import thinned, thinned_size, to_bytes
from ddpm.ui.server.readings import Readings
from ddpm.ui.server.requests import DenoiseRequest, Limit, SampleRequest, answered, check_rows
from ddpm.ui.server.store import StoreOf, Trajectory
from ddpm.ui.server.visitors import StoppedError, Visitors

TRAJECTORY_BYTES = 8 * 2**20  # one trajectory, at most about this much
MAX_FRAMES = 101
WANTED_FRAMES = 26  # a trajectory that would have fewer keeps smaller pictures ...
MIN_SIDE = 32  # ... of at least so many pixels
FRAME_INTERVAL_S = 0.04  # between two live frames, at least ...
FRAME_BYTES_PER_S = 3e5  # ... and longer where frames are large, since a slow line would deliver them ever later

NOISE_RANGE = 3.0  # the diverging colour map reaches from -3 to 3
PLANES = ("xt", "x0_hat", "eps_hat")

Request = SampleRequest | FromPicture
Message = dict[str, Any]
Drawn = tuple[ReverseStep, bytes | None, float]
"""A step, its frame if the trajectory keeps it, and the seconds of the sampling so far."""
Timed = Callable[..., tuple[Tensor, float]]
"""(x_t, t), or (x_t, t, labels), to eps_hat, with v behind it where the variance is learned (see `Joined`), and the
seconds of this call alone, without the time in which others had their turn."""


def frame_of(xt: Tensor, x0_hat: Tensor, eps_hat: Tensor, factor: int, is_noisy: bool = True) -> bytes:
    """The three planes of a step as bytes, with 1 / factor of the pixels along each side, see `thinned`."""
    xt, x0_hat = thinned(xt, factor, smooth=not is_noisy), thinned(x0_hat, factor, smooth=True)
    eps_hat = thinned(eps_hat, factor, smooth=False)
    return to_bytes(xt, -1, 1) + to_bytes(x0_hat, -1, 1) + to_bytes(eps_hat, -NOISE_RANGE, NOISE_RANGE)


class Samplings:
    """Samples for visitors and keeps the trajectories.

    Args:
        checkpoint: the model; only its scheduler and shape are used here.
        timed: predicted noise; its calls take turns with those of the rest of the page.
        readings: turns visitors' pictures into x_t.
        store: keeps trajectories.
        visitors: says whether anybody still waits for a sampling.
        max_images: of one sampling.
        model: its name.
        in_use: makes a context in which the network stays in memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        timed: Timed,
        readings: Readings,
        store: StoreOf,
        visitors: Visitors,
        max_images: int,
        limits: Limits,
        model: str = "",
        in_use: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model, self.in_use = model, in_use
        self._checkpoint, self._timed, self._readings = checkpoint, timed, readings
        self._store, self._visitors, self._allowance = store, visitors, limits.sampling
        self.num_steps, self.max_images = checkpoint.schedule.num_steps, max_images
        self.classes = checkpoint.classes
        # Others wait for one call of the network, and so does the Stop button. Guidance computes each picture twice.
        self.images_per_call = 2 * max_images
        self.pinned: dict[str, Trajectory] = {}  # by key: what must not be dropped, as the store may

    # ------------------------------------------------------------------------------------------------- one sampling

    def _start(self, request: DenoiseRequest) -> dict[str, Any]:
        """Where the reverse process of a visitor's picture starts: at x_t of t_0, or on the line between two of them.

        Both ends have the same eps, so a point of that line is the noised mixture of the two pictures and has as much
        noise as its ends.
        """
        pictures = (request.picture.pixels, request.second or request.picture.pixels)
        first, last = (self._readings.noised(pixels, request.picture.noise_seed, request.t0 - 1) for pixels in pictures)
        share = torch.linspace(0, 1, request.num_images).view(-1, 1, 1, 1)  # lambda of section 4.4
        return {"x_start": (1 - share) * first + share * last, "same_noise": request.second is not None}

    def _reverse_steps(self, request: Request, eps_theta: EpsTheta) -> Iterator[ReverseStep]:
        if isinstance(request, FillRequest | InvertRequest):
            return request.steps(self._checkpoint, eps_theta)
        denoises = isinstance(request, DenoiseRequest)
        sampling = request.sampling if denoises else request
        return reverse_process(
            eps_theta,
            self._checkpoint.scheduler,
            (request.num_images, self._checkpoint.channels, *self._checkpoint.size),
            sampler=sampling.sampler,
            num_inference_steps=sampling.num_inference_steps,
            seed=sampling.seed,
            eta=sampling.eta,
            clip=sampling.clip,
            fresh_noise=sampling.fresh_noise,
            start_t=self._first_t(request),
            **labels_of(sampling, request.num_images),
            **(self._start(request) if denoises else {}),
        )

    def _timesteps(self, request: Request) -> list[int]:
        """The timestep of each step of a sampling, 0-based."""
        if isinstance(request, FillRequest | InvertRequest):
            return request.timesteps(self.num_steps)
        return timesteps_for(request.num_inference_steps, self._first_t(request))

    def _first_t(self, request: SampleRequest | DenoiseRequest) -> int:
        """The timestep at which a sampling starts, 0-based."""
        first = request.t0 if isinstance(request, DenoiseRequest) else request.start_t
        return (self.num_steps if first is None else first) - 1

    def _to_keep(self, request: Request) -> tuple[int, set[int]]:
        """What a trajectory keeps: of how many pixels one along each side, and the indices of its steps.

        These are all steps or, if there are more than its size allows, as many as it allows, evenly spread. Where that
        would be fewer than WANTED_FRAMES, the pictures are made smaller first.
        """
        (height, width), steps = self._checkpoint.size, len(self._timesteps(request))
        plane_bytes = len(PLANES) * request.num_images * self._checkpoint.channels
        frame_bytes = plane_bytes * height * width
        factor = math.ceil(math.sqrt(frame_bytes * min(steps + 1, WANTED_FRAMES) / TRAJECTORY_BYTES))
        factor = max(1, min(factor, min(height, width) // MIN_SIDE))
        smaller = plane_bytes * math.prod(thinned_size((height, width), factor))
        count = min(steps, MAX_FRAMES - 1, max(2, int(TRAJECTORY_BYTES / smaller) - 1))  # one is that of t = 0
        first = request.shows_from if isinstance(request, InvertRequest) else 0
        return factor, {round(i) for i in np.linspace(first, steps - 1, count)}

    def _in_small_calls(self, trajectory: Trajectory, stopped: Callable[[], bool]) -> Joined:
        """eps_theta in calls of `images_per_call`; it counts the calls, and takes waiting off the trajectory's seconds.

        One call computes all pictures once, so a step with guidance, which computes each twice, counts as two.

        Raises:
            StoppedError: `stopped` said so before a call of the network.
        """

        def both(xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
            inputs = (xt, t) if labels is None else (xt, t, labels)
            eps_hat, size = [], self.images_per_call
            for first in range(0, len(xt), size):
                if stopped():
                    raise StoppedError
                part = slice(first, first + size)
                asked = time.perf_counter()
                predicted, seconds = self._timed(*(each[part] for each in inputs))
                trajectory.seconds -= time.perf_counter() - asked - seconds  # the rest of the time was waiting
                eps_hat.append(predicted)
            trajectory.calls += len(xt) // trajectory.request.num_images
            return torch.cat(eps_hat)

        return Joined(both)

    def draw_steps(self, request: Request, stopped: Callable[[], bool]) -> Generator[Drawn, None, None]:
        """Sample, step by step. After the last step the store holds the whole trajectory.

        Yields:
            Each step, its frame if it is kept, and the seconds of all steps so far, without the time in which others
            had their turn.
        Raises:
            InputError: the network's answer is not finite.
            StoppedError: `stopped` said so before a call of the network.
        """
        factor, keep = self._to_keep(request)
        scrubbed = not isinstance(request, FillRequest | InvertRequest)  # of these, t goes up and down
        height, width = thinned_size(self._checkpoint.size, factor)
        trajectory = Trajectory(request, side=width, height=height)
        steps = self._reverse_steps(request, self._in_small_calls(trajectory, stopped))
        while True:
            began = time.perf_counter()
            step = next(steps, None)
            trajectory.seconds += time.perf_counter() - began
            if step is None:
                return
            frame = None
            if step.index in keep:
                frame = frame_of(step.xt, step.x0_hat, step.eps_hat, factor)
                if scrubbed:
                    trajectory.add(step.t + 1, frame, step.x0_hat)
            if isinstance(request, InvertRequest) and step.index + 1 == request.num_inference_steps:
                trajectory.noise = to_bytes(step.x_prev, -NOISE_RANGE, NOISE_RANGE) if request.second is None else b""
            if step.index + 1 == step.num_steps:
                # The finished sample is not a guess any more, and has no noise left to predict.
                x0 = step.x_prev
                trajectory.add(0, frame_of(x0, x0, torch.zeros_like(x0), factor, is_noisy=False), x0)
                trajectory.whole = to_bytes(x0, -1, 1) if factor > 1 else b""
                self._store.put(trajectory)
            yield step, frame, trajectory.seconds

    def draw(self, request: Request, stopped: Callable[[], bool]) -> Trajectory | None:
        """The whole trajectory of a request; None if it was stopped."""
        try:
            for _ in self.draw_steps(request, stopped):
                pass
        except StoppedError:
            return None
        return self.stored(request.key)

    def get_or_draw(self, request: Request, stopped: Callable[[], bool] = lambda: False) -> Trajectory:
        """The trajectory of a request, from the store if it is there.

        Raises:
            InputError: it takes longer than `Limits.sampling`.
            StoppedError: `stopped` said so before a call of the network.
        """
        if self.stored(request.key) is None:
            for _ in self._draw_side_by_side({0: request}, stopped):
                pass
        found = self.stored(request.key)
        assert found is not None
        return found

    def stored(self, key: object) -> Trajectory | None:
        """A trajectory by its key. This only looks it up."""
        found = self._store.get(key) or (self.pinned.get(key) if isinstance(key, str) else None)
        return found if isinstance(found, Trajectory) else None

    # ------------------------------------------------------------------------------------------ what visitors ask for

    def sample(self, raw: object) -> Iterator[Message]:
        """Answer the event behind "Sample" with live frames, then the key of the whole trajectory. Messages are small.

        The sampling stops before its next step when the generator is closed, and before the next call of the network
        when the visitor waits for a later request. `Limits.sampling` ends it in any case.

        Args:
            raw: from the browser: the fields of SampleRequest, and those of `Visitors.expect`, of which `run` is sent
                back with every message, so that the page can tell late frames of an earlier request apart.
        Yields:
            {"kind": "started"} once it is its turn, {"kind": "frame", "row", "step", "steps", "share", "t", "n",
            "data"}, {"kind": "row", "row", "key"} when it is complete, then {"kind": "done", "key", "keys"}; or
            {"kind": "refused", "key", "fields"}, or {"kind": "failed"} for a fault of ours, which is logged. Only the
            last message is certain to reach the page's script: of several that arrive at one moment, Gradio hands over
            the last.
        """
        limits = (self.num_steps, self.max_images, self.classes)
        return self._answer("sample", raw, lambda: [SampleRequest.check(raw, *limits)])

    def denoise(self, raw: object) -> Iterator[Message]:
        """Answer the event behind "Denoise": as `sample_rows`, with the fields of `check_from_picture`."""
        limits = (self.num_steps, self.max_images, self._readings.shape, self.classes)
        return self._answer("denoise", raw, lambda: check_from_picture(raw, *limits))

    def sample_rows(
        self, raw: object, tab: str = "compare", of: Callable[[object], Samplings] | None = None
    ) -> Iterator[Message]:
        """Answer the event behind "Compare" and "What goes wrong": as `sample`, for samplings of the same noise.

        Those in the store are not drawn again. The others pass through t together, step by step. Whatever is finished
        when the event ends is kept.

        Args:
            raw: from the browser: what `check_rows` takes, and the fields of `Visitors.expect`.
            tab: the name of the event; each tab numbers its requests by itself.
            of: the samplings of another model whose pictures have the same size, by its name in a row; None if all
                rows are of this model.
        Yields:
            As `sample`; `row` counts from 0, and in a refusal from 1. A "row" message also has the name of its `model`.
        """
        own = (self.num_steps, self.max_images, self.classes)
        if of is None:
            return self._answer(tab, raw, lambda: check_rows(raw, *own))
        makers: list[Samplings] = []  # of each row

        def limits_of(model: object) -> Limit:
            makers.append(of(model))
            return makers[-1].num_steps, makers[-1].max_images, makers[-1].classes

        return self._answer(tab, raw, lambda: check_rows(raw, *own, of=limits_of), makers)

    def _answer(
        self, kind: str, raw: object, check: Callable[[], Sequence[Request]], makers: Sequence[Samplings] = ()
    ) -> Iterator[Message]:
        """The messages of an event, for the requests that `check` makes of what the browser sent.

        Args:
            makers: who draws each request, known once `check` is done; empty if this does.
        """
        asked = self._visitors.expect(kind, raw)
        yield from answered(self._messages(check, lambda: self._visitors.is_stale(asked), makers), asked.number)

    def _messages(
        self, check: Callable[[], Sequence[Request]], stopped: Callable[[], bool], makers: Sequence[Samplings]
    ) -> Generator[Message, None, None]:
        requests = check()
        by = dict(enumerate(makers or [self] * len(requests)))
        keys = [(by[row].model, request.key) for row, request in enumerate(requests)]
        # Equal rows are drawn once.
        missing = {keys.index(keys[row]): r for row, r in enumerate(requests) if by[row].stored(r.key) is None}

        def complete(of: tuple[str, str]) -> list[Message]:
            model, key = of
            return [{"kind": "row", "row": row, "key": key, "model": model} for row in by if keys[row] == of]

        for of in dict.fromkeys(keys):
            if keys.index(of) not in missing:
                yield from complete(of)
        if missing:
            yield {"kind": "started"}
        with closing(self._draw_side_by_side(missing, stopped, by)) as drawing:
            for message in drawing:
                yield from complete(keys[message["row"]]) if message["kind"] == "row" else [message]
        yield {"kind": "done", "key": keys[0][1], "keys": [key for _, key in keys]}

    def _draw_side_by_side(
        self, requests: dict[int, Request], stopped: Callable[[], bool], by: Mapping[int, Samplings] | None = None
    ) -> Generator[Message, None, None]:
        """Draw all requests, by row, so that they pass t together. What jumps back stays at its lowest t meanwhile.

        Args:
            by: who draws each row; None if this does. Models of different T pass the same share of T together.
        Yields:
            "frame" messages of steps that are kept, so that the browser need not fetch them again, and no more often
            than a slow line can deliver them; and a "row" message for each finished one.
        Raises:
            InputError: they take longer than `Limits.sampling`.
            StoppedError: `stopped` said so before a call of the network.
        """
        began, spent = time.monotonic(), dict.fromkeys(requests, 0.0)
        makers = {row: by[row] if by else self for row in requests}
        samplings = {row: makers[row].draw_steps(request, stopped) for row, request in requests.items()}
        next_frame = dict.fromkeys(samplings, 0.0)
        order = [
            (t / makers[row].num_steps, row)
            for row, request in requests.items()
            for t in accumulate(makers[row]._timesteps(request), min)
        ]
        order.sort(key=lambda at: -at[0])
        with ExitStack() as held:
            for maker in dict.fromkeys(makers.values()):
                held.enter_context(maker.in_use())
            for sampling in samplings.values():
                held.callback(sampling.close)
            for done, (_, row) in enumerate(order, 1):
                step, frame, spent[row] = next(samplings[row])
                now = time.monotonic()
                self._allowance.check(sum(spent.values()), now - began)
                if frame is not None and now >= next_frame[row]:
                    next_frame[row] = now + len(samplings) * max(FRAME_INTERVAL_S, len(frame) / FRAME_BYTES_PER_S)
                    yield {
                        "kind": "frame",
                        "row": row,
                        "step": step.index + 1,
                        "steps": step.num_steps,
                        "share": round(done / len(order), 4),  # of the steps of all rows
                        "t": step.t + 1,
                        "n": requests[row].num_images,
                        "data": to_base64(frame),
                    }
                if step.index + 1 == step.num_steps:
                    samplings.pop(row).close()
                    yield {"kind": "row", "row": row, "key": requests[row].key}

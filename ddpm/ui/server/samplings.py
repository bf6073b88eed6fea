"""Samplings that visitors ask for: one trajectory, several of one noise side by side, or back from a picture of theirs.

t is 0-based in `ddpm.sampling` and 1-based in everything that leaves this module, with t = 0 the finished sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.sampling import EpsTheta, ReverseStep, reverse_process, timesteps_for
from ddpm.ui.server.readings import Readings
from ddpm.ui.server.requests import DenoiseRequest, InputError, SampleRequest, answered, check_rows
from ddpm.ui.server.store import Store, Trajectory, to_base64

RUN_LIMIT_S = 150  # of a run's own steps ...
WALL_LIMIT_S = 600  # ... and with the waits for others' turns
TRAJECTORY_BYTES = 6 * 2**20  # one trajectory, at most about this much
MAX_FRAMES = 101
FRAME_INTERVAL_S = 0.04  # live frames come at most this often ...
FRAME_BYTES_PER_S = 2.5e6  # ... and large ones less often

NOISE_RANGE = 3.0  # the diverging map reaches from -3 to 3
PLANES = ("xt", "x0_hat", "eps_hat")

Request = SampleRequest | DenoiseRequest
Message = dict[str, Any]
Timed = Callable[[Tensor, Tensor], tuple[Tensor, float]]
"""(x_t, t) to eps_hat and the seconds of this call alone, without the wait for its turn."""


class StoppedError(Exception):
    """Nobody waits for this run any more."""


def _to_bytes(images: Tensor, low: float, high: float) -> bytes:
    """(B, C, H, W) to (B, H, W, C) uint8, [low, high] spread over 0 to 255 and clipped."""
    scaled = ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes()


def _frame(xt: Tensor, x0_hat: Tensor, eps_hat: Tensor) -> bytes:
    return _to_bytes(xt, -1, 1) + _to_bytes(x0_hat, -1, 1) + _to_bytes(eps_hat, -NOISE_RANGE, NOISE_RANGE)


class Runs:
    """Runs the reverse process for visitors and keeps what it drew.

    Args:
        checkpoint: the model; only its scheduler and shape are used here.
        timed: predicted noise; calls take turns with those of the rest of the page.
        readings: knows visitors and their pictures.
        store: keeps trajectories.
        max_images: of one run.
    """

    def __init__(self, checkpoint: Checkpoint, timed: Timed, readings: Readings, store: Store, max_images: int) -> None:
        self._checkpoint, self._timed, self._readings, self._store = checkpoint, timed, readings, store
        self.num_steps, self.max_images = checkpoint.schedule.num_steps, max_images
        self.piece = max_images  # pictures in one call of the network: others wait for one, and so does Stop
        self.pinned: dict[str, Trajectory] = {}  # by key: what must not be forgotten, as the store may

    # ------------------------------------------------------------------------------------------------------ one run

    def _start(self, request: DenoiseRequest) -> dict[str, Any]:
        """Where the reverse process of a visitor's picture starts: at x_t of t_0, or on the line between two of them.

        Both have the same eps, so a point of that line is the noised mixture of the two pictures, no less noisy than
        its ends.
        """
        pictures = (request.picture.pixels, request.second or request.picture.pixels)
        first, last = (self._readings.noised(pixels, request.picture.noise_seed, request.t0 - 1) for pixels in pictures)
        share = torch.linspace(0, 1, request.num_images).view(-1, 1, 1, 1)  # lambda of section 4.4
        return {"x_start": (1 - share) * first + share * last, "same_noise": request.second is not None}

    def _steps(self, request: Request, eps_theta: EpsTheta) -> Iterator[ReverseStep]:
        size, channels = self._checkpoint.resolution, self._checkpoint.channels
        denoises = isinstance(request, DenoiseRequest)
        sampling = request.sampling if denoises else request
        return reverse_process(
            eps_theta,
            self._checkpoint.scheduler,
            (request.num_images, channels, size, size),
            sampler=sampling.sampler,
            num_inference_steps=sampling.num_inference_steps,
            seed=sampling.seed,
            eta=sampling.eta,
            clip=sampling.clip,
            fresh_noise=sampling.fresh_noise,
            start_t=self._first_t(request),
            **(self._start(request) if denoises else {}),
        )

    def _first_t(self, request: Request) -> int:
        """0-based."""
        first = request.t0 if isinstance(request, DenoiseRequest) else request.start_t
        return (self.num_steps if first is None else first) - 1

    def _frames_to_keep(self, request: Request) -> set[int]:
        """Indices of the steps that a trajectory keeps: all, or as many as its size allows, evenly spread."""
        size, channels = self._checkpoint.resolution, self._checkpoint.channels
        frame_bytes = len(PLANES) * request.num_images * channels * size**2
        count = min(request.num_inference_steps, MAX_FRAMES - 1, max(2, TRAJECTORY_BYTES // frame_bytes))
        return {round(i) for i in np.linspace(0, request.num_inference_steps - 1, count)}

    def run(self, request: Request, stopped: Callable[[], bool]) -> Iterator[tuple[ReverseStep, bytes, float]]:
        """Every step with its frame and the seconds of all steps so far, without the waits for others' turns; after
        the last one the whole trajectory is in the store.

        Raises:
            StoppedError: `stopped` said so before a call of the network.
        """
        trajectory, keep = Trajectory(request), self._frames_to_keep(request)

        def eps_theta(xt: Tensor, t: Tensor) -> Tensor:
            eps_hat = []
            for piece, at in zip(xt.split(self.piece), t.split(self.piece), strict=True):
                if stopped():
                    raise StoppedError
                asked = time.perf_counter()
                predicted, seconds = self._timed(piece, at)
                trajectory.seconds -= time.perf_counter() - asked - seconds  # that was waiting
                eps_hat.append(predicted)
            trajectory.calls += 1
            return torch.cat(eps_hat)

        steps = self._steps(request, eps_theta)
        while True:
            began = time.perf_counter()
            step = next(steps, None)
            trajectory.seconds += time.perf_counter() - began
            if step is None:
                return
            frame = _frame(step.xt, step.x0_hat, step.eps_hat)
            if step.index in keep:
                trajectory.add(step.t + 1, frame, step.x0_hat)
            if step.index + 1 == step.num_steps:
                # The finished sample is nobody's guess any more and has no noise left to name.
                x0 = step.x_prev
                trajectory.add(0, _frame(x0, x0, torch.zeros_like(x0)), x0)
                self._store.put(trajectory)
            yield step, frame, trajectory.seconds

    def draw(self, request: Request, stopped: Callable[[], bool]) -> Trajectory | None:
        """The whole of a run; None if it was stopped."""
        try:
            for _ in self.run(request, stopped):
                pass
        except StoppedError:
            return None
        return self.kept(request.key)

    # ------------------------------------------------------------------------------------------- what visitors ask for

    def sample(self, raw: object) -> Iterator[Message]:
        """The event behind "Sample": live frames, then the key of the whole trajectory. Every message is small.

        Closing the generator stops the model before its next step, and `readings.expect` of a later run before its next
        call; after RUN_LIMIT_S of its own, or WALL_LIMIT_S of the clock's, it stops by itself.

        Args:
            raw: from the browser: the fields of SampleRequest, `visitor`, and `run`, which is echoed so that late
                frames of a stopped run can be told apart.
        Yields:
            {"kind": "started"} once it is its turn, {"kind": "frame", "row", "step", "steps", "share", "t", "n",
            "data"}, {"kind": "row", "row", "key"} when it is complete, then {"kind": "done", "key"}; or
            {"kind": "refused", "key", "fields"}, or {"kind": "failed"} for a fault of ours, which is logged.
        """
        return self._answer("sample", raw, lambda: [SampleRequest.check(raw, self.num_steps, self.max_images)])

    def denoise(self, raw: object) -> Iterator[Message]:
        """The event behind "Denoise": as `sample`, with the fields of DenoiseRequest."""
        shape = self._readings.shape
        return self._answer("denoise", raw, lambda: [DenoiseRequest.check(raw, self.num_steps, self.max_images, shape)])

    def rows(self, raw: object, tab: str = "compare") -> Iterator[Message]:
        """The event behind "Compare" and "What goes wrong": as `sample`, for samplings of the same noise.

        Those that are stored are not run again. The others pass through t together, step by step. What was finished
        when it ends is kept.

        Args:
            raw: from the browser: what `check_rows` takes, `visitor`, and `run`.
            tab: that asks; each counts its runs by itself.
        Yields:
            As `sample`; `row` counts from 0, in a refusal from 1.
        """
        return self._answer(tab, raw, lambda: check_rows(raw, self.num_steps, self.max_images))

    def _answer(self, kind: str, raw: object, check: Callable[[], list[Request]]) -> Iterator[Message]:
        visitor, run = self._readings.expect(kind, raw)
        yield from answered(self._drawn(check, lambda: self._readings.is_stale(kind, visitor, run)), run)

    def _drawn(self, check: Callable[[], list[Request]], stopped: Callable[[], bool]) -> Generator[Message, None, None]:
        requests = check()
        keys = [request.key for request in requests]
        missing = {keys.index(r.key): r for r in requests if self.kept(r.key) is None}  # equal rows run once

        def complete(key: str) -> list[Message]:
            return [{"kind": "row", "row": row, "key": key} for row in range(len(keys)) if keys[row] == key]

        for key in dict.fromkeys(keys):
            if keys.index(key) not in missing:
                yield from complete(key)
        if missing:
            yield {"kind": "started"}
        try:
            with closing(self._live(missing, stopped)) as live:
                for message in live:
                    yield from complete(message["key"]) if message["kind"] == "row" else [message]
        except StoppedError:
            return
        yield {"kind": "done", "key": keys[0]}

    def _live(self, requests: dict[int, Request], stopped: Callable[[], bool]) -> Generator[Message, None, None]:
        """Frames of the runs, no more often than a browser can use them, and the key of each once it is complete."""
        began, spent = time.monotonic(), dict.fromkeys(requests, 0.0)
        runs = {row: self.run(request, stopped) for row, request in requests.items()}
        next_frame = dict.fromkeys(runs, 0.0)
        steps = [
            (t, row)
            for row, request in requests.items()
            for t in timesteps_for(request.num_inference_steps, self._first_t(request))
        ]
        steps.sort(key=lambda at: -at[0])  # so that all rows pass t together
        try:
            for done, (_, row) in enumerate(steps, 1):
                step, frame, spent[row] = next(runs[row])
                now = time.monotonic()
                if sum(spent.values()) > RUN_LIMIT_S:
                    raise InputError("refused.deadline", limit=RUN_LIMIT_S)
                if now - began > WALL_LIMIT_S:
                    raise InputError("refused.crowded", limit=WALL_LIMIT_S)
                if now >= next_frame[row]:
                    next_frame[row] = now + len(runs) * max(FRAME_INTERVAL_S, len(frame) / FRAME_BYTES_PER_S)
                    yield {
                        "kind": "frame",
                        "row": row,
                        "step": step.index + 1,
                        "steps": step.num_steps,
                        "share": round(done / len(steps), 4),  # of all rows' steps
                        "t": step.t + 1,
                        "n": requests[row].num_images,
                        "data": to_base64(frame),
                    }
                if step.index + 1 == step.num_steps:
                    runs.pop(row).close()
                    yield {"kind": "row", "row": row, "key": requests[row].key}
        finally:
            for run in runs.values():
                run.close()

    def whole(self, request: SampleRequest) -> Trajectory:
        """The trajectory of a request, from the store if it is known.

        Raises:
            InputError: it took longer than RUN_LIMIT_S or WALL_LIMIT_S.
        """
        for _ in self._live({0: request}, lambda: False) if self.kept(request.key) is None else ():
            pass
        return self.kept(request.key)

    def kept(self, key: object) -> Trajectory | None:
        """A trajectory by its key. Only looks up."""
        found = self._store.get(key) or (self.pinned.get(key) if isinstance(key, str) else None)
        return found if isinstance(found, Trajectory) else None

"""What the page asks of the server: check the input (`checks`), run the model, keep what it drew (`store`).

t is 0-based in `ddpm.sampling` and 1-based in everything that leaves this module, with t = 0 the finished sample.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.engine import physical_cores
from ddpm.sampling import ReverseStep, reverse_process

from .checks import InputError, PictureRequest, SampleRequest, answered
from .examples import FIRST_DIGIT, FIRST_NOISE, example_digits
from .readings import Readings
from .store import Store, Trajectory, to_base64

RUN_LIMIT_S = 150
TRAJECTORY_BYTES = 6 * 2**20  # one trajectory, at most about this much
MAX_FRAMES = 101
FRAME_INTERVAL_S = 0.04  # live frames come at most this often ...
FRAME_BYTES_PER_S = 2.5e6  # ... and large ones less often

NOISE_RANGE = 3.0  # the diverging map reaches from -3 to 3
PLANES = ("xt", "x0_hat", "eps_hat")


def _to_bytes(images: Tensor, low: float, high: float) -> bytes:
    """(B, C, H, W) to (B, H, W, C) uint8, [low, high] spread over 0 to 255 and clipped."""
    scaled = ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes()


def _frame(xt: Tensor, x0_hat: Tensor, eps_hat: Tensor) -> bytes:
    return _to_bytes(xt, -1, 1) + _to_bytes(x0_hat, -1, 1) + _to_bytes(eps_hat, -NOISE_RANGE, NOISE_RANGE)


class Service:
    """One model and what has been drawn with it.

    Args:
        checkpoint: the model that the page shows.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        torch.set_num_threads(physical_cores())
        self.checkpoint = checkpoint
        self.num_steps = checkpoint.schedule.num_steps
        self.max_images = 16 if checkpoint.resolution <= 64 else 4
        self._engine = checkpoint.engine()
        # One thread for every model call: the example and visitors' runs take turns step by step, and there is one
        # OpenMP team. Gradio resumes a generator in any of 40 threads, and their teams would spin against each other.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._store = Store()
        shape = (checkpoint.resolution, checkpoint.resolution, checkpoint.channels)
        self.readings = Readings(self._eps_theta, checkpoint.schedule, shape, self._store)
        self._example: Trajectory | None = None
        self._example_thread = threading.Thread(target=self._prepare, name="example", daemon=True)
        self._closing = threading.Event()
        # (pictures, steps) of the stored example: what is affordable before the first visitor, see `draw_example`.
        self.example_size = (min(8, self.max_images), min(50, self.num_steps))

    def _eps_theta(self, xt: Tensor, t: Tensor) -> Tensor:
        return self._model_thread.submit(self._engine, xt, t).result()

    def _steps(self, request: SampleRequest) -> Iterator[ReverseStep]:
        size, channels = self.checkpoint.resolution, self.checkpoint.channels
        return reverse_process(
            self._eps_theta,
            self.checkpoint.scheduler,
            (request.num_images, channels, size, size),
            sampler=request.sampler,
            num_inference_steps=request.num_inference_steps,
            seed=request.seed,
            eta=request.eta,
        )

    def _frames_to_keep(self, request: SampleRequest) -> set[int]:
        """Indices of the steps that a trajectory keeps: all, or as many as its size allows, evenly spread."""
        size, channels = self.checkpoint.resolution, self.checkpoint.channels
        frame_bytes = len(PLANES) * request.num_images * channels * size**2
        count = min(request.num_inference_steps, MAX_FRAMES - 1, max(2, TRAJECTORY_BYTES // frame_bytes))
        return {round(i) for i in np.linspace(0, request.num_inference_steps - 1, count)}

    def _run(self, request: SampleRequest) -> Iterator[tuple[ReverseStep, bytes]]:
        """Every step with its frame; after the last one the whole trajectory is in the store."""
        started = time.monotonic()
        trajectory, keep = Trajectory(request), self._frames_to_keep(request)
        for step in self._steps(request):
            frame = _frame(step.xt, step.x0_hat, step.eps_hat)
            if step.index in keep:
                trajectory.t.append(step.t + 1)
                trajectory.frames.append(frame)
            if step.index + 1 == step.num_steps:
                # The finished sample is nobody's guess any more and has no noise left to name.
                trajectory.t.append(0)
                trajectory.frames.append(_frame(step.x_prev, step.x_prev, torch.zeros_like(step.x_prev)))
                trajectory.seconds = time.monotonic() - started
                self._store.put(trajectory)
            yield step, frame

    def sample(self, raw: object) -> Iterator[dict[str, Any]]:
        """The event behind "Sample": live frames, then the key of the whole trajectory. Every message is small.

        Closing the generator stops the model before its next step; after RUN_LIMIT_S it stops by itself.

        Args:
            raw: from the browser: the fields of SampleRequest, and `run`, which is echoed so that late frames of a
                stopped run can be told apart.
        Yields:
            {"kind": "frame", "step", "steps", "t", "n", "data"}, then {"kind": "done", "key"}; or
            {"kind": "refused", "key", "fields"}, or {"kind": "failed"} for a fault of ours, which is logged.
        """
        run = raw.get("run") if isinstance(raw, dict) else None
        run = run if isinstance(run, int) else None
        yield from answered(self._sample(raw), run)

    def _sample(self, raw: object) -> Generator[dict[str, Any], None, None]:
        request = SampleRequest.check(raw, self.num_steps, self.max_images)
        if self._store.get(request.key) is None:
            yield from self._live(request)
        yield {"kind": "done", "key": request.key}

    def _live(self, request: SampleRequest) -> Iterator[dict[str, Any]]:
        """Frames of a run, no more often than a browser can use them."""
        deadline, next_frame = time.monotonic() + RUN_LIMIT_S, 0.0
        steps = self._run(request)
        try:
            for step, frame in steps:
                now = time.monotonic()
                if now > deadline:
                    raise InputError("refused.deadline", limit=RUN_LIMIT_S)
                if now >= next_frame:
                    next_frame = now + max(FRAME_INTERVAL_S, len(frame) / FRAME_BYTES_PER_S)
                    yield {
                        "kind": "frame",
                        "step": step.index + 1,
                        "steps": step.num_steps,
                        "t": step.t + 1,
                        "n": request.num_images,
                        "data": to_base64(frame),
                    }
        finally:
            steps.close()

    def whole(self, request: SampleRequest) -> Trajectory:
        """The trajectory of a request, from the store if it is known.

        Raises:
            InputError: it took longer than RUN_LIMIT_S.
        """
        for _ in self._live(request) if self._store.get(request.key) is None else ():
            pass
        return self._store.get(request.key)

    def trajectory(self, key: object) -> dict[str, Any] | None:
        """A stored trajectory by its key; the key "example" stands for the one drawn at start. None: not (yet) there.

        Called outside Gradio's queue, so it only looks up.
        """
        found = self._example if key == "example" else self._store.get(key)
        return found.as_json() if isinstance(found, Trajectory) else None

    def example_pictures(self) -> dict[str, Any] | None:
        """The example's finished pictures, (n, H, W, C) uint8; None until they are drawn. Only looks up."""
        if self._example is None:
            return None
        return {"n": self._example.request.num_images, "data": to_base64(self._example.finished)}

    def first_picture(self) -> bytes | None:
        """The (H, W, C) uint8 picture that is on the page at first; None while a colour model has drawn none."""
        if self.checkpoint.channels == 1:
            return example_digits(self.checkpoint.resolution)[FIRST_DIGIT].tobytes()
        return None if self._example is None else self._example.finished[: math.prod(self.readings.shape)]

    def _prepare(self) -> None:
        """All that is on the page before the first click: a trajectory, and what the network says of a picture."""
        self.draw_example()
        for kind, ask in (("predict", self.readings.predict), ("bound", self.readings.bound)):
            picture = self.first_picture()
            if picture is None or self._closing.is_set() or not self.readings.is_fast(kind):
                return
            for _ in ask(PictureRequest(kind, picture, FIRST_NOISE)):
                if self._closing.is_set():
                    return

    def start_example(self) -> None:
        """Begin `_prepare` in the background."""
        self._example_thread.start()

    def close(self) -> None:
        """End what runs in the background, within a step."""
        self._closing.set()
        if self._example_thread.is_alive():
            self._example_thread.join(10)
        self._model_thread.shutdown(cancel_futures=True)

    def draw_example(self, budget_s: float = 60.0) -> None:
        """Draw the trajectory that is on the page before the first click; smaller if the model is slow.

        Args:
            budget_s: how long it may take at most, were pictures of a batch drawn one by one.
        """
        size, channels = self.checkpoint.resolution, self.checkpoint.channels
        seconds = math.inf
        for _ in range(3):  # the first call also warms up, and others may be disturbed: the page is starting, too
            started = time.monotonic()
            self._eps_theta(torch.zeros(1, channels, size, size), torch.zeros(1, dtype=torch.int64))
            seconds = min(seconds, time.monotonic() - started)
        smaller = ((4, 25), (2, 15), (1, 10))
        for images, steps in (self.example_size, *smaller):
            if images * steps * seconds <= budget_s:
                break
        request = SampleRequest("ddim", min(steps, self.num_steps), min(images, self.max_images), seed=0)
        for _ in self._run(request):
            if self._closing.is_set():
                return
        self._example = self._store.get(request.key)

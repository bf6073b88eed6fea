"""The model of a page, what it computes for visitors (`readings`, `runs`), and what is there before the first click."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.errors import first_line
from ddpm.threads import physical_cores
from ddpm.ui.server import zerogpu
from ddpm.ui.server.examples import FIRST_DENOISED, FIRST_DIGIT, FIRST_NOISE, SECOND_DIGIT, example_digits
from ddpm.ui.server.live import LiveTraining
from ddpm.ui.server.readings import Readings
from ddpm.ui.server.recorded import Recorded
from ddpm.ui.server.requests import DenoiseRequest, PictureRequest, SampleRequest
from ddpm.ui.server.rows import COMPARED, FAULTS, FIRST_FAULT, ROW_IMAGES, Row, scaled
from ddpm.ui.server.samplings import Runs
from ddpm.ui.server.store import Store, to_base64

log = logging.getLogger(__name__)

PIECE_S = 0.25  # a step of many pictures is cut into calls of about so long
TRY_S = 5.0  # how long to look for a fast call of the network
RETRY_S = 60.0
FIRST_T0 = 0.4  # of T: where the first picture is half forgotten
DENOISE_STEPS = 50  # from t_0 down, where t_0 has so many


class Service:
    """One model and what has been drawn with it.

    Args:
        checkpoint: the model that the page shows. Its weights are read in the background if they are not yet.
        live: trains while visitors watch; None: not here.
    """

    def __init__(self, checkpoint: Checkpoint, live: LiveTraining | None = None) -> None:
        torch.set_num_threads(physical_cores())
        self.checkpoint = checkpoint
        self.recorded, self.live = Recorded(checkpoint), live
        self.num_steps = checkpoint.schedule.num_steps
        self.max_images = 16 if checkpoint.resolution <= 64 else 4
        # One thread for every model call: the example and visitors' runs take turns step by step, and there is one
        # OpenMP team. Gradio resumes a generator in any of 40 threads, and their teams would spin against each other.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loading = self._model_thread.submit(
            lambda: zerogpu.engine(checkpoint.with_weights())
        )  # before every call
        if zerogpu.lends():
            self.wait_for_model()  # what is lent later begins with what is on the device when the page is launched
        store = Store()
        shape = (checkpoint.resolution, checkpoint.resolution, checkpoint.channels)
        # A lease costs the same whatever it computes: then it is not cut into pieces.
        self._leases = zerogpu.leases(checkpoint)
        self.readings = Readings(self._eps_theta, checkpoint.schedule, shape, store, whole_batches=self._leases)
        self.runs = Runs(checkpoint, self._timed, self.readings, store, self.max_images)
        self._row_keys: dict[str, list[str]] = {}
        self._example_thread = threading.Thread(target=self._prepare, name="example", daemon=True)
        self._closing = threading.Event()
        # (pictures, steps) of the stored example: what is affordable before the first visitor, see `draw_example`.
        self.example_size = (min(8, self.max_images), min(50, self.num_steps))

    def wait_for_model(self) -> None:
        """Until its weights are read.

        Raises:
            ValueError: they are damaged, in one line.
        """
        self._loading.result()

    def _engine(self, xt: Tensor, t: Tensor) -> Tensor:
        return self._loading.result()(xt, t)

    def _timed(self, xt: Tensor, t: Tensor) -> tuple[Tensor, float]:
        """eps_hat, and the seconds of this call alone, without the wait for its turn."""

        def call() -> tuple[Tensor, float]:
            started = time.perf_counter()
            return self._engine(xt, t).cpu(), time.perf_counter() - started

        # With its context: a GPU that is lent by the call is lent to the visitor whose request this is.
        return self._model_thread.submit(contextvars.copy_context().run, call).result()

    def _eps_theta(self, xt: Tensor, t: Tensor) -> Tensor:
        return self._timed(xt, t)[0]

    # ---------------------------------------------------------------- looked up outside Gradio's queue, so nothing else

    def trajectory(self, key: object) -> dict[str, Any] | None:
        """A stored trajectory by its key; "example" stands for the one drawn at start. None: not (yet) there."""
        found = self.runs.kept(key)
        return found and found.as_json()

    def finished(self, key: object) -> dict[str, Any] | None:
        """Of a stored trajectory only the end, (n, H, W, C) uint8; "several" and "between" stand for those of
        `denoise_example`. None: not (yet) there."""
        found = self.runs.kept(key)
        return found and found.as_json(only_finished=True)

    def example_rows(self, name: object) -> list[str] | None:
        """The keys of the rows that a tab shows before the first click, "compare" or "wrong"; None until they are
        drawn."""
        return self._row_keys.get(name) if isinstance(name, str) else None

    def example_pictures(self) -> dict[str, Any] | None:
        """The example's finished pictures, (n, H, W, C) uint8; None until they are drawn."""
        example = self.runs.kept("example")
        return example and {"n": example.request.num_images, "data": to_base64(example.finished)}

    # ------------------------------------------------------------------------------------------ before the first click

    def first_picture(self) -> bytes | None:
        """The (H, W, C) uint8 picture that is on the page at first; None while a colour model has drawn none."""
        if self.checkpoint.channels == 1:
            return example_digits(self.checkpoint.resolution)[FIRST_DIGIT].tobytes()
        example = self.runs.kept("example")
        return example and example.finished[: math.prod(self.readings.shape)]

    def start_example(self) -> None:
        """Begin `_prepare` in the background, and have the network ready for what visitors ask for first."""
        sizes = (1, self.example_size[0], self.max_images)
        self._model_thread.submit(lambda: self._loading.result().prepare(*sizes))
        self._example_thread.start()

    def close(self) -> None:
        """End what runs in the background, within a step."""
        self._closing.set()
        if self.live:
            self.live.close()
        if self._example_thread.is_alive():
            self._example_thread.join(10)
        self._model_thread.shutdown(cancel_futures=True)
        if not self._loading.cancelled() and self._loading.exception() is None:
            self._loading.result().close()

    def _prepare(self) -> None:
        """`_draw_all`, again after a while where it fails: a GPU that is lent by the call may be refused for now."""
        while not self._closing.is_set():
            try:
                return self._draw_all()
            except Exception as error:
                log.warning("What is on the page before the first click cannot be drawn yet: %s", first_line(error))
                self._closing.wait(RETRY_S)

    def _draw_all(self) -> None:
        """All that is on the page before the first click: a trajectory, what the network says of a picture, rows."""
        self.draw_example()
        for kind, ask in (("predict", self.readings.predict), ("bound", self.readings.bound)):
            picture = self.first_picture()
            if picture is None or self._closing.is_set() or not self.readings.is_fast(kind):
                break
            for _ in ask(PictureRequest(kind, picture, FIRST_NOISE)):
                if self._closing.is_set():
                    return
        self.draw_rows("compare", [scaled(row, self.num_steps) for row in COMPARED])
        self.denoise_example()
        self.draw_rows("wrong", FAULTS[FIRST_FAULT].rows(self.num_steps))

    def draw_example(self, budget_s: float = 60.0) -> None:
        """Draw the trajectory that is on the page before the first click; smaller if the model is slow.

        Args:
            budget_s: how long it may take at most, were pictures of a batch drawn one by one.
        """
        size, channels = self.checkpoint.resolution, self.checkpoint.channels
        seconds, (images, steps) = math.inf, self.example_size
        fast = min(budget_s / (images * steps), PIECE_S / self.max_images)
        until, calls = time.monotonic() + TRY_S, 0
        # The first call also warms up, and others may be disturbed: the page is starting, too.
        while calls < 3 or (seconds > fast and time.monotonic() < until):
            started = time.monotonic()
            self._eps_theta(torch.zeros(1, channels, size, size), torch.zeros(1, dtype=torch.int64))
            seconds, calls = min(seconds, time.monotonic() - started), calls + 1
        if not self._leases:
            # Once and for all: the last bits of a sum depend on it.
            self.runs.piece = max(1, int(PIECE_S / seconds))
        smaller = ((4, 25), (2, 15), (1, 10))
        for images, steps in (self.example_size, *smaller):
            if images * steps * seconds <= budget_s:
                break
        request = SampleRequest("ddim", min(steps, self.num_steps), min(images, self.max_images), seed=0)
        self._pin(request, "example")

    def _pin(self, request: SampleRequest | DenoiseRequest, name: str) -> None:
        """Draw what is kept under a name; not if the page is closing."""
        drawn = None if self._closing.is_set() else self.runs.draw(request, self._closing.is_set)
        if drawn is not None:
            self.runs.pinned[name] = drawn

    def denoise_example(self) -> None:
        """Denoise the first picture several times, then what lies between it and a second; as large as the example."""
        picture, example = self.first_picture(), self.runs.kept("example")
        if picture is None or example is None:  # closing
            return
        second = example.finished[len(picture) :][: len(picture)] or picture
        if self.checkpoint.channels == 1:
            second = example_digits(self.checkpoint.resolution)[SECOND_DIGIT].tobytes()
        t0 = max(1, round(FIRST_T0 * self.num_steps))
        images, steps = example.request.num_images, min(DENOISE_STEPS, example.request.num_inference_steps, t0)
        for kind, other, n in (("several", None, images), ("between", second, max(2, images))):  # a line has two ends
            sampling = SampleRequest("ddpm", max(1, steps * images // n), n, FIRST_DENOISED)
            self._pin(DenoiseRequest(PictureRequest("denoise", picture, FIRST_NOISE), other, t0, sampling), kind)

    def draw_rows(self, name: str, rows: list[Row], budget_s: float = 40.0) -> None:
        """Draw the rows that a tab shows before the first click; fewer pictures and steps if the model is slow."""
        example = self.runs.kept("example")
        if example is None:  # closing
            return
        calls = sum(row["num_inference_steps"] for row in rows)
        seconds = example.seconds / (example.calls * example.request.num_images) * calls
        for images, share in ((min(ROW_IMAGES, self.max_images), 1), (2, 0.5), (1, 0.2), (1, 0.05)):
            if images * share * seconds <= budget_s:
                break
        shorter = [{**row, "num_inference_steps": max(2, round(share * row["num_inference_steps"]))} for row in rows]
        requests = [SampleRequest(**row, num_images=images, seed=1) for row in shorter]
        for request in requests:
            self._pin(request, request.key)
        if all(request.key in self.runs.pinned for request in requests):
            self._row_keys[name] = [request.key for request in requests]

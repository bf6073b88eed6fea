"""The examples: what a page shows of a model before anybody has clicked, drawn in the background.

What somebody waits for is drawn first. A page asks again and again for the examples of the tab that is in front, and of
no other, so the last question tells what is in front.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ddpm.errors import first_line
from ddpm.ui.server.examples import (
    FIRST_DENOISED,
    FIRST_NOISE,
    FIRST_SEED,
    FIRST_STEPS,
    SECOND_PICTURE,
    first_t0,
    stored_pictures,
)
from ddpm.ui.server.from_picture import FromPicture, first_rows
from ddpm.ui.server.guided_rows import IMAGES, SCALES, SEED, STEPS, check_guided, first_class, most_images
from ddpm.ui.server.requests import DenoiseRequest, PictureRequest, SampleRequest
from ddpm.ui.server.rows import COMPARED, FAULTS, FIRST_FAULT, ROW_IMAGES, ROW_SEED, Row, scaled
from ddpm.ui.server.visitors import StoppedError

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

log = logging.getLogger(__name__)

Read = Callable[[PictureRequest], Iterator[Any]]

CALL_S = 0.25  # a sampling step with many pictures is cut into calls of about this long
LATER = ("between", "fill", "invert")  # examples of "From my picture": what lies between, a filling, the way to noise
PARTS = ("example", "predict", "bound", "classify", "compare", "several", "wrong", "labels", *LATER)
MEASURE_S = 5.0  # for at most so long the first calls are repeated until one is fast


class Turns:
    """Whose examples are drawn: those of one model at a time, and of those that wait, the model that was asked for
    last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._asked: dict[str, float] = {}
        self._taken = False

    def asked(self, model: str) -> None:
        """Somebody waits for examples of a model."""
        with self._changed:
            self._asked[model] = time.monotonic()
            self._changed.notify_all()

    @contextmanager
    def of(self, model: str) -> Iterator[None]:
        """Waits for the turn of a model, which lasts as long as this."""
        with self._changed:
            self._waiting.append(model)
            self._changed.wait_for(lambda: not self._taken and self._next() == model)
            self._waiting.remove(model)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

    def _next(self) -> str:
        return max(self._waiting, key=lambda model: self._asked.get(model, -math.inf))  # of equals, who came first


class Examples:
    """The examples of a model.

    Args:
        turns: shared by all models.
    Attributes:
        row_keys: the keys of the rows of each tab, or kind of row, that are drawn.
    """

    def __init__(self, service: Service, turns: Turns) -> None:
        self._service, self._turns = service, turns
        self.row_keys: dict[str, list[str]] = {}
        self._asked: dict[str, float] = {}  # when somebody asked for a part last
        self._new = threading.Event()  # somebody has asked
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._draw_all, name="example", daemon=True)

    def start(self) -> None:
        """Draw them in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more work."""
        self._closing.set()
        self._new.set()

    def close(self) -> None:
        """End the work, within one step."""
        self.stop()
        if self.drawing:
            self._thread.join(10)

    @property
    def drawing(self) -> bool:
        """Whether examples are drawn, or will be if somebody asks."""
        return self._thread.is_alive()

    def ask(self, part: str) -> None:
        """Somebody waits for this part of the examples, one of PARTS; others are ignored."""
        if part in PARTS and part not in self.row_keys:
            self._asked[part] = time.monotonic()
            self._turns.asked(self._service.name)
            self._new.set()

    # ------------------------------------------------------------------------------------------------ what comes next

    def _parts(self) -> dict[str, Callable[[], None]]:
        """What draws each part, in the order of the tabs."""
        service = self._service
        parts: dict[str, Callable[[], None]] = {"example": self.draw_example}
        kinds: dict[str, Read] = {"predict": service.readings.predict, "bound": service.readings.bound}
        if service.checkpoint.classes:
            kinds["classify"] = service.readings.classify
        parts |= {kind: partial(self._read, kind, read) for kind, read in kinds.items()}
        compared = [scaled(row, service.num_steps) for row in COMPARED]
        parts["compare"] = lambda: self.draw_rows("compare", compared)
        parts["several"] = self.denoise_example
        parts["wrong"] = lambda: self.draw_rows("wrong", FAULTS[FIRST_FAULT].rows(service.num_steps))
        if service.checkpoint.classes:
            parts["labels"] = self.draw_labels
        return parts | {kind: partial(self.draw_from_picture, kind) for kind in LATER}

    def _draw_all(self) -> None:
        """Draw one part after another, until the page closes."""
        waiting = self._parts()
        while waiting and not self._closing.is_set() and self._service.fault is None:
            self._new.clear()
            if self._closing.is_set():  # since the loop has looked
                return
            # The choice is made once it is this model's turn, since somebody may ask meanwhile.
            if all(part in LATER and part not in self._asked for part in waiting):
                self._new.wait()
                continue
            part = None
            try:
                with self._turns.of(self._service.name), self._service.in_use():
                    part = self._next(waiting)
                    if not self._closing.is_set():
                        waiting[part]()
            except StoppedError:
                return
            except Exception as error:  # a lease may be refused for the moment
                log.warning("The examples of %s cannot be drawn yet: %s", self._service.name, first_line(error))
                if part:
                    waiting[part] = waiting.pop(part)  # the others come first
                    self._asked.pop(part, None)
                self._closing.wait(self._service.limits.retry_s)
            else:
                del waiting[part]

    def _next(self, waiting: dict[str, Callable[[], None]]) -> str:
        """The part that is drawn next: what was asked for last, and before it what it needs."""
        if "example" in waiting:  # it tells how long everything else takes
            return "example"
        possible = [part for part in waiting if part not in LATER or part in self._asked]
        part = max(possible, key=lambda part: self._asked.get(part, -math.inf))
        return "several" if part in LATER and "several" in waiting else part

    # ---------------------------------------------------------------------------------------------------- single parts

    def _read(self, kind: str, read: Read) -> None:
        """Compute what the model says about the first picture."""
        picture = self._service.first_picture()
        if picture is None or not self._service.readings.is_fast(kind):
            return
        for _ in read(PictureRequest(kind, picture, FIRST_NOISE)):
            if self._closing.is_set():
                return

    def _seconds_per_picture(self, fast_enough: float) -> float:
        """How long the network takes for one picture: the shortest of a few calls.

        The first call also warms up, and others may be disturbed, since the page is starting. So there are at least
        three, and more until one is `fast_enough` or MEASURE_S are over.
        """
        size, channels = self._service.checkpoint.size, self._service.checkpoint.channels
        seconds, until, calls = math.inf, time.monotonic() + MEASURE_S, 0
        while calls < 3 or (seconds > fast_enough and time.monotonic() < until):
            started = time.monotonic()
            self._service.eps_theta(torch.zeros(1, channels, *size), torch.zeros(1, dtype=torch.int64))
            seconds, calls = min(seconds, time.monotonic() - started), calls + 1
        return seconds

    def draw_example(self, budget_s: float = 60.0) -> None:
        """Draw the trajectory that is on the page before the first click, smaller if the model is slow.

        Args:
            budget_s: the seconds it may take if the network computed the pictures of a batch one by one.
        """
        images, steps = self._service.example_size
        seconds = self._seconds_per_picture(min(budget_s / (images * steps), CALL_S / self._service.max_images))
        if not self._service.leases:
            # Set once and never again, since the last bits of a result depend on it.
            self._service.samplings.images_per_call = max(1, int(CALL_S / seconds))
        for images, steps in (self._service.example_size, (4, 25), (2, 15), (1, 10)):
            if images * steps * seconds <= budget_s:
                break
        request = SampleRequest(
            "ddim", min(steps, self._service.num_steps), min(images, self._service.max_images), FIRST_SEED
        )
        self._draw_and_pin(request, "example")

    def _draw_and_pin(self, request: SampleRequest | FromPicture, name: str) -> None:
        """Draw what is kept for good under a name, unless the page is closing."""
        drawn = None if self._closing.is_set() else self._service.samplings.draw(request, self._closing.is_set)
        if drawn is not None:
            self._service.samplings.pinned[name] = drawn

    def denoise_example(self) -> None:
        """Denoise the first picture several times, then what lies between it and a second; as large as the example."""
        picture, example = self._service.first_picture(), self._service.samplings.stored("example")
        if picture is None or example is None:  # the page is closing
            return
        second = example.finished[len(picture) :][: len(picture)] or picture
        if (stored := stored_pictures(self._service.checkpoint)) is not None:
            second = stored[SECOND_PICTURE].tobytes()
        t0 = first_t0(self._service.num_steps)
        images, steps = example.request.num_images, min(FIRST_STEPS, example.request.num_inference_steps, t0)
        for kind, other, n in (("several", None, images), ("between", second, max(2, images))):  # a line has two ends
            sampling = SampleRequest("ddpm", max(1, steps * images // n), n, FIRST_DENOISED)
            first = PictureRequest("denoise", picture, FIRST_NOISE)
            asked = DenoiseRequest(first, other, t0, sampling)
            self._draw_and_pin(asked, kind)
            if kind == "several" and kind in self._service.samplings.pinned:
                self.row_keys[kind] = [kind]

    def draw_from_picture(self, kind: str, budget_s: float = 40.0) -> None:
        """Draw what else the page shows of the first picture: one of LATER."""
        example, between = self._service.samplings.stored("example"), self._service.samplings.stored("between")
        if example is None or between is None or not isinstance(between.request, DenoiseRequest):
            return  # the page is closing
        self._service.samplings.pinned[between.key] = between
        seconds = example.seconds / (example.calls * example.request.num_images)
        fast = lambda count: count * seconds <= budget_s  # noqa: E731
        requests = first_rows(between.request, self._service.readings.shape, self._service.num_steps, fast)[kind]
        for request in requests:
            if request.key not in self._service.samplings.pinned:
                self._draw_and_pin(request, request.key)
        if all(request.key in self._service.samplings.pinned for request in requests):
            self.row_keys[kind] = [request.key for request in requests]

    def draw_rows(self, name: str, rows: list[Row], budget_s: float = 40.0) -> None:
        """Draw the rows that a tab shows before the first click, with fewer pictures and steps if the model is slow."""
        example = self._service.samplings.stored("example")
        if example is None:  # the page is closing
            return
        calls = sum(row["num_inference_steps"] for row in rows)
        seconds = example.seconds / (example.calls * example.request.num_images) * calls
        for images, share in ((min(ROW_IMAGES, self._service.max_images), 1), (2, 0.5), (1, 0.2), (1, 0.05)):
            if images * share * seconds <= budget_s:
                break
        shorter = [{**row, "num_inference_steps": max(2, round(share * row["num_inference_steps"]))} for row in rows]
        requests = [SampleRequest(**row, num_images=images, seed=ROW_SEED) for row in shorter]
        for request in requests:
            self._draw_and_pin(request, request.key)
        if all(request.key in self._service.samplings.pinned for request in requests):
            self.row_keys[name] = [request.key for request in requests]

    def draw_labels(self, budget_s: float = 40.0) -> None:
        """Draw the rows that "Labels" shows before the first click, with fewer pictures if the model is slow."""
        classes, example = self._service.checkpoint.classes, self._service.samplings.stored("example")
        if classes is None or example is None or self._closing.is_set():
            return
        calls = 2 * len(SCALES) * min(STEPS, self._service.num_steps)
        seconds = example.seconds / (example.calls * example.request.num_images) * calls
        most = most_images(self._service.max_images)
        images = next((n for n in (IMAGES, 2) if n <= most and n * seconds <= budget_s), 1)
        asked = {"label": first_class(classes, self._service.checkpoint.metrics), "num_images": images, "seed": SEED}
        rows = check_guided(asked, self._service.num_steps, self._service.max_images, classes)
        drawn = self._service.samplings.draw_guided(rows, self._closing.is_set)
        if drawn:
            self._service.samplings.pinned.update({each.key: each for each in drawn})
            self.row_keys["labels"] = [each.key for each in drawn]

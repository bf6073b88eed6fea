"""A model, what it computes for visitors (`readings`, `samplings`), and the examples that are drawn before they ask."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddpm.checkpoint import Checkpoint
from ddpm.class_names import ClassNames
from ddpm.engine import Engine
from ddpm.errors import first_line
from ddpm.names import OPTIMAL
from ddpm.schedule import answer
from ddpm.threads import physical_cores
from ddpm.ui.server import zerogpu
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.examples import (
    FIRST_DENOISED,
    FIRST_NOISE,
    FIRST_PICTURE,
    FIRST_SEED,
    FIRST_STEPS,
    SECOND_PICTURE,
    first_t0,
    stored_pictures,
)
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.from_picture import FromPicture, first_rows
from ddpm.ui.server.guided_rows import IMAGES, SCALES, SEED, STEPS, check_guided, first_class, most_images
from ddpm.ui.server.labels import LabelledSamplings
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.live import LiveTraining
from ddpm.ui.server.networks import MAX_KEPT, Network, Networks
from ddpm.ui.server.readings import Readings
from ddpm.ui.server.recorded import Recorded
from ddpm.ui.server.requests import DenoiseRequest, InputError, PictureRequest, SampleRequest
from ddpm.ui.server.rows import COMPARED, FAULTS, FIRST_FAULT, ROW_IMAGES, ROW_SEED, Row, scaled
from ddpm.ui.server.schedules import compared
from ddpm.ui.server.store import Store
from ddpm.ui.server.visitors import StoppedError, Visitors

log = logging.getLogger(__name__)

CALL_S = 0.25  # a sampling step with many pictures is cut into calls of about this long
MAX_EPS = 1e9  # of |eps_hat|: beyond it, or at NaN, what follows from it would not be finite
LATER = ("between", "fill", "invert")  # examples of "From my picture": what lies between, a filling, the way to noise
MEASURE_S = 5.0  # for at most so long the first calls are repeated until one is fast


class Shared:
    """What all models of a page share.

    Args:
        live: trains while visitors watch; None if this server does not train.
        make_engine: makes the engine of a checkpoint with weights. By default it is `zerogpu.engine`.
        limits: how long requests may take.
        terms: which networks use the GPU that a ZeroGPU Space lends.
        most: how many networks are kept in memory, see `Networks`.
        visitors: which request each visitor waits for.
    """

    def __init__(
        self,
        live: LiveTraining | None = None,
        make_engine: Callable[[Checkpoint], Engine] | None = None,
        limits: Limits | None = None,
        terms: zerogpu.Terms | None = None,
        most: int = MAX_KEPT,
        visitors: Visitors | None = None,
    ) -> None:
        self.live, self.limits, self.terms = live, limits or Limits(), terms or zerogpu.Terms()
        self.make_engine = make_engine or (lambda made: zerogpu.engine(made, self.terms))
        self.visitors = Visitors() if visitors is None else visitors  # an empty one is false
        self.networks, self.store = Networks(most), Store()
        self.drawing = threading.Lock()  # the examples of one model are drawn at a time

    def close(self) -> None:
        """End the live training, and all calls of networks."""
        if self.live:
            self.live.close()
        self.networks.close()


class Service:
    """One model and everything that is computed with it.

    Args:
        checkpoint: the model. Its weights are read when they are needed first.
        live, make_engine, limits, terms: those of `Shared`, for a model that is alone.
        shared: what it shares with others; None if it is alone.
        name: by which requests name the model; by default that of the checkpoint.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        live: LiveTraining | None = None,
        make_engine: Callable[[Checkpoint], Engine] | None = None,
        limits: Limits | None = None,
        terms: zerogpu.Terms | None = None,
        *,
        shared: Shared | None = None,
        name: str | None = None,
    ) -> None:
        torch.set_num_threads(physical_cores())
        self._alone = shared is None
        self._shared = shared = shared or Shared(live, make_engine, limits, terms)
        self.checkpoint, self.name = checkpoint, name or checkpoint.name
        self.recorded, self.live = Recorded(checkpoint), shared.live
        self.limits, self.visitors = shared.limits, shared.visitors
        self.num_steps = checkpoint.schedule.num_steps
        self.max_images = 16 if checkpoint.resolution <= 64 else 4
        # A lease costs the same whatever it computes, so its work is not cut into several calls. It finds on the
        # device what was there when the page was launched, so its network is read now and stays.
        self._leases = zerogpu.leases(checkpoint, shared.terms)
        self._network = Network(shared.networks, self.name, self._make_engine, stays=self._leases)
        self.fault: str | None = None  # why the weights cannot be used; None as far as is known
        self._sizes: tuple[int, ...] = ()  # of the batches for which a network is prepared when it is read
        if self._leases:
            self._network.load().exception()  # `fault` keeps it
        store = shared.store.of(self.name)
        shape = (*checkpoint.size, checkpoint.channels)
        self.readings = Readings(
            self._eps_theta,
            checkpoint.schedule,
            checkpoint.classes,
            shape,
            store,
            self.visitors,
            self.limits,
            whole_batches=self._leases,
        )
        self.samplings = LabelledSamplings(
            checkpoint,
            self._timed,
            self.readings,
            store,
            self.visitors,
            self.max_images,
            self.limits,
            model=self.name,
            in_use=self.in_use,
        )
        if self._leases:
            step = 2 * len(SCALES) * most_images(self.max_images)  # of the tab "Labels"
            self.samplings.images_per_call = max(self.samplings.images_per_call, step)
        self._row_keys: dict[str, list[str]] = {}
        self._wanted: set[str] = set()  # the examples of LATER that somebody has asked for
        self._asked = threading.Event()
        self._example_thread = threading.Thread(target=self._draw_all, name="example", daemon=True)
        self._begun = threading.Lock()  # held from the first `start_example` on
        self._closing = threading.Event()
        # (pictures, steps) of the stored example, if the model is fast enough; see `draw_example`.
        self.example_size = (min(8, self.max_images), min(FIRST_STEPS, self.num_steps))

    @property
    def facts(self) -> Facts:
        """What the page shows of the model before anything is computed with it."""
        checkpoint, classes = self.checkpoint, self.checkpoint.classes
        height, width, channels = self.readings.shape
        own, schedules = compared(checkpoint.schedule)
        optimal = self.readings.variances.get(OPTIMAL)
        return Facts(
            name=self.name,
            model=checkpoint.name,
            directory=checkpoint.directory.resolve(),
            num_parameters=checkpoint.num_parameters,
            height=height,
            width=width,
            channels=channels,
            beta=checkpoint.schedule.beta.tolist(),
            classes=None if classes is None else ClassNames(classes.names, classes.unlabelled),
            max_images=self.max_images,
            example_size=self.example_size,
            timesteps=self.readings.timesteps,
            factor=self.readings.factor,
            variances=list(self.readings.variances),
            optimal_weights=[float(f"{w:.4g}") for w in optimal.kl_weight.tolist()] if optimal else None,
            own_schedule=own,
            schedules=schedules,
            revision=checkpoint.revision,
            offline=checkpoint.offline,
        )

    def _make_engine(self) -> Engine:
        """The engine, with its weights read now.

        Raises:
            InputError: they are damaged, or something else is in the way.
        """
        if self.fault is None:
            try:
                engine = self._shared.make_engine(self.checkpoint.with_weights())
            except ValueError as error:
                self.fault = first_line(error)
            except Exception as error:  # such as no memory for it
                log.exception("%s cannot be read", self.name)
                self.fault = first_line(error)
            else:
                if self._sizes:
                    engine.prepare(*self._sizes)
                return engine
        raise self.refusal()

    def told_fault(self) -> str | None:
        """`fault` for visitors, who have no use for the paths of the server."""
        return self.fault and self.fault.replace(str(self.checkpoint.directory), self.name)

    def refusal(self) -> InputError:
        """Why the model answers nobody, if it has a `fault`."""
        return InputError("refused.model", model=self.name, reason=self.told_fault())

    def load(self) -> None:
        """Read the weights in the background."""
        self._network.load()

    def wait_for_model(self) -> None:
        """Wait until the weights are read.

        Raises:
            ValueError: they are damaged; the message is one line.
        """
        try:
            self._network.run(lambda engine: None)
        except InputError:
            raise ValueError(self.fault) from None

    def in_use(self) -> AbstractContextManager[None]:
        """While this lasts, the weights stay in memory."""
        return self._network.in_use()

    def _timed(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, float]:
        """eps_hat, with v behind it in the channels if the network predicts the variance (see `ddpm.schedule.Joined`);
        and the seconds of this call alone, without the wait for its turn."""
        learned = self.checkpoint.schedule.learned

        def call(engine: Engine) -> tuple[Tensor, float]:
            started = time.perf_counter()
            inputs = (xt, t) if labels is None else (xt, t, labels)
            eps_hat, v = answer(engine, *inputs, learned=learned)
            both = (eps_hat if v is None else torch.cat([eps_hat, v], 1)).cpu()
            if not bool((both.abs() <= MAX_EPS).all()):  # nor for NaN
                raise InputError("refused.not_finite")
            return both, time.perf_counter() - started

        return self._network.run(call)

    def _eps_theta(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return self._timed(xt, t, labels)[0]

    # ------------------------------------------------- look-ups: called outside Gradio's queue, so they do nothing else

    def trajectory(self, asked: object) -> dict[str, Any] | None:
        """A stored trajectory by its key, or {"key", "frames": indices} for some of its frames; "example" is the one
        drawn at start. None if it is not (yet) there."""
        key, frames = (asked.get("key"), asked.get("frames")) if isinstance(asked, dict) else (asked, None)
        found = self.samplings.stored(key)
        return found and found.as_json(frames)

    def finished(self, key: object) -> dict[str, Any] | None:
        """Only the end of a stored trajectory, (n, H, W, C) uint8. None if it is not (yet) there."""
        found = self.samplings.stored(key)
        return found and found.finished_as_json()

    def example_rows(self, name: object) -> list[str] | None:
        """The keys of the rows that "compare", "wrong", "labels" or a kind of "mine" shows before the first click; None
        until they are drawn. Those of LATER are drawn once somebody asks for them, since they take the longest."""
        if name in LATER and name not in self._row_keys:
            self._wanted.add(str(name))
            self._asked.set()
        return self._row_keys.get(name) if isinstance(name, str) else None

    def example_pictures(self) -> dict[str, Any] | None:
        """The example's finished pictures, (n, H, W, C) uint8; None until they are drawn."""
        example = self.samplings.stored("example")
        return example and {"n": example.request.num_images, "data": to_base64(example.finished)}

    # ------------------------------------------------------------------------------------------ before the first click

    def first_picture(self) -> bytes | None:
        """The (H, W, C) uint8 picture on the page at first; None until a model without stored ones has drawn."""
        if (stored := stored_pictures(self.checkpoint)) is not None:
            return stored[FIRST_PICTURE].tobytes()
        example = self.samplings.stored("example")
        return example and example.finished[: math.prod(self.readings.shape)]

    def start_example(self) -> None:
        """Draw the examples in the background, and prepare the network for the sizes that visitors ask for first.
        Only the first call does so."""
        if not self._begun.acquire(blocking=False):
            return
        self._sizes = (1, self.example_size[0], self.max_images)
        self._network.soon(lambda engine: engine.prepare(*self._sizes))
        self._example_thread.start()

    def stop(self) -> None:
        """Begin no more work in the background."""
        self._closing.set()
        self._asked.set()

    def close(self) -> None:
        """End the work in the background, within one step."""
        self.stop()
        if self._alone and self.live:
            self.live.close()
        if self._example_thread.is_alive():
            self._example_thread.join(10)
        if self._alone:
            self._shared.close()

    def _draw_all(self) -> None:
        """Draw the examples, and then those of LATER as they are asked for."""
        self._draw_until_done(self._draw_examples)
        while not self._closing.is_set() and self.fault is None:
            self._asked.wait()
            self._asked.clear()
            for kind in sorted(self._wanted - self._row_keys.keys()):
                self._draw_until_done(partial(self.draw_from_picture, kind))

    def _draw_until_done(self, draw: Callable[[], None]) -> None:
        """Draw something, and try again after a while if that fails: a lease may be refused for the moment."""
        while not self._closing.is_set() and self.fault is None:
            try:
                with self._shared.drawing, self.in_use():
                    return None if self._closing.is_set() else draw()
            except StoppedError:
                return None
            except Exception as error:
                log.warning("The examples of %s cannot be drawn yet: %s", self.name, first_line(error))
                self._closing.wait(self.limits.retry_s)

    def _draw_examples(self) -> None:
        """Draw all that the page shows before the first click: a trajectory, the readings of a picture, and rows."""
        self.draw_example()
        kinds = [("predict", self.readings.predict), ("bound", self.readings.bound)]
        if self.checkpoint.classes:
            kinds.append(("classify", self.readings.classify))
        for kind, read in kinds:
            picture = self.first_picture()
            if picture is None or self._closing.is_set() or not self.readings.is_fast(kind):
                break
            for _ in read(PictureRequest(kind, picture, FIRST_NOISE)):
                if self._closing.is_set():
                    return
        self.draw_rows("compare", [scaled(row, self.num_steps) for row in COMPARED])
        self.denoise_example()
        self.draw_rows("wrong", FAULTS[FIRST_FAULT].rows(self.num_steps))
        self.draw_labels()

    def _seconds_per_picture(self, fast_enough: float) -> float:
        """How long the network takes for one picture: the shortest of a few calls.

        The first call also warms up, and others may be disturbed, since the page is starting. So there are at least
        three, and more until one is `fast_enough` or MEASURE_S are over.
        """
        size, channels = self.checkpoint.size, self.checkpoint.channels
        seconds, until, calls = math.inf, time.monotonic() + MEASURE_S, 0
        while calls < 3 or (seconds > fast_enough and time.monotonic() < until):
            started = time.monotonic()
            self._eps_theta(torch.zeros(1, channels, *size), torch.zeros(1, dtype=torch.int64))
            seconds, calls = min(seconds, time.monotonic() - started), calls + 1
        return seconds

    def draw_example(self, budget_s: float = 60.0) -> None:
        """Draw the trajectory that is on the page before the first click, smaller if the model is slow.

        Args:
            budget_s: the seconds it may take if the network computed the pictures of a batch one by one.
        """
        images, steps = self.example_size
        seconds = self._seconds_per_picture(min(budget_s / (images * steps), CALL_S / self.max_images))
        if not self._leases:
            # Set once and never again, since the last bits of a result depend on it.
            self.samplings.images_per_call = max(1, int(CALL_S / seconds))
        for images, steps in (self.example_size, (4, 25), (2, 15), (1, 10)):
            if images * steps * seconds <= budget_s:
                break
        request = SampleRequest("ddim", min(steps, self.num_steps), min(images, self.max_images), FIRST_SEED)
        self._draw_and_pin(request, "example")

    def _draw_and_pin(self, request: SampleRequest | FromPicture, name: str) -> None:
        """Draw what is kept for good under a name, unless the page is closing."""
        drawn = None if self._closing.is_set() else self.samplings.draw(request, self._closing.is_set)
        if drawn is not None:
            self.samplings.pinned[name] = drawn

    def denoise_example(self) -> None:
        """Denoise the first picture several times, then what lies between it and a second; as large as the example."""
        picture, example = self.first_picture(), self.samplings.stored("example")
        if picture is None or example is None:  # the page is closing
            return
        second = example.finished[len(picture) :][: len(picture)] or picture
        if (stored := stored_pictures(self.checkpoint)) is not None:
            second = stored[SECOND_PICTURE].tobytes()
        t0 = first_t0(self.num_steps)
        images, steps = example.request.num_images, min(FIRST_STEPS, example.request.num_inference_steps, t0)
        for kind, other, n in (("several", None, images), ("between", second, max(2, images))):  # a line has two ends
            sampling = SampleRequest("ddpm", max(1, steps * images // n), n, FIRST_DENOISED)
            first = PictureRequest("denoise", picture, FIRST_NOISE)
            asked = DenoiseRequest(first, other, t0, sampling)
            self._draw_and_pin(asked, kind)
            if kind == "several" and kind in self.samplings.pinned:
                self._row_keys[kind] = [kind]

    def draw_from_picture(self, kind: str, budget_s: float = 40.0) -> None:
        """Draw what else the page shows of the first picture: one of LATER."""
        example, between = self.samplings.stored("example"), self.samplings.stored("between")
        if example is None or between is None or not isinstance(between.request, DenoiseRequest):
            return  # the page is closing
        self.samplings.pinned[between.key] = between
        seconds = example.seconds / (example.calls * example.request.num_images)
        fast = lambda count: count * seconds <= budget_s  # noqa: E731
        requests = first_rows(between.request, self.readings.shape, self.num_steps, fast)[kind]
        for request in requests:
            if request.key not in self.samplings.pinned:
                self._draw_and_pin(request, request.key)
        if all(request.key in self.samplings.pinned for request in requests):
            self._row_keys[kind] = [request.key for request in requests]

    def draw_rows(self, name: str, rows: list[Row], budget_s: float = 40.0) -> None:
        """Draw the rows that a tab shows before the first click, with fewer pictures and steps if the model is slow."""
        example = self.samplings.stored("example")
        if example is None:  # the page is closing
            return
        calls = sum(row["num_inference_steps"] for row in rows)
        seconds = example.seconds / (example.calls * example.request.num_images) * calls
        for images, share in ((min(ROW_IMAGES, self.max_images), 1), (2, 0.5), (1, 0.2), (1, 0.05)):
            if images * share * seconds <= budget_s:
                break
        shorter = [{**row, "num_inference_steps": max(2, round(share * row["num_inference_steps"]))} for row in rows]
        requests = [SampleRequest(**row, num_images=images, seed=ROW_SEED) for row in shorter]
        for request in requests:
            self._draw_and_pin(request, request.key)
        if all(request.key in self.samplings.pinned for request in requests):
            self._row_keys[name] = [request.key for request in requests]

    def draw_labels(self, budget_s: float = 40.0) -> None:
        """Draw the rows that "Labels" shows before the first click, with fewer pictures if the model is slow."""
        classes, example = self.checkpoint.classes, self.samplings.stored("example")
        if classes is None or example is None or self._closing.is_set():
            return
        calls = 2 * len(SCALES) * min(STEPS, self.num_steps)
        seconds = example.seconds / (example.calls * example.request.num_images) * calls
        most = most_images(self.max_images)
        images = next((n for n in (IMAGES, 2) if n <= most and n * seconds <= budget_s), 1)
        asked = {"label": first_class(classes), "num_images": images, "seed": SEED}
        rows = check_guided(asked, self.num_steps, self.max_images, classes)
        drawn = self.samplings.draw_guided(rows, self._closing.is_set)
        if drawn:
            self.samplings.pinned.update({each.key: each for each in drawn})
            self._row_keys["labels"] = [each.key for each in drawn]

"""A model, what it computes for visitors (`readings`, `samplings`), and its `examples`."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
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
from ddpm.ui.server.drawing import Examples, Turns
from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.examples import FIRST_PICTURE, FIRST_STEPS, stored_pictures
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.guided_rows import SCALES, first_class, most_images
from ddpm.ui.server.labels import LabelledSamplings
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.live import LiveTraining
from ddpm.ui.server.networks import MAX_KEPT, Network, Networks
from ddpm.ui.server.readings import Readings
from ddpm.ui.server.recorded import Recorded
from ddpm.ui.server.requests import InputError
from ddpm.ui.server.schedules import compared
from ddpm.ui.server.store import Store
from ddpm.ui.server.visitors import Visitors

log = logging.getLogger(__name__)

MAX_EPS = 1e9  # of |eps_hat|: beyond it, or at NaN, what follows from it would not be finite


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
        self.turns = Turns()

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
        self.leases = zerogpu.leases(checkpoint, shared.terms)
        self._network = Network(shared.networks, self.name, self._make_engine, stays=self.leases)
        self.fault: str | None = None  # why the weights cannot be used; None as far as is known
        self._sizes: tuple[int, ...] = ()  # of the batches for which a network is prepared when it is read
        if self.leases:
            self._network.load().exception()  # `fault` keeps it
        store = shared.store.of(self.name)
        shape = (*checkpoint.size, checkpoint.channels)
        self.readings = Readings(
            self.eps_theta,
            checkpoint.schedule,
            checkpoint.classes,
            shape,
            store,
            self.visitors,
            self.limits,
            whole_batches=self.leases,
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
        if self.leases:
            step = 2 * len(SCALES) * most_images(self.max_images)  # of the tab "Labels"
            self.samplings.images_per_call = max(self.samplings.images_per_call, step)
        self.examples = Examples(self, shared.turns)
        self._begun = threading.Lock()  # held from the first `start_example` on
        # (pictures, steps) of the stored example, if the model is fast enough; see `Examples.draw_example`.
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
            first_class=None if classes is None else first_class(classes, checkpoint.metrics),
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

    def eps_theta(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """eps_hat for a batch, with v behind it in the channels if the network predicts the variance."""
        return self._timed(xt, t, labels)[0]

    # ------------------------------------------------- look-ups: called outside Gradio's queue, so they do nothing else

    def trajectory(self, asked: object) -> dict[str, Any] | None:
        """A stored trajectory by its key, or {"key", "frames": indices} for some of its frames; "example" is the one
        drawn at start. None if it is not (yet) there."""
        key, frames = (asked.get("key"), asked.get("frames")) if isinstance(asked, dict) else (asked, None)
        found = self.samplings.stored(key)
        if found is None and key == "example":
            self.examples.ask("example")
        return found and found.as_json(frames)

    def finished(self, key: object) -> dict[str, Any] | None:
        """Only the end of a stored trajectory, (n, H, W, C) uint8. None if it is not (yet) there."""
        found = self.samplings.stored(key)
        return found and found.finished_as_json()

    def example_rows(self, name: object) -> list[str] | None:
        """The keys of the rows that "compare", "wrong", "labels" or a kind of "mine" shows before the first click; None
        until they are drawn."""
        if not isinstance(name, str):
            return None
        self.examples.ask(name)
        return self.examples.row_keys.get(name)

    def example_pictures(self) -> dict[str, Any] | None:
        """The example's finished pictures, (n, H, W, C) uint8; None until they are drawn."""
        example = self.samplings.stored("example")
        if example is None:
            self.examples.ask("example")
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
        self.examples.start()

    def stop(self) -> None:
        """Begin no more work in the background."""
        self.examples.stop()

    def close(self) -> None:
        """End the work in the background, within one step."""
        if self._alone and self.live:
            self.live.close()
        self.examples.close()
        if self._alone:
            self._shared.close()

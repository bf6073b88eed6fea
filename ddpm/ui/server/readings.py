"""What the network says about one picture: its noise at a spread of t, every term of the bound, and its label.

t is 0-based in `ddpm.elbo` and 1-based in everything that leaves this module.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.classes import Classes
from ddpm.elbo import class_posterior_steps, decoder_floor, prior_bits, terms_by_variance
from ddpm.names import OPTIMAL, VARIANCE_TYPES
from ddpm.schedule import Joined, NoiseSchedule
from ddpm.ui.server.findings import Bound, Classified, Prediction, classified, short
from ddpm.ui.server.limits import Limits
from ddpm.ui.server.pictures import pixels_to_tensor, thinned, thinned_size, to_tensor
from ddpm.ui.server.requests import InputError, PictureRequest, answered
from ddpm.ui.server.store import StoreOf
from ddpm.ui.server.visitors import Asked, StoppedError, Visitors

PREPARED_S = 60  # a reading that takes longer is not computed before a visitor asks for it
NUM_TIMESTEPS = 64
READING_BYTES = 5 * 2**19  # eps_hat of one picture at all its t, at most about this much
WANTED_TIMESTEPS = 24  # where that would be fewer, eps_hat is kept with fewer pixels, but ...
MIN_SIDE = 32  # ... with at least so many along a side
ENOUGH = 0.6  # a slow network is asked for no more timesteps after this share of the seconds that it may take, ...
LEAST_TIMESTEPS = 8  # ... once it has answered for so many
CLASSIFY_TIMESTEPS: int = (class_posterior_steps.__kwdefaults__ or {})["count"]  # that a label is found with

Message = dict[str, Any]
EpsTheta = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x_t, t, labels or None) to the predicted noise."""


def browser_normal(seed: int, n: int) -> np.ndarray:
    """`ddpm.normal(seed, n)` of static/pictures.js: n float32 from N(0, 1), so that a seed names the noise in both."""
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.arange(1, 2 * -(-n // 2) + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        z = (state ^ state >> 15) * (state | np.uint32(1))
        z ^= z + (z ^ z >> 7) * (z | np.uint32(61))
    uniform = (z ^ z >> 14) / 2**32
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[::2])), 2 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()[:n].astype(np.float32)


def spread(num_steps: int, count: int) -> list[int]:
    """At most `count` timesteps, 0-based and ascending, the first and the last among them.

    Five in eight are spread evenly. The others lie closer together at small t, where the error of a network changes
    fastest.
    """
    even, proportional = count * 5 // 8, count - count * 5 // 8
    t = np.concatenate([np.linspace(1, num_steps, even), np.geomspace(1, num_steps, proportional)])
    return sorted({round(x) - 1 for x in t.tolist()})


def coarse_to_fine(count: int) -> list[int]:
    """0 ... count - 1, the last and the first before the others, and these ever closer together."""
    strides = (2**k for k in range(max(0, count - 1).bit_length(), -1, -1))
    return list(dict.fromkeys([count - 1, *(i for stride in strides for i in range(0, count, stride))]))


class Readings:
    """Runs the network on visitors' pictures, a batch of timesteps at a time.

    Args:
        eps_theta: predicted noise, for given labels if the model has some, with v behind it if the network predicts the
            variance (see `Joined`); its calls take turns with those of the rest of the page.
        classes: those of the model; None if it has none.
        shape: (H, W, C) of a picture.
        store: keeps what was computed.
        visitors: says whether anybody still waits for a reading.
        whole_batches: make every call as large as memory allows, since a call costs the same whatever it holds.
    """

    def __init__(
        self,
        eps_theta: EpsTheta,
        schedule: NoiseSchedule,
        classes: Classes | None,
        shape: tuple[int, int, int],
        store: StoreOf,
        visitors: Visitors,
        limits: Limits,
        whole_batches: bool = False,
    ) -> None:
        self._eps_theta, self._schedule, self.shape, self._store = eps_theta, schedule, shape, store
        self.classes = classes
        self._visitors, self._limits = visitors, limits
        height, width, channels = shape
        pixels = height * width
        batch = max(1, 2**16 // pixels)
        self._max_batch = batch - batch % 8 if batch > 8 else batch  # `Compiled` cuts these into full requests
        self._whole_batches = whole_batches
        self._seconds: float | None = None  # that the network takes for one picture, as measured
        factor = math.ceil(math.sqrt(2 * pixels * channels * WANTED_TIMESTEPS / READING_BYTES))
        self.factor = max(1, min(factor, min(height, width) // MIN_SIDE))
        kept = 2 * math.prod(thinned_size((height, width), self.factor)) * channels
        count = max(LEAST_TIMESTEPS, min(NUM_TIMESTEPS, READING_BYTES // kept))
        self.timesteps = spread(schedule.num_steps, count)
        kinds = (*VARIANCE_TYPES, *((OPTIMAL,) if schedule.errors else ()))
        others = {kind: dataclasses.replace(schedule, variance_type=kind) for kind in kinds}
        self.variances: dict[str, NoiseSchedule] = {schedule.variance_type: schedule} | others
        """The schedule under every variance whose bound is known, by its name, that of the model before the others."""

    def _batches(self, count: int, seconds: float) -> Iterator[slice]:
        """0 ... count in slices, each of which takes the network about `seconds`."""
        first = 0
        while first < count:
            size = 4 if self._seconds is None else int(seconds / self._seconds)
            size = self._max_batch if self._whole_batches else size
            batch = slice(first, min(first + max(1, min(size, self._max_batch)), count))
            yield batch
            first = batch.stop

    def is_fast(self, kind: str) -> bool:
        """Whether a reading is done within PREPARED_S, as far as is known."""
        count = len(self.timesteps) if kind == "predict" else self._schedule.num_steps
        count = CLASSIFY_TIMESTEPS * (len(self.classes) + 1) if kind == "classify" and self.classes else count
        return (self._seconds or 0) * count < PREPARED_S

    def eps_hat(self, xt: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) predicted noise at (B,) 0-based t, on the CPU."""
        return Joined(self._both)(xt, t)

    def _both(self, xt: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The predicted noise, with v behind it where the variance is learned, on the CPU; see `Joined`.

        Args:
            labels: (B,) numbers of classes, -1 for none.
        """
        started = time.monotonic()
        predicted = self._eps_theta(xt, t, labels).cpu()
        taken = (time.monotonic() - started) / len(t)
        # The measured time includes waiting for others' calls, so the estimate falls at once and rises slowly.
        self._seconds = taken if self._seconds is None else min(taken, 1.05 * self._seconds)
        return predicted

    def _noise(self, seed: int) -> Tensor:
        """(1, C, H, W) float32 from N(0, I): the noise that the browser shows for this seed."""
        return to_tensor(browser_normal(seed, math.prod(self.shape)), self.shape)

    def noised(self, pixels: bytes, noise_seed: int, t: int) -> Tensor:
        """x_t (1, C, H, W) of a picture, as the browser shows it (Eq. 4); t is 0-based."""
        x0 = pixels_to_tensor(pixels, self.shape)
        return self._schedule.q_sample(x0, self._noise(noise_seed), torch.tensor([t]))

    # ------------------------------------------------------------------------------------------------ what is computed

    def predict(self, request: PictureRequest) -> Iterator[Message]:
        """eps_hat at each of `timesteps`, for the same noise. A small network is called once; a slow one answers for
        some of the timesteps, see ENOUGH.

        Yields:
            {"kind": "part", "done", "total"} after each call; after the last one the store holds the `Prediction`.
        """
        x0, eps = pixels_to_tensor(request.pixels, self.shape), self._noise(request.noise_seed)
        t = torch.tensor(self.timesteps)[coarse_to_fine(len(self.timesteps))]
        answers, mse, spent = [], [], 0.0
        for part in self._batches(len(t), self._limits.predict_call_s):
            n = part.stop - part.start
            xt = self._schedule.q_sample(x0.expand(n, -1, -1, -1), eps.expand(n, -1, -1, -1), t[part])
            eps_hat = self.eps_hat(xt, t[part])
            mse.append((eps_hat - eps).double().square().flatten(1).mean(1))
            answers.append(thinned(eps_hat, self.factor, smooth=False))
            yield {"kind": "part", "done": part.stop, "total": len(t)}
            spent += n * (self._seconds or 0)
            if part.stop >= LEAST_TIMESTEPS and spent > ENOUGH * self._limits.predict.own_s:
                break
        answered, order = t[: sum(map(len, mse))].sort()
        data = torch.cat(answers)[order].permute(0, 2, 3, 1).numpy().astype("<f2").tobytes()
        self._store.put(Prediction(request.key, (answered + 1).tolist(), torch.cat(mse)[order].tolist(), data))

    def bound(self, request: PictureRequest) -> Iterator[Message]:
        """Every term of the bound, each with noise of its own: what `elbo_terms` gives for a generator of this seed.

        Yields:
            {"kind": "part", "done", "total", "bits", "mse", "others"} after each call of the network, where `bits`,
            `mse` and `others` are the new terms up to t = `done`; after the last one the store holds the `Bound`.
        """
        started = time.monotonic()
        x0, T = pixels_to_tensor(request.pixels, self.shape), self._schedule.num_steps
        generator = torch.Generator().manual_seed(request.noise_seed)
        bits, mse = {kind: np.empty(T) for kind in self.variances}, np.empty(T)
        own, *others = bits
        for part in self._batches(T, self._limits.bound_call_s):
            t = torch.arange(part.start, part.stop)
            eps = torch.cat([torch.randn(x0.shape, generator=generator) for _ in t])
            with torch.no_grad():
                found, m = terms_by_variance(Joined(self._both), self.variances, x0.expand(len(t), -1, -1, -1), eps, t)
            for kind, terms in found.items():
                bits[kind][part] = terms.numpy()
            mse[part] = m.numpy()
            new: dict[str, Any] = {"bits": short(found[own].tolist()), "mse": short(m.tolist())}
            new["others"] = {kind: short(found[kind].tolist()) for kind in others}
            yield {"kind": "part", "done": part.stop, "total": T, **new}
        floors = {kind: float(decoder_floor(each, x0)) for kind, each in self.variances.items()}
        prior, seconds = float(prior_bits(self._schedule, x0)), time.monotonic() - started
        terms = {kind: bits[kind] for kind in others}
        self._store.put(Bound(request.key, prior, bits[own], mse, seconds, terms, floors))

    def classify(self, request: PictureRequest, stopped: Callable[[], bool] = lambda: False) -> Iterator[Message]:
        """p(y | x_0) over the labels y from the bound: what `class_posterior` gives for a generator of this seed.

        Yields:
            {"kind": "part", "done", "evaluations", "probabilities", "bits"} after every few timesteps, of which `done`
            are done, with the fields of `Classified`; after the last one the store holds the `Classified`.
        Raises:
            InputError: the model has no labels, or it takes longer than `Limits.classify`.
            StoppedError: `stopped` said so before a call of the network.
        """
        if self.classes is None:
            raise InputError("refused.no_classes")
        began, spent = time.monotonic(), 0.0

        def both(xt: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            nonlocal spent
            answers = []
            for part in self._batches(len(xt), self._limits.classify_call_s):
                if stopped():
                    raise StoppedError
                answers.append(self._both(xt[part], t[part], labels[part]))
                spent += (part.stop - part.start) * (self._seconds or 0)
                self._limits.classify.check(spent, time.monotonic() - began)
            return torch.cat(answers)

        x0, draw = pixels_to_tensor(request.pixels, self.shape)[0], np.random.default_rng(request.noise_seed)
        found = None
        for posterior in class_posterior_steps(Joined(both), self._schedule, x0, len(self.classes), draw=draw):
            found = classified(request.key, posterior, time.monotonic() - began)
            shown = {"evaluations": found.evaluations, "probabilities": found.probabilities, "bits": found.bits}
            yield {"kind": "part", "done": found.timesteps, **shown}
        assert found is not None
        self._store.put(found)

    def get_or_classify(self, request: PictureRequest, stopped: Callable[[], bool] = lambda: False) -> Classified:
        """What the bound says about the label of a picture, from the store if it is there; raises as `classify`."""
        if self._store.get(request.key) is None:
            for _ in self.classify(request, stopped):
                pass
        found = self._store.get(request.key)
        assert isinstance(found, Classified)
        return found

    def _within_limit(self, request: PictureRequest) -> Iterator[Message]:
        """The messages of `predict` or `bound`, as the request says.

        Raises:
            InputError: it takes longer than its `Allowance`.
        """
        if request.kind == "predict":
            work, allowance = self.predict(request), self._limits.predict
        else:
            work, allowance = self.bound(request), self._limits.bound
        began, spent, done = time.monotonic(), 0.0, 0
        for message in work:
            yield message
            spent, done = spent + (message["done"] - done) * (self._seconds or 0), message["done"]
            allowance.check(spent, time.monotonic() - began)

    def get_or_compute_bound(self, request: PictureRequest, stopped: Callable[[], bool] = lambda: False) -> Bound:
        """The bound of a picture, from the store if it is there.

        Raises:
            InputError: it takes longer than `Limits.bound`.
            StoppedError: `stopped` said so after a call of the network.
        """
        if self._store.get(request.key) is None:
            for _ in self._within_limit(request):
                if stopped():
                    raise StoppedError
        found = self._store.get(request.key)
        assert isinstance(found, Bound)
        return found

    # ----------------------------------------------------------------------------------------- what visitors ask for

    def read(self, kind: str, raw: object) -> Iterator[Message]:
        """Answer an event of the page with the messages of its reading, then with the key of what the store holds.

        The messages end, without a last one and before the next call of the network, once the visitor waits for a
        later request.

        Args:
            kind: "predict", "bound" or "classify".
            raw: from the browser: the fields of PictureRequest, and those of `Visitors.expect`, of which `run` is
                sent back with every message.
        Yields:
            Those messages, then {"kind": "done", "key"}; or {"kind": "refused", "key", "fields"}, or
            {"kind": "failed"} for a fault of ours, which is logged.
        """
        asked = self._visitors.expect(kind, raw)
        yield from answered(self._read(raw, asked), asked.number)

    def _read(self, raw: object, asked: Asked) -> Generator[Message, None, None]:
        request = PictureRequest.check(raw, asked.kind, self.shape)
        if self._store.get(request.key) is None:
            work = self._classify_for(request, asked) if asked.kind == "classify" else self._within_limit(request)
            while not self._visitors.is_stale(asked) and (message := next(work, None)):
                yield message
        if not self._visitors.is_stale(asked):
            yield {"kind": "done", "key": request.key}

    def _classify_for(self, request: PictureRequest, asked: Asked) -> Iterator[Message]:
        """The messages of `classify`, each with the number of all timesteps as `total`, while the visitor waits."""
        total = min(CLASSIFY_TIMESTEPS, self._schedule.num_steps)
        for message in self.classify(request, lambda: self._visitors.is_stale(asked)):
            yield {**message, "total": total}

    def get(self, key: object) -> dict[str, Any] | None:
        """What the store holds under the key of a "done" message. Called outside Gradio's queue: it only looks up."""
        found = self._store.get(key)
        return found.as_json() if isinstance(found, Prediction | Bound | Classified) else None

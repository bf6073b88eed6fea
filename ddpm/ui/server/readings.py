"""What the network says about one picture: its noise at a spread of t (tab 2), every term of the bound (tab 3).

t is 0-based in `ddpm.elbo` and 1-based in everything that leaves this module.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm.elbo import EpsTheta, prior_bits, terms_at
from ddpm.schedule import NoiseSchedule
from ddpm.ui.server.requests import InputError, PictureRequest, answered
from ddpm.ui.server.store import Store, to_base64

LIMIT_S = {"predict": 60, "bound": 240}  # of the network's own ...
WALL_LIMIT_S = {"predict": 300, "bound": 900}  # ... and with the waits for others' turns
PREPARED_S = 60  # what takes longer waits until a visitor asks for it
CALL_S = 0.5  # a call of the network takes about so long at most: others wait for it, and so does Stop
PROGRESS_S = 0.15  # ... and where the visitor watches
NUM_TIMESTEPS = 64
READING_BYTES = 2 * 2**20  # eps_hat of one picture at all its t, at most about this much
MAX_VISITORS = 512


def browser_normal(seed: int, n: int) -> np.ndarray:
    """`ddpm.normal(seed, n)` of static/ddpm.js: n float32 from N(0, 1), so that a seed names the noise in both."""
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.arange(1, 2 * -(-n // 2) + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        z = (state ^ state >> 15) * (state | np.uint32(1))
        z ^= z + (z ^ z >> 7) * (z | np.uint32(61))
    uniform = (z ^ z >> 14) / 2**32
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[::2])), 2 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()[:n].astype(np.float32)


def spread(num_steps: int, count: int) -> list[int]:
    """At most `count` timesteps, 0-based, both ends among them: a part evenly, a part in proportion to t, since the
    error of a network changes fastest at the clean end."""
    even, proportional = count * 5 // 8, count - count * 5 // 8
    t = np.concatenate([np.linspace(1, num_steps, even), np.geomspace(1, num_steps, proportional)])
    return sorted({round(x) - 1 for x in t.tolist()})


@dataclass(eq=False)
class Prediction:
    """eps_hat of one picture and noise: `t` (1-based), `mse` of each, `data` (len(t), H, W, C) float16."""

    key: str
    t: list[int]
    mse: list[float]
    data: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def as_json(self) -> dict[str, Any]:
        return {"t": self.t, "mse": self.mse, "data": to_base64(self.data)}


@dataclass(eq=False)
class Bound:
    """Terms of one picture's bound in bits per dimension: `bits` (T,) of t = 1 ... T, the first of which is L_0;
    `prior` is L_T. `mse` (T,) as `ElboTerms.eps_mse`."""

    key: str
    prior: float
    bits: np.ndarray
    mse: np.ndarray
    seconds: float

    @property
    def num_bytes(self) -> int:
        return self.bits.nbytes + self.mse.nbytes

    @property
    def total(self) -> float:
        return self.prior + float(self.bits.sum())

    def as_json(self) -> dict[str, Any]:
        shown = {"prior": self.prior, "total": self.total, "seconds": round(self.seconds, 1)}
        return {**shown, "bits": self.bits.tolist(), "mse": self.mse.tolist()}


class Readings:
    """Asks the network about pictures, a batch of timesteps at a time.

    Args:
        eps_theta: predicted noise; calls take turns with those of the rest of the page.
        shape: (H, W, C) of a picture.
        store: keeps what was computed.
        whole_batches: every call is as large as memory allows, for a call costs the same whatever it holds.
    """

    def __init__(
        self,
        eps_theta: EpsTheta,
        schedule: NoiseSchedule,
        shape: tuple[int, int, int],
        store: Store,
        whole_batches: bool = False,
    ) -> None:
        self._eps_theta, self._schedule, self.shape, self._store = eps_theta, schedule, shape, store
        pixels, channels = shape[0] * shape[1], shape[2]
        self._max_batch, self._whole_batches = max(1, 2**16 // pixels), whole_batches
        self._seconds: float | None = None  # of the network for one picture, as measured
        count = max(8, min(NUM_TIMESTEPS, READING_BYTES // (2 * pixels * channels)))
        self.timesteps = spread(schedule.num_steps, count)
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def _batches(self, count: int, seconds: float) -> Iterator[slice]:
        """0 ... count in pieces that the network does in about `seconds` each."""
        first = 0
        while first < count:
            size = 4 if self._seconds is None else int(seconds / self._seconds)
            size = self._max_batch if self._whole_batches else size
            batch = slice(first, min(first + max(1, min(size, self._max_batch)), count))
            yield batch
            first = batch.stop

    def is_fast(self, kind: str) -> bool:
        """Whether it is done within PREPARED_S, as far as is known."""
        count = len(self.timesteps) if kind == "predict" else self._schedule.num_steps
        return (self._seconds or 0) * count < PREPARED_S

    def eps_hat(self, xt: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) predicted noise at (B,) 0-based t, on the CPU."""
        started = time.monotonic()
        predicted = self._eps_theta(xt, t).cpu()
        taken = (time.monotonic() - started) / len(t)
        # Waiting for others' calls is in it, so it falls at once and rises slowly.
        self._seconds = taken if self._seconds is None else min(taken, 1.05 * self._seconds)
        return predicted

    def _image(self, pixels: bytes) -> Tensor:
        """(1, C, H, W) float32, exactly pixel / 127.5 - 1."""
        array = np.frombuffer(pixels, np.uint8).reshape(self.shape).astype(np.float64)
        return torch.from_numpy(array / 127.5 - 1).float().permute(2, 0, 1)[None]

    def _noise(self, seed: int) -> Tensor:
        """(1, C, H, W) float32 from N(0, I): the noise that the browser shows for this seed."""
        noise = browser_normal(seed, math.prod(self.shape)).reshape(self.shape)
        return torch.from_numpy(noise).permute(2, 0, 1)[None]

    def noised(self, pixels: bytes, noise_seed: int, t: int) -> Tensor:
        """x_t (1, C, H, W) of a picture, as the browser shows it (Eq. 4); t is 0-based."""
        return self._schedule.q_sample(self._image(pixels), self._noise(noise_seed), torch.tensor([t]))

    def predict(self, request: PictureRequest) -> Iterator[dict[str, Any]]:
        """eps_hat at every one of `timesteps`, for the same noise: one call of the network unless it is a large one.

        Yields:
            {"kind": "part", "done", "total"} after each call; after the last one the store holds the `Prediction`.
        """
        x0, eps = self._image(request.pixels), self._noise(request.noise_seed)
        t = torch.tensor(self.timesteps)
        eps_hat = torch.empty(len(t), *x0.shape[1:])
        for part in self._batches(len(t), CALL_S):
            n = part.stop - part.start
            xt = self._schedule.q_sample(x0.expand(n, -1, -1, -1), eps.expand(n, -1, -1, -1), t[part])
            eps_hat[part] = self.eps_hat(xt, t[part])
            yield {"kind": "part", "done": part.stop, "total": len(t)}
        mse = (eps_hat - eps).double().square().flatten(1).mean(1)
        data = eps_hat.permute(0, 2, 3, 1).numpy().astype("<f2").tobytes()
        self._store.put(Prediction(request.key, (t + 1).tolist(), mse.tolist(), data))

    def bound(self, request: PictureRequest) -> Iterator[dict[str, Any]]:
        """Every term of the bound, each with noise of its own: what `elbo_terms` gives for a generator of this seed.

        Yields:
            {"kind": "part", "done", "total", "bits", "mse"} after each call of the network, the terms of
            t = 1 ... done that are new; after the last one the store holds the `Bound`.
        """
        started = time.monotonic()
        x0, T = self._image(request.pixels), self._schedule.num_steps
        generator = torch.Generator().manual_seed(request.noise_seed)
        bits, mse = np.empty(T), np.empty(T)
        for part in self._batches(T, PROGRESS_S):
            t = torch.arange(part.start, part.stop)
            eps = torch.cat([torch.randn(x0.shape, generator=generator) for _ in t])
            with torch.no_grad():
                b, m = terms_at(self.eps_hat, self._schedule, x0.expand(len(t), -1, -1, -1), eps, t)
            bits[part], mse[part] = b.numpy(), m.numpy()
            new = {"bits": [float(f"{v:.4g}") for v in b.tolist()], "mse": [float(f"{v:.4g}") for v in m.tolist()]}
            yield {"kind": "part", "done": part.stop, "total": T, **new}
        prior = float(prior_bits(self._schedule, x0))
        self._store.put(Bound(request.key, prior, bits, mse, time.monotonic() - started))

    def _within_limit(self, kind: str, request: PictureRequest) -> Iterator[dict[str, Any]]:
        began, spent, done = time.monotonic(), 0.0, 0
        for message in getattr(self, kind)(request):
            yield message
            spent, done = spent + (message["done"] - done) * self._seconds, message["done"]
            if spent > LIMIT_S[kind]:
                raise InputError("refused.slow", limit=LIMIT_S[kind])
            if time.monotonic() - began > WALL_LIMIT_S[kind]:
                raise InputError("refused.crowded", limit=WALL_LIMIT_S[kind])

    def whole(self, request: PictureRequest) -> Prediction | Bound:
        """What `predict` or `bound`, as the request says, puts into the store; from there if it is known.

        Raises:
            InputError: it took longer than LIMIT_S or WALL_LIMIT_S.
        """
        for _ in self._within_limit(request.kind, request) if self._store.get(request.key) is None else ():
            pass
        return self._store.get(request.key)

    def read(self, kind: str, raw: object) -> Iterator[dict[str, Any]]:
        """An event of the page: the messages of `predict` or `bound`, then the key of the whole.

        Ends without a word, before the next call of the network, once its visitor waits for a later run (`expect`).

        Args:
            kind: "predict" or "bound".
            raw: from the browser: the fields of PictureRequest, `visitor`, and `run`, which is echoed.
        Yields:
            Those messages, then {"kind": "done", "key"}; or {"kind": "refused", "key", "fields"}, or
            {"kind": "failed"} for a fault of ours, which is logged.
        """
        visitor, run = self.expect(kind, raw)
        yield from answered(self._read(kind, raw, visitor, run), run)

    def _read(self, kind: str, raw: object, visitor: str, run: int) -> Generator[dict[str, Any], None, None]:
        request = PictureRequest.check(raw, kind, self.shape)
        if self._store.get(request.key) is None:
            work = self._within_limit(kind, request)
            while not self.is_stale(kind, visitor, run) and (message := next(work, None)):
                yield message
        if not self.is_stale(kind, visitor, run):
            yield {"kind": "done", "key": request.key}

    def expect(self, kind: str, raw: object) -> tuple[str, int]:
        """A visitor waits for this run now, and for none before it. Called outside Gradio's queue, where runs may wait
        behind others': O(1). The oldest visitors are forgotten.

        Args:
            raw: from the browser: `visitor`, a name that the page made up, and `run`, which counts up.
        """
        raw = raw if isinstance(raw, dict) else {}
        visitor, run = raw.get("visitor"), raw.get("run")
        visitor = visitor[:40] if isinstance(visitor, str) else ""
        run = run if isinstance(run, int) and abs(run) < 2**31 else 0  # a larger one, echoed, would break the stream
        if visitor:
            with self._lock:
                self._newest[kind, visitor] = max(run, self._newest.get((kind, visitor), 0))
                self._newest.move_to_end((kind, visitor))
                while len(self._newest) > MAX_VISITORS:
                    self._newest.popitem(last=False)
        return visitor, run

    def is_stale(self, kind: str, visitor: str, run: int) -> bool:
        """Whether its visitor waits for a later run."""
        return self._newest.get((kind, visitor), run) > run

    def get(self, key: object) -> dict[str, Any] | None:
        """What the store holds under the key of a "done" message. Called outside Gradio's queue: only looks up."""
        found = self._store.get(key)
        return found.as_json() if isinstance(found, Prediction | Bound) else None

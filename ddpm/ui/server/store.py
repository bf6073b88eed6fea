"""What is on its way to the browser: a trajectory, and the bounded store that keeps what was computed."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ddpm.ui.server.requests import DenoiseRequest, SampleRequest

STORE_BYTES = 96 * 2**20


@dataclass(eq=False)
class Trajectory:
    """Frames of one run, each (3, n, H, W, C) uint8: x_t, x0_hat, eps_hat; `t` (1-based, descending) of each frame.

    `calls` of the network were made. `seconds` are those of the run's own steps, without waiting for others' turns.
    `reach` is the largest |x0_hat| of each frame, which its bytes cannot show beyond 1.
    """

    request: SampleRequest | DenoiseRequest
    calls: int = 0
    seconds: float = 0.0
    t: list[int] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.request.key

    def add(self, t: int, frame: bytes, x0_hat: Tensor) -> None:
        """One more frame."""
        self.t.append(t)
        self.frames.append(frame)
        self.reach.append(round(float(x0_hat.abs().max()), 3))

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.frames))

    @property
    def finished(self) -> bytes:
        """The finished pictures, (n, H, W, C) uint8."""
        return self.frames[-1][: len(self.frames[-1]) // 3]

    def as_json(self, only_finished: bool = False) -> dict[str, Any]:
        """All of it as the browser takes it, the frames in one base64 string; or instead of them `finished` alone."""
        return {
            "request": self.request.as_json(),
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "reach": self.reach,
            "n": self.request.num_images,
            "t": [0] if only_finished else self.t,
            "data": to_base64(self.finished if only_finished else b"".join(self.frames)),
        }


class Kept(Protocol):
    """What a store can keep."""

    @property
    def key(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...


class Store:
    """Finished work by key, the least recently used dropped once they outgrow `max_bytes`. Thread-safe."""

    def __init__(self, max_bytes: int = STORE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, item: Kept) -> None:
        """Keep it, and drop others for it; one larger than the whole store is kept alone."""
        with self._lock:
            self._kept[item.key] = item
            self._kept.move_to_end(item.key)
            while len(self._kept) > 1 and sum(kept.num_bytes for kept in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)

    def get(self, key: object) -> Kept | None:
        with self._lock:
            if not isinstance(key, str) or key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]


def to_base64(data: bytes | np.ndarray) -> str:
    """The bytes of an array, row by row, as ASCII."""
    return base64.b64encode(np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data).decode()

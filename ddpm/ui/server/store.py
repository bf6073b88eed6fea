"""The bounded store of what was computed for visitors, and the largest thing in it: a trajectory."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ddpm.ui.server.encoding import to_base64
from ddpm.ui.server.from_picture import FromPicture
from ddpm.ui.server.requests import InputError, SampleRequest

STORE_BYTES = 96 * 2**20


@dataclass(eq=False)
class Trajectory:
    """One sampling: what the browser scrubs through.

    Args:
        request: what was sampled.
        calls: how often the network was called.
        seconds: spent on the sampling's own steps, without the time in which others had their turn.
        side, height: width and height of the pictures in `frames`, which may be smaller than those of the model.
        t: of each frame, 1-based and descending; 0 is the finished sample.
        reach: the largest |x0_hat| of each frame, since its bytes cannot show more than 1.
        frames: x_t, x0_hat and eps_hat of each t, (3, n, height, side, C) uint8.
        whole: the finished pictures in the size of the model, (n, H, W, C) uint8; empty if the frames have that size.
        noise: of a picture that was turned into noise, (1, H, W, C) uint8, where 0 to 255 stands for -3 to 3; empty for
            all others.
    """

    request: SampleRequest | FromPicture
    calls: int = 0
    seconds: float = 0.0
    side: int = 0
    height: int = 0
    t: list[int] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    whole: bytes = b""
    noise: bytes = b""

    @property
    def key(self) -> str:
        return self.request.key

    def add(self, t: int, frame: bytes, x0_hat: Tensor) -> None:
        """Add a frame, and the x0_hat that it shows.

        Raises:
            InputError: x0_hat is not finite.
        """
        reach = float(x0_hat.abs().max())
        if not math.isfinite(reach):
            raise InputError("refused.not_finite")
        self.t.append(t)
        self.frames.append(frame)
        self.reach.append(round(reach, 3))

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.frames)) + len(self.whole) + len(self.noise)

    @property
    def finished(self) -> bytes:
        """The finished pictures, (n, H, W, C) uint8."""
        return self.whole or self.frames[-1][: len(self.frames[-1]) // 3]

    def as_json(self, frames: object = None) -> dict[str, Any]:
        """The trajectory as the browser takes it.

        Args:
            frames: the indices of the frames to send, as a browser asks for them: a large trajectory travels in parts.
                Whatever is no such index is left out; None: all frames.
        Returns:
            `t` and `reach` of all frames; in `data` the asked frames in one base64 string, and beside the last one the
            `whole` pictures, if the frames are smaller.
        """
        count = len(self.frames)
        asked = range(count) if frames is None else frames if isinstance(frames, list) else []
        indices = [i for i in asked[:count] if type(i) is int and 0 <= i < count]
        return {
            **self._head(),
            "reach": self.reach,
            "side": self.side,
            "height": self.height,
            "t": self.t,
            "data": to_base64(b"".join(self.frames[i] for i in indices)),
            "whole": to_base64(self.whole) if count - 1 in indices else "",
        }

    def finished_as_json(self) -> dict[str, Any]:
        """The end of the trajectory as the browser takes it: `finished` in the place of the frames."""
        noise = {"noise": to_base64(self.noise)} if self.noise else {}
        return {**self._head(), "t": [0], "data": to_base64(self.finished), **noise}

    def _head(self) -> dict[str, Any]:
        return {
            "request": self.request.as_json(),
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "n": self.request.num_images,
        }


class Kept(Protocol):
    """What a store can keep."""

    @property
    def key(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...


class Store:
    """Finished work by its key. Beyond `max_bytes` the store drops what was used least recently. Thread-safe."""

    def __init__(self, max_bytes: int = STORE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, model: str) -> StoreOf:
        """The part of a model."""
        return StoreOf(self, model)

    def put(self, item: Kept, key: str | None = None) -> None:
        """Keep an item, by its own key or by another, and drop others to make room. An item larger than the whole
        store is kept alone."""
        key = item.key if key is None else key
        with self._lock:
            self._kept[key] = item
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(kept.num_bytes for kept in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)

    def get(self, key: object) -> Kept | None:
        """The item of this key, which may be anything that a browser sent; None if there is none."""
        with self._lock:
            if not isinstance(key, str) or key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]


class StoreOf:
    """The part of a store that belongs to one model, whose name is in each of its keys."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model

    def put(self, item: Kept) -> None:
        """As `Store.put`; all models share its room."""
        self._store.put(item, f"{self._model}/{item.key}")

    def get(self, key: object) -> Kept | None:
        """As `Store.get`."""
        return self._store.get(f"{self._model}/{key}") if isinstance(key, str) else None

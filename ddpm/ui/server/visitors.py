"""Which request each visitor waits for, so that the server stops working for a request that was replaced."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

MAX_VISITORS = 512
MAX_NAME = 40
MAX_NUMBER = 2**31  # a larger number, sent back to the browser, would break Gradio's stream


class StoppedError(Exception):
    """Nobody waits for this work any more, or the server ends."""


class Asked(NamedTuple):
    """A request of a page: its kind (the name of the event), who sent it, and its number."""

    kind: str
    visitor: str
    number: int


class Visitors:
    """The newest request of each kind that every visitor waits for. Thread-safe.

    Args:
        most: how many pairs of kind and visitor are remembered; the oldest are forgotten.
    """

    def __init__(self, most: int = MAX_VISITORS) -> None:
        self._most = most
        self._newest: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._newest)

    def expect(self, kind: str, raw: object) -> Asked:
        """Note that a visitor waits for this request now, and for none before it.

        The page calls this outside Gradio's queue as well, since the request itself may wait there behind others; so
        it takes constant time.

        Args:
            raw: from the browser: `visitor`, a name that the page made up, and `run`, the request's number, which the
                page counts up.
        """
        visitor = visitor_name(raw.get("visitor") if isinstance(raw, dict) else None)
        number = run_number(raw)
        if visitor:
            with self._lock:
                self._newest[kind, visitor] = max(number, self._newest.get((kind, visitor), 0))
                self._newest.move_to_end((kind, visitor))
                while len(self._newest) > self._most:
                    self._newest.popitem(last=False)
        return Asked(kind, visitor, number)

    def is_stale(self, asked: Asked) -> bool:
        """Whether the visitor waits for a later request by now."""
        return self._newest.get((asked.kind, asked.visitor), asked.number) > asked.number


def visitor_name(raw: object) -> str:
    """The name that a page made up for its visitor; empty if the browser sent anything else."""
    return raw[:MAX_NAME] if isinstance(raw, str) else ""


def run_number(raw: object) -> int:
    """The number of a request; 0 if the browser sent anything else."""
    number = raw.get("run") if isinstance(raw, dict) else None
    return number if isinstance(number, int) and abs(number) < MAX_NUMBER else 0

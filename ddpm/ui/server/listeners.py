"""Who listens for answers. Work for somebody who went away, or who never listened, ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# A caller who has asked and does not listen yet (a person with curl, a page on a slow line) is waited for so long.
PATIENCE_S = 20.0


class Listeners:
    """The sessions that have a stream of answers open. Thread-safe."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, session: str) -> Iterator[None]:
        """While this lasts, a session has a stream open. It may have several."""
        with self._lock:
            self._open[session] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[session] -= 1
                if not self._open[session]:
                    del self._open[session]

    def hear(self, session: str) -> bool:
        """Whether a session has a stream open."""
        return session in self._open

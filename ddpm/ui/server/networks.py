"""The networks in memory: a few of them, however many models there are, and one thread that computes with all."""

from __future__ import annotations

import contextvars
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from ddpm.engine import Engine
from ddpm.ui.server.visitors import StoppedError

MAX_KEPT = 3  # networks in memory, each with its weights and what is compiled from them

Answer = TypeVar("Answer")


class Networks:
    """The networks that are in memory, at most `most`; the one that was used least recently makes room for another.

    One that a request uses stays until that request ends. So there are more than `most` only while more than `most`
    models are asked at the same moment.

    All calls of all networks share one thread: examples and visitors' samplings take turns step by step, and there is
    one OpenMP team. Gradio resumes a generator in any of 40 threads, and their teams would compete for the cores.
    """

    def __init__(self, most: int = MAX_KEPT) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._engines: OrderedDict[Network, Engine] = OrderedDict()  # only the thread changes it
        self._users: Counter[Network] = Counter()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The models whose networks are in memory, the least recently used first."""
        return [network.name for network in list(self._engines)]

    def submit(self, network: Network, compute: Callable[[Engine], Answer]) -> Future[Answer]:
        """Compute with a network once it is its turn, and read it before that if it is not in memory.

        The work runs in the caller's context, so that a leased GPU is leased to the visitor whose request this is.

        Raises:
            StoppedError: the server ends.
        """
        work = partial(contextvars.copy_context().run, lambda: compute(self._open(network)))
        try:
            return self._thread.submit(work)
        except RuntimeError as error:
            if self._closed:
                raise StoppedError("the server ends") from error
            raise

    def _open(self, network: Network) -> Engine:
        if network not in self._engines:
            self._make_room(self._most - 1)
            self._engines[network] = network.make()
        self._engines.move_to_end(network)
        return self._engines[network]

    def _make_room(self, most: int) -> None:
        """Drop networks that nobody uses, until there are at most so many."""
        for network in list(self._engines):
            if len(self._engines) <= most:
                return
            if not network.stays and not self._users[network]:
                self._engines.pop(network).close()

    @contextmanager
    def in_use(self, network: Network) -> Iterator[None]:
        """While this lasts, the network is not dropped once it is in memory."""
        with self._lock:
            self._users[network] += 1
        try:
            yield
        finally:
            with self._lock:
                self._users[network] -= 1
            if len(self._engines) > self._most:
                try:
                    self._thread.submit(self._make_room, self._most)
                except RuntimeError:  # closed meanwhile
                    return

    def close(self) -> None:
        """Let the call that runs end, and none begin."""
        self._closed = True
        self._thread.shutdown(cancel_futures=True)
        while self._engines:
            self._engines.popitem()[1].close()


class Network:
    """One model's network, in memory or not.

    Args:
        name: of the model.
        make: reads the weights and prepares the network. It may raise ValueError if they are damaged.
        stays: the network is never dropped.
    """

    def __init__(self, networks: Networks, name: str, make: Callable[[], Engine], stays: bool = False) -> None:
        self._networks, self.name, self.make, self.stays = networks, name, make, stays

    def load(self) -> Future[None]:
        """Read the network in the background, if it is not in memory.

        Raises:
            StoppedError: the server ends.
        """
        return self._networks.submit(self, lambda engine: None)

    def run(self, compute: Callable[[Engine], Answer]) -> Answer:
        """What `compute` returns for the network, and raises; so do errors of `make`.

        Raises:
            StoppedError: the server ends.
        """
        try:
            return self._networks.submit(self, compute).result()
        except CancelledError as error:
            raise StoppedError("the server ends") from error

    def soon(self, compute: Callable[[Engine], object]) -> None:
        """As `run`, without waiting. It raises StoppedError, too."""
        self._networks.submit(self, compute)

    def in_use(self):
        """A context: while it lasts, the network is not dropped once it is in memory."""
        return self._networks.in_use(self)

"""The models of a page as they are known before the libraries that compute with them are imported.

The page can be built and served from this. What needs a network waits until `open` has found the models themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ddpm.config import TrainConfig
from ddpm.hub.privacy import with_short_paths
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.visitors import StoppedError, Visitors, run_number

if TYPE_CHECKING:
    from ddpm.ui.server.models import Models
    from ddpm.ui.server.service import Service

log = logging.getLogger(__name__)

WORD_S = 0.25  # between two words that the models are not there; whoever passes them on notices who has left

LookUp = Callable[["Service", Any], Any]
"""What a server function finds for a model; it gets one argument beside the model, and may only look things up."""

Work = Callable[["Service", object], Iterator[dict[str, Any]]]
"""Answers an event, from what the browser sent with it."""


class ClosedError(StoppedError):
    """The server ends before its models are there."""


class Catalogue:
    """All models of a page, the one that is shown first before the others.

    Args:
        known: the facts of each model by its name, or the reason, in one line, why it cannot be used.
        find: finds the models themselves, and imports what computes with them.
        live: what the live training trains; None if this server does not train.
        visitors: which request each of them waits for; the models share it.
    """

    def __init__(
        self,
        known: Mapping[str, Facts | str],
        find: Callable[[], Models],
        live: TrainConfig | None = None,
        visitors: Visitors | None = None,
    ) -> None:
        self._known, self._find, self.live = dict(known), find, live
        self.visitors = Visitors() if visitors is None else visitors  # an empty one is false
        self._models: Models | None = None
        self._asked: list[str] = []  # models whose pages were shown before `open`
        self._lock = threading.Lock()  # of both
        self._opened = threading.Event()

    @classmethod
    def of(cls, models: Models) -> Catalogue:
        """Of models that are there already."""
        live = models.shared.live and models.shared.live.config
        known = {name: models.facts(name) for name in models.names}
        made = cls(known, lambda: models, live, models.shared.visitors)
        made._models = models
        made._opened.set()
        return made

    def open(self) -> Models:
        """Find the models, once. What waits for them goes on."""
        if self._models is None:
            try:
                models = self._find()
                with self._lock:
                    self._models = models
            finally:
                self._opened.set()
            for name in self._known.keys() & models.names:
                if models.reason(name) is None and models.facts(name) != self._known[name]:
                    log.warning("%s differs from what the page shows; see ddpm.ui.server.opening.keep_facts", name)
        return self._models

    @property
    def models(self) -> Models:
        """The models themselves; waits until they are found.

        Raises:
            ClosedError: they were not.
        """
        self._opened.wait()
        if self._models is None:
            raise ClosedError("there are no models")
        return self._models

    @property
    def is_open(self) -> bool:
        """Whether the models themselves have been found."""
        return self._models is not None

    def is_settled(self) -> bool:
        """Whether the models have been found, or never will be."""
        return self._opened.is_set()

    @property
    def names(self) -> list[str]:
        """Of all models, also of those that cannot be used."""
        return list(self._known)

    @property
    def usable(self) -> list[Facts]:
        """Of the models that can be used, as far as is known."""
        names = [service.name for service in self._models.services] if self._models else self._known
        return [facts for name in names if isinstance(facts := self._known.get(name), Facts)]

    def facts(self, name: str) -> Facts | str:
        """What is known of a model, or, for visitors, why it cannot be used."""
        known = self._known[name]
        if self._models and (reason := self._models.reason(name)) is not None:
            return reason
        return with_short_paths(known) if isinstance(known, str) else known

    def like(self, facts: Facts) -> list[Facts]:
        """The models whose pictures have the same size and channels, this one among them. They can share a noise."""
        return [each for each in self.usable if each.shape == facts.shape]

    def show(self, name: object) -> str:
        """The name of the model of the page that a visitor is to see; see `Models.show`."""
        with self._lock:
            if not self._models:
                first = self.usable[0].name
                if not isinstance(name, str) or not isinstance(self._known.get(name), Facts):
                    return first
                if name != first and name not in self._asked:
                    self._asked.append(name)
                return name
        return self._models.show(name).name

    def take_asked(self) -> list[str]:
        """The models whose pages were shown before the models were there; each is named once."""
        with self._lock:
            asked, self._asked = self._asked, []
        return asked

    def look_up(self, function: LookUp) -> Callable[[Any], Any]:
        """A server function of the page; see `Models.look_up`. While the models are not there, it returns
        {"kind": "waking"}."""

        def found(sent: Any) -> Any:
            return self._models.look_up(function, sent) if self._models else {"kind": "waking"}

        found.__name__ = function.__name__  # and not what functools.wraps does: Gradio counts the arguments of `found`
        return found

    def answer(self, event: str, sent: object, work: Work) -> Iterator[dict[str, Any]]:
        """The messages of an event; see `Models.answer`. Before the models are there, they say so now and then, and end
        once the visitor has stopped the request or sent another, so that it keeps nobody from the queue."""
        if not self.is_open:
            asked = self.visitors.expect(event, sent)
            yield {"kind": "waking", "run": run_number(sent)}
            while not self._opened.wait(WORD_S):
                if self.visitors.is_stale(asked):
                    return
                yield {"kind": "waking", "run": run_number(sent)}
        try:
            models = self.models
        except ClosedError:
            return
        yield from models.answer(sent, work)

    def call(self, endpoint: str, model: object = None, **arguments: Any) -> dict[str, Any]:
        """What a public endpoint answers for the model of this name; see `Models.call`."""
        return self.models.call(endpoint, model, arguments)

    def close(self) -> None:
        """End the work in the background, within one step."""
        self._opened.set()
        if self._models:
            self._models.close()

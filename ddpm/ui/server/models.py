"""The models of a page, by name. Requests name the model that they are about; those that name none mean the first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ddpm.checkpoint import Checkpoint
from ddpm.hub.privacy import with_short_paths
from ddpm.ui.server.answers import Endpoints
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.requests import InputError, addressed, check_choice
from ddpm.ui.server.samplings import Samplings
from ddpm.ui.server.service import Service, Shared
from ddpm.ui.server.visitors import StoppedError, run_number

log = logging.getLogger(__name__)


class Models:
    """All models, the one that is shown first before the others.

    Args:
        found: the checkpoint of each by its name, or the reason, in one line, why there is none. One at least is a
            checkpoint.
        shared: what they share.
    """

    def __init__(self, found: Mapping[str, Checkpoint | str], shared: Shared | None = None) -> None:
        self.shared = shared or Shared()
        self._found = dict(found)
        self._services = {
            name: Service(each, shared=self.shared, name=name)
            for name, each in found.items()
            if isinstance(each, Checkpoint)
        }
        self._checked: set[str] = set()  # whose weights were read at least once

    @property
    def names(self) -> list[str]:
        """Of all models, also of those that cannot be used."""
        return list(self._found)

    @property
    def services(self) -> list[Service]:
        """Of the models that can be used, as far as is known."""
        usable = [service for service in self._services.values() if service.fault is None]
        return usable or list(self._services.values())[:1]

    @property
    def first(self) -> Service:
        """What is shown where no model is named."""
        return self.services[0]

    def reason(self, name: str) -> str | None:
        """Why a model cannot be used, for visitors, who have no use for the paths of the server; None if it can, as far
        as is known."""
        found = self._found[name]
        return with_short_paths(found) if isinstance(found, str) else self._services[name].told_fault()

    def named(self, name: object) -> Service:
        """A model by its name; the first one if none is named.

        Raises:
            InputError: there is no such model, or it cannot be used.
        """
        if name is None or name == "":
            return self.first
        name = check_choice("model", name, tuple(self._found))
        reason = self.reason(name)
        if reason is not None:
            raise InputError("refused.model", model=name, reason=reason)
        return self._services[name]

    def facts(self, name: str) -> Facts | str:
        """What is known of a model; the reason, in one line, where there is none."""
        found = self._found[name]
        return found if isinstance(found, str) else self._services[name].facts

    def like(self, service: Service) -> list[Service]:
        """The models whose pictures have the same size and channels, this one among them. They can share a noise."""
        shape = service.readings.shape
        return [each for each in self.services if each.readings.shape == shape]

    # ------------------------------------------------------------------------------------------ what the page asks for

    def look_up(self, function: Callable[[Service, Any], Any], sent: Any) -> Any:
        """What a server function of the page finds for what a browser `sent`, see `addressed`. None for a model that is
        not there."""
        name, asked = addressed(sent)
        try:
            service = self.named(name)
        except InputError:
            return None
        return function(service, asked)

    def answer(
        self, sent: object, work: Callable[[Service, object], Iterator[dict[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """The messages of an event, whose field `model` names the model. Its network stays in memory meanwhile."""
        try:
            service = self.named(sent.get("model") if isinstance(sent, dict) else None)
        except InputError as refused:
            yield {"kind": "refused", "key": refused.key, "fields": refused.fields, "run": run_number(sent)}
            return
        with service.in_use():
            yield from work(service, sent)

    def sample_rows(self, service: Service, sent: object, tab: str) -> Iterator[dict[str, Any]]:
        """Answer the event of rows on the page of a model; a row may name another model `like` it."""
        if len(self._services) == 1:
            return service.samplings.sample_rows(sent, tab)
        like = {each.name: each.samplings for each in self.like(service)}

        def of(name: object) -> Samplings:
            return like[check_choice("model", service.name if name is None else name, tuple(like))]

        return service.samplings.sample_rows(sent, tab, of)

    def call(self, endpoint: str, model: object, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a public endpoint answers for the model of this name, which stays in memory meanwhile.

        Raises:
            InputError: there is no such model, or an argument is out of range.
        """
        service = self.named(model)
        with service.in_use():
            return getattr(Endpoints(service), endpoint)(**arguments)

    # ---------------------------------------------------------------------------------------------------- their pages

    def show(self, name: object) -> Service:
        """The model of the page that a visitor is to see: the one of this name, or the first one where that cannot be.

        When a model is shown for the first time, its weights are read and its examples begin to be drawn.
        """
        service = self._services.get(name) if isinstance(name, str) else None
        if service is None or not self._works(service):
            return self.first  # which is shown while its weights are still being read
        with suppress(StoppedError):
            service.start_example()
        return service

    def _works(self, service: Service) -> bool:
        """Whether the weights of a model can be used. Waits until they have been read for the first time."""
        if service.fault is None and service is not self.first and service.name not in self._checked:
            try:
                service.wait_for_model()
            except StoppedError:
                return False
            except ValueError as error:
                log.warning("%s cannot be used: %s", service.name, error)
            else:
                self._checked.add(service.name)
        return service.fault is None

    def wait(self) -> Service:
        """Wait until the weights of the first model are read. If they are damaged, another one is the first.

        Raises:
            ValueError: there is no model whose weights can be used; the message is one line.
        """
        while True:
            service = self.first
            try:
                service.wait_for_model()
                return service
            except ValueError as error:
                if self.first is service:
                    raise
                log.warning("%s cannot be used: %s", service.name, error)

    def close(self) -> None:
        """End the work in the background, within one step."""
        for service in self._services.values():
            service.stop()
        for service in self._services.values():
            service.close()
        self.shared.close()

"""Wiring: the panels of the tabs, the events that they send, and what the server answers them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ddpm.ui.gradio import live_html, stream
from ddpm.ui.server.catalogue import Catalogue, LookUp
from ddpm.ui.server.requests import addressed

if TYPE_CHECKING:
    from ddpm.ui.server.service import Service

UI = Path(__file__).parent


def read_static(name: str) -> str:
    """A script or style sheet below ddpm/ui as text."""
    return (UI / name).read_text(encoding="utf-8")


def trajectory(service: Service, asked: object) -> dict[str, Any] | None:
    """See `Service.trajectory`."""
    return service.trajectory(asked)


def panel(
    html: str,
    script: str,
    models: Catalogue | None = None,
    server_functions: Sequence[LookUp] = (),
    of_no_model: Sequence[Callable[[Any], Any]] = (),
    waits: bool = False,
    **options: Any,
) -> gr.HTML:
    """A panel of HTML and the script that brings it to life.

    Args:
        html: its contents; see `gradio.live_html` for what may not be in it.
        script: a file of tabs/ or static/.
        server_functions: that the script can call, each with one argument; `request.js` adds the model.
        of_no_model: more of them, which need no model and get what the browser sends.
        waits: before the models are there, the functions wait for them. Otherwise they answer that the
            server has just started, which suits a script that asks again.
        options: for gr.HTML; those it does not know reach the script as `props`.
    """
    folder = "tabs" if (UI / "tabs" / script).is_file() else "static"
    source, found = read_static(f"{folder}/{script}"), []
    if models and server_functions:
        source = f"server = ddpm.addressed(server);\n{source}"
        found = [*map(models.look_up, server_functions), *of_no_model]
        if waits:
            return live_html(html, source, found, there=models.is_settled, **options)
    return live_html(html, source, found, **options)


def _tab_panel(
    html: str, tab: str, event: str, models: Catalogue, server_functions: list[LookUp], script: str = "", **options: Any
) -> gr.HTML:
    """The panel of a tab that sends an event, and `expect`, by which it says which request it waits for."""

    def expect(sent: object) -> None:
        models.visitors.expect(event, addressed(sent)[1])

    return panel(html, script or f"{tab}.js", models, server_functions, [expect], elem_id=tab, **options)


def reading_panel(html: str, tab: str, kind: str, models: Catalogue, concurrency_limit: int, **options: Any) -> gr.HTML:
    """The panel of a tab that has the network read pictures (`Readings.read`), and its event.

    Args:
        tab: its name, and that of its script.
        kind: of reading, and the name of the event; the browser fetches the whole with `reading`, by its key.
        concurrency_limit: how many readings take turns; the model computes one at a time.
        options: for gr.HTML.
    """

    def reading(service: Service, key: object) -> dict | None:
        return service.readings.get(key)

    def read(service: Service, sent: object) -> Iterator[dict]:
        return service.readings.read(kind, sent)

    shown = _tab_panel(html, tab, kind, models, [reading], **options)
    stream(shown, kind, lambda sent: models.answer(kind, sent, read), concurrency_limit, concurrency_id=kind)
    return shown


def sampling_panel(
    html: str,
    tab: str,
    event: str,
    models: Catalogue,
    answer: Callable[[Service, object], Iterator[dict]],
    server_functions: list[LookUp],
    **options: Any,
) -> gr.HTML:
    """The panel of a tab that samples, and its event. All such tabs together sample for one visitor at a time.

    Args:
        tab: its name.
        answer: the messages that answer the event.
        options: for gr.HTML, and `script`, by default the one with the name of the tab.
    """
    shown = _tab_panel(html, tab, event, models, server_functions, **options)
    stream(shown, event, lambda sent: models.answer(event, sent, answer), concurrency_limit=1, concurrency_id="model")
    return shown


def rows_panel(html: str, tab: str, models: Catalogue, **options: Any) -> gr.HTML:
    """The panel of a tab with a `parts.rows_board`, and its event, which has the name of the tab.

    Args:
        tab: its name, and that of its script and its example.
        options: for gr.HTML.
    """

    def example(service: Service, _: object) -> list[str] | None:
        return service.example_rows(tab)

    def rows(service: Service, sent: object) -> Iterator[dict]:
        return models.models.sample_rows(service, sent, tab)

    return sampling_panel(html, tab, tab, models, rows, [trajectory, example], **options)

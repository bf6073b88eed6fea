"""Wiring: the panels of the tabs, the events that they send, and what the server answers them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm.ui.gradio import live_html, stream
from ddpm.ui.server.service import Service

UI = Path(__file__).parent


def read_static(name: str) -> str:
    """A script or style sheet below ddpm/ui as text."""
    return (UI / name).read_text(encoding="utf-8")


def panel(html: str, script: str, server_functions: Sequence[Callable[[Any], Any]] = (), **options: Any) -> gr.HTML:
    """A panel of HTML and the script that brings it to life.

    Args:
        html: its contents; see `gradio.live_html` for what may not be in it.
        script: a file of tabs/ or static/.
        server_functions: that the script can call, each with one argument. They may only look things up.
        options: for gr.HTML; those it does not know reach the script as `props`.
    """
    folder = "tabs" if (UI / "tabs" / script).is_file() else "static"
    return live_html(html, read_static(f"{folder}/{script}"), server_functions, **options)


def _tab_panel(
    html: str, tab: str, event: str, service: Service, server_functions: list[Callable[[Any], Any]], **options: Any
) -> gr.HTML:
    """The panel of a tab that sends an event, and `expect`, by which it says which request it waits for."""

    def expect(sent: object) -> None:
        service.visitors.expect(event, sent)

    return panel(html, f"{tab}.js", [*server_functions, expect], elem_id=tab, **options)


def reading_panel(html: str, tab: str, kind: str, service: Service, concurrency_limit: int, **options: Any) -> gr.HTML:
    """The panel of a tab that has the network read pictures (`Readings.read`), and its event.

    Args:
        tab: its name, and that of its script.
        kind: of reading, and the name of the event; the browser fetches the whole with `reading`, by its key.
        concurrency_limit: how many readings take turns; the model computes one at a time.
        options: for gr.HTML.
    """

    def reading(key: object) -> dict | None:
        return service.readings.get(key)

    shown = _tab_panel(html, tab, kind, service, [reading], **options)
    stream(shown, kind, lambda sent: service.readings.read(kind, sent), concurrency_limit, concurrency_id=kind)
    return shown


def sampling_panel(
    html: str,
    tab: str,
    event: str,
    service: Service,
    answer: Callable[[object], Iterator[dict]],
    server_functions: list[Callable[[Any], Any]],
    **options: Any,
) -> gr.HTML:
    """The panel of a tab that samples, and its event. All such tabs together sample for one visitor at a time.

    Args:
        tab: its name, and that of its script.
        answer: the messages that answer the event.
        options: for gr.HTML.
    """
    shown = _tab_panel(html, tab, event, service, server_functions, **options)
    stream(shown, event, answer, concurrency_limit=1, concurrency_id="model")
    return shown


def rows_panel(html: str, tab: str, service: Service, **options: Any) -> gr.HTML:
    """The panel of a tab with a `parts.rows_board`, and its event, which has the name of the tab.

    Args:
        tab: its name, and that of its script and its example.
        options: for gr.HTML.
    """

    def example(_: object) -> list[str] | None:
        return service.example_rows(tab)

    return sampling_panel(
        html,
        tab,
        tab,
        service,
        lambda sent: service.samplings.sample_rows(sent, tab),
        [service.trajectory, example],
        **options,
    )

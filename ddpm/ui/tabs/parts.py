"""Pieces of HTML that every tab is made of, so that a thing looks the same wherever it is met.

They carry keys of `text.TEXT` and `text.EQUATIONS` in data attributes; static/ddpm.js fills them in, and again when the
language changes. Gradio evaluates a template as a JavaScript template string: no backslash, backtick or dollar brace
may stand in it, hence keys instead of TeX.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException

from ddpm.sampling import SAMPLERS
from ddpm.ui.server.requests import MAX_SEED

log = logging.getLogger(__name__)

LEGEND = '<span class="legend" role="img" data-label="part.legend"><i>&minus;3</i><b></b><i>3</i></span>'
UI = Path(__file__).parents[1]


def read_static(name: str) -> str:
    """A script or style sheet below ddpm/ui as text."""
    return (UI / name).read_text(encoding="utf-8")


def looked_up(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A look-up for the browser whose faults are ours: logged, and answered with status 500 and no word of them."""

    @wraps(function)
    def answer(asked: Any) -> Any:
        try:
            return function(asked)
        except Exception:
            log.exception("the look-up %s failed", function.__name__)
            raise HTTPException(500, "the server could not answer") from None

    return answer


def panel(html: str, script: str, server_functions: Sequence[Callable] = (), **options) -> gr.HTML:
    """A gr.HTML whose contents stay as they are while its value changes (the template does not mention the value).

    Args:
        script: file of static/ that brings the panel to life; event names in quotes there can be listened to.
        server_functions: that it can call, each with one argument.
        options: for gr.HTML.
    """
    return gr.HTML(
        None,
        html_template=html,
        js_on_load=read_static(f"tabs/{script}" if (UI / "tabs" / script).is_file() else f"static/{script}"),
        apply_default_css=False,
        padding=False,
        server_functions=[looked_up(function) for function in server_functions] or None,
        **options,
    )


def reading_panel(html: str, tab: str, kind: str, service, concurrency_limit: int, **options) -> gr.HTML:
    """The panel of a tab that has pictures read by the network, `Readings.read`, and its event.

    Args:
        tab: its name, and that of its script.
        kind: of reading, and the name of the event; the answer's key is what `reading` then fetches.
        concurrency_limit: of runs that wait side by side; the model takes one at a time.
        options: for gr.HTML.
    """

    def reading(key: object) -> dict | None:
        return service.readings.get(key)

    def expect(run: object) -> None:
        service.readings.expect(kind, run)

    def read(event: gr.EventData):
        yield from service.readings.read(kind, event._data)

    shown = panel(html, f"{tab}.js", elem_id=tab, server_functions=[reading, expect], **options)
    listen = getattr(shown, kind)
    how = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
    listen(read, None, shown, concurrency_id=kind, concurrency_limit=concurrency_limit, **how)
    return shown


def text(key: str, tag: str = "span", css: str = "") -> str:
    """An element that shows the string of `key`."""
    return f'<{tag} class="{css}" data-text="{key}"></{tag}>'


def tex(name: str) -> str:
    """A symbol or an equation of `text.EQUATIONS`."""
    return f'<span class="tex" data-tex="{name}"></span>'


def words(tab: str, equation: str, code: str) -> str:
    """What a tab says: question, two sentences, one equation, one line of our code, one thing to try.

    Args:
        code: HTML in which <i data-of="xt">xt</i> ties a name to the picture that it stands for.
    """
    return f"""
<div class="words">
  {text(f"{tab}.question", "h2")}
  {text(f"{tab}.body", "p")}
  <div class="equation">{tex(equation)}</div>
  <div class="code">{text("part.code", css="tag")}<code>{code}</code></div>
  <p class="try">{text("part.try", css="tag")}{text(f"{tab}.try")}</p>
</div>"""


def why(tab: str) -> str:
    """The fold that says more, across the whole tab."""
    return f'<details><summary data-text="part.why"></summary><div data-paragraphs="{tab}.why"></div></details>'


def code_name(name: str, of: str) -> str:
    """A name in a line of code that outlines the picture `of` on hover or focus."""
    return f'<i data-of="{of}" tabindex="0">{escape(name)}</i>'


def caption(symbol: str, key: str, before: str = "") -> str:
    """What stands over a picture: its symbol and a word or two; over noise also the scale of its colours."""
    scale = LEGEND if symbol in ("eps", "eps_hat") else ""
    return f"<figcaption>{before}{tex(symbol)}{text(key)}{scale}</figcaption>"


def key_line(name: str) -> str:
    """A piece of the line that stands for something in the charts; page.css draws `name`, "own" or "other"."""
    return f'<i class="key-line {name}" aria-hidden="true"></i>'


def picture(of: str, key: str, size: int, before: str = "") -> str:
    """One image of size x size pixels, enlarged by nearest neighbour, with symbol `of` and caption `key` over it, and
    `before` them."""
    return f"""
<figure class="picture" data-object="{of}">
  {caption(of, key, before)}
  <canvas class="pixels" width="{size}" height="{size}" role="img" data-label="{key}.label"></canvas>
</figure>"""


def switch(key: str, choices: dict[str, str]) -> str:
    """One of a few: buttons in a row, named by `key` and `key`.value. `choices`: value -> HTML."""
    buttons = "".join(
        f'<button type="button" data-value="{value}" data-label="{key}.{value}" aria-pressed="false">{shown}</button>'
        for value, shown in choices.items()
    )
    return f'<div class="switch" role="group" data-label="{key}">{buttons}</div>'


def pad(size: int) -> str:
    """The picture x_0, which can be drawn; brought to life by `ddpm.picker` together with `tools`."""
    return f"""
<figure class="picture" data-object="x0">
  {caption("x0", "forward.x0")}
  <canvas class="pixels pad" width="{size}" height="{size}" role="img" data-label="forward.x0.label"></canvas>
</figure>"""


def tools() -> str:
    """What else sets the picture and its noise, in any tab for all: examples, an empty sheet, a file, other noise."""
    return f"""
<div class="tools">
  <div class="examples" role="group" data-label="forward.examples"></div>
  <div class="buttons">
    <button type="button" class="clear">{text("forward.clear")}</button>
    <label class="button">{text("forward.upload")}
      <input type="file" accept="image/*" data-label="forward.upload.label"></label>
    <button type="button" class="renoise">{text("forward.noise")}</button>
  </div>
</div>
<p class="status picker-status" role="status" aria-live="polite"></p>"""


def figure(name: str, tag: str = "b") -> str:
    """A place for a number that changes at every move, in a box whose size does not (page.css)."""
    return f'<span class="figure of-{name}"><{tag} class="{name}"></{tag}></span>'


def t_bar(low: int, high: int) -> str:
    """The slider of t: clean end left, noise end right, a strip of alpha-bar under it, t, alpha-bar and SNR beside it.

    Args:
        low: 1, or 0 where the finished sample is on the slider too.
    """
    return f"""
<div class="t-bar">
  <div class="t-track">
    <input type="range" min="{low}" max="{high}" step="1" data-label="t.slider">
    <div class="t-strip" aria-hidden="true"></div>
    <div class="t-ends" aria-hidden="true">{text("t.clean")}{text("t.noise")}</div>
  </div>
  <div class="t-read" aria-hidden="true">
    <span>{tex("t")}={figure("t-now")}</span>
    <span>{tex("alpha_bar")}={figure("ab-now")}</span>
    <span>{text("t.snr", css="unit")}={figure("snr-now")}</span>
  </div>
</div>"""


def player(num_steps: int) -> str:
    """Play both ways, the slider of t with the finished picture on it, the speed; brought to life by `ddpm.player`."""
    return f"""
<div class="player">
  <div class="plays">
    <button type="button" class="play reverse-way" data-label="reverse.play"></button>
    <button type="button" class="play forward-way" data-label="reverse.play_back"></button>
  </div>
  {t_bar(0, num_steps)}
  <label class="speed"><select data-label="reverse.speed">
    <option value="0.5">&frac12;&times;</option><option value="1" selected>1&times;</option>
    <option value="2">2&times;</option><option value="4">4&times;</option></select></label>
</div>"""


def sampler_options() -> str:
    """Of a <select name="sampler">."""
    return "".join(f'<option value="{name}" data-text="sampler.{name}"></option>' for name in SAMPLERS)


def rows_board(head: str, num_steps: int) -> str:
    """Rows of pictures from one noise, under one slider, all showing x_t, x0_hat or eps_hat (`ddpm.rows`).

    Args:
        head: HTML of what stands beside each row.
    """
    planes = {name: tex(name) for name in ("xt", "x0_hat", "eps_hat")}
    return f"""
<template><div class="row" role="group">
  <div class="row-head">{head}</div>
  <div class="row-pictures"><div class="grid" role="img"></div><p class="figures"></p></div>
</div></template>
<div class="progress" aria-hidden="true"><i></i></div>
<div class="view">{switch("rows.plane", planes)}<span class="plane-name"></span>{LEGEND}</div>
<div class="rows"></div>
{player(num_steps)}"""


def rows_panel(html: str, tab: str, service, **options) -> gr.HTML:
    """The panel of a tab with a `rows_board`, and its event, of the name of the tab, with the rows.

    Args:
        tab: its name, and that of its script and its example.
        options: for gr.HTML.
    """

    def example(_: object) -> list[str] | None:
        return service.example_rows(tab)

    return run_panel(
        html, tab, tab, service, lambda raw: service.runs.rows(raw, tab), [service.trajectory, example], **options
    )


def run_panel(
    html: str,
    tab: str,
    event: str,
    service,
    run: Callable[[object], Iterator[dict]],
    server_functions: list[Callable],
    **options,
) -> gr.HTML:
    """The panel of a tab that samples. Its event is answered by a run of the model, one visitor's at a time; its own
    `expect` ends it.

    Args:
        tab: its name, and that of its script.
        options: for gr.HTML.
    """

    def expect(sent: object) -> None:
        service.readings.expect(event, sent)

    def work(sent: gr.EventData):
        yield from run(sent._data)

    shown = panel(html, f"{tab}.js", elem_id=tab, server_functions=[*server_functions, expect], **options)
    how = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
    getattr(shown, event)(work, None, shown, concurrency_id="model", concurrency_limit=1, **how)
    return shown


def run_controls(most: int, images: int, seed: int, go: str) -> str:
    """What every form that samples ends with: number of pictures (at most `most`), seed, other seed, go, stop."""
    return f"""
<label>{text("reverse.images")}<input name="num_images" type="number" min="1" max="{most}" value="{images}"></label>
<label>{text("reverse.seed")}<input name="seed" type="number" min="0" max="{MAX_SEED}" value="{seed}"></label>
<button type="button" class="new-seed" data-label="reverse.new_seed">&#x21bb;</button>
<button type="submit" class="primary go">{text(go)}</button>
<button type="button" class="primary stop" hidden>{text("reverse.stop")}</button>"""


def chart(name: str, symbol: str = "") -> str:
    """A curve against t with a moving mark (`ddpm.curve`), or the frame of another small plot."""
    return f"""
<figure class="chart" data-chart="{name}">
  <figcaption>{tex(symbol) if symbol else ""}{text(f"chart.{name}")}{figure("now", "output")}</figcaption>
  <div class="plot" role="img"></div>
  <div class="axis" aria-hidden="true"><span></span><span></span><span></span></div>
</figure>"""

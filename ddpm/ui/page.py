"""The page as a whole: header, tabs, theme, and how it is launched."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from ddpm.names import ETA_SAMPLERS, MAX_SCALE
from ddpm.ui import api
from ddpm.ui.gradio import (
    FONT,
    Versions,
    katex_files,
    launch_options,
    queued,
    same_components,
    traffic,
    wait_for_answers,
)
from ddpm.ui.panels import panel, read_static
from ddpm.ui.server.catalogue import Catalogue
from ddpm.ui.server.examples import FIRST_NOISE, T0_SHARE
from ddpm.ui.server.facts import Facts
from ddpm.ui.server.requests import MAX_SEED
from ddpm.ui.tabs import bound, compare, forward, labels, mine, noise, reverse, training, wrong
from ddpm.ui.tabs.parts import literal, text
from ddpm.ui.text import EQUATIONS, LANGUAGES, TEXT

# A request may have so many bytes, and NUMBER_BYTES more for each number of a picture, which is what one takes as text.
MAX_BODY_BYTES = 256 * 1024
NUMBER_BYTES = 24

MAX_REASON = 180  # characters, for visitors; the log has all of it

FONTS = (
    FONT,
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "ui-sans-serif",
    "system-ui",
    "sans-serif",
)

# In the order of loading: the comment at the head of each file says what it needs before it.
SCRIPTS = (
    "memory gradio language outlines schedule shared frame arrival pictures along slider charts controls story status "
    "quiz request ink picker eraser cells links embed models tour trajectory labelling names player rows gif export"
).split()

# Where two rules weigh the same the later one wins: what all tabs share comes first, then each tab, then the tour, and
# last what forced colours change.
STYLES = (
    *(f"static/{name}.css" for name in "base gradio header controls pictures charts slider rows".split()),
    *(f"tabs/{name}.css" for name in "forward noise bound reverse labels compare mine wrong training".split()),
    "static/tour.css",
    "static/contrast.css",
)


def _head(facts: Facts) -> tuple[str, str]:
    """Everything that must be there before a tab comes to life: data, shared JavaScript, styles.

    Returns:
        What stands before and after the list of all models, which changes while the page is served.
    """
    data = {
        "languages": LANGUAGES,
        "text": TEXT,
        "equations": EQUATIONS,
        "katex": katex_files(),
        "beta": facts.beta,
        "resolution": facts.resolution,
        "height": facts.size[0],
        "width": facts.size[1],
        "channels": facts.channels,
        "noise": FIRST_NOISE,
        "max_seed": MAX_SEED,
        "max_scale": MAX_SCALE,
        "eta_samplers": ETA_SAMPLERS,
        "t0_share": T0_SHARE,
        "model": facts.name,
        "labels": facts.classes.names if facts.classes else (),
        "unlabelled": facts.classes and facts.classes.unlabelled,
        "space": _space(),
    }
    script = "".join(read_static(f"static/{name}.js") for name in SCRIPTS)
    script = re.sub(r"^ *//.*\n", "", script, flags=re.MULTILINE)  # visitors need not wait for comments
    style = "".join(read_static(name) for name in STYLES)
    style = re.sub(r"/\*.*?\*/|^\s+", "", style, flags=re.S | re.M)  # nor for the indentation of rules
    # /favicon.ico is Gradio's icon and, below a path, another server's.
    icon = f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(read_static("static/icon.svg"))}">'
    before = f"{icon}<script>window.ddpm = {{ page: {_script(data)} }};\nddpm.page.models = "
    return before, f";\n{script}</script><style>{style}</style>"


def _script(data: object) -> str:
    """Data as an expression of JavaScript in HTML: neither </script> nor <!-- is in it."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


def _standing(models: Catalogue) -> list[dict[str, Any]]:
    """What every page knows of all models: which there are, what they draw, and why one cannot be used."""
    shown = []
    for name in models.names:
        facts = models.facts(name)
        if isinstance(facts, str):
            shown.append({"name": name, "reason": facts if len(facts) <= MAX_REASON else f"{facts[:MAX_REASON]}…"})
            continue
        shown.append(
            {
                "name": name,
                "source": facts.model if facts.revision else _source(facts),
                "count": _count(facts.num_parameters),
                "height": facts.height,
                "width": facts.width,
                "channels": facts.channels,
                "T": facts.num_steps,
                "labels": len(facts.classes or ()),
                "named": _digest(facts.classes.names) if facts.classes else "",
            }
        )
    return shown


def _space() -> str | None:
    """The id of the Space that serves the page, such as you/ddpm; None elsewhere."""
    name = os.environ.get("SPACE_ID", "")
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else None


def _count(number: int) -> str:
    """1400000 as 1.4 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _digest(names: Sequence[str]) -> str:
    """A short text that is the same for the same names."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]


def _source(facts: Facts) -> str:
    """Key of the text that tells where a model comes from that is not pulled from the Hub."""
    return "page.embedded" if facts.embedded else "page.local"


def _header(facts: Facts, models: Catalogue) -> gr.HTML:
    """Title, language, theme, the chip that names the model, and a notice if it is not the model that was wanted."""
    if facts.revision:
        source = f'<span title="{escape(facts.revision)}">{escape(facts.revision[:7])}</span>'
    else:
        source = text(_source(facts))
    buttons = "".join(
        f'<button type="button" data-language="{language}" lang="{language}">{name}</button>'
        for language, name in zip(LANGUAGES, ("EN", "中文"), strict=True)
    )
    labels = ""
    if facts.classes:
        labels = f'<span data-text="page.labels" data-count="{len(facts.classes)}"></span>'
    # With one model, the chip only names it; with several, it opens the list of them (models.js).
    several = len(models.names) > 1
    name = literal(facts.name if several else facts.model)
    described = f"""<b>{name}</b>{source}
    <span data-text="page.parameters" data-count="{_count(facts.num_parameters)}"></span>{labels}"""
    chip = f'<p class="chip" data-label="page.model">{described}</p>'
    if several:
        chip = f"""<div class="models" role="group" data-label="page.model">
    <button type="button" class="chip" aria-expanded="false" aria-controls="models">{described}</button>
    <ul id="models" data-label="page.models" hidden></ul></div>"""
    notice = ""
    if facts.offline:
        notice = f'<p class="notice" role="status" data-text="notice.cached" data-name="{literal(facts.model)}"></p>'
    html = f"""
<header class="page-header">
  {text("page.title", "h1")}
  <div class="language" role="group" data-label="page.language">{buttons}</div>
  <button type="button" class="theme" data-label="page.theme"></button>
  <button type="button" class="copy-link">{text("link.copy")}</button>
  <button type="button" class="tour-start">{text("tour.start")}</button>
  {chip}
  {notice}
  <p class="page-status" role="status" aria-live="polite"></p>
  <button type="button" class="copy-frame" hidden>{text("embed.copy")}</button>
  <input class="link-field" type="text" readonly hidden data-label="link.field">
</header>"""
    return panel(html, "header.js", elem_id="header")


def _fill(blocks: gr.Blocks, facts: Facts, models: Catalogue) -> None:
    """Put the page of one model into Blocks that are being built."""
    tabs = {
        "forward": forward.build,
        "noise": noise.build,
        "bound": bound.build,
        "reverse": reverse.build,
        "labels": labels.build,
        "compare": compare.build,
        "mine": mine.build,
        "wrong": wrong.build,
        "training": training.build,
    }
    api.add(blocks, models)  # first, or the tabs' own events take the names
    header = _header(facts, models)
    with gr.Tabs(overflow_behavior="wrap"):
        shown = []
        for name, build_tab in tabs.items():
            with gr.Tab(TEXT["en"][f"tab.{name}"], id=name, elem_id=f"tab-{name}") as tab:
                build_tab(facts, models)
            shown.append(tab)
    # Tab labels are Gradio's own, so a language switch goes through Gradio for them alone, without a request.
    names = json.dumps([f"tab.{name}" for name in tabs])
    relabel = f"() => {names}.map((key) => ({{__type__: 'update', label: ddpm.say(key)}}))"
    options: dict[str, Any] = {"js": relabel, "show_progress": "hidden", "api_visibility": "private"}
    header.language(None, None, shown, **options)
    blocks.load(None, None, shown, **options)


def build(models: Catalogue) -> gr.Blocks:
    """The page, which shows the model that its address names."""
    pages: dict[str, tuple[list[dict[str, Any]], tuple[str, str]]] = {}

    def version(name: str | None) -> tuple[list[dict[str, Any]], str]:
        components, (before, after) = pages[models.show(name)]
        return components, before + _script(_standing(models)) + after

    options: dict[str, Any] = {"title": "DDPM", "analytics_enabled": False, "fill_width": True}
    first, *rest = models.usable  # now, since the weights of the first may turn out to be damaged at any moment
    with same_components() as again:
        for facts in rest:
            again()
            with gr.Blocks(**options) as others:
                _fill(others, facts, models)
            pages[facts.name] = others.get_config_file()["components"], _head(facts)
        again()
        with Versions(version, delete_cache=(3600, 3600), **options) as blocks:
            _fill(blocks, first, models)
        components = blocks.get_config_file()["components"]
        pages[first.name] = components, _head(first)
    for shown, _ in pages.values():
        assert [(c["id"], c["type"]) for c in shown] == [(c["id"], c["type"]) for c in components]
    return blocks


class CannotListenError(Exception):
    """The address or the port is taken, or is none of this machine."""


def serve(models: Catalogue, blocks: gr.Blocks, host: str, port: int) -> None:
    """Serve a page until a KeyboardInterrupt, which is passed on. It is served first, and then the models are found.

    Args:
        blocks: what `build` returned for these models.
    Raises:
        CannotListenError: there was no server.
        ValueError: the weights of every model are damaged; the message is one line.
    """
    accent = gr.themes.colors.indigo
    limit = MAX_BODY_BYTES + NUMBER_BYTES * max(math.prod(facts.shape) for facts in models.usable)
    theme = gr.themes.Default(font=FONTS, primary_hue=accent, secondary_hue=accent, neutral_hue=gr.themes.colors.slate)
    try:
        queued(blocks, max_size=24).launch(
            server_name=host,
            server_port=port,
            theme=theme,
            quiet=True,
            prevent_thread_lock=True,
            **launch_options(blocks, limit),
        )
    except OSError as error:
        models.close()
        raise CannotListenError(str(error)) from error
    try:
        if not models.is_open:
            traffic.wait_for_lull()  # the imports would slow down the page of a visitor who is there already
        found = models.open()
        gc.freeze()  # what has been imported and built is never garbage, but for a little that the first visitors left
        gc.enable()
        service = found.wait()
        names = [service.checkpoint.name] if len(found.names) == 1 else [each.name for each in found.services]
        print(f"{', '.join(names)} on http://{host}:{port}", flush=True)
        with suppress(ImportError):
            import matplotlib  # noqa: F401  Gradio imports it at the first event, if it is installed
        service.start_example()
        for name in models.take_asked():
            found.show(name)
        while blocks.is_running:
            time.sleep(0.1)
    finally:
        models.close()  # first, so that visitors' answers end
        wait_for_answers(blocks)
        blocks.close(verbose=False)

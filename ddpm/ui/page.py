"""The page as a whole: header, tabs, theme, and how it is launched."""

from __future__ import annotations

import json
import math
import os
import re
from contextlib import suppress
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from ddpm.checkpoint import EMBEDDED, Checkpoint
from ddpm.guidance import MAX_SCALE
from ddpm.ui import api
from ddpm.ui.gradio import FONT, katex_files, launch_options, queued
from ddpm.ui.panels import panel, read_static
from ddpm.ui.server.examples import FIRST_NOISE, T0_SHARE
from ddpm.ui.server.requests import MAX_SEED
from ddpm.ui.server.service import Service
from ddpm.ui.tabs import bound, compare, forward, labels, mine, noise, reverse, training, wrong
from ddpm.ui.tabs.parts import text
from ddpm.ui.text import EQUATIONS, LANGUAGES, TEXT

# A request may have so many bytes, and NUMBER_BYTES more for each number of a picture, which is what one takes as text.
MAX_BODY_BYTES = 256 * 1024
NUMBER_BYTES = 24

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
    "request ink picker links tour trajectory labelling names player rows gif export"
).split()

# Where two rules weigh the same the later one wins: what all tabs share comes first, then each tab, then the tour, and
# last what forced colours change.
STYLES = (
    *(f"static/{name}.css" for name in "base gradio header controls pictures charts slider rows".split()),
    *(f"tabs/{name}.css" for name in "forward noise bound reverse labels compare mine wrong training".split()),
    "static/tour.css",
    "static/contrast.css",
)


def _head(checkpoint: Checkpoint) -> str:
    """Everything that must be there before a tab comes to life: data, shared JavaScript, styles."""
    data = {
        "languages": LANGUAGES,
        "text": TEXT,
        "equations": EQUATIONS,
        "katex": katex_files(),
        "beta": checkpoint.schedule.beta.tolist(),
        "resolution": checkpoint.resolution,
        "channels": checkpoint.channels,
        "noise": FIRST_NOISE,
        "max_seed": MAX_SEED,
        "max_scale": MAX_SCALE,
        "t0_share": T0_SHARE,
        "model": checkpoint.name,
        "labels": checkpoint.classes.names if checkpoint.classes else (),
        "unlabelled": checkpoint.classes and checkpoint.classes.unlabelled,
        "space": _space(),
    }
    safe = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # neither </script> nor <!--
    script = "".join(read_static(f"static/{name}.js") for name in SCRIPTS)
    script = re.sub(r"^ *//.*\n", "", script, flags=re.MULTILINE)  # visitors need not wait for comments
    style = "".join(read_static(name) for name in STYLES)
    style = re.sub(r"/\*.*?\*/|^\s+", "", style, flags=re.S | re.M)  # nor for the indentation of rules
    # /favicon.ico is Gradio's icon and, below a path, another server's.
    icon = f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(read_static("static/icon.svg"))}">'
    return f"{icon}<script>window.ddpm = {{ page: {safe} }};\n{script}</script><style>{style}</style>"


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


def _literal(name: str) -> str:
    """A name as HTML. Gradio evaluates HTML as a template, and a name from the Hub may hold special characters."""
    return "".join(f"&#{ord(c)};" if c in "`$\\{}" else escape(c) for c in name)


def _header(checkpoint: Checkpoint, notice: str) -> gr.HTML:
    """Title, language, theme, the chip that names the model, and a notice if it is not the model that was wanted."""
    if checkpoint.revision:
        source = f'<span title="{escape(checkpoint.revision)}">{escape(checkpoint.revision[:7])}</span>'
    else:
        source = text("page.embedded" if checkpoint.directory == EMBEDDED else "page.local")
    buttons = "".join(
        f'<button type="button" data-language="{language}" lang="{language}">{name}</button>'
        for language, name in zip(LANGUAGES, ("EN", "中文"), strict=True)
    )
    labels = ""
    if checkpoint.classes:
        labels = f'<span data-text="page.labels" data-count="{len(checkpoint.classes)}"></span>'
    html = f"""
<header class="page-header">
  {text("page.title", "h1")}
  <div class="language" role="group" data-label="page.language">{buttons}</div>
  <button type="button" class="theme" data-label="page.theme"></button>
  <button type="button" class="copy-link">{text("link.copy")}</button>
  <button type="button" class="tour-start">{text("tour.start")}</button>
  <p class="chip" data-label="page.model"><b>{_literal(checkpoint.name)}</b>{source}
    <span data-text="page.parameters" data-count="{_count(checkpoint.num_parameters)}"></span>{labels}</p>
  {notice}
  <p class="page-status" role="status" aria-live="polite"></p>
  <input class="link-field" type="text" readonly hidden data-label="link.field">
</header>"""
    return panel(html, "header.js", elem_id="header")


def _notice(checkpoint: Checkpoint, missing: str | None) -> str:
    """What visitors must know about where the model came from; usually nothing."""
    if not missing and not checkpoint.offline:
        return ""
    key, name = ("notice.embedded", missing) if missing else ("notice.cached", checkpoint.name)
    return f'<p class="notice" role="status" data-text="{key}" data-name="{_literal(name)}"></p>'


def build(service: Service, missing: str | None = None) -> gr.Blocks:
    """The page for one model.

    Args:
        missing: the model that should be shown instead, but is unavailable.
    """
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
    with gr.Blocks(title="DDPM", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as blocks:
        api.add(blocks, service)  # first, or the tabs' own events take the names
        header = _header(service.checkpoint, _notice(service.checkpoint, missing))
        with gr.Tabs(overflow_behavior="wrap"):
            shown = []
            for name, build_tab in tabs.items():
                with gr.Tab(TEXT["en"][f"tab.{name}"], id=name, elem_id=f"tab-{name}") as tab:
                    build_tab(service)
                shown.append(tab)
        # Tab labels are Gradio's own, so a language switch goes through Gradio for them alone, without a request.
        names = json.dumps([f"tab.{name}" for name in tabs])
        relabel = f"() => {names}.map((key) => ({{__type__: 'update', label: ddpm.say(key)}}))"
        options: dict[str, Any] = {"js": relabel, "show_progress": "hidden", "api_visibility": "private"}
        header.language(None, None, shown, **options)
        blocks.load(None, None, shown, **options)
    return blocks


def serve(service: Service, blocks: gr.Blocks, host: str, port: int) -> None:
    """Serve a page until interrupted.

    Args:
        blocks: what `build` returned for this service.
    Raises:
        OSError: the port is taken.
        ValueError: the model's weights are damaged; the message is one line.
    """
    accent = gr.themes.colors.indigo
    limit = MAX_BODY_BYTES + NUMBER_BYTES * math.prod(service.readings.shape)
    theme = gr.themes.Default(font=FONTS, primary_hue=accent, secondary_hue=accent, neutral_hue=gr.themes.colors.slate)
    queued(blocks, max_size=24).launch(
        server_name=host,
        server_port=port,
        theme=theme,
        head=_head(service.checkpoint),
        quiet=True,
        prevent_thread_lock=True,
        **launch_options(blocks, limit),
    )
    try:
        service.wait_for_model()  # visitors can open the page already
        print(f"{service.checkpoint.name} on http://{host}:{port}", flush=True)
        with suppress(ImportError):
            import matplotlib  # noqa: F401  Gradio imports it at the first event, if it is installed
        service.start_example()
        blocks.block_thread()
    finally:
        service.close()

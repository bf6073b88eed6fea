"""The page as a whole: header, tabs, theme, and how it is launched."""

from __future__ import annotations

import json
import logging
import math
import re
from contextlib import suppress
from html import escape
from importlib.util import find_spec
from pathlib import Path

import gradio as gr
from gradio.route_utils import FnIndexInferError
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware  # Gradio compresses its files, but not the page itself
from starlette.responses import JSONResponse

from ddpm.checkpoint import EMBEDDED, Checkpoint
from ddpm.errors import first_line
from ddpm.ui import api
from ddpm.ui.server.examples import FIRST_NOISE
from ddpm.ui.server.service import Service
from ddpm.ui.tabs import bound, compare, forward, mine, noise, reverse, training, wrong
from ddpm.ui.tabs.parts import panel, read_static, text
from ddpm.ui.text import EQUATIONS, LANGUAGES, TEXT

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 256 * 1024  # and, for each number of a picture, as much as it has as text:
NUMBER_BYTES = 24

# The bold file of Gradio's default font lacks most letters (notes of gradio 6.31); the 700 one is complete.
FONTS = (
    gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "ui-sans-serif",
    "system-ui",
    "sans-serif",
)

# Where two rules weigh the same the later one wins: what all tabs share comes first, then each tab, then the tour.
# In the order of loading: the comment at the head of each file says what it needs before it.
SCRIPTS = (
    "gradio language outlines schedule shared pictures slider charts controls status request picker links tour "
    "trajectory player rows gif export"
).split()

STYLES = (
    *(f"static/{name}.css" for name in "base gradio header controls pictures charts slider rows".split()),
    *(f"tabs/{name}.css" for name in "forward noise bound reverse compare mine wrong training".split()),
    "static/tour.css",
)


class MaxBody:
    """Middleware that refuses request bodies over a limit before Gradio parses them, uploads among them."""

    def __init__(self, app, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT"):
            return await self.app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self.limit:
            return await JSONResponse({"detail": "request body too large"}, 413)(scope, receive, send)
        received = 0

        async def counted():
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise RuntimeError("request body too large")
            return message

        return await self.app(scope, counted, send)


class Nonsense:
    """Middleware that answers what Gradio stumbles over before anything of ours runs: a name that is none, an argument
    left out. Else that is status 500, and a traceback in the log for every such request.

    Faults of ours do not come here: those of events end in `checks.answered`, those of look-ups in `parts.looked_up`,
    and Gradio logs and answers those of endpoints.
    """

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        started = False

        async def noted(message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (FnIndexInferError, LookupError, TypeError, ValueError) as error:
            if started or scope["type"] != "http":
                raise
            unknown = isinstance(error, FnIndexInferError | LookupError)
            detail = "no such endpoint, event or component" if unknown else "arguments that do not fit"
            log.warning("refused %s %s: %s", scope["method"], scope["path"], first_line(error))
            await JSONResponse({"detail": detail}, 404 if unknown else 422)(scope, receive, send)


def _katex() -> dict[str, str] | None:
    """Where Gradio serves the KaTeX that its Markdown component uses; None if a later Gradio has it elsewhere."""
    assets = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    found = {kind: next(assets.glob(f"katex-*.{kind}"), None) for kind in ("js", "css")}
    return {kind: f"assets/{path.name}" for kind, path in found.items()} if all(found.values()) else None


def _head(checkpoint: Checkpoint) -> str:
    """Everything that must be there before a tab comes to life: data, shared JavaScript, styles."""
    data = {
        "languages": LANGUAGES,
        "text": TEXT,
        "equations": EQUATIONS,
        "katex": _katex(),
        "beta": checkpoint.schedule.beta.tolist(),
        "resolution": checkpoint.resolution,
        "channels": checkpoint.channels,
        "noise": FIRST_NOISE,
        "model": checkpoint.name,
    }
    safe = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # neither </script> nor <!--
    script = "".join(read_static(f"static/{name}.js") for name in SCRIPTS)
    script = re.sub(r"^ *//.*\n", "", script, flags=re.MULTILINE)  # visitors need not wait for comments
    style = "".join(read_static(name) for name in STYLES)
    style = re.sub(r"/\*.*?\*/|^\s+", "", style, flags=re.S | re.M)  # nor for the indentation of rules
    return f"<script>window.ddpm = {{ page: {safe} }};\n{script}</script><style>{style}</style>"


def _count(number: int) -> str:
    """1400000 as 1.4 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _literal(name: str) -> str:
    """A name as HTML. Gradio evaluates that as a template, and a name off the Hub may hold what matters there."""
    return "".join(f"&#{ord(c)};" if c in "`$\\{}" else escape(c) for c in name)


def _header(checkpoint: Checkpoint, notice: str) -> gr.HTML:
    """Title, language, theme, the chip that says which model this is, and a notice where it is not the one wanted."""
    if checkpoint.revision:
        source = f'<span title="{escape(checkpoint.revision)}">{escape(checkpoint.revision[:7])}</span>'
    else:
        source = text("page.embedded" if checkpoint.directory == EMBEDDED else "page.local")
    buttons = "".join(
        f'<button type="button" data-language="{language}" lang="{language}">{name}</button>'
        for language, name in zip(LANGUAGES, ("EN", "中文"), strict=True)
    )
    html = f"""
<header class="page-header">
  {text("page.title", "h1")}
  <div class="language" role="group" data-label="page.language">{buttons}</div>
  <button type="button" class="theme" data-label="page.theme"></button>
  <button type="button" class="copy-link">{text("link.copy")}</button>
  <button type="button" class="tour-start">{text("tour.start")}</button>
  <p class="chip" data-label="page.model"><b>{_literal(checkpoint.name)}</b>{source}
    <span data-text="page.parameters" data-count="{_count(checkpoint.num_parameters)}"></span></p>
  {notice}
  <p class="page-status" role="status" aria-live="polite"></p>
  <input class="link-field" type="text" readonly hidden data-label="link.field">
</header>"""
    return panel(html, "header.js", elem_id="header")


def _notice(checkpoint: Checkpoint, missing: str | None) -> str:
    """What visitors must know about where the model came from; nothing as a rule."""
    if not missing and not checkpoint.offline:
        return ""
    key, name = ("notice.embedded", missing) if missing else ("notice.cached", checkpoint.name)
    return f'<p class="notice" role="status" data-text="{key}" data-name="{_literal(name)}"></p>'


def build(service: Service, missing: str | None = None) -> gr.Blocks:
    """The page for one model.

    Args:
        missing: the model that should have been shown and could not be had.
    """
    tabs = {
        "forward": forward.build,
        "noise": noise.build,
        "bound": bound.build,
        "reverse": reverse.build,
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
        # Tab labels are Gradio's own, so they are the one thing that a language switch sends through it: no request.
        names = json.dumps([f"tab.{name}" for name in tabs])
        relabel = f"() => {names}.map((key) => ({{__type__: 'update', label: ddpm.say(key)}}))"
        options = {"js": relabel, "show_progress": "hidden", "api_visibility": "private"}
        header.language(None, None, shown, **options)
        blocks.load(None, None, shown, **options)
    return blocks


def serve(service: Service, blocks: gr.Blocks, host: str, port: int) -> None:
    """Serve a page that was built until interrupted.

    Raises:
        OSError: the port is taken.
        ValueError: the model's weights are damaged, in one line.
    """
    accent = gr.themes.colors.indigo
    limit = MAX_BODY_BYTES + NUMBER_BYTES * math.prod(service.readings.shape)
    theme = gr.themes.Default(font=FONTS, primary_hue=accent, secondary_hue=accent, neutral_hue=gr.themes.colors.slate)
    gzip = Middleware(GZipMiddleware, minimum_size=2048, compresslevel=6)
    middleware = [Middleware(MaxBody, limit=limit), gzip, Middleware(Nonsense)]
    blocks.queue(max_size=24, default_concurrency_limit=1).launch(
        server_name=host,
        server_port=port,
        ssr_mode=False,
        run_history=False,
        state_session_capacity=128,
        max_file_size="1mb",
        footer_links=["api", "settings"],
        theme=theme,
        head=_head(service.checkpoint),
        app_kwargs={"middleware": middleware},
        show_error=False,
        strict_cors=True,
        pwa=False,
        mcp_server=find_spec("mcp") is not None,  # an extra of Gradio
        quiet=True,
        prevent_thread_lock=True,
    )
    try:
        service.wait_for_model()  # the page is there already
        print(f"{service.checkpoint.name} on http://{host}:{port}", flush=True)
        with suppress(ImportError):
            import matplotlib  # noqa: F401  Gradio imports it around the first event, where it is installed
        service.start_example()
        blocks.block_thread()
    finally:
        service.close()

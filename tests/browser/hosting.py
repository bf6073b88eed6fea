"""A page that shows ours in a frame, as the Hub shows a Space: of another site, and as tall as its content.

The page of the Hub makes the frame so tall with iframe-resizer, whose side of the host is in the folder iframe_resizer
(npm, version 4.3.11, with its licence). Gradio serves the side of the frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from harness import LEAVING, PATIENCE_S, launch
from playwright.sync_api import Browser, Frame, Locator, Page, expect

RESIZER = (Path(__file__).parent / "iframe_resizer" / "iframeResizer.min.js").read_text(encoding="utf-8")
HEADER_PX = 56  # the Hub's own line above the frame
PAGE = """<!doctype html><html><head><meta name="viewport" content="width=device-width"></head>
<body style="margin: 0; min-height: 100vh; display: flex; flex-direction: column">
<header style="height: {header}px; background: #ccd">you / ddpm <input aria-label="paste here"></header>
<iframe id="space" src="{src}" scrolling="no" style="width: 100%; border: 0; flex-grow: 1; {style}"></iframe>
{script}</body></html>"""
RESIZED = f"<script>{RESIZER}</script><script>iFrameResize({{ checkOrigin: false }}, '#space')</script>"
TWO_SITES = "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
NO_COOKIES = "--test-third-party-cookie-phaseout"
# Playwright turns off a list of features, among them the storage that a frame has for each site around it. Visitors
# have it, also without third-party cookies; a list of our own takes the place of Playwright's.
AS_VISITORS_HAVE_IT = "--disable-features=Translate"


class Quiet(BaseHTTPRequestHandler):
    """Answers without a log."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(handler: type[Quiet]) -> Iterator[int]:
    """The port of a server on loopback that answers with `handler`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def hub(app: str, query: str = "__theme=dark", resized: bool = True) -> Iterator[str]:
    """The address of a page that shows `app` in a frame.

    Args:
        query: with which the frame is opened; the Hub names its theme.
        resized: whether the page knows iframe-resizer; otherwise its frame is taller than any content.
    """
    src = f"http://space.test:{urlsplit(app).port}/?{query}"
    style, script = ("", RESIZED) if resized else ("height: 4000px", "")
    content = PAGE.format(header=HEADER_PX, src=src, style=style, script=script).encode()

    class Answer(Quiet):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 204)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content if self.path == "/" else b"")

    with listening(Answer) as port:
        yield f"http://hub.test:{port}/"


@contextmanager
def browser_for_frames(browser: Browser, storage: bool = True) -> Iterator[Browser]:
    """A browser that knows both sites and blocks third-party cookies.

    Args:
        storage: whether a page in a frame has a storage of its own.
    """
    running = launch(browser.browser_type, TWO_SITES, NO_COOKIES, *([AS_VISITORS_HAVE_IT] if storage else []))
    yield running
    running.close()


@dataclass
class Framed:
    """A visitor of the page around the frame. Places are in the visitor's window."""

    page: Page

    @cached_property
    def height(self) -> int:
        return self.page.viewport_size["height"]

    @property
    def frame(self) -> Frame:
        return next(frame for frame in self.page.frames if "//space.test" in frame.url)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.ready()

    def ready(self) -> None:
        expect(self.find(".tab .katex:visible").first).to_be_visible()
        self.frame.wait_for_function("window.parentIFrame || innerHeight === 4000")

    def find(self, selector: str) -> Locator:
        return self.page.frame_locator("#space").locator(selector)

    def span(self, selector: str) -> tuple[float, float]:
        """Top and bottom of the first element that matches and is on the page."""
        box = self.find(f"{selector}:visible").first.bounding_box()
        return box["y"], box["y"] + box["height"]

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait: the frame and the page around it tell each other where they are."""
        for _ in range(20 * PATIENCE_S):
            if true():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(what)

    def seen(self, selector: str, what: str = "") -> None:
        """Wait until the whole element is in the window."""

        def inside() -> bool:
            top, bottom = self.span(selector)
            return top >= -0.5 and bottom <= self.height + 0.5

        self.until(inside, f"{selector} is at {self.span(selector)} of {self.height} {what}")

    def scroll_to(self, y: float) -> None:
        self.page.evaluate("(y) => scrollTo(0, y)", y)


@contextmanager
def visiting_hub(browser: Browser, width: int) -> Iterator[Framed]:
    """A visitor with a window of this width, of a phone if it is 390. No page may log an error."""
    window = {"width": width, "height": 844 if width == 390 else 800}
    page = browser.new_page(viewport=window, has_touch=width == 390, locale="en-US")
    page.set_default_timeout(1000 * PATIENCE_S)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    try:
        yield Framed(page)
        said = [error for error in errors if not error.startswith(LEAVING)]
        assert said == [], said
    finally:
        page.context.close()

"""A real server and a visitor's page, for the tests of this folder."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from launch import start
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, BrowserType, JSHandle, Page, Request, expect, sync_playwright

from ddpm.config import preset
from ddpm.metrics import to_lines
from ddpm.ui.server.examples import FIRST_NOISE, FIRST_PICTURE

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# What Gradio's script logs while its page is being left with an answer under way: it closes the stream.
LEAVING = ("AbortError: signal is aborted without reason", "Unexpected error Connection errored out.")
GRIDS = {1000: 40, 2000: 120, 3000: 200}  # step -> gray of its sample grid
PATIENCE_S = 60  # of a test for its page: what is right comes at once, but a busy machine takes its time
expect.set_options(timeout=1000 * PATIENCE_S)


def free_port() -> int:
    """None of those that the system gives to outgoing connections: seconds pass until a server listens on it."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def launch(kind: BrowserType, *flags: str) -> Browser:
    """The machine's own Chromium. A flag of `FLAGS` that is given again counts as it is given here."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise RuntimeError(f"the page needs an installed Chromium to be tested: {', '.join(names)}")
    return kind.launch(executable_path=path, headless=True, args=[*FLAGS, *flags])


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = launch(playwright.chromium)
        yield running
        running.close()


def add_record(directory: Path) -> Path:
    """What a training leaves beside its model: a loss of 100 / step, and a sample grid each, ever brighter."""
    deciles = [round(1 - i / 11, 3) for i in range(10)]
    rows = [
        {"kind": "train", "step": step, "loss": 100 / step, "loss_by_decile": [100 / step * d for d in deciles]}
        for step in range(100, 3100, 100)
    ]
    rows += [
        {"kind": "validation", "step": step, "val_loss": 110 / step, "val_loss_ema": 105 / step}
        | {"train_loss_ema": 103 / step}
        for step in GRIDS
    ]
    (directory / "metrics.jsonl").write_text(to_lines(rows))
    (directory / "samples").mkdir()
    for step, gray in GRIDS.items():
        Image.new("L", (64, 64), gray).save(directory / f"samples/step-{step:06d}.png")
    config = preset("digits", max_train_steps=3000)
    settings = {
        "options": config.to_json(),
        "data": {"fingerprint": "", "source": "digits"},
        "machine": {"processes": 1, "device": "cpu"},
    }
    (directory / "train_config.json").write_text(json.dumps(settings))
    return directory


@contextmanager
def serving(model: Path | None, log: Path, script: Path | str = "app.py", **environment: str) -> Iterator[str]:
    """The page's address while `app.py`, or a script in its place, serves `model`, or what the environment names."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    log.write_text("")
    process = start(script, *(["--model", model] if model else []), "--port", port, log=log, **environment)
    try:
        deadline = time.monotonic() + 180
        while True:
            if process.exitcode is not None:
                raise RuntimeError(f"app.py ended with status {process.exitcode}:\n{log.read_text()}")
            try:
                urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no answer at {url}:\n{log.read_text()}") from error
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.join(PATIENCE_S)
    assert "Traceback" not in log.read_text(), log.read_text()


@cache
def _config(url: str) -> dict[str, Any]:
    """What Gradio says the page consists of."""
    with urllib.request.urlopen(f"{url}config", timeout=180) as answer:
        return json.load(answer)


class Session:
    """A visitor without a browser: the requests that Gradio's script makes for the page, and nothing else."""

    def __init__(self, url: str) -> None:
        self.url, self.name = f"{url}gradio_api/", uuid.uuid4().hex
        config = _config(url)
        self.events = {
            name: {"fn_index": dependency["id"], "trigger_id": component}
            for dependency in config["dependencies"]
            for component, name in dependency["targets"]
        }
        self.functions = [
            (component["id"], name)
            for component in config["components"]
            for name in component["props"].get("server_fns") or ()
        ]

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status, and the answer: of JSON where it is that, else as text."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                status, content = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read().decode()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content

    def call(self, component: int, function: str, data: object) -> tuple[int, Any]:
        """A look-up beside the queue."""
        body = {"session_hash": self.name, "component_id": component, "fn_name": function, "data": data}
        return self.post("component_server", body)

    def look_up(self, function: str, data: object) -> Any:
        """What a server function of that name finds, whichever tab has it."""
        component = next(component for component, name in self.functions if name == function)
        status, answer = self.call(component, function, data)
        assert status == 200, answer
        return answer

    def join(self, event: str, data: object) -> tuple[int, Any]:
        """Into the queue."""
        body = {"data": [], "session_hash": self.name, "event_data": data, **self.events[event]}
        return self.post("queue/join", body)

    def leave(self, event: str, joined: dict) -> None:
        """Out of the queue, or stop what runs."""
        body = {"session_hash": self.name, "fn_index": self.events[event]["fn_index"], **joined}
        assert self.post("cancel", body)[0] == 200

    def answers(self) -> Iterator[dict[str, Any]]:
        """Gradio's messages, to the end of the stream."""
        with urllib.request.urlopen(f"{self.url}queue/data?session_hash={self.name}", timeout=180) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "close_stream":
                        return
                    yield message

    def ask(self, event: str, data: object) -> tuple[int, Any]:
        """Status, and the last message that the page would get, or why it got none."""
        status, joined = self.join(event, data)
        if status != 200:
            return status, joined
        for message in self.answers():
            if message["msg"] == "process_completed":
                return (status if message["success"] else 500), (message["output"].get("data") or [None])[0]
        return 500, "the stream ended without an answer"


LONG = {"sampler": "ddpm", "num_inference_steps": 1000, "num_images": 16, "eta": 0}


@contextmanager
def crowd(url: str, most: int) -> Iterator[list[tuple[int, Any]]]:
    """Visitors who wait for long samplings, `most` or until one is turned away: status and answer of each."""
    sessions, joined = [], []
    try:
        while len(joined) < most and all(status == 200 for status, _ in joined):
            sessions.append(Session(url))
            joined.append(sessions[-1].join("sample", {"run": 1, **LONG, "seed": len(joined)}))
        yield joined
    finally:
        for session, (status, answer) in zip(sessions, joined, strict=False):
            if status == 200:
                session.leave("sample", answer)


@dataclass
class Visit:
    """One visitor's page and what it asked for."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    unanswered: set[Request] = field(default_factory=set)
    stirred: float = 0.0  # when the page last asked for something or had an answer

    def open(self, query: str = "lang=en", tab: str = "forward") -> Page:
        """The page with a tab in front, painted."""
        self.page.goto(f"{self.url}?{query}")
        expect(self.page.locator("#forward .katex").first).to_be_visible()
        if tab != "forward":
            self.page.locator(f'[role="tab"][data-tab-id="{tab}"], #tab-{tab}-button').first.click()
            expect(self.page.locator(f"#{tab} canvas").first).to_be_visible()
        return self.page

    def back(self, tab: str = "forward") -> Page:
        """A page that is open already, in English, the tab in front; what the tabs share is as it was at first."""
        if self.page.evaluate("ddpm.language()") != "en":
            self.page.locator('[data-language="en"]').click()
        self.page.locator(f"#tab-{tab}-button").click()
        expect(self.page.locator(f"#{tab} canvas:visible").first).to_be_visible()
        self.page.wait_for_function("ddpm.shared.get('examples')")  # of a colour model, once they are drawn
        self.page.evaluate(
            """([digit, noise]) => {
                ddpm.shared.set('t', ddpm.firstT);
                ddpm.shared.set('noise', noise);
                ddpm.example.set(Math.min(digit, ddpm.shared.get('examples').length / ddpm.count - 1));
            }""",
            [FIRST_PICTURE, FIRST_NOISE],
        )
        return self.page

    def listen(self, selector: str, when: str = "false", click: str = "") -> JSHandle:
        """From now on: everything that an element says, however soon it says something else.

        Args:
            when: in JavaScript, of its `text`; as soon as it is true, `click` is clicked, once.
        """
        return self.page.locator(selector).first.evaluate_handle(
            f"""(element, click) => {{
                const said = [];
                let clicked = false;
                new MutationObserver(() => {{
                    const text = element.textContent;
                    said.push(text);
                    if (clicked || !({when})) return;
                    clicked = true;
                    document.querySelector(click).click();
                }}).observe(element, {{ childList: true, subtree: true, characterData: true }});
                return said;
            }}""",
            click,
        )

    def heard(self, said: JSHandle, words: str) -> None:
        """Wait until an element that was listened to has said these words."""
        self.page.wait_for_function("([said, words]) => said.some((text) => text.includes(words))", arg=[said, words])

    def check(self) -> None:
        assert self.errors == [], self.errors
        assert [asked for asked in self.requests if not asked.startswith((self.url, "data:", "blob:"))] == []

    def until_quiet(self) -> None:
        """Until the page waits for no drawing of the server, and has asked for nothing else for a while. (Playwright's
        "networkidle" is over for good once it was reached.)
        """
        self.stirred, end = time.monotonic(), time.monotonic() + 180

        def awaits() -> bool:
            return any(frame.evaluate("window.ddpm?.isAwaiting()") for frame in self.page.frames)

        while self.unanswered or time.monotonic() < self.stirred + 0.5 or awaits():
            assert time.monotonic() < end, [request.url for request in self.unanswered]
            self.page.wait_for_timeout(100)

    def asks(self, request: Request) -> None:
        self.requests.append(request.url)
        self.unanswered.add(request)
        self.stirred = time.monotonic()

    def answered(self, request: Request) -> None:
        self.unanswered.discard(request)
        self.stirred = time.monotonic()

    def left(self) -> None:
        """The page went away: nobody waits for its answers, nor sees what Gradio logged about that."""
        self.unanswered.clear()
        self.errors[:] = [error for error in self.errors if not error.startswith(LEAVING)]

    def pixels(self, selector: str) -> list[int]:
        """The gray (red) value of each pixel of the first canvas that matches."""
        read = """c => Array.from(
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 == 0))"""
        return self.page.locator(selector).first.evaluate(read)

    def move(self, tab: str, t: int) -> None:
        """Drag the slider of a tab to t."""
        self.page.locator(f"#{tab} .t-bar input").evaluate(
            "(slider, t) => { slider.value = t; slider.dispatchEvent(new Event('input', {bubbles: true})); }", t
        )


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe finds: its rule, and where."""
    page.evaluate(Axe().axe_script)
    # axe looks at what is visible alone, but takes seconds to find that out about the panels of all other tabs.
    hidden = "[...document.querySelectorAll('[role=tabpanel]')].filter((panel) => !panel.offsetParent)"
    run = f"axe.run({{ exclude: {hidden} }}, {{ resultTypes: ['violations'] }})"
    found = page.evaluate(f"{run}.then(({{ violations }}) => violations)")
    return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


def draw(visit: Visit, pad: str) -> None:
    """One stroke down the middle of a pad."""
    box = visit.page.locator(pad).bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.1)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.9, steps=6)
    visit.page.mouse.up()


def desk(browser: Browser, **options) -> BrowserContext:
    return browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})


@contextmanager
def visiting(browser: Browser | BrowserContext, url: str, **options) -> Iterator[Visit]:
    """A fresh page, of a visitor who was never here or, of a context, of one whose browser has Gradio's files already.

    Whatever a test is about, the page must neither log an error nor ask a stranger for anything.
    """
    own = desk(browser, **options) if isinstance(browser, Browser) else None
    page = (own or browser).new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    visit = Visit(page, url)
    page.on("request", visit.asks)
    page.on("requestfinished", visit.answered)
    page.on("requestfailed", visit.answered)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("console", lambda line: visit.errors.append(line.text) if line.type == "error" else None)
    page.on("framenavigated", lambda frame: visit.left() if frame == page.main_frame else None)
    try:
        yield visit
        visit.check()
    finally:
        (own or page).close()

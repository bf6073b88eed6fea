"""A real server and a visitor's page, for the tests of this folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ddpm.checkpoint import save
from ddpm.config import preset
from ddpm.metrics import to_lines
from ddpm.unet import build_unet

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
expect.set_options(timeout=20_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise RuntimeError(f"the page needs an installed Chromium to be tested: {', '.join(names)}")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield running
        running.close()


def make_model(directory: Path, resolution: int, channels: int, num_steps: int) -> Path:
    """A model of the right shape that has learnt nothing; its output layer is no longer zero, so it does something."""
    torch.manual_seed(0)
    unet = build_unet(resolution, channels, (8, 16))
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    save(directory, unet, {"num_train_timesteps": num_steps, "beta_schedule": "linear", "clip_sample": True})
    return directory


def add_record(directory: Path) -> Path:
    """What a training leaves beside its model: a loss of 100 / step, and a sample grid each, ever brighter."""
    deciles = [round(1 - i / 11, 3) for i in range(10)]
    rows = [
        {"kind": "train", "step": step, "loss": 100 / step, "loss_by_decile": [100 / step * d for d in deciles]}
        for step in range(100, 3100, 100)
    ]
    rows += [{"kind": "validation", "step": step, "val_loss": 110 / step, "val_loss_ema": 105 / step} for step in GRIDS]
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
def serving(model: Path | None, log: Path, **environment: str) -> Iterator[str]:
    """The page's address while `app.py` serves `model`, or what the environment names."""
    port = free_port()
    command = [sys.executable, "app.py", *(["--model", str(model)] if model else []), "--port", str(port)]
    url = f"http://127.0.0.1:{port}/"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment
        )
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise RuntimeError(f"app.py ended with status {process.returncode}:\n{log.read_text()}")
                try:
                    urllib.request.urlopen(url, timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise RuntimeError(f"no answer at {url} within a minute:\n{log.read_text()}")
            yield url
        finally:
            process.terminate()
            process.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()


@cache
def _config(url: str) -> dict[str, Any]:
    """What Gradio says the page consists of."""
    with urllib.request.urlopen(f"{url}config", timeout=60) as answer:
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
            with urllib.request.urlopen(request, timeout=60) as answer:
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
        with urllib.request.urlopen(f"{self.url}queue/data?session_hash={self.name}", timeout=120) as stream:
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


@dataclass
class Visit:
    """One visitor's page and what it asked for."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "lang=en", tab: str = "forward") -> Page:
        """The page with a tab in front, painted."""
        self.page.goto(f"{self.url}?{query}")
        expect(self.page.locator("#forward .katex").first).to_be_visible()
        if tab != "forward":
            self.page.locator(f'[role="tab"][data-tab-id="{tab}"], #tab-{tab}-button').first.click()
            expect(self.page.locator(f"#{tab} canvas").first).to_be_visible()
        return self.page

    def left(self) -> None:
        """The page went away: nobody sees what Gradio logged about that."""
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


def draw(visit: Visit, pad: str) -> None:
    """One stroke down the middle of a pad."""
    box = visit.page.locator(pad).bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.1)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.9, steps=6)
    visit.page.mouse.up()


@contextmanager
def visiting(browser: Browser, url: str, **options) -> Iterator[Visit]:
    """A fresh visitor. Whatever a test is about, the page must neither log an error nor ask a stranger for anything."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    page = context.new_page()
    visit = Visit(page, url)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("console", lambda line: visit.errors.append(line.text) if line.type == "error" else None)
    page.on("framenavigated", lambda frame: visit.left() if frame == page.main_frame else None)
    try:
        yield visit
        assert visit.errors == [], visit.errors
        assert [asked for asked in visit.requests if not asked.startswith((url, "data:", "blob:"))] == []
    finally:
        context.close()

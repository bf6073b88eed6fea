"""A real server and a visitor's page, for the tests of this folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from playwright.sync_api import Browser, Page, expect

from ddpm.checkpoint import save
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
expect.set_options(timeout=20_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_model(directory: Path, resolution: int, channels: int, num_steps: int) -> Path:
    """A model of the right shape that has learnt nothing; its output layer is no longer zero, so it does something."""
    torch.manual_seed(0)
    unet = build_unet(resolution, channels, (8, 16))
    torch.nn.init.normal_(unet.conv_out.weight, std=0.05)
    save(directory, unet, {"num_train_timesteps": num_steps, "beta_schedule": "linear", "clip_sample": True})
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
    try:
        yield visit
        assert visit.errors == []
        assert [asked for asked in visit.requests if not asked.startswith((url, "data:", "blob:"))] == []
    finally:
        context.close()

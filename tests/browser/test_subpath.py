"""The page below a path of another server, which takes the path off: GRADIO_ROOT_PATH=/ddpm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from coroutines import completed
from gradio_client import Client
from harness import serving, visiting
from hosting import Quiet, listening
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from playwright.sync_api import Browser, expect
from test_api import ENDPOINTS, call

from ddpm.ui.text import TEXT

PATH = "/ddpm"


@contextmanager
def proxy(app: str) -> Iterator[str]:
    """The address under which another server passes everything below PATH on to `app`, and nothing else."""

    class PassOn(Quiet):
        def do_GET(self) -> None:  # noqa: N802 - http.server wants this name
            if self.path == "/favicon.ico":  # which browsers ask for before the page's script names an icon
                self.send_response(204)
                return self.end_headers()
            if not self.path.startswith(f"{PATH}/"):
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = HTTPConnection(urlsplit(app).netloc, timeout=180)
            kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path.removeprefix(PATH), body, kept)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(65536):  # as it comes: answers are streams
                self.wfile.write(part)
                self.wfile.flush()
            connection.close()

        do_POST = do_GET  # noqa: N815 - http.server wants this name

    with listening(PassOn) as port:
        yield f"http://127.0.0.1:{port}{PATH}/"


@pytest.fixture(scope="module")
def below(model) -> Iterator[str]:
    log = model.parent / "below-log"
    with serving(model, log, GRADIO_ROOT_PATH=PATH, DDPM_LIVE_TRAINING="0") as app, proxy(app) as address:
        yield address


@pytest.mark.long
def test_the_page_works_below_a_path(browser: Browser, below):
    with visiting(browser, below) as visit:  # which refuses every request to another place
        page = visit.page
        page.goto(f"{below}?lang=en&tab=noise&reading=v")
        expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done")
        expect(page.locator('link[rel="icon"]')).to_have_attribute("href", re.compile("^data:image/svg"))
        assert page.evaluate("ddpm.katex.then((katex) => Boolean(katex.version))")
        page.locator("#tab-reverse-button").click()
        page.locator('#reverse [name="num_inference_steps"]').select_option("10")
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_contain_text("DDIM, 10 steps")
        page.locator(".copy-link").click()
        expect(page.locator(".page-status")).to_have_text(TEXT["en"]["link.copied"])
        assert page.url.startswith(f"{below}?lang=en&tab=reverse&")
        page.goto(page.url)
        expect(page.locator("#reverse .status")).to_contain_text("DDIM, 10 steps")


def test_the_endpoints_work_below_a_path(below):
    asked = {"num_inference_steps": 5, "num_images": 1, "seed": 1}
    sampled = Client(below, verbose=False).predict(api_name="/sample", **asked)
    kind, (answer,) = call(below, "sample", asked)
    assert kind == "complete"
    assert answer == sampled
    offered = completed(tools(below))
    assert offered == {name.removeprefix("/") for name in ENDPOINTS}


async def tools(address: str) -> set[str]:
    """The names of what MCP offers."""
    async with (
        streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        return {tool.name for tool in (await session.list_tools()).tools}

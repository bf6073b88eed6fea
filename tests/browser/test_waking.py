"""The page of a server that has just started: what needs no network works, and what needs one says that it waits."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import serving, visiting
from playwright.sync_api import expect

from ddpm.ui.text import TEXT

# The server as `python app.py` starts it, but its models come once a file is there.
GATED = """
import os, sys, time
import app
find = app.find
def find_later(*asked):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
    return find(*asked)
app.find = find_later
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.fixture
def gate(tmp_path) -> Path:
    return tmp_path / "gate"


def test_a_visitor_who_comes_before_the_network_plays_and_is_answered_later(still, tmp_path, gate):
    script = tmp_path / "gated.py"
    script.write_text(GATED)
    with serving(None, tmp_path / "log", script, GATE=str(gate)) as url, visiting(still, url) as first:
        page = first.open()
        before = first.pixels('#forward [data-object="xt"] canvas')
        first.move("forward", 900)
        assert first.pixels('#forward [data-object="xt"] canvas') != before, "the first tab needs no network"
        with visiting(still, url) as second:
            other = second.open("lang=zh&model=mnist_labels")
            expect(other.locator(".page-header .chip")).to_contain_text("mnist_labels")
            other.locator("#tab-noise-button").click()
            expect(other.locator("#noise .answer")).to_have_text(TEXT["zh"]["answer.waking"])
            page.locator("#tab-reverse-button").click()
            page.locator("#reverse .go").click()
            expect(page.locator("#reverse .status")).to_have_text(TEXT["en"]["answer.waking"])
            page.locator("#tab-training-button").click()
            expect(page.locator("#training .live .go")).to_be_visible()
            gate.touch()
            expect(page.locator("#training .recorded .facts")).to_contain_text("14,000")
            page.locator("#tab-reverse-button").click()
            expect(page.locator("#reverse .go")).to_be_visible()
            expect(page.locator("#reverse .status")).not_to_have_text(TEXT["en"]["answer.waking"])
            assert len(set(first.pixels("#reverse .planes canvas"))) > 1
            expect(other.locator("#noise .answer[data-state=done]")).to_be_attached()
            expect(other.locator("#noise .answer")).not_to_have_text(TEXT["zh"]["answer.waking"])

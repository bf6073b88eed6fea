"""A real server and a real browser: `python app.py` once per model and session, Chromium with no way out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import FLAGS, Visit, make_model, serving, visiting
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A grayscale model of 28 x 28 with T = 1000."""
    return make_model(tmp_path_factory.mktemp("gray") / "tiny-gray", 28, 1, 1000)


@pytest.fixture(scope="session")
def url(model) -> Iterator[str]:
    with serving(model, model.parent / "log") as address:
        yield address


@pytest.fixture(scope="session")
def colour_url(tmp_path_factory) -> Iterator[str]:
    """A colour model of 16 x 16 with T = 40."""
    folder = tmp_path_factory.mktemp("colour")
    with serving(make_model(folder / "tiny-colour", 16, 3, 40), folder / "log") as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("the tests of the page need an installed Chromium: chromium, chromium-browser or google-chrome")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser, url) -> Iterator[Visit]:
    """At a desk, with reduced motion: nothing plays that was not asked to."""
    with visiting(browser, url, reduced_motion="reduce") as visitor:
        yield visitor


@pytest.fixture
def phone(browser, url) -> Iterator[Visit]:
    with visiting(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as visitor:
        yield visitor

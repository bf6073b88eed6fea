"""A real server and a real browser: `python app.py` once per model and session, Chromium with no way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Visit, add_record, chromium, make_model, serving, visiting
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A grayscale model of 28 x 28 with T = 1000, and a record of its training."""
    return add_record(make_model(tmp_path_factory.mktemp("gray") / "tiny-gray", 28, 1, 1000))


@pytest.fixture(scope="session")
def url(model) -> Iterator[str]:
    with serving(model, model.parent / "log", DDPM_LIVE_TRAINING="20") as address:
        yield address


@pytest.fixture(scope="session")
def colour_url(tmp_path_factory) -> Iterator[str]:
    """A colour model of 16 x 16 with T = 40."""
    folder = tmp_path_factory.mktemp("colour")
    with serving(make_model(folder / "tiny-colour", 16, 3, 40), folder / "log") as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser, url) -> Iterator[Visit]:
    """At a desk, with reduced motion: nothing plays that was not asked to."""
    with visiting(browser, url, reduced_motion="reduce") as visitor:
        yield visitor


@pytest.fixture
def phone(browser, url) -> Iterator[Visit]:
    with visiting(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as visitor:
        yield visitor

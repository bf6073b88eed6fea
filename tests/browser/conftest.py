"""A real server and a real browser: `python app.py` once per model and session, Chromium with no way out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Visit, add_record, chromium, desk, serving, visiting
from playwright.sync_api import Browser, BrowserContext
from untrained import make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A grayscale model of 28 x 28 with T = 1000, and a record of its training."""
    return add_record(make_model(tmp_path_factory.mktemp("gray") / "tiny-gray", 28, 1, 1000))


@pytest.fixture(scope="session")
def url(model) -> Iterator[str]:
    with serving(model, model.parent / "log", DDPM_LIVE_TRAINING="20") as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def still(browser) -> Iterator[BrowserContext]:
    """At a desk, with reduced motion: nothing plays that was not asked to. Gradio's files are fetched only once."""
    with desk(browser, reduced_motion="reduce") as context:
        yield context


@pytest.fixture
def visit(still, url) -> Iterator[Visit]:
    with visiting(still, url) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def kept(still, url) -> Iterator[Visit]:
    with visiting(still, url) as visitor:
        visitor.open()
        yield visitor


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture
def same(kept, request) -> Iterator[Visit]:
    """A page that the tests of a file go on with, see `Visit.back`: to load one takes longer than most of them.

    A test that failed may have left it anywhere, so the next one, or its second try, has a page that is loaded anew.
    """
    yield kept
    failed = request.node.stash.get(FAILED, True)
    try:
        kept.check()
    except AssertionError:
        failed = True
        raise
    finally:  # the next test is not to blame
        kept.errors.clear()
        if failed:
            kept.open()
        kept.requests.clear()


@pytest.fixture
def phone(browser, url) -> Iterator[Visit]:
    with visiting(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as visitor:
        yield visitor

"""The page under load: what 12 visitors get at once, a full queue, a server that is gone."""

import base64
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import PATIENCE_S, Session, crowd, serving
from playwright.sync_api import expect
from untrained import make_model

from ddpm.ui.text import TEXT

SAMPLE = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}


def of_gray(seed: int) -> dict:
    """A picture of the 28 x 28 model that nobody has asked about."""
    return {"x0": base64.b64encode(random.Random(seed).randbytes(784)).decode(), "noise_seed": seed}


def test_twelve_visitors_at_once_all_get_what_they_asked_for(url):
    start = threading.Barrier(12)

    def visitor(i: int) -> list:
        session = Session(url)
        start.wait(180)
        predicted = session.ask("predict", {"visitor": f"v{i}", "run": 1, **of_gray(900 + i)})
        drawn = session.ask("sample", {"visitor": f"v{i}", "run": 1, **SAMPLE, "seed": 900 + i})
        return [predicted, drawn]

    with ThreadPoolExecutor(12) as crowd:
        answers = [answer for visit in crowd.map(visitor, range(12)) for answer in visit]
    assert [(status, answer["kind"]) for status, answer in answers] == [(200, "done")] * 24


@pytest.mark.long
def test_a_full_queue_is_a_polite_line_and_a_reading_asks_again(visit):
    with crowd(visit.url, 60) as joined:
        status, refusal = joined[-1]
        assert status == 503
        assert len(joined) > 25, "1 runs, 24 wait"
        assert "Queue is full" in refusal["detail"]
    # Samplings end, and room is made: for the page the queue stays as full as it just was.
    page = visit.open("lang=zh", tab="reverse")
    page.route(re.compile("/queue/join"), lambda route: route.fulfill(status=503, json=refusal))
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_have_text(TEXT["zh"]["reverse.busy"])
    expect(page.locator("#reverse .go")).to_be_visible()
    page.locator("#tab-noise-button").click()
    page.locator("#noise .renoise").click()
    expect(page.locator("#noise .answer")).to_have_text(TEXT["zh"]["answer.busy"])
    expect(page.get_by_text("This application is currently busy").first).to_be_hidden()
    page.unroute_all()
    expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done")
    page.locator("#tab-reverse-button").click()
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_contain_text("DDIM")
    assert all("503" in error for error in visit.errors), visit.errors
    visit.errors.clear()  # Chromium's own word for each refusal


@pytest.mark.long
def test_a_lost_connection_is_told_by_the_tab_that_waits_and_by_the_next(browser, tmp_path):
    model = make_model(tmp_path / "model", 28, 1, 1000)
    with serving(model, tmp_path / "log") as url:
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(f"{url}?lang=zh")
        page.locator("#tab-reverse-button").click()
        page.locator('#reverse [name="num_inference_steps"]').select_option("1000")
        page.locator('#reverse [name="num_images"]').fill("16")
        page.locator("#reverse .go").click()
        # Looked at in every frame: the server must be gone before it is done.
        page.wait_for_function("document.querySelector('#reverse .status').textContent.includes('/ 1000')")
    lost = TEXT["zh"]["answer.lost"]
    expect(page.locator("#reverse .status")).to_have_text(lost)
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_have_text(lost)
    page.locator("#tab-noise-button").click()
    page.locator("#noise .renoise").click()
    expect(page.locator("#noise .answer")).to_have_text(lost)
    page.close()


@pytest.mark.slow
def test_the_training_tab_notices_that_the_server_is_gone_and_comes_back_with_it(browser, tmp_path):
    model = make_model(tmp_path / "model", 28, 1, 1000)
    with serving(model, tmp_path / "log") as url:
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(f"{url}?tab=training")
        expect(page.locator("#training .live .go")).to_be_visible()
        page.wait_for_timeout(1000)
    page.locator("#training .live .go").click()
    expect(page.locator("#training .live .status")).to_have_text(TEXT["en"]["answer.lost"])
    page.route(f"{url}**", lambda route: route.fulfill(body="<p id=back>here again</p>", content_type="text/html"))
    expect(page.locator("#back")).to_be_visible()
    page.close()

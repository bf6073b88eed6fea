"""A model of 256 x 256 colour pictures, the size of the best-known ones, and a line that is slow."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from harness import Visit, serving
from playwright.sync_api import expect
from untrained import make_model

SIZE = 256
DRAWN_MS = 180_000  # until the server has drawn, beside the examples of the page
PLANES = [f'#reverse [data-object="{name}"] .grid canvas' for name in ("xt", "x0_hat", "eps_hat")]


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """Of this file's server."""
    folder = tmp_path_factory.mktemp("large")
    with serving(make_model(folder / "tiny-large", SIZE, 3, 40, widths=(8,) * 6), folder / "log") as address:
        yield address


def sample(page, steps: str = "40", images: int = 2) -> None:
    form = page.locator("#reverse .controls")
    form.locator('[name="num_inference_steps"]').select_option(steps)
    form.locator('[name="num_images"]').fill(str(images))
    form.locator(".go").click()


def widths(page, selector: str) -> list[float]:
    return page.locator(selector).evaluate_all("all => all.map((c) => c.getBoundingClientRect().width)")


def test_every_picture_has_room_and_the_strip_shows_none_twice(same, phone):
    same.page.wait_for_function("ddpm.shared.get('examples')", timeout=DRAWN_MS)
    for visit, least in ((same, 110), (phone, 150)):
        page = visit.back("reverse") if visit is same else visit.open(tab="reverse")
        expect(page.locator("#reverse .go")).to_be_visible()
        sample(page)
        status = page.locator("#reverse .status").first
        expect(status).to_contain_text("Move t to watch it again", timeout=DRAWN_MS)
        expect(status).to_contain_text("of 256 × 256 pixels")
        for plane in PLANES:
            assert min(widths(page, plane)) >= least
        columns = page.locator("#reverse .strip-rows button")
        urls = columns.evaluate_all("all => all.map((b) => b.firstChild.toDataURL())")
        assert len(set(urls)) == len(urls) >= 4
        assert min(widths(page, "#reverse .strip-rows canvas")) >= 60
        expect(page.locator("#reverse .t-now")).to_have_text("0")
        expect(page.locator(PLANES[0]).first).to_have_attribute("width", str(SIZE), timeout=20_000)  # it is whole
        visit.move("reverse", 20)
        assert SIZE / 4 <= int(page.locator(PLANES[0]).first.get_attribute("width")) < SIZE


def test_a_sampling_of_few_steps_has_a_column_for_each(same):
    page = same.back("reverse")
    sample(page, steps="10", images=1)
    expect(page.locator("#reverse .status").first).to_contain_text("10 steps", timeout=DRAWN_MS)
    expect(page.locator("#reverse .status").first).to_contain_text("Move t to watch it again")
    shown = page.locator("#reverse .strip-rows button > span").all_text_contents()
    assert shown == sorted(set(shown), key=int)
    assert widths(page, PLANES[0])[0] >= 230, "one picture has the room of four"


def test_rows_and_predictions_have_room(same):
    page = same.back("compare")
    expect(page.locator("#compare .status").first).to_contain_text("tored", timeout=DRAWN_MS)
    assert min(widths(page, "#compare .row .grid canvas")) >= 110
    page = same.back("noise")
    expect(page.locator("#noise .answer")).to_contain_text("of 256 × 256 pixels", timeout=DRAWN_MS)
    marks = page.evaluate("document.querySelector('#noise .answer').textContent.match(/\\d+/)[0]")
    assert int(marks) >= 8
    same.move("noise", 20)
    gray = np.array(same.pixels('#noise [data-object="x0_hat"]:not([data-role]) canvas'))
    assert gray.std() > 0, "the prediction is painted"


def test_a_slow_line_shows_the_finished_pictures_first_and_says_what_is_under_way(visit: Visit):
    """At 150 kB/s, as on a weak phone network: the page never stands still for long."""
    page = visit.open(tab="reverse")
    expect(page.locator("#reverse .status").first).to_contain_text("Stored example", timeout=DRAWN_MS)
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    said = visit.listen("#reverse .status")
    line.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 100, "downloadThroughput": 150_000, "uploadThroughput": 50_000},
    )
    sample(page, images=1)
    expect(page.locator("#reverse .status").first).to_contain_text("The pictures are on their way: ", timeout=DRAWN_MS)
    assert page.locator("#reverse .t-now").text_content() == "0", "the finished picture is the first"
    assert page.locator(PLANES[0]).first.get_attribute("width") == str(SIZE)
    seen, since, longest = "", time.monotonic(), 0.0
    while "Move t" not in seen:
        now = page.locator("#reverse .status").first.text_content()
        if now != seen:
            longest, seen, since = max(longest, time.monotonic() - since), now, time.monotonic()
        assert time.monotonic() - since < 20, f"nothing new for 20 s: {seen!r}"
        time.sleep(0.05)
    steps = [text for text in said.json_value() if "on their way: " in text]
    assert len(set(steps)) >= 3, "it counts the frames that have come"
    line.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    before = len(visit.requests)
    visit.move("reverse", 20)
    assert len(visit.requests) == before, "everything is there"

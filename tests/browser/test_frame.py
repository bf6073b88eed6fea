"""The page in the frame of a Space: what the visitor must see is seen, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from harness import serving
from hosting import HEADER_PX, Framed, browser_for_frames, hub, visiting_hub
from playwright.sync_api import Browser, expect
from test_tour import STOPS, TAB_OF

from ddpm.ui.text import TEXT

WIDTHS = (390, 1280)
SPACE = "you/ddpm"
FORM = "[...document.querySelector('#reverse form').elements].filter((e) => e.name).map((e) => e.value)"


@pytest.fixture(scope="module")
def space(model) -> Iterator[str]:
    """Our page as it is served on a Space."""
    with serving(model, model.parent / "space-log", SPACE_ID=SPACE, DDPM_LIVE_TRAINING="0") as address:
        yield address


@pytest.fixture(scope="module")
def hub_url(space) -> Iterator[str]:
    with hub(space) as address:
        yield address


@pytest.fixture(scope="module")
def strict(browser) -> Iterator[Browser]:
    """As visitors have it who block third-party cookies."""
    with browser_for_frames(browser) as running:
        yield running


@pytest.fixture
def framed(strict, hub_url, request) -> Iterator[Framed]:
    with visiting_hub(strict, request.param) as visitor:
        visitor.open(hub_url)
        yield visitor


at_both_widths = pytest.mark.parametrize("framed", WIDTHS, indirect=True)


def in_reach(framed: Framed, tab: str) -> None:
    """The panel and its buttons are in the window, what it speaks of above it, and the slider between the two."""
    for part in (".tour", ".tour-next", ".tour-end"):
        framed.seen(part, f"on {tab}")

    def spoken_of() -> bool:
        panel, spoken = framed.span(".tour"), framed.span(".toured")
        free = min(spoken[1], panel[0]) - spoken[0]
        return spoken[0] >= -0.5 and free >= min(100, spoken[1] - spoken[0])  # all of it, or its beginning

    def slider_is_free() -> bool:
        if tab == "training":
            return True
        bar = framed.find(f"#{tab} .t-bar input").bounding_box()
        top = framed.span(".tour")[0]
        return bar["y"] >= 0 and bar["y"] + bar["height"] <= top + 0.5

    framed.until(spoken_of, f"on {tab}: panel {framed.span('.tour')}, spoken of {framed.span('.toured')}")
    framed.until(slider_is_free, f"on {tab}: the slider is out of reach, panel {framed.span('.tour')}")


@pytest.mark.long
@at_both_widths
def test_the_whole_tour_is_seen_in_the_frame(framed):
    assert "dark" in framed.frame.evaluate("document.body.className")
    framed.find(".tour-start").click()
    for i, name in enumerate(STOPS, 1):
        tab = TAB_OF.get(name, name)
        expect(framed.find(".tour-place")).to_have_text(f"{i} of {len(STOPS)}")
        expect(framed.find(f"#{tab} .toured")).to_be_visible()
        in_reach(framed, tab)
        if name in ("forward", "training"):  # the visitor looks around, and the panel comes along
            before = framed.page.evaluate("scrollY")
            framed.page.mouse.move(200, 100)
            framed.page.mouse.wheel(0, -before)
            framed.until(lambda: framed.page.evaluate("scrollY") == 0, "the page around the frame scrolls")
            framed.seen(".tour", "at the top of the page")
            assert framed.span(".page-header")[0] >= HEADER_PX
        size = framed.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1]
        framed.find(".tour-next").click()
    expect(framed.find(".tour")).to_be_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("framed", [1280], indirect=True)
def test_a_stop_is_in_view_once_its_tab_has_its_height_unless_the_visitor_goes_elsewhere(framed):
    # In the page, so that a busy machine does not put it off until the stop waits no longer.
    grow = """([px, ms]) => {
        setTimeout(() => { document.querySelector('.tab-container').style.paddingBottom = `${px}px`; }, ms);
    }"""
    framed.find(".tour-start").click()
    framed.seen("#forward .toured")
    framed.find(".tour-next").click()
    framed.frame.evaluate(grow, [900, 2000])
    expect(framed.find("#noise .toured")).to_be_visible()
    framed.until(lambda: framed.span("#noise .toured")[0] > 0, "the stop is below what came above it")
    framed.seen("#noise .toured")
    framed.page.mouse.move(200, 100)
    framed.page.mouse.wheel(0, -3000)
    framed.until(lambda: framed.page.evaluate("scrollY") == 0, "the visitor goes to the top")
    framed.frame.evaluate(grow, [0, 0])
    framed.page.wait_for_timeout(1000)
    assert framed.page.evaluate("scrollY") == 0, "and stays there"


@pytest.mark.slow
def test_the_tour_is_seen_where_the_page_around_the_frame_tells_nothing(strict, space):
    with hub(space, resized=False) as address, visiting_hub(strict, 390) as visitor:
        visitor.open(address)
        visitor.find(".tour-start").click()
        visitor.seen(".tour")
        visitor.scroll_to(900)
        visitor.seen(".tour", "after the visitor has scrolled")
        visitor.find(".tour-next").click()
        expect(visitor.find("#noise .toured")).to_be_visible()
        visitor.seen(".tour")
        visitor.seen("#noise .t-bar")


@pytest.mark.slow
@at_both_widths
def test_the_slider_is_dragged_while_its_picture_is_in_view(framed):
    if framed.page.viewport_size["width"] == 390:
        framed.scroll_to(0)
        top = framed.span("#forward .stage")[0]
        for shown in (300, 340):  # so many pixels of pictures and slider: the slider's own place is still further below
            framed.scroll_to(top - framed.height + shown)
            framed.until(lambda: abs(framed.span("#forward .t-bar")[1] - framed.height) < 1, "it sticks to the foot")
    framed.seen("#forward .t-bar")
    read = """() => [ddpm.shared.get('t'), document.querySelector('#forward [data-object="xt"] canvas')
        .getContext('2d').getImageData(0, 0, 28, 28).data.join()]"""
    before = framed.frame.evaluate(read)
    slider = framed.find("#forward .t-bar input").bounding_box()
    mouse, y = framed.page.mouse, slider["y"] + slider["height"] / 2
    across = lambda t: slider["x"] + 11 + (slider["width"] - 22) * t / 1000  # noqa: E731 - half a thumb at each end
    mouse.move(across(before[0]), y)
    mouse.down()
    mouse.move(across(600), y, steps=5)
    mouse.move(across(900), y, steps=5)
    mouse.up()
    after = framed.frame.evaluate(read)
    assert abs(after[0] - 900) < 8
    assert after[1] != before[1]


@pytest.mark.slow
@at_both_widths
def test_a_link_copied_in_the_frame_leads_to_the_space(framed):
    framed.find("#tab-noise-button").click()
    expect(framed.find("#noise canvas").first).to_be_visible()
    framed.find('#noise [data-value="v"]').click()
    framed.find(".copy-link").click()
    expect(framed.find(".page-status")).to_have_text(TEXT["en"]["link.copied"])
    framed.seen(".page-status")
    framed.page.locator("header input").focus()
    framed.page.keyboard.press("Control+V")
    address, _, query = framed.page.locator("header input").input_value().partition("?")
    assert address == f"https://huggingface.co/spaces/{SPACE}"
    expected = {"lang": "en", "tab": "noise", "reading": "v", "t": "300", "example": "3", "noise": "7"}
    assert {name: value for name, (value,) in parse_qs(query).items()} == expected, "the theme is the Hub's"


@pytest.mark.slow
def test_in_the_frame_of_an_unknown_page_a_link_leads_to_the_frame(strict, url):
    with hub(url) as address, visiting_hub(strict, 1280) as visitor:
        visitor.open(address)
        visitor.find(".copy-link").click()
        expect(visitor.find(".page-status")).to_have_text(TEXT["en"]["link.copied"])
        visitor.page.locator("header input").focus()
        visitor.page.keyboard.press("Control+V")
        copied = urlsplit(visitor.page.locator("header input").input_value())
        assert copied.netloc == urlsplit(visitor.frame.url).netloc
        assert parse_qs(copied.query)["tab"] == ["forward"]


def draw(framed: Framed) -> None:
    framed.find("#forward .clear").click()
    box = framed.find("#forward .pad").bounding_box()
    mouse = framed.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.1)
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.9, steps=6)
    mouse.up()


SHOWN = "[ddpm.inFront(), ddpm.language(), ddpm.dark(), ddpm.shared.get('t'), ddpm.shared.get('picture').join()]"


@pytest.mark.slow
@at_both_widths
def test_a_reload_of_the_page_around_the_frame_loses_nothing(framed):
    assert framed.frame.evaluate("document.cookie = 'a=1; SameSite=None', document.cookie") == "", "they are blocked"
    draw(framed)
    framed.find('[data-language="zh"]').click()
    framed.find(".page-header .theme").click()
    framed.find("#tab-reverse-button").click()
    framed.find('#reverse [name="num_inference_steps"]').select_option("20")
    framed.find('#reverse [name="seed"]').fill("99")
    framed.frame.evaluate("ddpm.shared.set('t', 640)")
    framed.find("#reverse h2").click()  # what is kept is kept a moment after the last action
    framed.page.wait_for_timeout(500)
    before = framed.frame.evaluate(SHOWN)
    assert before[:3] == ["reverse", "zh", False]
    framed.page.reload()
    framed.ready()
    expect(framed.find("#tab-reverse-button")).to_have_attribute("aria-selected", "true")
    expect(framed.find("#reverse h2")).to_have_text(TEXT["zh"]["reverse.question"])
    framed.frame.wait_for_function(f"{FORM}.join() === 'ddim,0,20,8,99'")
    assert framed.frame.evaluate(SHOWN) == before
    framed.find("#tab-forward-button").click()
    assert framed.frame.evaluate(SHOWN)[-1] == before[-1], "the examples have not taken its place"


@pytest.mark.slow
def test_where_nothing_may_be_stored_nothing_breaks(browser, hub_url):
    with browser_for_frames(browser, storage=False) as denying, visiting_hub(denying, 390) as visitor:
        visitor.open(hub_url)
        denied = "(() => { try { return !window.sessionStorage; } catch { return true; } })()"
        assert visitor.frame.evaluate(denied), "the browser was to deny it"
        draw(visitor)
        visitor.find("#tab-noise-button").click()
        visitor.find(".copy-link").click()
        expect(visitor.find(".page-status")).to_have_text(TEXT["en"]["link.copied.drawn"])
        visitor.page.reload()
        visitor.ready()
        expect(visitor.find("#tab-forward-button")).to_have_attribute("aria-selected", "true")
        visitor.find(".tour-start").click()
        visitor.seen(".tour")

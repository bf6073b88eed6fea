"""How the page looks and answers to hands: order on a phone, captions, charts, forced colours, swipes, the first seconds."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from harness import Visit, draw, visiting
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from ddpm.ui.text import LANGUAGES, TEXT

TABS = ("forward", "noise", "bound", "reverse", "labels", "compare", "mine", "wrong", "training")
WITH_PICTURES = [tab for tab in TABS if tab != "labels"]  # the model of these tests has no labels
T_NOW = "ddpm.shared.get('t')"


def settled(page: Page, tab: str) -> None:
    """A tab is in front and shows what it shows before the first click."""
    page.locator(f"#tab-{tab}-button").click()
    expect(page.locator(f"#{tab} canvas").first).to_be_visible()
    if tab in ("noise", "bound", "mine"):
        expect(page.locator(f"#{tab} .answer")).to_have_attribute("data-state", "done", timeout=120_000)
    if tab == "training":
        expect(page.locator("#training .recorded path.line")).to_have_attribute("d", re.compile("M"))


# ---------------------------------------------------------------- where things stand


@pytest.mark.slow
def test_on_a_phone_what_visitors_play_with_comes_before_the_text(phone):
    page = phone.open()
    order = """(tab) => {
        const parts = ['h2', '.stage', '.words'].map((s) => document.querySelector(`#${tab} .tab > ${s}`));
        const inPage = parts.slice(1).every((part, i) => parts[i].compareDocumentPosition(part) & 4);
        const control = parts[1].querySelector('canvas, button, select, input');
        return [inPage, ...parts.map((part) => part.getBoundingClientRect().top + scrollY),
            control.getBoundingClientRect().bottom + scrollY]; }"""
    for tab in TABS:
        page.locator(f"#tab-{tab}-button").click()
        expect(page.locator(f"#{tab} canvas").first).to_be_visible()
        in_page, headline, stage, words, control = page.evaluate(order, tab)
        assert in_page, "screen readers and the keyboard meet them in the same order"
        assert headline < stage < words, tab
        assert headline < 200, "header and tabs leave the screen to the pictures"
        assert control < 844, f"{tab}: it can be touched without scrolling"


# Captions and equations that are wider than their place, and captions that leave their picture.
TOO_WIDE = """(tab) => {
    const shown = (selector) => [...document.querySelectorAll(`#${tab} ${selector}`)].filter((e) => e.offsetParent);
    const cut = shown('.equation').filter((e) => e.scrollWidth > e.clientWidth);
    const out = shown('figcaption').filter((e) => [...e.children].some((child) =>
        child.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 2));
    return [...cut, ...out].map((e) => e.textContent); }"""
# How many charts stand in each line of those below a tab.
LINES = """(tab) => {
    const tops = [...document.querySelectorAll(`#${tab} .charts > figure`)].map((e) => e.offsetTop);
    return [...new Set(tops)].map((top) => tops.filter((t) => t === top).length); }"""
# Labels of vertical axes that lie over their plot.
COVERED = """(tab) => [...document.querySelectorAll(`#${tab} .plot`)].filter((e) => e.offsetParent).flatMap((plot) =>
    [...plot.querySelectorAll('.ticks span')].map((e) => e.getBoundingClientRect())
        .filter((box) => box.width === 0 || box.right > plot.getBoundingClientRect().left))"""


@pytest.mark.long
def test_at_every_width_captions_equations_and_labels_have_their_place(visit):
    page = visit.open()
    for language, tab in product(LANGUAGES, TABS):
        page.locator(f'[data-language="{language}"]').click()
        settled(page, tab)
        for width in (320, 390, 768, 1024, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            where = (tab, width, language)
            assert page.evaluate(TOO_WIDE, tab) == [], where
            assert len(set(page.evaluate(LINES, tab))) <= 1, (where, "no chart stands alone")
            assert page.evaluate(COVERED, tab) == [], where
            if tab == "noise":
                for reading in ("x0", "mu", "v", "eps"):
                    page.locator(f'#noise .switch [data-value="{reading}"]').click()
                    assert page.evaluate(TOO_WIDE, tab) == [], (*where, reading)
            if tab == "mine":
                for kind in ("between", "fill", "invert", "several"):
                    page.locator(f'#mine .switch [data-value="{kind}"]').click()
                    assert page.evaluate(TOO_WIDE, tab) == [], (*where, kind)
    page.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.slow
def test_charts_with_labels_have_some(same):
    page = same.back("bound")
    settled(page, "bound")
    assert page.locator('#bound [data-chart="terms"] .ticks span').count() >= 3


# ---------------------------------------------------------------- hands


@contextmanager
def fingers(page: Page) -> Iterator:
    """A function that tells the browser where fingers are: start, move or end with places [x, y]."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    yield touch
    session.detach()


def place(locator: Locator, across: float, down: float = 0.5) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


@pytest.mark.slow
def test_a_swipe_over_a_chart_scrolls_the_page_and_a_tap_or_a_drag_moves_t(phone):
    page = phone.open("lang=en&t=300")
    settled(page, "bound")
    plot = page.locator('#bound [data-chart="weights"] .plot')
    plot.scroll_into_view_if_needed()
    with fingers(page) as touch:
        before = page.evaluate("scrollY")
        x, y = place(plot, 0.9)
        touch("Start", (x, y))
        for i in range(1, 12):
            touch("Move", (x + 2 * i, y + 20 * i))  # a little to the side, as thumbs go
        touch("End")
        page.wait_for_function(f"scrollY < {before - 100}")
        assert page.evaluate(T_NOW) == 300

        plot.scroll_into_view_if_needed()
        page.touchscreen.tap(*place(plot, 0.75))
        page.wait_for_function(f"Math.abs({T_NOW} - 750) <= 6")
        touch("Start", place(plot, 0.75))
        for across in (0.7, 0.5, 0.3, 0.2):
            touch("Move", place(plot, across))
        touch("End")
        page.wait_for_function(f"Math.abs({T_NOW} - 200) <= 6")


@pytest.mark.slow
def test_only_the_main_button_and_the_first_finger_draw_or_move_t(phone):
    page = phone.open("lang=en&t=300")
    pad, plot = page.locator("#forward .pad"), page.locator('#forward [data-chart="beta"] .plot')

    def columns() -> set[int]:
        """Where something bright is, out of 28."""
        return set(np.flatnonzero(np.array(phone.pixels("#forward .pad")).reshape(28, 28).max(0) > 100))

    page.locator("#forward .clear").click()
    for button in ("right", "middle"):
        page.mouse.move(*place(pad, 0.2, 0.2))
        page.mouse.down(button=button)
        page.mouse.move(*place(pad, 0.8, 0.8), steps=4)
        page.mouse.up(button=button)
        assert columns() == set(), button
    page.mouse.move(*place(pad, 0.2, 0.2))
    page.mouse.down()
    page.mouse.down(button="right")
    page.mouse.move(*place(pad, 0.2, 0.8), steps=4)
    page.mouse.up()
    page.mouse.move(*place(pad, 0.8, 0.8), steps=4)  # with the right button alone
    page.mouse.up(button="right")
    assert columns() <= set(range(2, 9)) != set()

    page.locator("#forward .clear").click()
    with fingers(page) as touch:
        touch("Start", place(pad, 0.2, 0.2))
        touch("Start", place(pad, 0.2, 0.2), place(pad, 0.8, 0.2))
        for down in (0.3, 0.5, 0.7):
            touch("Move", place(pad, 0.2, down), place(pad, 0.8, down))
        touch("End")
    page.wait_for_function("ddpm.shared.get('settled') === ddpm.shared.get('picture')")
    assert columns() <= set(range(2, 9)) != set()

    plot.scroll_into_view_if_needed()
    page.mouse.click(*place(plot, 0.8), button="right")
    assert page.evaluate(T_NOW) == 300


# ---------------------------------------------------------------- forced colours


def image(page: Page, locator: Locator) -> np.ndarray:
    """What is on screen there, (H, W, 3)."""
    box = locator.bounding_box()
    clip = {name: box[name] for name in ("x", "y", "width", "height")}
    clip |= {"x": clip["x"] - 5, "y": clip["y"] - 5, "width": clip["width"] + 10, "height": clip["height"] + 10}
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"), float) / 255


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Of two colours, as WCAG defines it."""

    def luminance(colour: np.ndarray) -> float:
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_forced_colours_what_says_something_stays_visible(browser: Browser, url: str, scheme: str):
    options = {"forced_colors": "active", "color_scheme": scheme, "reduced_motion": "reduce"}
    with visiting(browser, url, **options) as visitor:
        page = visitor.open("lang=en&t=300")
        paper = image(page, page.locator("#forward .see"))[0, -1]

        def across(selector: str, shares: list[float]) -> list[np.ndarray]:
            """The colours along the middle line of an element."""
            shown = image(page, page.locator(selector).first)
            return [shown[shown.shape[0] // 2, round(5 + share * (shown.shape[1] - 11))] for share in shares]

        clean, noise = across("#forward .t-strip", [0.02, 0.98])
        assert contrast(clean, noise) > 2, "alpha-bar falls along its bar"
        track = image(page, page.locator("#forward .t-bar input"))[:, -60:-40]
        assert max(contrast(colour, paper) for colour in track.reshape(-1, 3)) > 3, "the track of the slider"
        (thumb,) = across("#forward .t-bar input", [0.3])
        assert contrast(thumb, paper) > 3
        low, middle, high = across("#forward .legend b", [0.05, 0.5, 0.95])
        assert np.abs(low - high).max() > 0.3
        assert np.abs(low - middle).max() > 0.3

        def ring(k: int) -> float:
            """How much of a line 3 pixels above an example, without its round corners, is not paper."""
            line = image(page, page.locator("#forward .example").nth(k))[2]
            return np.mean([contrast(colour, paper) > 3 for colour in line[len(line) // 3 : -len(line) // 3]])

        page.locator("#forward .example").nth(5).click()
        page.evaluate("document.activeElement.blur()")
        assert ring(5) > 0.8, "the chosen example"
        assert ring(2) < 0.1

        def ground(selector: str) -> np.ndarray:
            """The commonest colour inside an element."""
            shown = image(page, page.locator(selector).first)[8:-8, 8:-8].reshape(-1, 3)
            colours, counts = np.unique(shown, axis=0, return_counts=True)
            return colours[counts.argmax()]

        page.mouse.move(0, 0)
        for chosen, other in (
            ("#tab-forward-button", "#tab-noise-button"),
            ('[data-language="en"]', '[data-language="zh"]'),
        ):
            assert contrast(ground(chosen), ground(other)) > 3, chosen
        page.locator("#tab-bound-button").click()
        settled(page, "bound")
        page.mouse.move(0, 0)
        assert contrast(ground("#bound .switch [aria-pressed=true]"), ground("#bound .switch [aria-pressed=false]")) > 3
        assert contrast(ground("#bound .shares .kl"), paper) > 3, "the bar of the sum"
        mark = across('#bound [data-chart="terms"] .mark:last-of-type', [0.5])[0]
        assert contrast(mark, paper) > 3


@pytest.mark.long
def test_in_forced_colours_letters_under_bars_and_hats_are_seen(browser: Browser, url: str):
    inks = []
    for forced in ("none", "active"):
        with visiting(browser, url, forced_colors=forced, color_scheme="light", reduced_motion="reduce") as visitor:
            page = visitor.open("lang=en&__theme=light")
            page.evaluate("document.fonts.ready")
            letter = image(page, page.locator("#forward .equation .accent").first)[5:-5, 5:-5]
            inks.append((letter.mean(axis=2) < 0.5).sum())
    assert inks[1] > 0.7 * inks[0] > 0, "alpha below its bar"


# ---------------------------------------------------------------- the first seconds

WATCH = "window.seen = []; setInterval(() => { const t = window.ddpm?.shared?.get('t'); if (t) seen.push(t); }, 15);"


@pytest.mark.slow
def test_on_arrival_the_picture_dissolves_and_returns_once(browser: Browser, url: str):
    with visiting(browser, url) as visitor:
        page = visitor.page
        page.add_init_script(WATCH)
        visitor.open()
        page.wait_for_function("seen.includes(1000) && seen.slice(-20).every((t) => t === ddpm.firstT)")
        seen = page.evaluate("seen")
        way = seen[seen.index(1) :]
        top = way.index(1000)
        assert way[:top] == sorted(way[:top]), "it dissolves"
        assert way[top:] == sorted(way[top:], reverse=True), "and returns"
        assert way[-1] == 300, "to where the page begins for everybody"
        page.reload()
        expect(page.locator("#forward .katex").first).to_be_visible()
        page.wait_for_function("seen.length > 60")
        assert set(page.evaluate("seen")) == {300}, "once"


@pytest.mark.slow
@pytest.mark.parametrize("query", ["lang=en&t=412", "lang=en&tab=noise", "lang=en&example=2"])
def test_a_link_that_names_a_state_stays_there(browser: Browser, url: str, query: str):
    with visiting(browser, url) as visitor:
        visitor.page.add_init_script(WATCH)
        visitor.page.goto(f"{url}?{query}")
        visitor.page.wait_for_function("document.querySelector('.katex') && seen.length > 100")
        assert set(visitor.page.evaluate("seen")) <= {300, 412}


def test_nothing_moves_by_itself_with_reduced_motion(visit):
    visit.page.add_init_script(WATCH)
    visit.open()
    visit.page.wait_for_function("seen.length > 100")
    assert set(visit.page.evaluate("seen")) == {300}


@pytest.mark.long
def test_the_first_touch_or_a_reload_ends_the_arrival(browser: Browser, url: str):
    for touch in (
        lambda page: page.keyboard.press("Tab"),
        lambda page: page.locator("#forward h2").click(),
        lambda page: page.locator("#tab-noise-button").click(),
        lambda page: (page.reload(), page.wait_for_selector("#forward .katex")),
    ):
        with visiting(browser, url) as visitor:
            page = visitor.open()
            page.wait_for_function(f"{T_NOW} > 50")
            touch(page)
            assert page.evaluate(T_NOW) == 300
            page.wait_for_timeout(150)
            assert page.evaluate(T_NOW) == 300


# ---------------------------------------------------------------- words and pictures


def test_words_in_both_languages_name_the_same_pictures():
    named = {
        language: {key: sorted(re.findall(r"\]\((\w+)\)", string)) for key, string in TEXT[language].items()}
        for language in LANGUAGES
    }
    assert named["en"] == named["zh"]
    bodies = {key for key, names in named["en"].items() if names}
    assert {f"{tab}.body" for tab in TABS} <= bodies


@pytest.mark.slow
@pytest.mark.parametrize("tab", WITH_PICTURES)
def test_words_outline_their_pictures_on_hover_and_focus(same, tab):
    page = same.back(tab)
    settled(page, tab)
    words = page.locator(f"#{tab} .words p [data-of]:visible")
    assert words.count() > 0
    outlined = """(word) => [...word.closest('.tab').querySelectorAll('.pointed')]
        .filter((e) => e.offsetParent && (e.dataset.object === word.dataset.of || e.dataset.value === word.dataset.of))
        .length"""
    for i in range(words.count()):
        word = words.nth(i)
        name = word.get_attribute("data-of")
        word.hover()
        assert word.evaluate(outlined) > 0, name
        page.mouse.move(0, 0)
        assert word.evaluate(outlined) == 0, name
        word.focus()
        assert word.evaluate(outlined) > 0, name
        word.evaluate("(word) => word.blur()")


@pytest.mark.slow
def test_one_drawn_picture_goes_along_through_all_tabs(same):
    page = same.back()
    draw(same, "#forward .pad")
    drawn = same.pixels("#forward .pad")
    same.move("forward", 420)
    noisy = same.pixels('#forward [data-object="xt"] canvas')
    for tab in WITH_PICTURES:
        page.locator(f"#tab-{tab}-button").click()
        shown = f'#{tab} [data-object="x0"] canvas'
        expect(page.locator(shown).first).to_be_visible()
        page.wait_for_timeout(100)
        assert same.pixels(shown) == drawn, tab
    assert same.pixels('#training .along [data-object="xt"] canvas') == noisy, "with the noise of all tabs"


@pytest.mark.slow
def test_at_t_0_the_gray_noise_says_what_it_is(same):
    page = same.back("reverse")
    expect(page.locator("#reverse .status")).to_contain_text(re.compile("Stored|seed"), timeout=120_000)
    caption = page.locator('#reverse [data-object="eps_hat"] figcaption')
    same.move("reverse", 0)
    expect(caption).to_contain_text("no noise left at")
    expect(caption.locator(".legend")).to_be_hidden()
    page.locator('[data-language="zh"]').click()
    expect(caption).to_contain_text("时已无噪声")
    page.locator('[data-language="en"]').click()
    same.move("reverse", 500)
    expect(caption).to_contain_text("predicted noise")
    expect(caption.locator(".legend")).to_be_visible()

    page.locator("#tab-compare-button").click()
    expect(page.locator("#compare .figures").last).to_contain_text(re.compile(r"\d"), timeout=120_000)
    page.locator('#compare [data-value="eps_hat"]').click()
    for t, said in ((0, "no noise left at"), (500, "predicted noise")):
        same.move("compare", t)
        expect(page.locator("#compare .plane-name")).to_contain_text(said)
    page.locator('#compare [data-value="xt"]').click()
    same.move("compare", 0)
    expect(page.locator("#compare .plane-name")).to_have_text(TEXT["en"]["reverse.xt"])


def test_from_my_picture_opens_at_a_t0_that_leaves_something_to_denoise(same: Visit):
    page = same.back("mine")
    settled(page, "mine")
    page.locator("#tab-reverse-button").click()
    expect(page.locator("#reverse .status")).to_contain_text(re.compile("Stored|seed"), timeout=120_000)
    same.move("reverse", 0)  # as a playback ends
    page.locator("#tab-mine-button").click()
    expect(page.locator("#mine .t-now")).to_have_text("400")
    same.move("mine", 1)  # a visitor's own wish
    page.locator("#tab-forward-button").click()
    page.locator("#tab-mine-button").click()
    expect(page.locator("#mine .t-now")).to_have_text("1")


# ---------------------------------------------------------------- one and many


def test_one_of_a_thing_is_not_said_as_many(same):
    # Always two rows or more; a sum of bits; a search is there from 21 labels on.
    several = {"compare.done", "compare.example", "bound.done", "bound.under.done", "labels.find"}
    assert not [
        key
        for key, string in TEXT["en"].items()
        if key not in several
        and re.search(r"\{(n|steps|calls|total|late|ema|batch|distance|count)\} (?!\{)(?:network )?[a-z]+s\b", string)
    ]
    page = same.back()
    said = page.evaluate("""() => [1, 2].map((n) => [
        ddpm.say('reverse.summary', { sampler: 'DDIM', steps: n, label: '', seed: 5, seconds: '0.1' }),
        ddpm.say('rows.calls', { calls: n }),
        ddpm.say('mine.summary', { n, t0: 400, steps: n, label: '', seed: 5, seconds: '0.1' }),
        ddpm.say('forward.longer', { name: 'cosine', even: 't = 497', late: n, T: 1000 })])""")
    assert said[0] == [
        "DDIM, 1 step, seed 5, 0.1 s",
        "1 network call",
        "1 picture from t₀ = 400 in 1 step, seed 5, 0.1 s",
        "The cosine schedule keeps the signal longer (0 dB at t = 497); 1 of 1000 steps is below −20 dB.",
    ]
    assert "2 steps" in said[1][0]
    assert "2 pictures from t₀ = 400 in 2 steps" in said[1][2]

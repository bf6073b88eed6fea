"""The page as a whole: language, theme, narrow screens, keyboard, names for everything that can be used."""

import re
import urllib.request
from pathlib import Path

import pytest
from harness import serious, visiting
from playwright.sync_api import Page, expect

from ddpm.sampling import SAMPLERS
from ddpm.ui.server.rows import FAULTS
from ddpm.ui.tabs.bound import TERMS
from ddpm.ui.tabs.mine import KINDS
from ddpm.ui.tabs.noise import READINGS
from ddpm.ui.text import EQUATIONS, LANGUAGES, TEXT


def settled(page: Page, tab: str) -> None:
    """What the tab shows before the first click is there."""
    expect(page.locator(f"#{tab} canvas").first).to_be_visible()
    if tab in ("noise", "bound", "mine"):
        expect(page.locator(f"#{tab} .answer")).to_have_attribute("data-state", "done", timeout=120_000)


TABS = ("forward", "noise", "bound", "reverse", "labels", "compare", "mine", "wrong", "training")
UI = Path(__file__).parents[2] / "ddpm" / "ui"


def test_both_languages_have_the_same_keys_and_chinese_is_chinese():
    english, chinese = (TEXT[language] for language in LANGUAGES)
    assert english.keys() == chinese.keys()
    fields = re.compile(r"(?<![\\_^a-zA-Z])\{([a-z_]+)\}")
    for key, string in english.items():
        assert min(len(string), len(chinese[key])) > 0, key
        assert sorted(fields.findall(string)) == sorted(fields.findall(chinese[key])), key
        assert string.count("$") % 2 == chinese[key].count("$") % 2 == 0, key
        assert string.count("||") == chinese[key].count("||"), key
        assert not re.search("[\u4e00-\u9fff]", string), key
        if re.search("[a-z] ", string):
            assert re.search("[\u4e00-\u9fff]", chinese[key]), key


def test_every_key_that_the_page_names_exists():
    sources = "".join(path.read_text() for path in [*UI.rglob("*.py"), *UI.rglob("*.js")])
    named = re.findall(
        r'["\']((?:page|tab|part|t|unit|forward|noise|bound|answer|reverse|labels|which|unlabelled|rows|compare|mine|wrong|training|chart|refused|field|schedule|link|tour)\.[a-z_.]+[a-z])["\']',
        sources,
    )
    assert len(named) > 50
    blocks = {"mine.between", "mine.fill", "mine.invert"}  # of words, see `parts.words`
    assert set(named) - set(TEXT["en"]) - {path.name for path in UI.rglob("*.js")} - blocks == set()
    assert {f"mine.{name}" for name in ("xt", "x0_second", "mixture", "xt_mixture", "denoised")} <= set(TEXT["en"])
    assert {f"mine.kind.{name}" for name in KINDS} <= set(TEXT["en"])
    assert {f"wrong.{at}{name}{end}" for name in FAULTS for at, end in (("", ""), ("fault.", ""), ("", ".see"))} <= set(
        TEXT["en"]
    )
    assert {f"sampler.{name}" for name in SAMPLERS} <= set(TEXT["en"])
    assert {f"noise.reading.{name}" for name in READINGS} <= set(TEXT["en"])
    assert {f"bound.{name}" for name in TERMS} <= set(TEXT["en"])
    assert {f"{kind}_{end}" for kind in READINGS for end in ("hat", "difference")} <= set(EQUATIONS)
    assert {*(f"read_{kind}" for kind in READINGS), *READINGS, *TERMS} <= set(EQUATIONS)
    assert set(re.findall(r'tex\("(\w+)"\)', sources)) <= set(EQUATIONS)


@pytest.mark.slow
def test_the_switch_translates_everything_and_the_address_keeps_it(visit):
    page = visit.open("lang=en", tab="reverse")
    expect(page.locator("#reverse h2")).to_have_text("How does noise become a picture?")
    expect(page.locator("#reverse .status")).to_contain_text("Stored example")
    page.locator('[data-language="zh"]').click()
    expect(page.locator("#reverse h2")).to_have_text(TEXT["zh"]["reverse.question"])
    expect(page.locator("#reverse .status")).to_contain_text("预先算好的示例")
    expect(page.get_by_role("tab").first).to_have_text(TEXT["zh"]["tab.forward"])
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    english = {string for key, string in TEXT["en"].items() if string != TEXT["zh"][key]}
    texts = page.evaluate("""() => [...document.querySelectorAll('#header *, #reverse *')]
        .filter((e) => e.children.length === 0 && e.offsetParent).map((e) => e.textContent.trim())""")
    assert english.intersection(texts) == set()
    page.reload()
    expect(page.locator("#reverse h2")).to_have_text(TEXT["zh"]["reverse.question"])


@pytest.mark.parametrize("tab", ["noise", "bound", "mine"])
def test_nothing_english_is_left_in_chinese(same, tab):
    page = same.back(tab)
    settled(page, tab)
    page.locator('[data-language="zh"]').click()
    english = {string for key, string in TEXT["en"].items() if string != TEXT["zh"][key]}
    said = page.evaluate(f"""() => [...document.querySelectorAll('#{tab} *')].filter((e) => e.offsetParent)
        .flatMap((e) => [e.children.length ? '' : e.textContent.trim(), e.getAttribute('aria-label')])""")
    assert english.intersection(said) == set()
    prose = [text for text in said if text and re.search("[a-z]{3,} [a-z]{3,}", text)]
    assert [text for text in prose if "(" not in text and "\\" not in text] == []


@pytest.mark.slow
def test_lang_in_the_address_and_the_language_of_the_browser(browser, url):
    with visiting(browser, url) as visit:
        visit.open("lang=zh")
        expect(visit.page.locator("h1")).to_have_text(TEXT["zh"]["page.title"])
        expect(visit.page.get_by_role("tab").nth(1)).to_have_text(TEXT["zh"]["tab.noise"])
    with visiting(browser, url, locale="zh-HK") as visit:
        visit.open("")
        expect(visit.page.locator("h1")).to_have_text(TEXT["zh"]["page.title"])


def test_the_header_names_the_model(same):
    page = same.back()
    expect(page.locator(".chip")).to_contain_text("tiny-gray")
    expect(page.locator(".chip")).to_contain_text("parameters")
    assert page.locator("h1").count() == 1


@pytest.mark.slow
def test_arrow_keys_go_along_the_tabs(visit):
    page = visit.open()
    page.get_by_role("tab").first.focus()
    for key, tab in (("ArrowRight", TABS[1]), ("End", TABS[-1]), ("ArrowRight", TABS[0]), ("ArrowLeft", TABS[-1])):
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{tab}-button")).to_be_focused()
        expect(page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")


@pytest.mark.long
def test_nothing_sticks_out_and_on_a_phone_the_slider_stays_reachable(phone):
    page = phone.open()
    for language in LANGUAGES:
        page.locator(f'[data-language="{language}"]').click()
        expect(page.get_by_role("tab").first).to_have_text(TEXT[language]["tab.forward"])
        for tab in TABS:
            page.locator(f"#tab-{tab}-button").click()
            expect(page.locator(f"#{tab} canvas").first).to_be_visible()
            for width in (320, 641, 700, 910, 1024, 390):  # small phones and tablets, too; its own at last
                page.set_viewport_size({"width": width, "height": 844})
                excess = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert excess <= 0, (tab, language, width)
            if tab == "forward":
                page.evaluate("document.querySelector('#forward .pad').scrollIntoView({block: 'end'})")
                expect(page.locator("#forward .t-bar input")).to_be_in_viewport()


def test_dark_mode_turns_paper_and_neutral_noise_dark(visit):
    page = visit.open("lang=en&__theme=dark")
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3"
    )
    noise = '#forward [data-object="eps"] canvas'
    assert page.evaluate(brightness) < 60
    dark = visit.pixels(noise)
    page.locator(".page-header .theme").click()
    assert page.evaluate(brightness) > 200
    light = visit.pixels(noise)
    # Most noise is near zero, the neutral of the map.
    assert sorted(dark)[len(dark) // 2] < 110 < 150 < sorted(light)[len(light) // 2]


def test_everything_that_can_be_used_has_a_name(same):
    page = same.back("reverse")
    expect(page.locator("#reverse .status")).to_contain_text("Stored example")
    unnamed = """() => [...document.querySelectorAll(
            '.tab :is(button, input, select, summary, [role=img]), .page-header button')]
        .filter((e) => !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() || e.textContent.trim()))
        .map((e) => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


@pytest.mark.long
@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing_serious(same, tab):
    page = same.back(tab)
    settled(page, tab)
    found = {}
    for theme in ("light", "dark"):
        found[theme] = serious(page)
        page.locator(".page-header .theme").click()  # and back, for the next tab
    assert found == {"light": [], "dark": []}


def test_the_page_comes_compressed(url):
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(answer.read()) < 175_000


def test_the_keyboard_reaches_the_slider_and_shows_where_it_is(same):
    page = same.back()
    page.locator("#forward .renoise").focus()
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.type")
    assert focused == "range"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("End")
    assert page.locator("#forward .t-now").inner_text() == "1000"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#forward .t-now").inner_text() == "999"


def test_what_a_stranger_named_makes_no_equation(same):
    page = same.page
    said = page.evaluate("""() => {
        const line = document.querySelector('#forward .picker-status');
        ddpm.setText(line, 'forward.upload.failed', { name: '$\\\\rule{99em}{99em}$' });
        return [line.textContent, line.querySelectorAll('.tex').length];
    }""")
    assert said == [TEXT["en"]["forward.upload.failed"].replace("{name}", r"$\rule{99em}{99em}$"), 0]

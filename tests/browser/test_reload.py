"""What a reload of the page brings back, and what it must not."""

from __future__ import annotations

import json

import pytest
from harness import Visit, draw
from playwright.sync_api import expect

from ddpm.ui.text import TEXT

PICTURE = "ddpm.shared.get('picture').join()"
ROWS = """[...document.querySelectorAll('#compare .row')].map((row) => ['sampler', 'num_inference_steps']
    .map((name) => row.querySelector(`[name=${name}]`).value).join(':')).join()"""


def ready(visit: Visit, tab: str) -> None:
    expect(visit.page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")
    expect(visit.page.locator(f"#{tab} canvas").first).to_be_visible()


@pytest.mark.slow
def test_a_reload_brings_back_drawing_tab_settings_language_and_theme(visit):
    page = visit.open("lang=en&__theme=light")
    page.locator("#forward .clear").click()
    draw(visit, "#forward .pad")
    drawn = page.evaluate(PICTURE)
    page.locator('#forward [name="schedule"]').select_option("sigmoid")
    page.locator("#tab-compare-button").click()
    expect(page.locator("#compare .status").first).to_contain_text("Stored example", timeout=180_000)
    page.locator('#compare [name="num_inference_steps"]').first.select_option("20")
    page.locator("#tab-noise-button").click()
    ready(visit, "noise")
    page.locator('#noise [data-value="v"]').click()
    visit.move("noise", 640)
    t = page.evaluate("ddpm.shared.get('t')")
    page.locator(".page-header .theme").click()
    page.locator('[data-language="zh"]').click()
    page.reload()
    ready(visit, "noise")
    expect(page.locator("#noise h2")).to_have_text(TEXT["zh"]["noise.question"])
    assert page.evaluate(f"[{PICTURE}, ddpm.shared.get('t'), ddpm.dark()]") == [drawn, t, True]
    expect(page.locator('#noise [data-value="v"]')).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done", timeout=60_000)
    page.locator("#tab-forward-button").click()
    expect(page.locator('#forward [name="schedule"]')).to_have_value("sigmoid")
    page.locator("#tab-compare-button").click()
    page.wait_for_function(f"{ROWS}.includes(':20')")
    expect(page.locator("#compare .figures").first).to_contain_text("20 ", timeout=120_000)
    assert page.evaluate(PICTURE) == drawn


@pytest.mark.slow
def test_two_pictures_of_ones_own_survive(visit):
    page = visit.open(tab="mine")
    page.locator('#mine [data-value="between"]').click()
    draw(visit, "#mine .pad")
    first = page.evaluate(PICTURE)
    page.locator("#mine .swap").click()
    page.locator("#mine .pad").click(position={"x": 40, "y": 40})
    second = page.evaluate(PICTURE)
    assert first != second
    shown = '#mine [data-object="x0_second"] canvas'
    assert visit.pixels(shown) == [int(v) for v in first.split(",")]
    page.reload()
    ready(visit, "mine")
    page.wait_for_function("(drawn) => ddpm.shared.get('picture').join() === drawn", arg=second)
    expect(page.locator('#mine [data-value="between"]')).to_have_attribute("aria-pressed", "true")
    assert visit.pixels(shown) == [int(v) for v in first.split(",")]


@pytest.mark.slow
def test_a_link_says_all_and_nothing_of_an_earlier_visit_is_added(visit):
    page = visit.open()
    draw(visit, "#forward .pad")
    page.locator("#tab-noise-button").click()
    ready(visit, "noise")
    page.goto(f"{visit.url}?lang=en&tab=bound")
    ready(visit, "bound")
    assert page.evaluate("ddpm.example.get()") == 3
    page.goto(f"{visit.url}?lang=en")
    ready(visit, "forward")
    assert page.evaluate("ddpm.example.get()") == 3


@pytest.mark.long
def test_a_broken_memory_is_no_memory(visit):
    page = visit.open()
    page.reload()
    about = json.dumps(page.evaluate("JSON.parse(sessionStorage.getItem('ddpm tiny-gray')).about"))
    for broken in ("{", "7", f'{{"about": {about}}}', f'{{"about": {about}, "values": null}}'):
        page.evaluate(
            """(broken) => {
                sessionStorage.setItem('ddpm tiny-gray', broken);
                Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
            }""",
            broken,
        )
        page.reload()
        ready(visit, "forward")

"""Tabs "Compare" and "What goes wrong": rows of the same noise under one slider."""

import re
import time

import pytest
from harness import Visit, visiting
from playwright.sync_api import expect

from ddpm.ui.rows import COMPARED, FAULTS
from ddpm.ui.text import TEXT


def ready(visit: Visit, tab: str, query: str = "lang=en") -> None:
    """The tab with its stored example."""
    visit.open(query, tab=tab)
    expect(visit.page.locator(f"#{tab} .figures").last).to_contain_text(re.compile(r"\d"), timeout=60_000)


def row(visit: Visit, tab: str, i: int) -> list[list[int]]:
    """The pictures of row i, counted from 0."""
    read = """grid => [...grid.querySelectorAll('canvas')].map((c) => Array.from(
        c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 == 0)))"""
    return visit.page.locator(f"#{tab} .row").nth(i).locator(".grid").evaluate(read)


def fill(visit: Visit, i: int, sampler: str, steps: int) -> None:
    head = visit.page.locator("#compare .row").nth(i)
    head.locator('[name="sampler"]').select_option(sampler)
    head.locator('[name="num_inference_steps"]').select_option(str(steps))


def sample(visit: Visit, seed: int) -> None:
    visit.page.locator('#compare [name="seed"]').fill(str(seed))
    visit.page.locator("#compare .go").click()
    expect(visit.page.locator("#compare .status")).to_contain_text(f"same noise, seed {seed}")


def test_the_example_is_there_and_one_slider_moves_all_rows(visit):
    ready(visit, "compare")
    page = visit.page
    assert page.locator("#compare .row").count() == len(COMPARED) == 3
    page.wait_for_load_state("networkidle")
    before = len(visit.requests)
    finished = [row(visit, "compare", i) for i in range(3)]
    visit.move("compare", 1000)
    noise = [row(visit, "compare", i) for i in range(3)]
    assert noise[0] == noise[1] == noise[2], "all begin with the same noise"
    assert finished[0] != finished[1], "and end apart"
    visit.move("compare", 500)
    assert all(row(visit, "compare", i) not in (noise[i], finished[i]) for i in range(3))
    page.locator("#compare [data-value=x0_hat]").click()
    expect(page.locator("#compare .rows")).to_have_attribute("data-object", "x0_hat")
    assert "guess" in page.locator("#compare .grid").first.get_attribute("aria-label").lower()
    assert len(visit.requests) == before, "all of it is in the browser"


def test_rows_say_what_they_cost_and_only_the_changed_one_runs_again(visit):
    ready(visit, "compare")
    page = visit.page
    fill(visit, 0, "ddpm", 20)
    fill(visit, 1, "ddim", 10)
    fill(visit, 2, "dpm_solver++", 5)
    sample(visit, 21)
    figures = page.locator("#compare .figures")
    for i, calls in enumerate((20, 10, 5)):
        expect(figures.nth(i)).to_contain_text(f"{calls} network calls")
        expect(figures.nth(i)).to_contain_text(re.compile(r"\d\.\d\d s"))
    assert "RMS" not in figures.nth(0).inner_text()
    assert float(re.search(r"pictures ([\d.]+) from row 1", figures.nth(1).inner_text())[1]) > 0
    seconds = [figures.nth(i).inner_text() for i in range(3)]

    page.locator("#compare .add").click()
    expect(page.locator("#compare .add")).to_be_disabled()
    fill(visit, 3, "ddpm", 20)
    fill(visit, 1, "ddim", 5)
    expect(page.locator("#compare .row.stale")).to_have_count(1)
    expect(page.locator("#compare .row").nth(1)).to_have_class(re.compile("stale"))
    sample(visit, 21)
    expect(page.locator("#compare .row.stale")).to_have_count(0)
    assert [figures.nth(i).inner_text() for i in (0, 2)] == [seconds[0], seconds[2]], "taken from the store"
    expect(figures.nth(1)).to_contain_text("5 network calls")
    assert row(visit, "compare", 3) == row(visit, "compare", 0), "the same settings, the same pictures"

    page.locator("#compare .row").nth(0).locator(".remove").click()
    assert page.evaluate("document.activeElement.className") == "remove"
    page.locator("#compare .row").nth(0).locator(".remove").click()
    expect(page.locator("#compare .remove").first).to_be_disabled()
    expect(figures.nth(1)).to_contain_text("from row 1")


def test_stop_leaves_what_was_drawn(visit):
    ready(visit, "compare")
    page = visit.page
    fill(visit, 0, "ddpm", 1000)
    page.locator('#compare [name="seed"]').fill("22")
    page.locator("#compare .go").click()
    expect(page.locator("#compare .figures").first).to_contain_text("of 1000")
    started = time.monotonic()
    page.locator("#compare .stop").click()
    expect(page.locator("#compare .status")).to_contain_text("Stopped")
    assert time.monotonic() - started < 1
    expect(page.locator("#compare .go")).to_be_focused()
    visit.move("compare", 1000)
    assert row(visit, "compare", 0) == row(visit, "compare", 1), "the noise that both began with"
    fill(visit, 0, "ddpm", 10)
    sample(visit, 23)


def test_what_is_out_of_range_is_refused_with_its_row(visit):
    ready(visit, "compare")
    page, status = visit.page, visit.page.locator("#compare .status")
    eta = page.locator("#compare .row").nth(1).locator('[name="eta"]')
    eta.fill("2")
    page.locator("#compare .go").click()
    expect(status).to_have_text(re.compile("^Row 2. .* = 2: a number from 0 to 1"))
    page.locator('[data-language="zh"]').click()
    expect(status).to_have_text(re.compile("^第 2 行。.* = 2："))
    page.locator('[data-language="en"]').click()
    eta.fill("0")
    for i in range(3):
        fill(visit, i, "ddim", 1000)
    page.locator("#compare .go").click()
    expect(status).to_contain_text("3000 network calls in all rows together: 2000 at most")
    expect(page.locator("#compare .go")).to_be_visible()


def test_every_mistake_is_shown_beside_the_right_way(visit):
    ready(visit, "wrong")
    page, status = visit.page, visit.page.locator("#wrong .status")
    expect(page.locator("#wrong .mistake")).to_have_text(FAULTS["no_noise"].code[1])
    for name in ("no_clip", "last_noise", "few_steps", "short_T", "no_noise"):
        page.locator(f'#wrong [data-value="{name}"]').focus()
        page.keyboard.press("Enter")
        expect(status).to_contain_text("Both rows from the same noise")
        expect(page.locator("#wrong .row.stale")).to_have_count(0)
        assert page.locator(f'#wrong [data-value="{name}"]').get_attribute("aria-pressed") == "true"
        if name == "no_clip":  # shown at the noisy end
            right, wrong = (float(text.split("±")[1]) for text in page.locator("#wrong .figures").all_inner_texts())
            assert right <= 1 < wrong
        visit.move("wrong", 0)
        right, wrong = row(visit, "wrong", 0), row(visit, "wrong", 1)
        assert right != wrong, name
        if name == "last_noise":
            visit.move("wrong", 50)  # the last of its 20 steps
            assert row(visit, "wrong", 0) == row(visit, "wrong", 1), "until the end nothing differs"


def test_the_slider_of_a_mistake_is_part_of_it(visit):
    ready(visit, "wrong")
    page = visit.page
    page.locator('#wrong [data-value="short_T"]').click()
    expect(page.locator("#wrong .mistake")).to_contain_text("range(400, 0")
    slider = page.locator("#wrong .amount input")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#wrong .mistake")).to_contain_text("range(450, 0")
    alpha_bar = page.evaluate("ddpm.alphaBar[450]")
    expect(page.locator("#wrong .see")).to_contain_text(f"{alpha_bar**0.5:.2f}")
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    visit.move("wrong", 1000)
    first = row(visit, "wrong", 0)
    assert row(visit, "wrong", 1) == first, "it begins at t = 450 with the noise of x_T"


def test_mistakes_that_follow_each_other_fast_end_with_the_last(visit):
    ready(visit, "wrong")
    page = visit.page
    for name in ("short_T", "few_steps", "no_clip", "few_steps"):
        page.locator(f'#wrong [data-value="{name}"]').click()
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    expect(page.locator("#wrong .figures").nth(1)).to_contain_text("3 network calls")


@pytest.mark.parametrize("tab", ["compare", "wrong"])
def test_a_phone_in_chinese_in_the_dark(phone, tab):
    ready(phone, tab, "lang=zh&__theme=dark")
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    english = {string for key, string in TEXT["en"].items() if string != TEXT["zh"][key]}
    said = page.evaluate(f"""() => [...document.querySelectorAll('#{tab} *')].filter((e) => e.offsetParent)
        .flatMap((e) => [e.children.length ? '' : e.textContent.trim(), e.getAttribute('aria-label')])""")
    assert english.intersection(said) == set()
    page.locator(f"#{tab} .row").first.scroll_into_view_if_needed()
    expect(page.locator(f"#{tab} .t-bar input")).to_be_in_viewport()


def test_a_colour_model_is_compared_in_colour(browser, colour_url):
    with visiting(browser, colour_url) as visit:
        ready(visit, "compare")
        page = visit.page
        options = page.locator("#compare .row").first.locator('[name="num_inference_steps"] option')
        assert options.all_inner_texts()[-1] == "40"
        rgba = page.locator("#compare canvas").first.evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, 16, 16).data)"
        )
        assert rgba[0::4] != rgba[1::4]
        page.locator("#tab-wrong-button").click()
        page.locator('#wrong [data-value="few_steps"]').click()
        expect(page.locator("#wrong .lines .right")).to_have_text("num_inference_steps = 40")
        page.locator('#wrong [data-value="short_T"]').click()
        expect(page.locator("#wrong .mistake")).to_contain_text("range(16, 0")
        expect(page.locator("#wrong .status")).to_contain_text("Both rows")

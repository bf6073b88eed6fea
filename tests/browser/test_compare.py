"""Tabs "Compare" and "What goes wrong": rows of the same noise under one slider."""

import re

import pytest
from harness import Session, Visit, crowd
from playwright.sync_api import expect

from ddpm.ui.server.requests import check_rows
from ddpm.ui.server.rows import COMPARED, FAULTS
from ddpm.ui.text import TEXT


def drawn(visit: Visit, tab: str) -> None:
    """The tab is in front with its stored example, which is drawn after most others."""
    expect(visit.page.locator(f"#{tab} .figures").last).to_contain_text(re.compile(r"\d"), timeout=120_000)


def ready(visit: Visit, tab: str, query: str = "lang=en") -> None:
    """A fresh page."""
    visit.open(query, tab=tab)
    drawn(visit, tab)


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


@pytest.mark.slow
def test_the_example_is_there_and_one_slider_moves_all_rows(visit):
    ready(visit, "compare")
    page = visit.page
    assert page.locator("#compare .row").count() == len(COMPARED) == 3
    visit.until_quiet()
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


@pytest.mark.slow
def test_an_example_that_comes_late_leaves_alone_what_was_chosen_meanwhile(visit):
    page, late = visit.page, []

    def hold(route) -> None:
        asks = route.request.post_data_json["fn_name"] == "example" and not late
        late.append(route) if asks else route.continue_()

    look_up = re.compile("/component_server/?$")
    page.route(look_up, hold)
    visit.open(tab="compare")
    page.locator("#compare .remove").first.click()
    fill(visit, 1, "ddim", 5)
    expect(page.locator("#compare .status")).to_contain_text("Rows to draw: 2")
    with page.expect_response(look_up):
        late[0].continue_()
    sample(visit, 24)
    assert page.locator("#compare .row").count() == 2
    assert page.locator('#compare [name="num_inference_steps"]').nth(1).input_value() == "5"
    expect(page.locator("#compare .figures").nth(1)).to_contain_text("5 network calls")


@pytest.mark.slow
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
    assert float(re.search(r"from row 1 by ([\d.]+)", figures.nth(1).inner_text())[1]) > 0
    seconds = [figures.nth(i).inner_text() for i in range(3)]

    def settings() -> list[str]:
        return page.locator("#compare .row").evaluate_all(
            "rows => rows.map((row) => [...row.querySelectorAll('select, input')].map((field) => field.value).join())"
        )

    page.locator("#compare .add").click()
    expect(page.locator("#compare .add")).to_be_disabled()
    assert len(set(settings())) == 4, "the new row is another than those that are there"
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


@pytest.mark.slow
def test_stop_leaves_what_was_drawn(same):
    page = same.back("compare")
    drawn(same, "compare")
    fill(same, 0, "ddpm", 1000)
    fill(same, 1, "ddpm", 500)
    page.locator('#compare [name="seed"]').fill("22")
    same.listen("#compare .rows", when="/of 1000.*of 500/s.test(text)", click="#compare .stop")
    page.locator("#compare .go").click()
    expect(page.locator("#compare .status")).to_contain_text("Stopped")
    expect(page.locator("#compare .go")).to_be_focused()
    same.move("compare", 1000)
    # Of frames that come within one frame of the screen, Gradio hands over the last: the first ones may be missing.
    assert all(len(set(picture)) > 50 for i in (0, 1) for picture in row(same, "compare", i)), "noise, not nothing"
    fill(same, 0, "ddpm", 10)
    fill(same, 1, "ddim", 10)
    sample(same, 23)
    images, rows = int(page.locator('#compare [name="num_images"]').input_value()), [("ddpm", 1000), ("ddpm", 500)]
    request = {"rows": [{"sampler": s, "num_inference_steps": n} for s, n in rows], "num_images": images, "seed": 22}
    kept = [Session(same.url).look_up("trajectory", r.key) for r in check_rows(request, 1000, 16)]
    assert kept == [None, None], "neither went on to its end"


def test_what_is_out_of_range_is_refused_with_its_row(same):
    page = same.back("compare")
    drawn(same, "compare")
    status = page.locator("#compare .status")
    fill(same, 1, "ddim", 10)
    eta = page.locator("#compare .row").nth(1).locator('[name="eta"]')
    eta.fill("2")
    page.locator("#compare .go").click()
    expect(status).to_have_text(re.compile("^Row 2: .* = 2: a number from 0 to 1"))
    expect(page.locator("#compare [aria-invalid]")).to_have_count(1)
    expect(eta).to_have_attribute("aria-invalid", "true")
    expect(eta).to_have_attribute("aria-errormessage", status.get_attribute("id"))
    page.locator('[data-language="zh"]').click()
    expect(status).to_have_text(re.compile("^第 2 行：.* = 2："))
    page.locator('[data-language="en"]').click()
    eta.fill("0")
    expect(page.locator("#compare [aria-invalid]")).to_have_count(0)
    for i in range(3):
        fill(same, i, "ddim", 1000)
    page.locator("#compare .go").click()
    expect(status).to_contain_text("The rows together need 3000 network calls; at most 2000 are allowed")
    expect(page.locator("#compare .go")).to_be_visible()


@pytest.mark.long
def test_every_mistake_is_shown_beside_the_right_way(same):
    page = same.back("wrong")
    drawn(same, "wrong")
    status = page.locator("#wrong .status")
    expect(page.locator("#wrong .mistake")).to_have_text(FAULTS["no_noise"].code[1])
    for name in ("no_clip", "last_noise", "few_steps", "short_T", "no_noise"):
        page.locator(f'#wrong [data-value="{name}"]').focus()
        page.keyboard.press("Enter")
        expect(status).to_contain_text("Both rows start from the same noise")
        expect(page.locator("#wrong .row.stale")).to_have_count(0)
        assert page.locator(f'#wrong [data-value="{name}"]').get_attribute("aria-pressed") == "true"
        if name == "no_clip":  # shown at the noisy end
            right, wrong = (float(text.split("±")[1]) for text in page.locator("#wrong .figures").all_inner_texts())
            assert right <= 1 < wrong
        same.move("wrong", 0)
        right, wrong = row(same, "wrong", 0), row(same, "wrong", 1)
        assert right != wrong, name
        if name == "last_noise":
            same.move("wrong", 50)  # the last of its 20 steps
            assert row(same, "wrong", 0) == row(same, "wrong", 1), "until the end nothing differs"


@pytest.mark.slow
def test_while_a_mistake_waits_the_rows_say_whose_pictures_they_show(same):
    page = same.back("wrong")
    drawn(same, "wrong")
    page.locator('#wrong [data-value="no_clip"]').click()
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    with crowd(same.url, most=1):
        page.locator('#wrong [data-value="few_steps"]').click()
        expect(page.locator("#wrong .status")).to_contain_text("Waiting")
        for i in (0, 1):
            expect(page.locator("#wrong .figures").nth(i)).to_have_text("These are still the pictures of: No clipping")
        page.locator('[data-language="zh"]').click()
        expect(page.locator("#wrong .figures").first).to_have_text(f"这里仍是此前的图像：{TEXT['zh']['wrong.no_clip']}")
        page.locator('[data-language="en"]').click()
        page.locator("#wrong .stop").click()
        expect(page.locator("#wrong .figures").first).to_contain_text("still the pictures of: No clipping")
    page.locator("#wrong .go").click()
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    expect(page.locator("#wrong .figures").nth(1)).to_contain_text("3 network calls")
    page.locator("#wrong .amount input").fill("1")
    expect(page.locator("#wrong .figures").nth(1)).to_contain_text("1 network call")
    expect(page.locator("#wrong .row-settings").nth(1)).to_contain_text("1 step")
    assert "1 steps" not in page.locator("#wrong").inner_text()


@pytest.mark.slow
def test_the_slider_of_a_mistake_is_part_of_it(same):
    page = same.back("wrong")
    page.locator('#wrong [data-value="short_T"]').click()
    expect(page.locator("#wrong .mistake")).to_contain_text("range(400, 0")
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    said = same.listen("#wrong .status")
    page.locator("#wrong .amount input").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#wrong .mistake")).to_contain_text("range(450, 0")
    alpha_bar = page.evaluate("ddpm.alphaBar[450]")
    expect(page.locator("#wrong .see")).to_contain_text(f"{alpha_bar**0.5:.2f}")
    same.heard(said, "Both rows")
    same.move("wrong", 1000)
    first = row(same, "wrong", 0)
    assert row(same, "wrong", 1) == first, "it begins at t = 450 with the noise of x_T"


def test_mistakes_that_follow_each_other_fast_end_with_the_last(same):
    page = same.back("wrong")
    for name in ("short_T", "few_steps", "no_clip", "few_steps"):
        page.locator(f'#wrong [data-value="{name}"]').click()
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")
    expect(page.locator("#wrong .figures").nth(1)).to_contain_text("3 network calls")


@pytest.mark.long
def test_a_page_that_was_busy_while_all_answers_came_shows_them_all(same):
    """Gradio then hands over the last message alone."""
    page = same.back("compare")
    drawn(same, "compare")
    fill(same, 0, "ddim", 5)
    fill(same, 1, "ddim", 10)
    sample(same, 25)
    page.locator('#compare [name="seed"]').fill("26")
    page.evaluate("""() => {
        document.querySelector('#compare .go').click();
        setTimeout(() => {  // the request is on its way
            const end = performance.now() + 3000;
            while (performance.now() < end);
        }, 300);
    }""")
    expect(page.locator("#compare .status")).to_contain_text("same noise, seed 26")
    figures = page.locator("#compare .figures")
    for i, calls in enumerate((5, 10)):
        expect(figures.nth(i)).to_contain_text(f"{calls} network calls")
    expect(page.locator("#compare .row.stale")).to_have_count(0)


@pytest.mark.slow
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

"""The question at the end of each tab, which the page's own numbers answer; and a tab's stage in another page."""

import re

import numpy as np
import pytest
from harness import Visit, visiting
from hosting import Quiet, listening
from playwright.sync_api import expect
from test_bound import finished, of_library

from ddpm.checkpoint import load

TABS = ("forward", "noise", "bound", "reverse", "labels", "compare", "mine", "wrong", "training")


def answered(visit: Visit, tab: str, guess: int | str) -> str:
    """What a tab says after a guess: the value of a button, or a number."""
    quiz = visit.page.locator(f"#{tab} .quiz:visible")
    if isinstance(guess, int):
        quiz.locator("input").fill(str(guess))
    else:
        quiz.locator(f'[data-value="{guess}"]').click()
    quiz.locator(".reveal").click()
    # Without the formulas' other form, which only screen readers get.
    return quiz.locator(".revealed").evaluate("""(said) => {
        const copy = said.cloneNode(true);
        for (const other of copy.querySelectorAll(".katex-mathml")) other.remove();
        return copy.textContent;
    }""")


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)", text)]


def test_the_pictures_own_contrast_answers_forward(same, model):
    page = same.back("forward")
    reveal = page.locator("#forward .quiz .reveal")
    expect(reveal).to_be_disabled()
    said = answered(same, "forward", 300)
    x0 = np.array(same.pixels("#forward .pad")) / 127.5 - 1
    alpha_bar = load(model).schedule.alpha_bar.numpy()
    signal = alpha_bar * x0.var()
    correlation = np.sqrt(signal / (signal + 1 - alpha_bar))
    assert f"t={1 + np.argmax(signal < 1 - alpha_bar)}" in said
    assert f"t={1 + np.argmax(correlation < 0.1)}" in said
    assert f"{correlation[299]:.2f}" in said
    page.locator("#forward .quiz input").fill("0")
    expect(reveal).to_be_disabled()
    expect(page.locator("#forward .quiz .revealed")).to_be_empty()
    answered(same, "forward", 300)
    page.locator("#forward .example").nth(5).click()
    expect(page.locator("#forward .quiz .revealed")).to_be_empty()  # it was about another picture
    page.locator("#forward .clear").click()
    assert "draw something first" in answered(same, "forward", 300)


@pytest.mark.slow
def test_the_terms_on_the_page_answer_the_bound(same, model):
    same.back("bound")
    finished(same)
    truth = of_library(model, same.pixels("#bound .pad"), same.page.evaluate("ddpm.shared.get('noise')"))
    early = truth.kl[0, :499].sum() / truth.kl[0].sum()
    simple = truth.eps_mse[0, 1:500].sum() / truth.eps_mse[0, 1:].sum()
    said = answered(same, "bound", "late")
    for share in (early, simple):
        assert f"{100 * share:.0f}%" in said
    same.page.locator('[data-language="zh"]').click()
    expect(same.page.locator("#bound .quiz .revealed")).to_contain_text(f"{100 * early:.0f}%")
    expect(same.page.locator("#bound .quiz .revealed")).to_contain_text("干净的一半")


def test_an_answer_that_names_a_row_changes_its_language(same):
    same.back("compare")
    said = same.page.locator("#compare .quiz .revealed")
    while "away from those of row 1" not in (english := answered(same, "compare", 2)):
        same.page.wait_for_timeout(300)
    assert re.search(r"steps?: its pictures", english)
    same.page.locator('[data-language="zh"]').click()
    expect(said).to_contain_text(re.compile(r"\d+ 步：与第 1 行的图像相差"))
    expect(said).not_to_contain_text("step")


@pytest.mark.slow
@pytest.mark.parametrize("tab", TABS)
def test_every_tab_ends_with_a_question_that_its_numbers_answer(same, tab):
    page = same.back(tab)
    quiz = page.locator(f"#{tab} .quiz:visible")
    expect(quiz.locator("p").first).to_contain_text("?")
    button = quiz.locator(".switch button")
    guess = button.first.get_attribute("data-value") if button.count() else 2
    quiz.scroll_into_view_if_needed()
    # A row that comes in between the click and the reading takes the answer away: it was about other samples.
    while not (said := answered(same, tab, guess)) or re.search("not there yet|not complete", said):
        page.wait_for_timeout(300)
    assert numbers(said), said
    assert "{" not in said
    assert "NaN" not in said
    assert "undefined" not in said


@pytest.mark.slow
def test_a_copied_frame_shows_the_stage_alone_with_its_settings_and_a_link_to_the_page(still, url):
    class Lecture(Quiet):
        """Somebody's own page."""

        def do_GET(self):  # noqa: N802
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><h1>A lecture</h1>{html}".encode())

    with visiting(still, url) as visit, listening(Lecture) as port:
        page = visit.open()
        visit.move("forward", 700)
        page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
        expect(page.locator(".copy-frame")).to_be_hidden()
        page.locator(".copy-link").click()
        page.locator(".copy-frame").click()
        expect(page.locator(".page-status")).to_contain_text("HTML of a frame")
        html = page.evaluate("copied")
        assert "embed=1" in html
        page.goto(f"http://127.0.0.1:{port}/")
        frame = page.frame_locator("iframe")
        expect(frame.locator("#forward .stage canvas").first).to_be_visible()
        expect(frame.locator("#forward .t-bar")).to_contain_text("700")
        for hidden in (
            "header.page-header",
            "#tab-noise-button",
            "#forward h2",
            "#forward .words",
            "#forward .quiz",
            "footer",
        ):
            expect(frame.locator(hidden).first).to_be_hidden()
        link = frame.locator(".embed-link")
        expect(link).to_be_visible()
        assert "embed" not in link.get_attribute("href")
        box = page.locator("iframe").bounding_box()
        inside = link.bounding_box()
        assert inside["y"] + inside["height"] <= box["y"] + box["height"], "the frame is as high as its content"
        visit.until_quiet()
        visit.left()
        visit.requests[:] = [asked for asked in visit.requests if f":{port}/" not in asked]

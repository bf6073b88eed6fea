"""Tab "From my picture": closed forms in the browser, results that stream in, and which picture they belong to."""

import re

import numpy as np
import pytest
from harness import Visit, draw, serious
from playwright.sync_api import Locator, Page, expect

XT, SECOND = (f'#mine .board [data-object="{name}"] canvas' for name in ("xt", "x0_second"))
MIXTURE, XT_MIXTURE, DENOISED = (f'#mine .row[data-object="{n}"]' for n in ("mixture", "xt_mixture", "denoised"))


def choose(page: Page, kind: str = "several") -> None:
    page.locator(f'#mine [data-value="{kind}"]').click()
    expect(page.locator("#mine .answer")).to_have_attribute("data-state", "done", timeout=120_000)  # drawn after most


def denoise(visit: Visit, images: int, seed: int) -> None:
    page = visit.page
    page.locator('#mine [name="num_images"]').fill(str(images))
    page.locator('#mine [name="seed"]').fill(str(seed))
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text(f"seed {seed}")


def row(visit: Visit, selector: str) -> np.ndarray:
    """The pictures of a row, (n, pixels)."""
    count = visit.page.locator(f"{selector} .cell").count()
    return np.array([visit.pixels(f"{selector} .cell:nth-child({i + 1}) canvas") for i in range(count)], float)


def numbers(visit: Visit, selector: str) -> list[float]:
    return [float(text) for text in visit.page.locator(f"{selector} .cell span").all_inner_texts()]


@pytest.mark.slow
def test_examples_are_there_before_the_first_click_and_t_asks_nothing(visit):
    page = visit.open(tab="mine")
    choose(page)
    expect(page.locator("#mine .answer")).to_contain_text("Stored example: 8 pictures from t₀ = 400 in 50 steps")
    assert page.locator("#mine .t-now").inner_text() == "400", "where the example starts"
    assert len({tuple(picture) for picture in row(visit, DENOISED)}) == 8
    page.locator('#mine [data-value="between"]').click()
    expect(page.locator("#mine .answer")).to_contain_text("Stored example: 8 pictures from t₀ = 400")
    assert row(visit, DENOISED).shape == (8, 784)
    blends = row(visit, MIXTURE)
    first, second = visit.pixels("#mine .pad"), visit.pixels(SECOND)
    assert (blends[0] == first).all()
    assert (blends[-1] == second).all()
    assert first != second

    visit.until_quiet()
    before = len(visit.requests)
    visit.move("mine", 1)
    assert np.abs(row(visit, XT_MIXTURE) - blends).mean() < 3
    expect(page.locator("#mine .answer")).to_contain_text("denoise again")
    visit.move("mine", 400)
    expect(page.locator("#mine .answer")).to_contain_text("Stored example")
    page.locator('#mine [data-value="several"]').click()
    shown = visit.pixels(XT)
    assert len(visit.requests) == before
    page.locator("#tab-forward-button").click()
    assert visit.pixels('#forward [data-object="xt"] canvas') == shown, "the same noise, t and picture"


def test_a_link_without_settings_shows_the_stored_examples(visit):
    page = visit.page
    page.goto(f"{visit.url}?lang=en&tab=mine")
    answer = page.locator("#mine .answer")
    expect(answer).to_contain_text("Stored example: 8 pictures from t₀ = 400")
    for kind in ("between", "fill", "invert"):
        page.locator(f'#mine [data-value="{kind}"]').click()
        expect(answer).to_contain_text("Stored example", timeout=120_000)
    assert not [asked for asked in visit.requests if "queue/join" in asked], "nothing is drawn again"


@pytest.mark.slow
def test_a_drawn_picture_comes_back_from_a_small_t_and_not_from_a_large_one(same):
    page = same.back("mine")
    choose(page)
    draw(same, "#mine .pad")
    expect(page.locator("#mine .answer")).to_contain_text("denoise again")
    drawn = np.array(same.pixels("#mine .pad"), float)
    same.move("mine", 1)
    denoise(same, images=2, seed=5)
    near = row(same, DENOISED)
    assert np.abs(near - drawn).mean() < 4
    same.move("mine", 900)
    denoise(same, images=3, seed=5)
    far = row(same, DENOISED)
    assert np.abs(far - drawn).mean() > 20
    assert np.abs(far[0] - far[1]).mean() > 5, "later noise of their own"
    root = np.sqrt(((far - drawn) ** 2).mean(1))
    assert numbers(same, DENOISED) == pytest.approx(root, abs=0.51)
    expect(page.locator("#mine .answer")).to_contain_text("3 pictures from t₀ = 900 in 50 steps, seed 5")


@pytest.mark.slow
def test_between_two_pictures_and_swapped(same):
    page = same.back("mine")
    choose(page, "between")
    first, second = same.pixels("#mine .pad"), same.pixels(SECOND)
    page.locator("#mine .swap").click()
    assert (same.pixels("#mine .pad"), same.pixels(SECOND)) == (second, first)
    same.move("mine", 300)
    denoise(same, images=3, seed=6)
    assert numbers(same, MIXTURE) == [0, 0.5, 1]
    there = row(same, DENOISED)
    page.locator("#mine .swap").click()
    denoise(same, images=3, seed=6)
    np.testing.assert_allclose(row(same, DENOISED), there[::-1], atol=2)


def test_stop_stops_and_refusals_name_the_value(same):
    page = same.back("mine")
    choose(page)
    page.locator('#mine [name="num_images"]').fill("17")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("Pictures = 17: a whole number from 1 to 16 is needed")
    page.locator('#mine [name="num_images"]').fill("16")
    page.locator('#mine [name="seed"]').fill("8")
    same.listen("#mine .answer", when="text.startsWith('Step')", click="#mine .stop")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("Stopped at step")
    expect(page.locator("#mine .go")).to_be_visible()
    page.wait_for_timeout(300)
    expect(page.locator("#mine .answer")).to_contain_text("Stopped at step")


TORN, PLAIN, FILLED, CODE, DECODED, WALK = (
    '#mine [data-object="torn"] canvas',
    *(f'#mine .row[data-object="{name}"]' for name in ("plain", "filled", "code", "decoded", "walk")),
)
MASK = "[...atob(new URL(location).searchParams.get('erased').replaceAll('-', '+').replaceAll('_', '/'))].map((c) => c.charCodeAt(0))"


def erased(visit: Visit) -> np.ndarray:
    """(784,) bool: where the picture is erased, as a link has it."""
    visit.page.locator(".copy-link").click()
    visit.page.wait_for_function("location.search.includes('erased=')")
    return np.unpackbits(np.array(visit.page.evaluate(MASK), np.uint8)).astype(bool)


def across_the_edge(pictures: np.ndarray, mask: np.ndarray) -> float:
    """How much neighbouring pixels differ, of which one is under the mask and the other is not."""
    images, hole = pictures.reshape(-1, 28, 28), mask.reshape(28, 28).astype(int)
    pairs = [np.abs(np.diff(images, axis=axis + 1))[:, np.diff(hole, axis=axis) != 0] for axis in (0, 1)]
    return float(np.concatenate([each.ravel() for each in pairs]).mean())


def reveal(page: Page, guess: str) -> Locator:
    """What the tab says after a guess to the question of the kind that is shown."""
    quiz = page.locator("#mine .quiz:visible")
    quiz.locator(f'[data-value="{guess}"]').click()
    quiz.locator(".reveal").click()
    return quiz.locator(".revealed")


@pytest.mark.slow
def test_what_is_erased_is_filled_in_and_the_rest_stays_to_the_byte(visit):
    page = visit.open(tab="mine")
    page.locator('#mine [data-value="fill"]').click()
    expect(page.locator("#mine .answer")).to_contain_text("Stored example: 4 fillings in 25 steps", timeout=120_000)
    known = np.array(visit.pixels("#mine .pad"))
    half = np.tile(np.arange(28) < 14, 28)
    for name in (PLAIN, FILLED):
        assert (row(visit, name)[:, ~half] == known[~half]).all()

    page.locator("#mine .restore").click()
    expect(page.locator("#mine .answer")).to_contain_text("fill in again")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_have_text("Nothing is erased yet, so there is nothing to fill in.")
    draw(visit, TORN)
    drawn = erased(visit)
    assert 20 < drawn.sum() < 500
    page.locator("#mine .undo").click()
    page.locator("#mine .undo").click()
    assert (erased(visit) == half).all(), "the stroke, then all that was restored"
    page.locator("#mine .restore").click()
    page.locator(TORN).focus()
    for key in ("ArrowDown", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowLeft", "Space"):
        page.keyboard.press(key)
    expect(page.locator(TORN)).to_have_attribute("aria-label", "Brush at column 13, row 17; 4 % of the picture erased")
    by_keys = erased(visit).reshape(28, 28)
    assert by_keys[16, 12]
    assert by_keys[16, 14]
    assert not by_keys[:13].any()
    page.locator(TORN).focus()
    page.keyboard.press("Control+z")
    draw(visit, TORN)
    mask = erased(visit)
    shown = np.array(visit.pixels(TORN))
    assert (shown[~mask] == known[~mask]).all()
    assert (shown[mask] != known[mask]).any()

    page.locator('#mine [name="num_images"]').fill("3")
    page.locator('#mine [name="seed"]').fill("12")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("3 fillings in 50 steps, seed 12", timeout=60_000)
    plain, filled = row(visit, PLAIN), row(visit, FILLED)
    for made in (plain, filled):
        assert (made[:, ~mask] == known[~mask]).all()
        assert len({picture.tobytes() for picture in made}) == 3
    assert (plain[:, mask] != filled[:, mask]).any()
    said = reveal(page, "jumping")
    means = [f"{across_the_edge(made, mask):.1f}" for made in (plain, filled)]
    expect(said).to_contain_text(
        f"neighbours differ by {means[0]} of 255 levels without jumps, and by {means[1]} with them"
    )

    page.locator(".copy-link").click()
    page.goto(page.url)
    expect(page.locator("#mine .answer")).to_contain_text("3 fillings in 50 steps, seed 12", timeout=60_000)
    assert (row(visit, FILLED) == filled).all(), "a link shows the same"
    expect(page.locator('#mine [name="sampler"] option[value="dpm_solver++"]')).to_be_disabled()
    page.goto(page.url.replace("erased=", "erased=AAAA"))
    expect(page.locator(".page-status")).to_contain_text("this is no erased part of a picture of this size")


def test_a_filling_can_be_stopped(same):
    page = same.back("mine")
    page.locator('#mine [data-value="fill"]').click()
    page.locator('#mine [name="num_images"]').fill("16")
    page.locator('#mine [name="seed"]').fill("77")
    same.listen("#mine .answer", when="text.startsWith('Step')", click="#mine .stop")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("Stopped at step")
    expect(page.locator("#mine .go")).to_be_visible()
    page.locator('#mine [data-value="several"]').click()


@pytest.mark.slow
def test_a_finger_erases(phone):
    page = phone.open(tab="mine")
    page.locator('#mine [data-value="fill"]').click()
    page.locator("#mine .restore").click()
    before = phone.pixels(TORN)
    page.locator(TORN).tap(position={"x": 60, "y": 60})
    assert sum(a != b for a, b in zip(before, phone.pixels(TORN), strict=True)) > 5
    assert page.locator(TORN).evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "none"
    assert not serious(page)


@pytest.mark.slow
def test_a_picture_becomes_noise_and_comes_back_with_the_error_of_each_number_of_steps(same):
    page = same.back("mine")
    page.locator('#mine [data-value="invert"]').click()
    draw(same, "#mine .pad")
    expect(page.locator('#mine [name="seed"]')).to_be_hidden()
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("to noise and back (", timeout=60_000)
    expect(page.locator("#mine .answer")).to_have_attribute("data-state", "done", timeout=60_000)
    picture, back = np.array(same.pixels("#mine .pad"), float), row(same, DECODED)
    assert page.locator(f"{CODE} .cell span").all_inner_texts() == [f"{n} steps" for n in (10, 25, 50, 100, 250)]
    assert numbers(same, DECODED) == pytest.approx(np.sqrt(((back - picture) ** 2).mean(1)), abs=0.051)
    most, *_, least = page.locator(f"{DECODED} .cell span").all_inner_texts()
    said = f"In 10 steps each way it comes back {most} levels of 255 away (root mean square), and in 250 steps {least}."
    expect(reveal(page, "near")).to_have_text(said)
    page.locator('[data-language="zh"]').click()
    expect(page.locator("#mine .revealed:visible")).to_contain_text(f"来回各 10 步时相差 {most} 级")
    page.locator('[data-language="en"]').click()

    page.locator('#mine [data-value="between"]').click()
    same.move("mine", 5)  # fewer than the walk's steps, which does not begin at t_0
    denoise(same, images=3, seed=9)
    same.move("mine", 400)
    expect(page.locator(DENOISED)).to_have_class(re.compile("changed"))
    expect(page.locator(WALK)).not_to_have_class(re.compile("changed"))
    walk = row(same, WALK)
    assert np.abs(walk[0] - back[2]).max() <= 1, "it begins with what comes back in 50 steps"
    assert numbers(same, WALK) == [0, 0.5, 1]
    assert np.abs(walk[1] - walk[0]).mean() > 0.5 < np.abs(walk[1] - walk[2]).mean()

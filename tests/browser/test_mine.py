"""Tab "From my picture": closed forms in the browser, results that stream in, and which picture they belong to."""

import numpy as np
import pytest
from harness import Visit, draw, until_quiet
from playwright.sync_api import Page, expect

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

    until_quiet(page)
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

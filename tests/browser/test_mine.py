"""Tab "From my picture": closed forms in the browser, results that stream in, and which picture they belong to."""

import time

import numpy as np
import pytest
from harness import Visit, draw, visiting
from playwright.sync_api import expect

XT, SECOND = (f'#mine .board [data-object="{name}"] canvas' for name in ("xt", "x0_second"))
MIXTURE, XT_MIXTURE, DENOISED = (f'#mine .row[data-object="{n}"]' for n in ("mixture", "xt_mixture", "denoised"))


def opened(visit: Visit, kind: str = "several", query: str = "lang=en"):
    page = visit.open(query, tab="mine")
    page.locator(f'#mine [data-value="{kind}"]').click()
    expect(page.locator("#mine .answer")).to_have_attribute("data-state", "done")
    return page


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
    page = opened(visit)
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

    page.wait_for_load_state("networkidle")
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


def test_a_drawn_picture_comes_back_from_a_small_t_and_not_from_a_large_one(visit):
    page = opened(visit)
    draw(visit, "#mine .pad")
    expect(page.locator("#mine .answer")).to_contain_text("denoise again")
    drawn = np.array(visit.pixels("#mine .pad"), float)
    visit.move("mine", 1)
    denoise(visit, images=2, seed=5)
    near = row(visit, DENOISED)
    assert np.abs(near - drawn).mean() < 4
    visit.move("mine", 900)
    denoise(visit, images=3, seed=5)
    far = row(visit, DENOISED)
    assert np.abs(far - drawn).mean() > 20
    assert np.abs(far[0] - far[1]).mean() > 5, "later noise of their own"
    root = np.sqrt(((far - drawn) ** 2).mean(1))
    assert numbers(visit, DENOISED) == pytest.approx(root, abs=0.51)
    expect(page.locator("#mine .answer")).to_contain_text("3 pictures from t₀ = 900 in 50 steps, seed 5")


def test_between_two_pictures_and_swapped(visit):
    page = opened(visit, "between")
    first, second = visit.pixels("#mine .pad"), visit.pixels(SECOND)
    page.locator("#mine .swap").click()
    assert (visit.pixels("#mine .pad"), visit.pixels(SECOND)) == (second, first)
    visit.move("mine", 300)
    denoise(visit, images=3, seed=6)
    assert numbers(visit, MIXTURE) == [0, 0.5, 1]
    there = row(visit, DENOISED)
    page.locator("#mine .swap").click()
    denoise(visit, images=3, seed=6)
    np.testing.assert_allclose(row(visit, DENOISED), there[::-1], atol=2)


def test_stop_stops_and_refusals_name_the_value(visit):
    page = opened(visit)
    page.locator('#mine [name="num_images"]').fill("17")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("Pictures = 17: a whole number from 1 to 16 is needed")
    page.locator('#mine [name="num_images"]').fill("16")
    page.locator('#mine [name="seed"]').fill("8")
    page.evaluate("""() => {
        const status = document.querySelector('#mine .answer');
        new MutationObserver(() => status.textContent.startsWith('Step') && document.querySelector('#mine .stop').click())
            .observe(status, {childList: true, subtree: true});
    }""")
    page.locator("#mine .go").click()
    expect(page.locator("#mine .answer")).to_contain_text("Stopped at step")
    expect(page.locator("#mine .go")).to_be_visible()
    time.sleep(0.3)
    expect(page.locator("#mine .answer")).to_contain_text("Stopped at step")


def test_a_colour_model_works_on_its_own_samples(browser, colour_url):
    with visiting(browser, colour_url) as visit:
        opened(visit, "between")
        assert visit.pixels("#mine .pad") != visit.pixels(SECOND)
        assert (row(visit, MIXTURE)[-1] == visit.pixels(SECOND)).all()
        visit.move("mine", 1)
        denoise(visit, images=2, seed=3)
        assert np.abs(row(visit, DENOISED) - row(visit, MIXTURE)).mean() < 6

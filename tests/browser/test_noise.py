"""Tab "Predict the noise": one answer of the network for a picture, then all of it in the browser."""

import re

import numpy as np
import pytest
import torch
from formulas import velocity
from harness import Visit, draw
from playwright.sync_api import expect

from ddpm.checkpoint import load
from ddpm.ui.server.readings import browser_normal
from ddpm.ui.server.service import Service
from ddpm.ui.text import TEXT

X0_HAT = '#noise [data-object="x0_hat"]:not([data-role]) canvas'
TARGET, PREDICTION, DIFFERENCE = (
    f'#noise [data-role="{role}"] canvas' for role in ("target", "prediction", "difference")
)


def answered(visit: Visit) -> None:
    expect(visit.page.locator("#noise .answer")).to_contain_text("moving t needs no new call")


def test_the_answer_to_an_example_is_there_before_the_first_click(visit):
    visit.open(tab="noise")
    answered(visit)
    assert visit.pixels(TARGET) != visit.pixels(PREDICTION) != visit.pixels(DIFFERENCE)
    assert visit.page.locator("#noise .now").inner_text() != ""


def test_t_scrubs_the_answer_without_a_request(same):
    same.back("noise")
    answered(same)
    same.until_quiet()
    before, seen = len(same.requests), {}
    for t in (1, 500, 1000, 500):
        same.move("noise", t)
        seen.setdefault(t, []).append((same.pixels(X0_HAT), same.pixels(PREDICTION)))
    assert seen[500][0] == seen[500][1]
    assert seen[1][0] != seen[500][0] != seen[1000][0]
    same.move("noise", 1)
    x0, xt = (np.array(same.pixels(f'#noise [data-object="{name}"] canvas'), float) for name in ("x0", "xt"))
    assert np.abs(x0 - xt).mean() < 3
    assert len(same.requests) == before


def test_the_pictures_are_those_of_the_network(same, model):
    """What the canvas shows is what the same checkpoint says here about the same picture, noise and t."""
    page = same.back("noise")
    answered(same)
    same.move("noise", 500)
    t = int(page.locator("#noise .t-now").inner_text()) - 1
    checkpoint = load(model)
    x0 = torch.tensor(same.pixels('#noise [data-object="x0"] canvas')).float().reshape(1, 1, 28, 28) / 127.5 - 1
    eps = torch.from_numpy(browser_normal(7, 784)).reshape(1, 1, 28, 28)
    at = torch.tensor([t])
    xt = checkpoint.schedule.q_sample(x0, eps, at)
    eps_hat = checkpoint.engine()(xt, at)
    x0_hat = checkpoint.schedule.predict_x0(xt, eps_hat, at)
    shown = np.array(same.pixels(X0_HAT), float)
    assert np.abs(shown - ((x0_hat + 1) * 127.5).clamp(0, 255).flatten().numpy()).max() <= 1
    figures = {"eps": (eps_hat, eps), "x0": (x0_hat, x0)}
    figures["mu"] = tuple(checkpoint.schedule.posterior_mean(x, xt, at) for x in (x0_hat, x0))
    figures["v"] = tuple(velocity(checkpoint.schedule, *pair, at) for pair in ((x0_hat, eps_hat), (x0, eps)))
    for reading, (guess, truth) in figures.items():
        page.locator(f'#noise .switch [data-value="{reading}"]').click()
        expect(page.locator(f'#noise .switch [data-value="{reading}"]')).to_have_attribute("aria-pressed", "true")
        mse = (guess - truth).square().mean().item()
        number = page.locator("#noise .now").inner_text().replace("\u00b710", "e")
        number = number.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))  # 1.2·10⁻⁵
        assert float(number) == pytest.approx(mse, rel=0.06), reading


def test_the_readings_have_looks_and_names_of_their_own(same):
    page = same.back("noise")
    answered(same)
    page.locator('#noise .switch [data-value="x0"]').click()
    assert same.pixels(TARGET) == same.pixels('#noise [data-object="x0"] canvas'), "x_0 itself is the truth"
    assert same.pixels(PREDICTION) == same.pixels(X0_HAT)
    expect(page.locator(PREDICTION)).to_have_class("pixels guess")
    expect(page.locator(DIFFERENCE)).to_have_attribute("aria-label", re.compile("clean picture x_0"))
    page.locator('#noise .switch [data-value="v"]').click()
    expect(page.locator(PREDICTION)).to_have_class("pixels")


def test_a_picture_drawn_here_is_asked_about_and_is_that_of_the_other_tabs(same):
    page = same.back("noise")
    answered(same)
    same.move("noise", 300)
    before = same.pixels(PREDICTION)
    draw(same, "#noise .pad")
    expect(page.locator("#noise .noise")).not_to_have_class("tab noise waiting")
    answered(same)
    assert same.pixels(PREDICTION) != before
    drawn = same.pixels("#noise .pad")
    page.locator("#tab-forward-button").click()
    assert same.pixels("#forward .pad") == drawn
    page.locator("#forward .example").first.click()
    page.locator("#tab-noise-button").click()
    answered(same)
    assert same.pixels("#noise .pad") == same.pixels("#forward .pad") != drawn


def test_new_noise_is_asked_about(same):
    page = same.back("noise")
    answered(same)
    page.locator('#noise .switch [data-value="eps"]').click()
    before = same.pixels(TARGET)
    said = same.listen("#noise .answer")
    page.locator("#noise .renoise").click()
    same.heard(said, "Computing the predictions")
    answered(same)
    assert same.pixels(TARGET) != before


def test_the_keyboard_moves_from_timestep_to_timestep_and_switches_the_reading(same, model):
    page = same.back("noise")
    answered(same)
    timesteps = [t + 1 for t in Service(load(model)).readings.timesteps]
    page.locator("#noise .t-bar input").focus()
    page.keyboard.press("End")
    seen = []
    for _ in range(3):
        seen.append(int(page.locator("#noise .t-now").inner_text()))
        page.keyboard.press("ArrowLeft")
    assert seen == timesteps[:-4:-1]
    page.locator('#noise .switch [data-value="mu"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator('#noise .switch [data-value="mu"]')).to_have_attribute("aria-pressed", "true")


def test_chinese_reaches_the_answer(visit):
    page = visit.open("lang=zh", tab="noise")
    expect(page.locator("#noise .answer")).to_contain_text("拖动 t 不再调用网络")
    expect(page.locator("#noise h2")).to_have_text(TEXT["zh"]["noise.question"])
    page.locator('[data-language="en"]').click()
    answered(visit)


def test_a_seed_names_the_same_noise_in_the_browser_and_here(same):
    page = same.page
    for seed, n in ((7, 784), (8, 5), (2**31 - 1, 300)):
        there = np.array(page.evaluate("([seed, n]) => Array.from(ddpm.normal(seed, n))", [seed, n]))
        assert np.abs(there - browser_normal(seed, n)).max() < 1e-5

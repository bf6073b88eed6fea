"""Tab "Predict the noise": one answer of the network for a picture, then all of it in the browser."""

import base64
import re

import numpy as np
import pytest
import torch
from formulas import velocity
from harness import Visit, draw
from playwright.sync_api import expect

from ddpm.checkpoint import load
from ddpm.ui.server.readings import LIMIT_S, MAX_VISITORS, WALL_LIMIT_S, browser_normal, spread
from ddpm.ui.server.requests import InputError, PictureRequest
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
    page = same.back("noise")
    answered(same)
    page.wait_for_load_state("networkidle")
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
    same.heard(said, "Asking")
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


# ---------------------------------------------------------------- the server's part, without a browser


@pytest.fixture(scope="module")
def service(model) -> Service:
    return Service(load(model))


def raw(seed: int = 1, pixel: int = 9, **more) -> dict:
    return {"x0": base64.b64encode(bytes([pixel]) * 784).decode(), "noise_seed": seed, **more}


@pytest.mark.parametrize("change", [{"x0": None}, {"x0": "!"}, {"x0": "AAAA"}, {"x0": "A" * 10**5}, {"x0": 5}])
def test_what_is_no_picture_is_refused(change):
    with pytest.raises(InputError, match="784 bytes"):
        PictureRequest.check({**raw(), **change}, "predict", (28, 28, 1))


def test_a_small_model_is_asked_once(service, monkeypatch):
    monkeypatch.setattr("ddpm.ui.server.readings.CALL_S", 1000)  # it is small, however slow this machine may be
    list(service.readings.read("predict", raw()))  # how fast it is is known now
    sizes = []
    engine = service._engine
    monkeypatch.setattr(service, "_engine", lambda xt, t: sizes.append(len(xt)) or engine(xt, t))
    *_, done = service.readings.read("predict", raw(2, run=3))
    assert (done["kind"], done["run"]) == ("done", 3)
    assert sizes == [len(service.readings.timesteps)]
    found = service.readings.get(done["key"])
    assert found["t"][0] == 1
    assert found["t"][-1] == 1000
    assert len(base64.b64decode(found["data"])) == 2 * 784 * len(found["t"])
    sizes.clear()
    assert [message["kind"] for message in service.readings.read("predict", raw(2))] == ["done"]
    assert sizes == [], "from the store"


def test_the_next_picture_of_a_visitor_ends_the_one_before(service, monkeypatch):
    monkeypatch.setattr("ddpm.ui.server.readings.CALL_S", 0)  # one timestep a call
    first = service.readings.read("predict", raw(3, visitor="a", run=1))
    next(first)
    other = service.readings.read("predict", raw(4, visitor="b", run=1))
    next(other)
    service.readings.expect("predict", {"visitor": "a", "run": 2})
    assert list(first) == []
    assert next(other)["kind"] == "part", "another visitor's goes on"
    late = service.readings.read("predict", raw(5, visitor="a", run=1))
    assert list(late) == [], "one that had waited in the queue is not begun"
    assert next(service.readings.read("predict", raw(5, visitor="a", run=2)))["kind"] == "part"


@pytest.mark.parametrize(
    "nonsense", [None, [], "x", {}, {"visitor": 5, "run": "x"}, {"visitor": "a" * 10**5, "run": 1}]
)
def test_nonsense_about_visitors_does_no_harm(service, nonsense):
    service.readings.expect("predict", nonsense)
    for i in range(MAX_VISITORS + 5):
        service.readings.expect("predict", {"visitor": f"v{i}", "run": 1})
    assert len(service.readings._newest) == MAX_VISITORS


def test_a_reading_that_takes_too_long_is_refused(service, monkeypatch):
    for limits, key in ((WALL_LIMIT_S, "refused.crowded"), (LIMIT_S, "refused.slow")):
        monkeypatch.setitem(limits, "predict", -1)
        *_, last = service.readings.read("predict", raw(6))
        assert (last["kind"], last["key"]) == ("refused", key)


def test_timesteps_reach_from_end_to_end():
    for num_steps in (2, 40, 1000, 4000):
        t = spread(num_steps, 64)
        assert t == sorted(set(t))
        assert (t[0], t[-1]) == (0, num_steps - 1)
        assert len(t) <= 64

"""Tab "Reverse": frames stream in, Stop stops, the whole trajectory is scrubbed without the server."""

import numpy as np
import pytest
from harness import LONG, Session, Visit, crowd
from PIL import Image
from playwright.sync_api import expect

from ddpm.ui.server.requests import SampleRequest

XT, X0_HAT, EPS_HAT = (f'#reverse [data-object="{name}"]:not(.along *) canvas' for name in ("xt", "x0_hat", "eps_hat"))


def fill(visit: Visit, **values) -> None:
    for name, value in values.items():
        field = visit.page.locator(f'#reverse [name="{name}"]')
        if name in ("sampler", "num_inference_steps"):
            field.select_option(str(value))
        else:
            field.fill(str(value))


def sample(visit: Visit, **values) -> None:
    """Fill in, click, and wait for the end."""
    fill(visit, **values)
    visit.page.locator("#reverse .go").click()
    expect(visit.page.locator("#reverse .status")).to_contain_text(f"seed {values['seed']}")


def now(visit: Visit) -> int:
    return int(visit.page.locator("#reverse .t-now").inner_text())


def test_an_example_is_there_before_the_first_click(visit):
    page = visit.open(tab="reverse")
    expect(page.locator("#reverse .status")).to_contain_text("Stored example")
    expect(page.locator(XT)).to_have_count(8)
    visit.move("reverse", 0)
    finished = visit.pixels(XT)
    visit.move("reverse", 1000)
    assert visit.pixels(XT) != finished


def test_frames_stream_in_and_the_end_can_be_scrubbed_both_ways(same):
    page = same.back("reverse")
    said, announced = same.listen("#reverse .t-now"), same.listen(".announcer")
    sample(same, sampler="ddpm", num_inference_steps=100, num_images=8, seed=11)
    same.heard(announced, "seed 11")
    assert sum("Step" in text for text in announced.json_value()) <= len(said.json_value()) / 4, "not every step"
    assert set(said.json_value()) - {"0", "1", "1000"}, "frames were shown while it ran"
    assert now(same) == 0, "it ends with the finished pictures"
    assert page.locator(X0_HAT).count() == page.locator(EPS_HAT).count() == 8

    same.until_quiet()
    before, frames = len(same.requests), {}
    for t in (0, 400, 1000, 400, 0):
        same.move("reverse", t)
        assert now(same) == t
        expect(page.locator("#reverse .strip-rows [aria-current]")).to_contain_text(str(t))
        frames.setdefault(t, []).append((same.pixels(XT), same.pixels(X0_HAT), same.pixels(EPS_HAT)))
    assert frames[0][0] == frames[0][1], "the way back shows the same"
    assert frames[400][0] == frames[400][1]
    assert frames[0][0][0] != frames[400][0][0] != frames[1000][0][0]
    assert len(same.requests) == before, "all of it is in the browser"


def test_arrow_keys_go_from_frame_to_frame(same):
    page = same.back("reverse")
    sample(same, sampler="ddim", num_inference_steps=10, num_images=1, seed=3)
    page.locator("#reverse .t-bar input").focus()
    page.keyboard.press("ArrowRight")
    assert now(same) == 100
    page.keyboard.press("ArrowRight")
    assert now(same) == 200
    page.keyboard.press("ArrowLeft")
    assert now(same) == 100


def test_play_runs_to_the_finished_pictures_and_back_to_the_noise(same):
    page = same.back("reverse")
    sample(same, sampler="dpm_solver++", num_inference_steps=10, num_images=2, seed=4)
    page.locator("#reverse .speed select").select_option("4")
    for way, towards, end in (("reverse", "picture", 0), ("forward", "noise", 1000)):
        said = same.listen("#reverse .t-now")
        button = page.locator(f"#reverse .play.{way}-way")
        assert button.evaluate("(button) => { button.click(); return button.ariaLabel; }") == "Pause"
        page.wait_for_function("([said, end]) => said.at(-1) === end", arg=[said, str(end)])
        expect(button).to_have_attribute("aria-label", f"Play towards the {towards}")
        seen = [int(t) for t in said.json_value()]
        assert (seen[0], seen[-1]) == (1000 - end, end)
        assert seen == sorted(seen, reverse=end == 0)
        assert len(set(seen)) > 2


def saved(visit: Visit, button: str) -> tuple[str, Image.Image]:
    """Name and contents of the file that a button makes."""
    with visit.page.expect_download() as download:
        visit.page.locator(f"#reverse .{button}").click()
    return download.value.suggested_filename, Image.open(download.value.path())


def rgb(visit: Visit, selector: str) -> np.ndarray:
    """What the canvases of a plane show, (n, H, W, 3)."""
    read = "all => all.map(c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data))"
    pixels = np.array(visit.page.locator(selector).evaluate_all(read))
    size = round((pixels.shape[1] / 4) ** 0.5)
    return pixels.reshape(-1, size, size, 4)[..., :3]


def grids(image: Image.Image, size: int, n: int, planes: int) -> np.ndarray:
    """The pictures of a saved sheet whose grids are one row high, (planes, n, size, size, 3)."""
    large = np.asarray(image.convert("RGB")).astype(int)
    scale = large.shape[0] // (size + 8)
    small = large[::scale, ::scale]
    assert (large == small.repeat(scale, 0).repeat(scale, 1)).all(), "enlarged by nearest neighbour"
    assert scale >= 4
    wide = n * (size + 1) + 3
    assert small.shape == (size + 8, planes * wide + 4, 3)
    at = [[4 + k * wide + i * (size + 1) for i in range(n)] for k in range(planes)]
    return np.stack([[small[4 : 4 + size, x : x + size] for x in row] for row in at])


@pytest.mark.slow
def test_a_trajectory_is_saved_as_gif_and_a_grid_as_png(same):
    page = same.back("reverse")
    sample(same, sampler="ddim", num_inference_steps=10, num_images=3, seed=21, eta=0.5)
    name, gif = saved(same, "save-gif")
    assert name == "tiny-gray_ddim-eta-0.5_10-steps_seed-21.gif"
    ts = [*range(1000, 0, -100), 0]
    assert (gif.n_frames, gif.info["loop"]) == (len(ts), 0)
    for frame, t in enumerate(ts):
        gif.seek(frame)
        same.move("reverse", t)
        assert (grids(gif, 28, 3, planes=2) == [rgb(same, XT), rgb(same, X0_HAT)]).all(), t
        assert gif.info["duration"] == (1500 if t == 0 else 400), "a pause at the end"
    same.move("reverse", 500)
    name, png = saved(same, "save-png")
    assert name == "tiny-gray_ddim-eta-0.5_10-steps_seed-21_t-500.png"
    assert (grids(png, 28, 3, planes=1)[0] == rgb(same, XT)).all()
    expect(page.locator("#reverse .save-gif")).to_contain_text("as GIF")


def is_kept(visit: Visit, **request) -> bool:
    """Whether the server has come to the end of it."""
    key = SampleRequest.check(request, 1000, 16).key
    return Session(visit.url).look_up("trajectory", key) is not None


def test_stop_stops_and_the_next_run_starts_at_once(same):
    page = same.back("reverse")
    fill(same, sampler="ddpm", num_inference_steps=1000, num_images=16, seed=31)
    same.listen("#reverse .status", when="/Step (?!1 )\\d+ of 1000/.test(text)", click="#reverse .stop")
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_contain_text("Stopped at step")
    expect(page.locator("#reverse .go")).to_be_visible()
    assert now(same) > 0
    same.move("reverse", 1000)
    assert now(same) == 1000, "what was drawn can still be moved through"
    page.locator("#reverse .t-bar input").focus()
    before = same.pixels(XT)
    page.keyboard.press("ArrowLeft")
    assert now(same) == page.evaluate("ddpm.shared.get('t')") < 1000
    assert same.pixels(XT) != before, "frame by frame"
    small = {"sampler": "ddim", "num_inference_steps": 10, "num_images": 1, "seed": 32, "eta": 0}
    sample(same, **small)
    assert is_kept(same, **small)
    assert not is_kept(same, **LONG, seed=31), "it did not hold the model to its end"


@pytest.mark.slow
def test_what_is_out_of_range_is_refused_with_the_range(same):
    page = same.back("reverse")
    fill(same, sampler="ddim", num_inference_steps=10)
    for name, good, bad, accepted in (
        ("num_images", 2, "17", "1 to 16"),
        ("num_images", 2, "2.5", "1 to 16"),
        ("seed", 7, "-1", "0 to 2147483647"),
        ("seed", 7, "", "0 to 2147483647"),
        ("eta", 0, "1.5", "0 to 1"),
    ):
        fill(same, **{name: bad})
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_contain_text(f"= {bad or 'nothing'}: ")
        expect(page.locator("#reverse .status")).to_contain_text(accepted)
        expect(page.locator("#reverse .go")).to_be_visible()
        fill(same, **{name: good})
    sample(same, num_images=2, seed=7)


@pytest.mark.slow
def test_who_waits_is_told_so_and_can_leave(same):
    page = same.back("reverse")
    given_up = {"sampler": "ddpm", "num_inference_steps": 10, "num_images": 1, "seed": 42}
    fill(same, **given_up)
    with crowd(same.url, 8):
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_contain_text("Waiting")
        page.locator("#reverse .stop").click()
        expect(page.locator("#reverse .go")).to_be_visible()
    sample(same, num_images=2, seed=43)
    expect(page.locator(XT)).to_have_count(2)
    assert not is_kept(same, **given_up), "it is not drawn after all"


@pytest.mark.slow
def test_behind_another_tab_a_run_and_the_player_leave_t_alone(same):
    page = same.back("reverse")
    fill(same, sampler="ddpm", num_inference_steps=250, num_images=4, seed=51)
    page.locator("#reverse .go").click()
    page.locator("#tab-forward-button").click()
    said = same.listen("#forward .t-now")
    same.move("forward", 640)
    expect(page.locator("#reverse .status")).to_contain_text("seed 51")
    assert set(said.json_value()) == {"640"}
    page.locator("#tab-reverse-button").click()
    expect(page.locator("#forward .t-now")).to_have_text("1")
    assert now(same) == 0, "back in front it shows what it has drawn, and the others follow"
    page.locator("#reverse .speed select").select_option("0.5")
    page.locator("#reverse .play.forward-way").click()
    page.locator("#tab-forward-button").click()
    expect(page.locator("#reverse .play.forward-way")).to_have_attribute("aria-label", "Play towards the noise")
    same.move("forward", 640)
    page.locator("#tab-reverse-button").click()
    assert abs(now(same) - 640) <= 4, "t was moved since, and it follows"


@pytest.mark.slow
def test_t_is_shared_between_the_tabs(visit):
    page = visit.open()
    visit.move("forward", 700)
    page.locator("#tab-reverse-button").click()
    expect(page.locator("#reverse .status")).to_contain_text("Stored example")
    page.wait_for_function("() => Math.abs(Number(document.querySelector('#reverse .t-now').textContent) - 700) <= 10")
    visit.move("reverse", 0)
    page.locator("#tab-forward-button").click()
    assert page.locator("#forward .t-now").inner_text() == "1", "x_0 itself is not on the forward slider"

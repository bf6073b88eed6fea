"""Tab "Reverse": frames stream in, Stop stops, the whole trajectory is scrubbed without the server."""

import time

import numpy as np
from harness import Visit, visiting
from PIL import Image
from playwright.sync_api import expect

XT, X0_HAT, EPS_HAT = (f'#reverse [data-object="{name}"] canvas' for name in ("xt", "x0_hat", "eps_hat"))


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
    assert page.locator(XT).count() == 8
    visit.move("reverse", 0)
    finished = visit.pixels(XT)
    visit.move("reverse", 1000)
    assert visit.pixels(XT) != finished


def test_frames_stream_in_and_the_end_can_be_scrubbed_both_ways(visit):
    page = visit.open(tab="reverse")
    page.evaluate("""() => {
        window.seen = new Set();
        const status = document.querySelector('#reverse .status');
        const note = () => window.seen.add(document.querySelector('#reverse .t-now').textContent);
        new MutationObserver(note).observe(status, {childList: true, subtree: true});
    }""")
    sample(visit, sampler="ddpm", num_inference_steps=100, num_images=8, seed=11)
    assert page.evaluate("window.seen.size") >= 3, "frames were shown while it ran"
    assert now(visit) == 0, "it ends with the finished pictures"
    assert page.locator(X0_HAT).count() == page.locator(EPS_HAT).count() == 8

    page.wait_for_load_state("networkidle")
    before, frames = len(visit.requests), {}
    for t in (0, 400, 1000, 400, 0):
        visit.move("reverse", t)
        assert now(visit) == t
        frames.setdefault(t, []).append((visit.pixels(XT), visit.pixels(X0_HAT), visit.pixels(EPS_HAT)))
    assert frames[0][0] == frames[0][1], "the way back shows the same"
    assert frames[400][0] == frames[400][1]
    assert frames[0][0][0] != frames[400][0][0] != frames[1000][0][0]
    assert len(visit.requests) == before, "all of it is in the browser"


def test_arrow_keys_go_from_frame_to_frame(visit):
    page = visit.open(tab="reverse")
    sample(visit, sampler="ddim", num_inference_steps=10, num_images=1, seed=3)
    page.locator("#reverse .t-bar input").focus()
    page.keyboard.press("ArrowRight")
    assert now(visit) == 100
    page.keyboard.press("ArrowRight")
    assert now(visit) == 200
    page.keyboard.press("ArrowLeft")
    assert now(visit) == 100


def test_play_runs_to_the_finished_pictures_and_back_to_the_noise(visit):
    page = visit.open(tab="reverse")
    sample(visit, sampler="dpm_solver++", num_inference_steps=10, num_images=2, seed=4)
    page.locator("#reverse .speed select").select_option("4")
    page.evaluate("""() => {
        const shown = document.querySelector('#reverse .t-now');
        new MutationObserver(() => window.seen.push(+shown.textContent)).observe(shown, {childList: true});
    }""")
    for way, towards, end in (("reverse", "picture", 0), ("forward", "noise", 1000)):
        page.evaluate("window.seen = []")
        button = page.locator(f"#reverse .play.{way}-way")
        button.click()
        expect(button).to_have_attribute("aria-label", "Pause")
        expect(button).to_have_attribute("aria-label", f"Play towards the {towards}")
        seen = page.evaluate("window.seen")
        assert (seen[0], seen[-1]) == (1000 - end, end)
        assert seen == sorted(seen, reverse=end == 0)
        assert len(set(seen)) > 3


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


def test_a_trajectory_is_saved_as_gif_and_a_grid_as_png(visit):
    page = visit.open(tab="reverse")
    sample(visit, sampler="ddim", num_inference_steps=10, num_images=3, seed=21, eta=0.5)
    name, gif = saved(visit, "save-gif")
    assert name == "tiny-gray_ddim-eta-0.5_10-steps_seed-21.gif"
    ts = [*range(1000, 0, -100), 0]
    assert (gif.n_frames, gif.info["loop"]) == (len(ts), 0)
    for frame, t in enumerate(ts):
        gif.seek(frame)
        visit.move("reverse", t)
        assert (grids(gif, 28, 3, planes=2) == [rgb(visit, XT), rgb(visit, X0_HAT)]).all(), t
        assert gif.info["duration"] == (1500 if t == 0 else 400), "a pause at the end"
    visit.move("reverse", 500)
    name, png = saved(visit, "save-png")
    assert name == "tiny-gray_ddim-eta-0.5_10-steps_seed-21_t-500.png"
    assert (grids(png, 28, 3, planes=1)[0] == rgb(visit, XT)).all()
    expect(page.locator("#reverse .save-gif")).to_contain_text("as GIF")


def test_stop_stops_and_the_next_run_starts_at_once(visit):
    page = visit.open(tab="reverse")
    fill(visit, sampler="ddpm", num_inference_steps=1000, num_images=16, seed=31)
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_contain_text("of 1000")
    started = time.monotonic()
    page.locator("#reverse .stop").click()
    expect(page.locator("#reverse .status")).to_contain_text("Stopped at step")
    assert time.monotonic() - started < 1
    expect(page.locator("#reverse .go")).to_be_visible()
    assert now(visit) > 0
    visit.move("reverse", 1000)
    assert now(visit) == 1000, "what was drawn can still be moved through"

    started = time.monotonic()
    sample(visit, sampler="ddim", num_inference_steps=10, num_images=1, seed=32)
    assert time.monotonic() - started < 5, "the stopped run no longer holds the model"


def test_what_is_out_of_range_is_refused_with_the_range(visit):
    page = visit.open(tab="reverse")
    fill(visit, num_inference_steps=10)
    for name, good, bad, accepted in (
        ("num_images", 2, "17", "1 to 16"),
        ("num_images", 2, "2.5", "1 to 16"),
        ("seed", 7, "-1", "0 to 2147483647"),
        ("seed", 7, "", "0 to 2147483647"),
        ("eta", 0, "1.5", "0 to 1"),
    ):
        fill(visit, **{name: bad})
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_contain_text(f"= {bad or 'nothing'}: ")
        expect(page.locator("#reverse .status")).to_contain_text(accepted)
        expect(page.locator("#reverse .go")).to_be_visible()
        fill(visit, **{name: good})
    sample(visit, num_images=2, seed=7)


def test_who_waits_is_told_so_and_can_leave(browser, url):
    with visiting(browser, url) as first, visiting(browser, url) as second:
        for visit in (first, second):
            visit.open(tab="reverse")
        fill(first, sampler="ddpm", num_inference_steps=1000, num_images=16, seed=41)
        first.page.locator("#reverse .go").click()
        expect(first.page.locator("#reverse .status")).to_contain_text("of 1000")
        fill(second, sampler="ddpm", num_inference_steps=10, num_images=1, seed=42)
        second.page.locator("#reverse .go").click()
        expect(second.page.locator("#reverse .status")).to_contain_text("Waiting")
        second.page.locator("#reverse .stop").click()
        expect(second.page.locator("#reverse .go")).to_be_visible()
        first.page.locator("#reverse .stop").click()
        sample(second, num_inference_steps=10, num_images=2, seed=43)
        assert second.page.locator(XT).count() == 2, "what was given up is not drawn after all"


def test_t_is_shared_between_the_tabs(visit):
    page = visit.open()
    visit.move("forward", 700)
    page.locator("#tab-reverse-button").click()
    expect(page.locator("#reverse .status")).to_contain_text("Stored example")
    assert abs(now(visit) - 700) <= 10, "the frame nearest to 700"
    visit.move("reverse", 0)
    page.locator("#tab-forward-button").click()
    assert page.locator("#forward .t-now").inner_text() == "1", "x_0 itself is not on the forward slider"


def test_a_colour_model_is_sampled_in_colour(browser, colour_url):
    with visiting(browser, colour_url, reduced_motion="reduce") as visit:
        page = visit.open(tab="reverse")
        assert page.locator('#reverse [name="num_inference_steps"] option').all_inner_texts() == ["10", "20", "40"]
        sample(visit, sampler="ddpm_fixed_large", num_inference_steps=10, num_images=2, seed=5)
        rgba = page.locator(XT).first.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, 16, 16).data)")
        red, green, blue, _ = np.array(rgba).reshape(-1, 4).T
        assert (red != green).any()
        assert (green != blue).any()
        _, gif = saved(visit, "save-gif")
        gif.seek(gif.n_frames - 1)
        shown = np.stack([rgb(visit, XT), rgb(visit, X0_HAT)])
        assert np.abs(grids(gif, 16, 2, planes=2) - shown).mean() < 9, "256 colours for what is almost noise"
        _, png = saved(visit, "save-png")
        assert (grids(png, 16, 2, planes=1)[0] == shown[0]).all()

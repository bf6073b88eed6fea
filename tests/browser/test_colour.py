"""A model of colour pictures on every tab, and nonsense sent to it: small and with T = 40, it answers fast."""

import base64
import io
import json
import math
import os
import random
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gradio_client import Client
from harness import ROOT, Session, draw, serving
from PIL import Image
from playwright.sync_api import expect
from test_mine import DENOISED, MIXTURE, SECOND, choose, denoise, row
from test_reverse import X0_HAT, XT, grids, rgb, sample, saved
from untrained import make_model

from ddpm.ui.text import TEXT

SAMPLE = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}
PICTURE = base64.b64encode(bytes(range(256)) * 3).decode()


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """Of this file's server, in place of the one with the gray model."""
    folder = tmp_path_factory.mktemp("colour")
    with serving(make_model(folder / "tiny-colour", 16, 3, 40), folder / "log") as address:
        yield address


def is_colour(canvas) -> bool:
    rgba = canvas.evaluate("c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)")
    red, green, blue, _ = np.array(rgba).reshape(-1, 4).T
    return bool((red != green).any() and (green != blue).any())


@pytest.mark.slow
def test_its_own_samples_are_the_examples(same):
    page = same.page
    assert page.locator("#forward .pad").get_attribute("width") == "16"
    expect(page.locator("#forward .example")).to_have_count(8)
    page.locator("#forward .example").nth(2).click()
    shown = page.locator("#forward .pad").evaluate("c => c.toDataURL()")
    thumb = page.locator("#forward .example canvas").nth(2).evaluate("c => c.toDataURL()")
    pixels = [np.asarray(Image.open(io.BytesIO(base64.b64decode(u.split(",")[1])))) for u in (shown, thumb)]
    assert np.array_equal(*pixels)
    assert page.locator("#forward .t-bar input").get_attribute("max") == "40"


def at(visit, tab, place) -> list[int]:
    """Red, green and blue of a pixel of a pad."""
    read = "(c, [x, y]) => [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    return visit.page.locator(f"#{tab} .pad").evaluate(read, place)


def test_it_is_drawn_on_with_a_palette(same):
    page = same.back()
    inks = page.locator("#forward .swatch input")
    assert inks.count() == 9
    page.locator("#forward .clear").click()
    assert at(same, "forward", (8, 8)) == [255, 255, 255]
    expect(page.get_by_label("Black").first).to_be_checked()
    draw(same, "#forward .pad")
    assert max(at(same, "forward", (8, 8))) < 130, "black, with soft edges"
    page.locator("#forward .swatch.red").click()
    page.locator("#forward .clear").click()
    draw(same, "#forward .pad")
    red, green, blue = at(same, "forward", (8, 8))
    assert red > 200
    assert max(green, blue) < 150
    inks.nth(2).focus()
    page.keyboard.press("ArrowRight")
    page.locator("#tab-noise-button").click()  # the choice holds for all pads
    expect(page.locator("#noise .swatch.orange input")).to_be_checked()
    page.locator("#noise .swatch.other input").fill("#00ff00")
    page.locator("#noise .clear").click()
    draw(same, "#noise .pad")
    red, green, blue = at(same, "noise", (8, 8))
    assert green > 240
    assert max(red, blue) < 150
    expect(page.locator("#noise .swatch.orange input")).not_to_be_checked()
    assert page.locator("#noise .swatch.other i.chosen").count() == 1


def test_its_paper_is_the_ground_of_its_own_pictures(same):
    """Clear, and what is transparent in a picture from outside."""
    page = same.open()  # without the ink that was chosen before
    expect(page.locator("#forward .example")).to_have_count(8)  # none of its own come later
    picture = np.full((16, 16, 3), 200, np.uint8)
    picture[[0, 0, -1, -1], [0, -1, 0, -1]] = (10, 20, 30)
    page.evaluate("bytes => ddpm.setExamples(Uint8ClampedArray.from(bytes), 0)", picture.ravel().tolist() * 2)
    page.locator("#forward .clear").click()
    assert at(same, "forward", (8, 8)) == [10, 20, 30]
    expect(page.get_by_label("White").first).to_be_checked()
    half = np.full((16, 16, 4), (255, 0, 0, 0), np.uint8)
    half[:, 8:, 3] = 128
    file = io.BytesIO()
    Image.fromarray(half).save(file, "PNG")
    page.locator('#forward input[type="file"]').set_input_files(
        {"name": "half.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.wait_for_function(
        "() => document.querySelector('#forward .pad').getContext('2d').getImageData(15, 8, 1, 1).data[0] > 100"
    )
    assert at(same, "forward", (1, 8)) == [10, 20, 30]
    assert np.abs(np.array(at(same, "forward", (14, 8))) - (133, 10, 15)).max() < 3
    same.open()  # with the model's own examples again


def test_it_is_asked_in_colour(same):
    page = same.back("noise")
    expect(page.locator("#noise .answer")).to_contain_text("moving t needs no new call")
    same.move("noise", 10)
    assert is_colour(page.locator('#noise [data-object="x0_hat"]:not([data-role]) canvas'))


@pytest.mark.slow
def test_its_bound_in_chinese(same):
    page = same.back("bound")
    page.locator('[data-language="zh"]').click()
    expect(page.locator("#bound .answer")).to_contain_text("比特/维")
    assert float(page.locator('#bound [data-object="total"] b').inner_text()) > 0
    page.locator("#bound .example").nth(1).click()
    expect(page.locator("#bound .answer")).to_contain_text("40 项")


@pytest.mark.slow
def test_it_is_sampled_in_colour(same):
    page = same.back("reverse")
    assert page.locator('#reverse [name="num_inference_steps"] option').all_inner_texts() == ["10", "20", "40"]
    sample(same, sampler="ddpm_fixed_large", num_inference_steps=10, num_images=2, seed=5)
    assert is_colour(page.locator(XT).first)
    _, gif = saved(same, "save-gif")
    gif.seek(gif.n_frames - 1)
    shown = np.stack([rgb(same, XT), rgb(same, X0_HAT)])
    assert np.abs(grids(gif, 16, 2, planes=2) - shown).mean() < 9, "256 colours for what is almost noise"
    _, png = saved(same, "save-png")
    assert (grids(png, 16, 2, planes=1)[0] == shown[0]).all()


@pytest.mark.slow
def test_it_is_compared_in_colour(same):
    page = same.back("compare")
    expect(page.locator("#compare .figures").last).to_contain_text("network calls", timeout=120_000)
    options = page.locator("#compare .row").first.locator('[name="num_inference_steps"] option')
    assert options.all_inner_texts()[-1] == "40"
    assert is_colour(page.locator("#compare canvas").first)
    page.locator("#tab-wrong-button").click()
    page.locator('#wrong [data-value="few_steps"]').click()
    expect(page.locator("#wrong .lines .right")).to_have_text("num_inference_steps = 40")
    page.locator('#wrong [data-value="short_T"]').click()
    expect(page.locator("#wrong .mistake")).to_contain_text("range(16, 0")
    expect(page.locator("#wrong .status")).to_contain_text("Both rows")


@pytest.mark.slow
def test_it_denoises_what_lies_between_its_own_samples(same):
    choose(same.back("mine"), "between")
    assert same.pixels("#mine .pad") != same.pixels(SECOND)
    assert (row(same, MIXTURE)[-1] == same.pixels(SECOND)).all()
    same.move("mine", 1)
    denoise(same, images=2, seed=3)
    assert np.abs(row(same, DENOISED) - row(same, MIXTURE)).mean() < 6


def test_without_a_record_of_its_training_it_says_so(same):
    page = same.back("training")
    page.locator('[data-language="zh"]').click()
    expect(page.locator("#training .recorded .facts")).to_have_text(TEXT["zh"]["training.no_record"])
    expect(page.locator("#training .recorded .board")).to_be_hidden()
    expect(page.locator("#training .live canvas")).to_be_visible()


def test_the_endpoints_take_and_give_three_numbers_a_pixel(url):
    client = Client(url, verbose=False)
    picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).tolist()
    noisy = client.predict(t=40, x0=picture, api_name="/q_sample")["xt"]
    assert np.shape(noisy) == (16, 16, 3)
    assert np.shape(client.predict(noisy, 40, api_name="/predict_noise")["eps_hat"]) == (16, 16, 3)
    drawn = client.predict(api_name="/sample")["images"]
    assert np.shape(drawn) == (1, 16, 16, 3)
    assert client.predict(drawn[0], api_name="/elbo_terms")["total"] > 0, "what is drawn can be given back"
    with pytest.raises(Exception, match="16 x 16 x 3"):
        client.predict(t=5, x0=[[0] * 16] * 16, api_name="/q_sample")


# ---- nonsense

VALUES = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2.5,
        40,
        41,
        10**30,
        -(10**400),
        1e308,
        math.nan,
        math.inf,
        -math.inf,
        "",
        "1",
        "ddim",
    ),
    *(
        "\0",
        "\ud800",
        "../../etc/passwd",
        "<script>",
        "日本",
        "x" * 5000,
        [],
        [[]],
        {},
        {"": None},
        {"__type__": "update"},
    ),
    *([None] * 3, [[1] * 16] * 16, [[[0] * 3] * 16] * 16, [[[0.5] * 3] * 16] * 16, PICTURE),
)
GOOD = {
    "q_sample": {"t": 3, "x0": [[[7] * 3] * 16] * 16, "seed": 1},
    "predict_noise": {"xt": [[[0.1] * 3] * 16] * 16, "t": 3},
    "sample": {"sampler": "ddim", "num_inference_steps": 2, "num_images": 1, "seed": 1, "eta": 0},
    "elbo_terms": {"x0": [[[7] * 3] * 16] * 16, "seed": 1},
}
MESSAGES = {
    "predict": {"run": 1, "sender": 0, "x0": PICTURE, "noise_seed": 1},
    "bound": {"run": 1, "sender": 0, "x0": PICTURE, "noise_seed": 1},
    "sample": {"run": 1, "sender": 0, **SAMPLE, "num_inference_steps": 2},
    "compare": {
        "run": 1,
        "sender": 0,
        "rows": [{**SAMPLE, "num_inference_steps": n} for n in (1, 2)],
        "num_images": 1,
        "seed": 1,
    },
    "denoise": {"run": 1, "sender": 0, "x0": PICTURE, "second": PICTURE, "noise_seed": 1, "t0": 9, **SAMPLE},
}

ROW = {"sampler": "ddpm", "num_inference_steps": 2, "clip": True, "fresh_noise": "always", "start_t": 3}


def twisted(rng: random.Random, good: dict) -> object:
    """A good request with a field or two of it replaced or left out, or something else altogether."""
    if rng.random() < 0.2:
        return rng.choice(VALUES)
    bad = dict(good)
    for name in rng.sample(sorted(good), rng.choice((1, 1, 2))):
        bad[name] = rng.choice(VALUES)
        if rng.random() < 0.2:
            del bad[name]
    return bad


def harmless(status: int, answer: object) -> bool:
    """No fault of ours, no path of this machine, no source."""
    told = json.dumps(answer)
    leaks = [word for word in ("Traceback", 'File \\"', str(ROOT), os.sep + "site-packages") if word in told]
    return status < 500 and not leaks


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [int(os.environ.get("DDPM_FUZZ", 10))])
def test_nonsense_is_refused_and_breaks_nothing(url, count):
    """Over HTTP, as anybody can send it: endpoints, events of the page, look-ups. DDPM_FUZZ=300 for a longer look."""

    def endpoint(name: str, seed: int) -> None:
        session, arguments = Session(url), twisted(random.Random(seed), GOOD[name])
        status, answer = session.post(f"call/v2/{name}", arguments)
        if status == 200:
            with urllib.request.urlopen(f"{session.url}call/{name}/{answer['event_id']}", timeout=180) as stream:
                answer = stream.read().decode()
            assert "event: complete" in answer or '"error": "' in answer, (arguments, answer[:200])
        assert harmless(status, answer), (name, arguments, status, answer)

    def event(name: str, seed: int) -> None:
        rng = random.Random(seed)
        if name == "wrong":
            message = {**MESSAGES["compare"], "rows": [ROW, twisted(rng, ROW)]}
        else:
            message = twisted(rng, {**MESSAGES[name], "visitor": f"v{seed}"})
        status, answer = Session(url).ask(name, message)
        assert harmless(status, answer), (name, message, status, answer)
        assert status != 200 or answer is None or answer["kind"] in ("done", "refused"), (name, message, answer)

    def look_up(place: int, seed: int) -> None:
        session = Session(url)
        rng = random.Random(seed)
        component, function = session.functions[place]
        data = rng.choice((*VALUES, "example", {"visitor": rng.choice(VALUES), "run": rng.choice(VALUES)}))
        status, answer = session.call(rng.choice((component, component, 10**6)), function, data)
        assert harmless(status, answer), (function, data, status, answer)

    jobs = [(endpoint, name) for name in GOOD] + [(event, name) for name in (*MESSAGES, "wrong")]
    jobs += [(look_up, place) for place in range(len(Session(url).functions))]
    with ThreadPoolExecutor(4) as crowd:
        for done in [crowd.submit(job, what, seed) for job, what in jobs for seed in range(count)]:
            done.result()
    assert Session(url).ask("sample", {"run": 1, **SAMPLE, "seed": 5})[1]["kind"] == "done", "it goes on"

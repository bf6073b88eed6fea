"""The page of a model whose pictures are higher than wide: they keep their shape, and what is painted is right."""

import io

import numpy as np
import pytest
from harness import draw, serving
from PIL import Image
from playwright.sync_api import expect
from untrained import make_model

HEIGHT, WIDTH = 48, 32
PLANES = [f'#reverse [data-object="{name}"] .grid canvas' for name in ("xt", "x0_hat", "eps_hat")]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of this file's server."""
    folder = tmp_path_factory.mktemp("tall")
    with serving(make_model(folder / "tiny-tall", (HEIGHT, WIDTH), 1, 40), folder / "log") as address:
        yield address


def shapes(page, selector):
    """Of each canvas its pixels, and its height over its width on the screen."""
    look = "all => all.map((c) => { const box = c.getBoundingClientRect(); return [c.height, c.width, box.height / box.width]; })"
    return [
        (high, wide, pytest.approx(ratio, abs=0.12)) for high, wide, ratio in page.locator(selector).evaluate_all(look)
    ]


def test_forward_paints_the_noisy_picture_in_its_shape(same):
    page = same.back("forward")
    for shape in shapes(page, "#forward .picture canvas"):
        assert shape == (HEIGHT, WIDTH, HEIGHT / WIDTH)
    same.move("forward", 10)
    computed = """() => {
      const { shared, alphaBar, count, normal } = ddpm;
      const [x0, eps, a] = [shared.get("picture"), normal(shared.get("noise"), count), alphaBar[10]];
      return Array.from(x0, (v, i) => Math.sqrt(a) * (v / 127.5 - 1) + Math.sqrt(1 - a) * eps[i]);
    }"""
    xt = np.array(page.evaluate(computed)).reshape(HEIGHT, WIDTH)
    painted = np.array(same.pixels('#forward [data-object="xt"] canvas')).reshape(HEIGHT, WIDTH)
    assert np.abs(painted - np.clip(np.round((xt + 1) * 127.5), 0, 255)).max() <= 1


def test_a_stroke_and_a_file_fill_the_picture(same):
    page = same.back("forward")
    page.locator("#forward .clear").click()
    draw(same, "#forward .pad")
    drawn = np.array(page.evaluate("Array.from(ddpm.shared.get('picture'))")).reshape(HEIGHT, WIDTH)
    assert drawn.max() > 100
    rows, columns = np.nonzero(drawn > 50)
    assert rows.max() < HEIGHT
    assert columns.max() < WIDTH
    picture = np.zeros((96, 96), np.uint8)  # a square: a third of its width is cut off
    picture[24:72, 40:56] = 255
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    page.locator('#forward input[type="file"]').set_input_files(
        {"name": "g.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    page.wait_for_function("ddpm.shared.get('settled')?.at(24 * 32 + 16) > 200")
    taken = np.array(page.evaluate("Array.from(ddpm.shared.get('settled'))")).reshape(HEIGHT, WIDTH)
    assert taken[13:35, 13:19].min() > 200
    assert taken[:11].max() < 50
    assert taken[37:].max() < 50
    assert taken[:, :11].max() < 50
    assert taken[:, 21:].max() < 50


def test_a_part_is_erased_where_the_brush_is(same):
    page = same.back("mine")
    page.locator('#mine [data-value="fill"]').click()
    page.locator("#mine .restore").click()
    assert shapes(page, "#mine .torn") == [(HEIGHT, WIDTH, HEIGHT / WIDTH)]
    assert same.pixels("#mine .torn") == same.pixels("#mine .pad")
    box = page.locator("#mine .torn").bounding_box()
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.75 * box["height"])
    erased = np.array(same.pixels("#mine .torn")) != np.array(same.pixels("#mine .pad"))
    rows, columns = np.nonzero(erased.reshape(HEIGHT, WIDTH))
    assert abs(rows.mean() - 0.75 * HEIGHT) < 2
    assert abs(columns.mean() - 0.5 * WIDTH) < 2


@pytest.mark.slow
def test_what_the_server_sends_is_painted_in_its_shape(same):
    page = same.back("noise")
    expect(page.locator("#noise .status").last).to_contain_text("answered for 40 timesteps")
    for shape in shapes(page, "#noise .picture canvas, #noise [data-role] canvas"):
        assert shape == (HEIGHT, WIDTH, HEIGHT / WIDTH)
    page = same.back("reverse")
    form = page.locator("#reverse .controls")
    form.locator('[name="num_images"]').fill("2")
    form.locator(".go").click()
    expect(page.locator("#reverse .status").first).to_contain_text("Move t to watch it again")
    for plane in PLANES:
        assert shapes(page, plane) == [(HEIGHT, WIDTH, HEIGHT / WIDTH)] * 2
    with page.expect_download() as download:
        page.locator("#reverse .save-png").click()
    with Image.open(download.value.path()) as saved:
        assert saved.height > 0.7 * saved.width, "two pictures beside each other, each higher than wide"
    page = same.back("compare")
    expect(page.locator("#compare .row .figures").last).to_contain_text("network calls")
    for shape in shapes(page, "#compare .row canvas"):
        assert shape == (HEIGHT, WIDTH, HEIGHT / WIDTH)

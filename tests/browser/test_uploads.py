"""Pictures as people have them: ink on transparency, a photograph of paper, the clipboard."""

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import expect

X0 = '#forward [data-object="x0"] canvas'
STATUS = "#forward .picker-status"
FIVE = [(0.9, 0.0), (0.2, 0.0), (0.1, 0.45), (0.6, 0.4), (0.9, 0.65), (0.7, 0.95), (0.1, 1.0)]


def five(width: int, height: int, left: float, top: float, side: float, pen: int) -> np.ndarray:
    """(height, width) float, the share of ink in each pixel: a five in the given square."""
    sheet = Image.new("L", (2 * width, 2 * height))
    points = [(2 * (left + side * 0.6 * x), 2 * (top + side * y)) for x, y in FIVE]
    ImageDraw.Draw(sheet).line(points, 255, 2 * pen, "curve")
    return np.asarray(sheet.resize((width, height), Image.Resampling.BOX), float) / 255


def photograph(ink: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: blue ink on ruled paper, half of it in the shadow of a hand, with grain and a vignette."""
    height, width = ink.shape
    y, x = np.mgrid[:height, :width]
    draw = np.random.default_rng(0)
    rules = ((y % (height // 9)) < 2) * 0.25
    paper = (1 - rules)[..., None] * np.array([0.93, 0.9, 0.82])
    sheet = paper * (1 - ink[..., None]) + ink[..., None] * np.array([0.12, 0.15, 0.4])
    edge = np.clip((x + 0.4 * y - 0.62 * width) / (0.06 * width), 0, 1)
    light = (1 - 0.6 * edge) * (1 - 0.25 * np.hypot(x / width - 0.4, y / height - 0.4))
    seen = sheet * light[..., None] + draw.normal(0, 0.015, sheet.shape)
    blurred = Image.fromarray((255 * seen.clip(0, 1)).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(blurred)


def on_transparency(ink: np.ndarray, brightness: int) -> np.ndarray:
    """(H, W, 4) uint8: ink of one brightness, its share in the alpha channel."""
    colour = np.full((*ink.shape, 3), brightness)
    return np.concatenate([colour, np.round(255 * ink)[..., None]], 2).astype(np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def upload(page, name: str, content: bytes) -> None:
    kind = name.rsplit(".")[-1].replace("jpg", "jpeg")
    page.locator('#forward input[type="file"]').set_input_files(
        {"name": name, "mimeType": f"image/{kind}", "buffer": content}
    )


def shown(same) -> np.ndarray:
    return np.array(same.pixels(X0), float).reshape(28, 28)


def assert_is_a_digit(drawn: np.ndarray) -> None:
    """Laid out as MNIST's digits are: 20 pixels long, the centre of mass in the middle, bright strokes on black."""
    rows, columns = (np.flatnonzero(drawn.max(axis=a) > 50) for a in (1, 0))
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    assert 19 <= longest <= 22
    y, x = ((np.arange(28) + 0.5) @ drawn.sum(axis=a) / drawn.sum() for a in (1, 0))
    assert abs(y - 14) < 1
    assert abs(x - 14) < 1
    assert drawn[[0, 1, -2, -1]].max() == 0
    assert drawn.max() > 240
    assert 0.08 < (drawn > 100).mean() < 0.3, "strokes as wide as those of the data"


CASES = {
    "black ink on transparency.png": lambda ink: on_transparency(ink, 0),
    "white ink on transparency.png": lambda ink: on_transparency(ink, 255),
    "photo.jpg": photograph,
    "chalk.jpg": lambda ink: 255 - photograph(ink) // 4 * 3,
}


@pytest.mark.parametrize("name", CASES)
def test_ink_becomes_a_digit_like_those_of_the_data(same, name):
    page = same.back()
    upload(page, "plain.png", encoded(on_transparency(five(600, 600, 200, 100, 400, 50), 0)))
    expect(page.locator(STATUS)).to_contain_text("plain.png")
    wanted = shown(same)
    assert_is_a_digit(wanted)
    ink = five(900, 640, 120, 150, 320, 9)  # thin, small, and off the middle
    upload(page, name, encoded(CASES[name](ink), "JPEG" if name.endswith("jpg") else "PNG"))
    expect(page.locator(STATUS)).to_contain_text(f"{name}: the drawing was found")
    drawn = shown(same)
    assert_is_a_digit(drawn)
    assert np.corrcoef(drawn.flatten(), wanted.flatten())[0, 1] > 0.85


def test_what_was_done_is_undone_by_a_click(same):
    page = same.back()
    upload(page, "five.png", encoded(photograph(five(600, 600, 200, 100, 400, 40))))
    expect(page.locator(STATUS)).to_contain_text("the drawing was found")
    found = shown(same)
    page.locator(f"{STATUS} button").click()
    expect(page.locator(STATUS)).to_contain_text("five.png is shown as it is")
    assert shown(same).mean() > found.mean() + 20 or np.median(shown(same)) > 20, "the paper is seen again"
    page.locator(f"{STATUS} button").click()
    assert (shown(same) == found).all()
    page.locator("#forward .clear").click()
    expect(page.locator(STATUS)).to_be_empty()


def test_a_picture_like_the_models_own_stays_as_it_is(same):
    page = same.back()
    own = np.zeros((28, 28), np.uint8)
    own[4:24, 5:9] = 255  # not in the middle
    upload(page, "own.png", encoded(own))
    page.wait_for_function(f"() => document.querySelector('{X0}').getContext('2d').getImageData(6, 6, 1, 1).data[0]")
    assert (shown(same) == own).all()
    expect(page.locator(STATUS)).to_be_empty()


def test_a_dark_scene_on_bright_ground_is_inverted_and_said_to_be(same):
    page = same.back()
    scene = np.full((56, 56), 240, np.uint8)
    scene[8:50, 8:50] = 10  # too much of the picture for ink
    upload(page, "scene.png", encoded(scene))
    expect(page.locator(STATUS)).to_contain_text("scene.png was inverted")
    assert shown(same)[14, 14] > 230
    assert shown(same)[0].max() < 30


def test_a_picture_can_be_pasted(same):
    page = same.back()
    content = base64.b64encode(encoded(on_transparency(five(600, 600, 200, 100, 400, 50), 0))).decode()
    page.evaluate(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        content,
    )
    expect(page.locator(STATUS)).to_contain_text("the pasted picture: the drawing was found")
    assert_is_a_digit(shown(same))


def test_the_file_dialog_offers_what_is_read(same):
    page = same.back()
    accepted = page.locator('#forward input[type="file"]').get_attribute("accept").split(",")
    assert "image/*" not in accepted
    for kind in ("png", "jpeg", "webp", "gif", "bmp", "avif"):
        assert f"image/{kind}" in accepted
        scene = np.full((8, 8), 200, np.uint8)
        scene[3:5] = 30
        upload(page, f"x.{kind}", encoded(np.repeat(scene[..., None], 3, 2), kind.upper()))
        expect(page.locator(STATUS)).to_contain_text(f"x.{kind}")
        assert "cannot read" not in page.locator(STATUS).inner_text()

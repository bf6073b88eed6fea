"""Tab "Forward": x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, in the browser alone."""

import io

import numpy as np
import pytest
from diffusers import DDPMScheduler
from formulas import linear_schedule, snr
from harness import draw
from PIL import Image
from playwright.sync_api import expect

X0, XT, EPS = (f'#forward [data-object="{name}"] canvas' for name in ("x0", "xt", "eps"))


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_an_example_is_there_before_the_first_click(visit):
    visit.open()
    x0 = np.array(visit.pixels(X0))
    assert x0.min() == 0, "black paper"
    assert x0.max() > 200, "white strokes"
    assert visit.page.locator("#forward .example").count() == 10


def test_t_goes_from_the_picture_to_noise_without_a_request(same):
    same.back()
    same.until_quiet()
    before = len(same.requests)
    x0 = np.array(same.pixels(X0), float)
    same.move("forward", 1)
    assert np.abs(np.array(same.pixels(XT)) - x0).mean() < 3, "at t = 1 almost nothing has been added"
    likeness = []
    for t in (1, 100, 300, 600, 1000):
        same.move("forward", t)
        likeness.append(np.corrcoef(same.pixels(XT), x0)[0, 1])
    assert likeness == sorted(likeness, reverse=True)
    assert abs(likeness[-1]) < 0.15, "at t = T nothing of it is left"
    assert len(same.requests) == before


def test_the_read_out_is_that_of_the_schedule(same):
    page = same.back()
    schedule = linear_schedule(1000)
    for t in (1, 500, 1000):
        same.move("forward", t)
        assert page.locator("#forward .t-now").inner_text() == str(t)
        assert float(page.locator("#forward .ab-now").inner_text()) == np.round(
            schedule.alpha_bar[t - 1].item(), 5
        ) or (abs(float(page.locator("#forward .ab-now").inner_text()) - schedule.alpha_bar[t - 1].item()) < 6e-5)
        decibel = page.locator("#forward .snr-now").inner_text().replace("\u2212", "-").removesuffix(" dB")
        assert abs(float(decibel) - 10 * np.log10(snr(schedule)[t - 1].item())) < 0.051
        weight = float(page.locator("#forward .signal").inner_text())
        assert abs(weight - schedule.alpha_bar[t - 1].item() ** 0.5) < 6e-4


def test_drawing_changes_x0_and_xt(same):
    page = same.back()
    same.move("forward", 50)
    before = same.pixels(XT)
    draw(same, X0)
    drawn = np.array(same.pixels(X0)).reshape(28, 28)
    assert drawn[6:22, 13:15].min() > 100, "a stroke down the middle"
    assert np.delete(drawn, slice(9, 19), axis=1).max() == 0, "on an empty sheet: the example is gone"
    assert same.pixels(XT) != before
    page.locator("#forward .clear").click()
    assert max(same.pixels(X0)) == 0
    expect(page.locator(".palette")).to_have_count(0)


def test_new_noise_changes_eps_and_xt_but_not_x0(same):
    page = same.back()
    x0, xt, eps = (same.pixels(canvas) for canvas in (X0, XT, EPS))
    page.locator("#forward .renoise").click()
    assert same.pixels(X0) == x0
    assert same.pixels(EPS) != eps
    assert same.pixels(XT) != xt


def test_an_upload_stays_in_the_browser(same):
    page = same.back()
    same.until_quiet()
    before = len(same.requests)
    wide = np.zeros((120, 360, 3), np.uint8)
    wide[:, 120:240] = 200  # the middle square, which is what is cut out
    page.locator('#forward input[type="file"]').set_input_files(
        {"name": "wide.png", "mimeType": "image/png", "buffer": png(wide)}
    )
    page.wait_for_function(
        "() => { const c = document.querySelector('#forward .pad');"
        " return c.getContext('2d').getImageData(0, 0, 1, 1).data[0] > 150; }"
    )
    assert min(same.pixels(X0)) >= 195
    assert [asked for asked in same.requests[before:] if not asked.startswith("blob:")] == []


def test_what_is_no_picture_is_refused_by_name(same):
    page = same.back()
    page.locator('#forward input[type="file"]').set_input_files(
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    expect(page.locator("#forward .status")).to_contain_text("notes.png")


def test_pressing_a_curve_moves_t(same):
    page = same.back()
    box = page.locator('#forward [data-chart="beta"] .plot').bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5)
    assert abs(int(page.locator("#forward .t-now").inner_text()) - 750) <= 5


def test_a_symbol_outlines_its_picture(same):
    page = same.back()
    page.locator('#forward .code [data-of="eps"]').focus()
    expect(page.locator('#forward [data-object="eps"]')).to_have_class("picture pointed")
    page.locator('#forward .equation [data-of="xt"]').hover()
    expect(page.locator('#forward [data-object="xt"]')).to_have_class("picture pointed")


@pytest.mark.slow
def test_two_schedules_blend_the_same_picture_and_noise(same):
    page = same.back()
    same.until_quiet()
    before = len(same.requests)
    x0 = np.array(same.pixels(X0)) / 127.5 - 1
    linear = np.cumprod(1 - DDPMScheduler().betas.double().numpy())

    def weights(shown: str, t: int) -> np.ndarray:
        """What a picture is made of, found from its pixels where they are not clipped: weights of x_0 and noise."""
        eps = np.array(page.evaluate("Array.from(ddpm.normal(ddpm.shared.get('noise'), ddpm.count))"))
        pixels = np.array(same.pixels(f'#forward [data-object="{shown}"] canvas'))
        inside = (pixels > 0) & (pixels < 255)
        both = np.stack([x0, eps], 1)[inside]
        return np.linalg.lstsq(both, pixels[inside] / 127.5 - 1, rcond=None)[0]

    for name in ("squaredcos_cap_v2", "scaled_linear", "sigmoid", "laplace", "zero_snr"):
        zero = name == "zero_snr"
        stock = DDPMScheduler(beta_schedule="linear" if zero else name, rescale_betas_zero_snr=zero)
        alpha_bar = np.cumprod(1 - stock.betas.double().numpy())
        page.locator('#forward [name="schedule"]').select_option(name)
        for t in (30, 300, 700):
            same.move("forward", t)
            for shown, table in (("xt", linear), ("xt_other", alpha_bar)):
                expected = [table[t - 1] ** 0.5, (1 - table[t - 1]) ** 0.5]
                np.testing.assert_allclose(weights(shown, t), expected, atol=4e-3)
        expect(page.locator('#forward [data-chart="alpha_bar"] .now span')).to_have_text(
            f"{alpha_bar[699]:.{4 if alpha_bar[699] >= 1e-3 else 5}f}"
        )
        snr = alpha_bar / (1 - alpha_bar)
        even, late = int((snr > 1).sum()) + 1, int((snr < 0.01).sum())
        expect(page.locator("#forward .other-says")).to_contain_text(f"at t = {even}); {late} of 1000")
        expect(page.locator("#forward .other-says")).to_contain_text("sooner" if name == "zero_snr" else "longer")
    same.move("forward", 1000)
    expect(page.locator('#forward [data-chart="snr"] .now span')).to_have_text("\u2212∞ dB")
    assert len(same.requests) == before
    solid, dashed = (
        page.locator(f'#forward [data-chart="snr"] .{line}').evaluate(
            "p => [getComputedStyle(p).stroke, getComputedStyle(p).strokeDasharray, p.getAttribute('d').includes('NaN')]"
        )
        for line in ("line", "other")
    )
    assert solid[1] == "none" != dashed[1]
    assert solid[0] != dashed[0]
    assert not solid[2]
    assert not dashed[2]

"""Several models on one page: the list in the header, links, rows of several models, and what one visit costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness import Session, Visit, draw, serious, serving, visiting
from playwright.sync_api import Browser, expect
from test_api import call, tools
from test_bound import of_library
from untrained import make_model

from ddpm.checkpoint import load
from ddpm.sampling import sample

MOST_BYTES = 800_000  # of the first load
NAMES = ("tiny-gray", "rival", "colour", "broken", "named")


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory) -> list[Path]:
    """Two of one size and another T, one in colour, one with damaged weights, and one with labels."""
    made = [make_model(tmp_path_factory.mktemp("models") / "rival", 28, 1, 500)]
    unet = load(made[0]).unet
    unet.conv_out.weight.mul_(-1)
    unet.save_pretrained(made[0] / "unet")
    made += [make_model(made[0].parent / "colour", 16, 3, 50), make_model(made[0].parent / "broken", 8, 1, 20)]
    made += [make_model(made[0].parent / "named", 8, 1, 20, names=("cat", "dog"))]
    weights = made[2] / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:8] + b"x" * 32 + weights.read_bytes()[40:])
    return [model, *made]


@pytest.fixture(scope="module")
def log(folders) -> Path:
    return folders[1].parent / "log"


@pytest.fixture(scope="module")
def url(folders, log) -> Iterator[str]:
    """As a Space serves them."""
    named = ",".join(map(str, folders))
    with serving(None, log, DDPM_MODEL=named, DDPM_LIVE_TRAINING="0") as address:
        yield address
    assert "OpenVINO cannot" not in log.read_text(), "two networks that are converted at once"


def menu(visit: Visit, name: str) -> None:
    """Go to a model's page by the keyboard."""
    page = visit.page
    while page.evaluate("ddpm.page.model") != name:
        page.evaluate("window.isOld = true")
        expect(page.locator(".models[aria-label]")).to_be_visible()  # the header's script has run
        page.locator(".models button").focus()
        page.keyboard.press("Enter")
        for _ in range(NAMES.index(name) + 1):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        # Another document: that of the model, or this page once more, since Gradio reloads a page that has lost its
        # connection, which closes the list.
        page.wait_for_function("!window.isOld && window.ddpm?.language")
    expect(page.locator(".models button b")).to_have_text(name)
    expect(page.locator("#forward canvas").first).to_be_attached()


@pytest.mark.slow
def test_another_model_is_another_page_and_what_fits_goes_along(visit):
    page = visit.open("lang=zh")
    assert page.evaluate("ddpm.page.model") == "tiny-gray", "the first one"
    draw(visit, "#forward .pad")
    visit.move("forward", 400)
    drawn = visit.pixels("#forward .pad")
    page.locator("#tab-noise-button").click()

    menu(visit, "rival")
    assert page.evaluate("[ddpm.page.model, ddpm.T, ddpm.language()]") == ["rival", 500, "zh"]
    expect(page.locator("#noise canvas").first).to_be_visible()
    assert page.evaluate("ddpm.shared.get('t')") == 400
    page.wait_for_function("ddpm.example.own()")
    assert visit.pixels("#noise .pad") == drawn

    menu(visit, "colour")
    assert page.evaluate("[ddpm.page.resolution, ddpm.page.channels, ddpm.T]") == [16, 3, 50]
    expect(page.locator("#noise canvas").first).to_be_visible()
    assert page.evaluate("ddpm.shared.get('t')") <= 50
    assert page.locator("#noise .pad").get_attribute("width") == "16"

    menu(visit, "tiny-gray")
    page.wait_for_function("ddpm.example.own()")
    expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done", timeout=120_000)
    assert visit.pixels("#noise .pad") == drawn, "each model has kept its own picture"


@pytest.mark.slow
def test_the_list_says_what_the_models_are_and_why_one_is_not_there(visit, log):
    page = visit.open("lang=en&model=broken")
    assert "broken cannot be used" in log.read_text()
    expect(page.locator(".page-header .notice")).to_contain_text("broken is currently unavailable (")
    expect(page.locator(".page-header .notice")).to_contain_text("this page shows tiny-gray instead")
    button, entries = page.locator(".models button"), page.locator(".models li")
    button.click()
    assert entries.locator(".name").all_inner_texts() == list(NAMES)
    expect(entries.nth(2)).to_contain_text("16 × 16, colour · 41.9 k parameters · local directory")
    expect(entries.nth(3)).to_contain_text("cannot be loaded")
    assert entries.nth(3).locator("a").count() == 0
    assert entries.nth(0).locator("a").get_attribute("aria-current") == "page"
    assert serious(page) == []
    page.keyboard.press("Escape")
    expect(page.locator(".models ul")).to_be_hidden()
    expect(button).to_be_focused()
    page.locator('[data-language="zh"]').click()
    button.click()
    expect(entries.nth(1)).to_contain_text("灰度")
    page.locator("h2").first.click()
    expect(page.locator(".models ul")).to_be_hidden()


@pytest.mark.slow
def test_links_name_the_model_and_a_name_that_is_none_is_told(visit):
    page = visit.open("lang=en&model=rival&t=333")
    assert page.evaluate("[ddpm.page.model, ddpm.shared.get('t')]") == ["rival", 333]
    page.locator(".copy-link").click()
    page.wait_for_function("location.search.includes('model=rival')")
    page.reload()
    expect(page.locator(".models button b")).to_have_text("rival")
    page = visit.open("lang=en&model=nobody")
    assert page.evaluate("ddpm.page.model") == "tiny-gray"
    expect(page.locator(".page-status")).to_contain_text(
        "model = nobody: one of tiny-gray, rival, colour, broken, named"
    )


@pytest.mark.slow
def test_the_page_without_labels_leads_to_the_models_that_have_some(visit):
    page = visit.open("lang=en&t=7", tab="labels")
    expect(page.locator("#labels .others")).to_have_text("These models of this page know labels: named.")
    page.locator("#labels .others a").click()
    expect(page.locator(".models button b")).to_have_text("named")
    expect(page.locator("#labels .names")).to_be_visible()
    assert page.evaluate("ddpm.shared.get('t')") == 7
    visit.left()


@pytest.mark.slow
def test_rows_of_two_models_begin_with_one_noise_and_each_is_the_librarys(visit, folders):
    page = visit.page
    page.goto(f"{visit.url}?lang=en&tab=compare&rows=ddim:10,ddim:10:model=rival&images=2&seed=5")
    status = page.locator("#compare .status")
    expect(status).to_contain_text("2 rows start from the same noise, seed 5")
    expect(page.locator("#compare .row").nth(1)).to_have_attribute("aria-label", "Row 2: rival: DDIM, 10 steps")
    assert page.locator("#compare .row").nth(1).locator("[name=model]").input_value() == "rival"
    assert page.locator("#compare .row").nth(0).locator("[name=model] option").all_inner_texts() == list(NAMES[:2])
    for row, folder in enumerate(folders[:2]):
        model = load(folder)
        drawn = sample(model.engine(), model.scheduler, (2, 1, 28, 28), sampler="ddim", num_inference_steps=10, seed=5)
        expected = ((drawn[0, 0] + 1) * 127.5).round().clamp(0, 255).numpy().ravel()
        shown = np.array(visit.pixels(f"#compare .row:nth-child({row + 1}) canvas"))
        assert np.abs(shown - expected).max() <= 1
    page.locator(".copy-link").click()
    page.wait_for_function("decodeURIComponent(location.search).includes('rows=ddim:10,ddim:10:model=rival')")
    # Every row passes T together, on the slider of this page's model.
    assert page.evaluate("document.querySelector('#compare .t-bar input').value") == "0"
    visit.move("compare", 1000)
    expect(page.locator("#compare .row").nth(1).locator(".grid")).to_have_attribute(
        "aria-label", "Row 2, rival: DDIM, 10 steps: Noisy pictures x_t at t = 1000"
    )
    page.locator("#compare .row").nth(1).locator("[name=model]").select_option("tiny-gray")
    expect(status).to_contain_text("Rows to draw: 1")


@pytest.mark.slow
def test_the_bound_of_the_same_picture_under_another_model(visit, folders):
    page = visit.page
    page.goto(f"{visit.url}?tab=bound&under=rival&example=3&lang=en")
    said = page.locator("#bound .other-answer")
    expect(said).to_contain_text("rival codes it in at most")
    expect(page.locator("#bound .answer")).to_contain_text("add up to")
    seed, pixels = page.evaluate("ddpm.shared.get('noise')"), visit.pixels("#bound .pad")
    totals = {}
    for place, folder in zip((said, page.locator("#bound .answer")), (folders[1], folders[0]), strict=True):
        terms = of_library(folder, pixels, seed)
        totals[folder.name] = f"{terms.total.item():.3f}"
        assert totals[folder.name] in place.inner_text()
    assert totals["rival"] != totals["tiny-gray"]
    page.locator('#bound [name="under"]').select_option("")
    expect(said).to_be_empty()


@pytest.mark.slow
def test_a_phone_shows_the_list_without_overflow(browser, url):
    with visiting(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as phone:
        page = phone.open("lang=zh&model=rival")
        page.locator(".models button").tap()
        expect(page.locator(".models li").nth(3)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for link in page.locator(".models a").all():
            assert link.bounding_box()["height"] >= 44
        with page.expect_navigation():
            page.locator(".models a").nth(2).tap()
        expect(page.locator(".models button b")).to_have_text("colour")


@pytest.mark.slow
def test_endpoints_take_a_model_and_mcp_says_which(url):
    arguments = {"sampler": "ddim", "num_inference_steps": 3, "num_images": 1, "seed": 2}
    _, (gray,) = call(url, "sample", arguments)
    _, (named,) = call(url, "sample", {**arguments, "model": "tiny-gray"})
    _, (colour,) = call(url, "sample", {**arguments, "model": "colour"})
    assert named["images"] == gray["images"]
    assert (np.shape(gray["images"]), np.shape(colour["images"])) == ((1, 28, 28), (1, 16, 16, 3))
    for name, told in (
        ("emoji", "model = emoji: one of tiny-gray, rival, colour, broken, named is needed"),
        ("broken", "model = broken: this model cannot be used"),
    ):
        kind, refused = call(url, "sample", {**arguments, "model": name})
        assert kind == "error"
        assert told in refused["error"]
        assert "\n" not in refused["error"]
    kind, refused = call(url, "q_sample", {"t": 51, "model": "colour"})
    assert (kind, refused["error"]) == ("error", "t = 51: a whole number from 1 to 50 is needed")
    described, drawn = tools(url, ("sample", {**arguments, "model": "colour"}))
    schema = next(tool for tool in described if tool.name == "sample").inputSchema["properties"]["model"]
    assert "one of tiny-gray, rival, colour" in schema["description"]
    assert np.shape(drawn.structuredContent["images"]) == (1, 16, 16, 3)


@pytest.mark.slow
def test_events_of_another_model_are_answered_beside_the_first(url):
    asked = {"visitor": "v", "run": 1, "sampler": "ddim", "num_inference_steps": 4, "num_images": 1, "seed": 1}
    session = Session(url)
    status, done = session.ask("sample", {**asked, "model": "colour"})
    assert (status, done["kind"]) == (200, "done")
    found = session.look_up("trajectory", {"model": "colour", "asked": done["key"]})
    assert found["side"] == 16
    assert session.look_up("trajectory", done["key"]) is None, "no name means the first model"
    status, refused = session.ask("sample", {**asked, "run": 2, "model": "nobody"})
    assert (status, refused["kind"], refused["key"]) == (200, "refused", "refused.choice")


def first_load(browser: Browser, url: str) -> int:
    """The bytes that a first visit transfers until the page is quiet for a moment."""
    context = browser.new_context()
    page = context.new_page()
    network, sizes = context.new_cdp_session(page), []
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(f"{url}?lang=en")
    expect(page.locator("#forward .katex").first).to_be_visible()
    page.wait_for_timeout(1500)
    context.close()
    return int(sum(sizes))


@pytest.mark.long
def test_more_models_hardly_cost_the_first_load_anything(browser, url, folders, tmp_path):
    with serving(folders[0], tmp_path / "log") as alone:
        one = first_load(browser, alone)
    several = first_load(browser, url)
    print(json.dumps({"one": one, "several": several}))
    assert one < MOST_BYTES
    assert several < min(MOST_BYTES, one + 5_000)

"""The label that Reverse, Compare and From my picture can ask for, and the endpoints of a model that has labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
import torch
from gradio_client import Client
from harness import Visit, serious, serving, visiting
from playwright.sync_api import Page, expect
from test_api import PICTURE, call, tools
from untrained import make_model

from ddpm.checkpoint import Checkpoint, load
from ddpm.sampling import sample

ODD = "Dog, a: 50%$x$ `${1}` \\b <i>"  # nothing of it may be taken for a list, a link, an equation or HTML
NAMES = ("0", "cat", ODD)
FIELDS = '[name="label"], [name="guidance_scale"]'
PIXELS = """all => all.map((c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)
    .filter((_, i) => i % 4 == 0))"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Checkpoint:
    return load(make_model(tmp_path_factory.mktemp("labels") / "tiny-labels", 28, 1, 1000, names=NAMES))


@pytest.fixture(scope="module")
def there(labelled) -> Iterator[str]:
    """The address of the page of that model."""
    with serving(labelled.directory, labelled.directory.parent / "log", DDPM_LIVE_TRAINING="0") as address:
        yield address


@pytest.fixture
def seen(still, there) -> Iterator[Visit]:
    with visiting(still, there) as visitor:
        yield visitor


def follow(visit: Visit, tab: str, **settings: str) -> Page:
    query = "&".join(f"{name}={quote(value)}" for name, value in {"lang": "en", "tab": tab, **settings}.items())
    visit.page.goto(f"{visit.url}?{query}")
    expect(visit.page.locator(f"#{tab} canvas").first).to_be_visible()
    return visit.page


def ask(page: Page, within: str, label: str, scale: str) -> None:
    page.locator(f'{within} [name="label"]').select_option(label=label)
    page.locator(f'{within} [name="guidance_scale"]').fill(scale)


def pictures(page: Page, selector: str) -> np.ndarray:
    return np.array(page.locator(selector).evaluate_all(PIXELS))


def from_endpoint(url: str, **asked) -> np.ndarray:
    kind, (answer,) = call(url, "sample", asked)
    assert kind == "complete"
    return np.array(answer["images"]).reshape(len(answer["images"]), -1)


def copied(page: Page) -> dict[str, str]:
    """The settings in the address that "Copy link" makes."""
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).not_to_be_empty()
    return {name: value for name, (value,) in parse_qs(urlsplit(page.url).query).items()}


# ------------------------------------------------------------------------------------------------------------ Reverse


@pytest.mark.long
def test_reverse_draws_what_the_label_asks_for_and_says_so(seen, there):
    page = seen.open(tab="reverse")
    select, scale = page.locator('#reverse [name="label"]'), page.locator('#reverse [name="guidance_scale"]')
    assert select.evaluate("e => [...e.options].map((o) => o.text)") == ["no label", *NAMES]
    expect(scale).to_be_hidden()
    expect(page.locator("#reverse .status")).to_contain_text("Stored example: DDIM, 50 steps, seed 0")
    select.select_option(label="cat")
    expect(scale).to_be_visible()
    expect(scale).to_have_value("1")
    assert "ε = ε_0 + s (ε_c − ε_0)" in scale.get_attribute("title")
    ask(page, "#reverse", "cat", "3")
    page.locator('#reverse [name="num_inference_steps"]').select_option("10")
    page.locator('#reverse [name="num_images"]').fill("2")
    page.locator('#reverse [name="seed"]').fill("5")
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_contain_text("DDIM, 10 steps, label cat, s = 3, seed 5")
    asked = {"num_inference_steps": 10, "num_images": 2, "seed": 5}
    shown = pictures(page, '#reverse .plane[data-object="xt"] canvas')
    assert (shown == from_endpoint(there, **asked, label="cat", guidance_scale=3)).all()
    assert (shown != from_endpoint(there, **asked)).any()

    for button, end in (("save-gif", ".gif"), ("save-png", "_t-0.png")):
        with page.expect_download() as download:
            page.locator(f"#reverse .{button}").click()
        assert download.value.suggested_filename == f"tiny-labels_ddim_10-steps_label-cat_s-3_seed-5{end}"
    link = copied(page)
    assert (link["label"], link["s"]) == ("cat", "3")

    page.reload()
    expect(page.locator("#reverse .status")).to_contain_text("label cat, s = 3, seed 5")
    expect(select).to_have_value("1")
    expect(scale).to_have_value("3")
    page.locator('[data-language="zh"]').click()
    expect(page.locator("#reverse .status")).to_contain_text("DDIM，10 步，标签 cat，s = 3，种子 5")
    assert select.evaluate("e => e.options[0].text") == "无标签"
    select.select_option("-1")
    expect(scale).to_be_hidden()
    assert {"label", "s"}.isdisjoint(copied(page))


@pytest.mark.slow
def test_a_label_that_cannot_be_drawn_is_refused_at_its_field(seen):
    page = seen.open(tab="reverse")
    status, scale = page.locator("#reverse .status"), page.locator('#reverse [name="guidance_scale"]')
    for bad in ("21", "-1", ""):
        ask(page, "#reverse", "cat", bad)
        page.locator("#reverse .go").click()
        expect(status).to_have_text(f"Guidance scale s = {bad or 'nothing'}: a number from 0 to 20 is needed")
        expect(scale).to_have_attribute("aria-invalid", "true")
    page.locator('[data-language="zh"]').click()
    expect(status).to_have_text("引导强度 s = 空：需要 0 到 20 的数")


@pytest.mark.long
def test_a_link_names_what_it_asks_for_in_vain(seen, visit):
    page = follow(seen, "reverse", label="bird", s="30", images="2")
    line = page.locator(".page-status")
    expect(line).to_contain_text(f"label = bird: the model knows 0, cat, {ODD}; leave it empty for no label")
    expect(line).to_contain_text("s = 30: a number from 0 to 20 is needed")
    expect(page.locator('#reverse [name="label"]')).to_have_value("-1")
    page = follow(seen, "compare", rows="ddim:5:label=bird:s=1,ddim:5")
    expect(line).to_contain_text(f"rows = ddim:5:label=bird:s=1,ddim:5: the model knows 0, cat, {ODD}")
    page = follow(seen, "compare", rows="ddim:5:label=cat:s=40,ddim:5")
    expect(line).to_contain_text("2 to 4 rows are needed")
    expect(line).to_contain_text("with a label such as ddpm:50:label=0:s=2")
    page = follow(seen, "reverse", label="CAT", s="2", steps="10", images="1", seed="3")
    expect(page.locator("#reverse .status")).to_contain_text("label cat, s = 2, seed 3")

    for tab, settings in (
        ("reverse", {"label": "3"}),
        ("mine", {"label": "3"}),
        ("compare", {"rows": "ddim:5:label=3,ddim:5"}),
    ):
        page = follow(visit, tab, **settings)
        expect(page.locator(".page-status")).to_contain_text("the model was trained without labels")
        assert page.locator(FIELDS).count() == 0, "a model without labels shows nothing of them"
    assert page.locator(".chip").inner_text().count("label") == 0


# ------------------------------------------------------------------------------------------------------------ Compare


@pytest.mark.slow
def test_rows_have_labels_of_their_own(seen, there):
    page = seen.open(tab="compare")
    heads = page.locator("#compare .row")
    expect(page.locator("#compare .status")).to_contain_text("Stored example of 3 rows", timeout=120_000)
    for i, (label, scale) in enumerate((("cat", "1"), ("cat", "4"), (ODD, "2.5"))):
        head = heads.nth(i)
        head.locator('[name="sampler"]').select_option("ddim")
        head.locator('[name="num_inference_steps"]').select_option("5")
        ask(page, f"#compare .row:nth-child({i + 1})", label, scale)
        expect(head).to_have_class(re.compile("stale"))
    page.locator('#compare [name="num_images"]').fill("2")
    page.locator('#compare [name="seed"]').fill("8")
    page.locator("#compare .go").click()
    expect(page.locator("#compare .status")).to_contain_text("3 rows start from the same noise, seed 8")
    for i, (label, scale) in enumerate((("cat", 1), ("cat", 4), (ODD, 2.5))):
        shown = pictures(page, f"#compare .row:nth-child({i + 1}) canvas")
        asked = {"num_inference_steps": 5, "num_images": 2, "seed": 8, "label": label, "guidance_scale": scale}
        assert (shown == from_endpoint(there, **asked)).all()
    figures = page.locator("#compare .figures")
    expect(figures.nth(0)).to_contain_text("5 network calls")
    expect(figures.nth(1)).to_contain_text("10 network calls")
    expect(heads.nth(1)).to_have_attribute("aria-label", "Row 2: DDIM, 5 steps, label cat, s = 4")
    assert "label cat, s = 4: " in heads.nth(1).locator(".grid").get_attribute("aria-label")
    page.locator("#compare .add").click()
    expect(heads.nth(3).locator('[name="label"]')).to_have_value("2")
    page.locator("#compare .remove").last.click()

    link = copied(page)
    assert link["rows"] == f"ddim:5:label=cat:s=1,ddim:5:label=cat:s=4,ddim:5:label={quote(ODD, safe='')}:s=2.5"
    page.goto(page.url)
    expect(page.locator("#compare .status")).to_contain_text("3 rows start from the same noise, seed 8")
    for i, (number, scale) in enumerate((("1", "1"), ("1", "4"), ("2", "2.5"))):
        expect(heads.nth(i).locator('[name="label"]')).to_have_value(number)
        expect(heads.nth(i).locator('[name="guidance_scale"]')).to_have_value(scale)
    heads.nth(0).locator('[name="label"]').select_option("-1")
    expect(heads.nth(0)).to_have_class(re.compile("stale"))
    expect(page.locator("#compare .status")).to_contain_text("Rows to draw: 1")
    assert copied(page)["rows"].startswith("ddim:5,ddim:5:label=cat:s=4,")


# ---------------------------------------------------------------------------------------------------- From my picture


@pytest.mark.long
def test_a_picture_is_denoised_with_a_label_and_the_row_says_so(seen):
    page = seen.open(tab="mine")
    expect(page.locator("#mine .answer")).to_contain_text("Stored example: 8 pictures", timeout=120_000)
    caption, denoised = (page.locator(f'#mine [data-object="denoised"] {part}') for part in ("figcaption", "canvas"))

    def result(seed: int, told: str) -> np.ndarray:
        page.locator('#mine [name="num_images"]').fill("2")
        page.locator('#mine [name="seed"]').fill(str(seed))
        page.locator("#mine .go").click()
        expect(page.locator("#mine .answer")).to_contain_text(f"in 50 steps{told}, seed {seed}")
        return np.array(denoised.evaluate_all(PIXELS))

    plain = result(3, "")
    expect(caption).not_to_contain_text("label")
    ask(page, "#mine", ODD, "2")
    labelled = result(3, f", label {ODD[:23]}…, s = 2")
    expect(caption).to_contain_text(f"with label {ODD[:23]}…")
    assert (plain != labelled).any()
    ask(page, "#mine", ODD, "0")
    assert (result(3, f", label {ODD[:23]}…, s = 0") == plain).all()
    page.locator('[data-language="zh"]').click()
    expect(caption).to_contain_text(f"标签 {ODD[:23]}…")
    assert (copied(page)["label"], copied(page)["s"]) == (ODD, "0")
    page.reload()
    expect(page.locator('#mine [name="label"]')).to_have_value("2")


# ------------------------------------------------------------------------------------------------------- how it looks


@pytest.mark.long
def test_the_fields_need_no_more_lines_than_without_them(browser, there, url):
    for size in ({"width": 390, "height": 844}, {"width": 1280, "height": 800}):
        tall = {}
        for address in (url, there):
            with visiting(browser, address, viewport=size) as visitor:
                page = visitor.open()
                for tab in ("reverse", "mine"):
                    page.locator(f"#tab-{tab}-button").click()
                    expect(page.locator(f"#{tab} canvas").first).to_be_visible()
                    if address == there:
                        page.locator(f'#{tab} [name="label"]').select_option(label="cat")
                    tall[address, tab] = page.locator(f"#{tab} .controls").evaluate("form => form.offsetHeight")
                    for language in ("zh", "en"):
                        page.locator(f'[data-language="{language}"]').click()
                        wide = "document.documentElement.scrollWidth - window.innerWidth"
                        assert page.evaluate(wide) <= 0, (tab, language, size)
        line = 40  # pixels at least
        assert all(tall[there, tab] < tall[url, tab] + line for tab in ("reverse", "mine")), (size, tall)


@pytest.mark.long
@pytest.mark.parametrize("tab", ["reverse", "compare", "mine"])
def test_everything_has_a_name_and_axe_finds_nothing_serious(seen, tab):
    page = seen.open(tab=tab)
    for select in page.locator(f'#{tab} [name="label"]').all():
        select.select_option(label="cat")
    for name, said in (("label", "Label"), ("guidance_scale", "Guidance s")):
        assert page.locator(f'#{tab} [name="{name}"]').first.get_attribute("aria-label").startswith(said)
    assert serious(page) == []


def test_the_header_says_that_there_are_labels(seen):
    page = seen.open()
    expect(page.locator(".chip")).to_contain_text("3 labels")
    page.locator('[data-language="zh"]').click()
    expect(page.locator(".chip")).to_contain_text("3 个标签")


# -------------------------------------------------------------------------------------------------------- endpoints


def test_programs_ask_for_a_label_by_its_name(there, labelled):
    client = Client(there, verbose=False)
    options = {"sampler": "ddpm", "num_inference_steps": 6, "seed": 2}
    drawn = sample(
        labelled.engine(), labelled.scheduler, (1, 1, 28, 28), labels=torch.tensor([1]), guidance_scale=2.5, **options
    )
    expected = ((drawn + 1) * 127.5).round().clamp(0, 255).reshape(1, -1).numpy()
    asked = {**options, "label": "cat", "guidance_scale": 2.5}
    by_client = client.predict(**asked, api_name="/sample")["images"]
    assert np.abs(np.array(by_client).reshape(1, -1) - expected).max() <= 1
    assert (from_endpoint(there, **asked) == np.array(by_client).reshape(1, -1)).all()
    _, by_tool, refused = tools(there, ("sample", asked), ("sample", {**asked, "label": "bird"}))
    assert by_tool.structuredContent["images"] == by_client
    assert refused.content[0].text.endswith(f"label = bird: the model knows 0, cat, {ODD}; leave it empty for no label")
    kind, told = call(there, "sample", {**asked, "guidance_scale": 20.5})
    assert (kind, told["error"]) == ("error", "guidance_scale = 20.5: a number from 0 to 20 is needed")


def test_programs_ask_which_label_a_picture_has(there):
    kind, (answer,) = call(there, "classify", {"x0": PICTURE, "seed": 4})
    assert kind == "complete"
    assert list(answer["probabilities"]) == list(answer["bits"]) == list(NAMES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert Client(there, verbose=False).predict(PICTURE, 4, api_name="/classify") == answer
    described, by_tool = tools(there, ("classify", {"x0": PICTURE, "seed": 4}))
    assert by_tool.structuredContent == json.loads(by_tool.content[0].text) == answer
    tool = next(tool for tool in described if tool.name == "classify")
    assert tool.inputSchema["properties"].keys() == {"x0", "seed", "model"}
    first = call(there, "classify", {})[1][0]
    assert first == call(there, "classify", [None, 0])[1][0], "the first example of the page"
    kind, told = call(there, "classify", {"seed": -1})
    assert (kind, told["error"]) == ("error", "seed = -1: a whole number from 0 to 2147483647 is needed")

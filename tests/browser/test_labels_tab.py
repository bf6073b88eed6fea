"""Tab "Labels": rows of one noise by guidance scale, the arrow, and which label a picture has."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from harness import Session, Visit, desk, draw, serious, serving, visiting
from playwright.sync_api import Browser, expect
from untrained import make_model

from ddpm.ui.server.guided_rows import SCALES
from ddpm.ui.text import TEXT

DIGITS = tuple("0123456789")
STATUS = "#labels .status"
DRAWN_MS = 120_000


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Iterator[str]:
    """The page of a model with the labels 0 to 9, of 28 x 28 pixels and T = 1000."""
    folder = tmp_path_factory.mktemp("labelled")
    with serving(make_model(folder / "tiny-labels", 28, 1, 1000, names=DIGITS), folder / "log") as address:
        yield address


@pytest.fixture
def asked(browser, labelled) -> Iterator[Visit]:
    """A fresh page of that model, at a desk, with reduced motion."""
    with visiting(browser, labelled, reduced_motion="reduce") as visitor:
        yield visitor


def row(visit: Visit, i: int) -> list[list[int]]:
    """The pictures of row i."""
    read = """grid => [...grid.querySelectorAll('canvas')].map((c) => Array.from(
        c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 == 0)))"""
    return visit.page.locator("#labels .row").nth(i).locator(".grid").evaluate(read)


def part(visit: Visit, of: str, i: int) -> list[int]:
    """A picture of the arrow: of its noise (0), or of the guess that follows (1)."""
    return visit.pixels(f'#labels .part[data-object="{of}"] canvas >> nth={i}')


def ready(visit: Visit, query: str = "lang=en") -> None:
    visit.open(query, tab="labels")
    expect(visit.page.locator(STATUS)).to_contain_text("tored example", timeout=DRAWN_MS)
    expect(visit.page.locator("#labels .arrow")).not_to_have_class(re.compile("waiting"))


def set_scale(visit: Visit, s: float) -> None:
    visit.page.locator('#labels [name="s"]').evaluate(
        "(slider, s) => { slider.value = s; slider.dispatchEvent(new Event('input', {bubbles: true})); }", s
    )


def choose(visit: Visit, label: str) -> None:
    visit.page.locator("#labels .list").get_by_role("button", name=label, exact=True).click()


@pytest.mark.slow
def test_the_example_is_there_and_one_slider_moves_all_rows_without_a_request(asked):
    ready(asked)
    page = asked.page
    expect(page.locator(STATUS)).to_contain_text("“3”")
    assert page.locator('#labels .list [aria-pressed="true"]').inner_text() == "3"
    assert page.locator("#labels .list button").count() == 11
    assert page.locator("#labels .row-name").all_inner_texts() == [f"s = {s:g}" for s in SCALES]
    asked.until_quiet()
    before = len(asked.requests)
    finished = [row(asked, i) for i in range(len(SCALES))]
    asked.move("labels", 1000)
    noise = [row(asked, i) for i in range(len(SCALES))]
    assert all(each == noise[0] for each in noise), "all begin with the same noise"
    assert all(each != finished[0] for each in finished[1:]), "and end apart"
    asked.move("labels", 480)
    assert all(row(asked, i) not in (noise[i], finished[i]) for i in range(len(SCALES)))
    page.locator('#labels [data-value="x0_hat"]').click()
    expect(page.locator("#labels .rows")).to_have_attribute("data-object", "x0_hat")
    assert len(asked.requests) == before, "all of it is in the browser"


@pytest.mark.slow
def test_the_arrow_goes_from_one_noise_through_the_other(asked):
    ready(asked)
    page, says = asked.page, asked.page.locator("#labels .arrow-says")
    expect(says).to_contain_text("At t = 0 there is no noise to predict")
    asked.move("labels", 480)
    expect(says).to_contain_text("Picture 1 of the row s = 2, at t = 480")
    asked.until_quiet()
    before = len(asked.requests)
    for s, of in ((0, "eps_0"), (1, "eps_c")):
        set_scale(asked, s)
        page.wait_for_function("!document.querySelector('#labels .arrow.waiting')")  # the picture of another row
        assert part(asked, "eps_s", 0) == part(asked, of, 0)
        assert part(asked, "eps_s", 1) == part(asked, of, 1)
    assert len(asked.requests) <= before + 2, "once for each row"
    set_scale(asked, 1.5)
    expect(page.locator("#labels .scale-says")).to_contain_text("1.5")
    expect(page.locator('#labels .row-name[aria-pressed="true"]')).to_have_text("s = 1")
    page.locator('#labels .row-name:has-text("s = 8")').focus()
    page.keyboard.press("Enter")
    expect(says).to_contain_text("of the row s = 8")
    assert page.locator('#labels [name="s"]').input_value() == "8"
    # What is shown of x0_hat is what the row shows at the same t: the step that was really taken.
    page.locator('#labels [data-value="x0_hat"]').click()
    expect(page.locator("#labels .arrow")).not_to_have_class(re.compile("waiting"))
    page.locator("#labels .row").nth(4).locator("canvas").nth(1).click()
    expect(says).to_contain_text("Picture 2 of the row s = 8, at t = 480")
    asked.until_quiet()
    page.wait_for_function("!document.querySelector('#labels .arrow.waiting')")
    taken, shown = (np.array(pixels, float) for pixels in (row(asked, 4)[1], part(asked, "eps_s", 1)))
    assert np.abs(taken - shown).max() <= 6, "up to what half precision costs, eight times"
    times = page.locator('#labels .part[data-object="eps_gap"] .times').first.inner_text()
    assert re.fullmatch(r"×(1|2|5)0*", times)


@pytest.mark.long
def test_another_label_is_sampled_at_a_click_and_no_label_makes_all_rows_alike(asked):
    ready(asked)
    page = asked.page
    example = [row(asked, i) for i in range(len(SCALES))]
    choose(asked, "7")
    expect(page.locator(STATUS)).to_contain_text("“7” from the same noise in every row, seed 1")
    assert row(asked, 0) == example[0], "s = 0 ignores the label"
    assert row(asked, 2) != example[2]
    expect(page.locator("#labels .figures").nth(0)).to_have_text("")
    expect(page.locator("#labels .figures").nth(2)).to_contain_text(re.compile(r"\d\.\d\d from s = 0"))
    choose(asked, "no label")
    expect(page.locator(STATUS)).to_contain_text("all rows are the same")
    assert all(row(asked, i) == example[0] for i in range(len(SCALES)))
    page.locator('#labels [name="seed"]').fill("-4")
    page.locator("#labels .go").click()
    expect(page.locator(STATUS)).to_contain_text("Seed = -4: a whole number from 0")
    expect(page.locator('#labels [name="seed"]')).to_have_attribute("aria-invalid", "true")
    page.locator('#labels [name="seed"]').fill("12")
    expect(page.locator("#labels .row.stale")).to_have_count(len(SCALES))
    page.locator("#labels .go").click()
    expect(page.locator(STATUS)).to_contain_text("Seed 12")
    expect(page.locator("#labels .row.stale")).to_have_count(0)


@pytest.mark.slow
def test_stop_leaves_what_was_drawn(asked):
    ready(asked)
    page = asked.page
    asked.listen("#labels .status", when="/Sampling, at t = /.test(text)", click="#labels .stop")
    page.locator('#labels [name="num_images"]').fill("6")
    page.locator('#labels [name="seed"]').fill("41")
    page.locator("#labels .go").click()
    expect(page.locator(STATUS)).to_contain_text("Stopped")
    expect(page.locator("#labels .go")).to_be_focused()
    asked.move("labels", 1000)
    assert len(row(asked, 0)) == 6
    assert row(asked, 0) == row(asked, 4), "the noise that both began with"
    expect(page.locator("#labels .arrow-says")).to_contain_text("once the rows are finished")


@pytest.mark.long
def test_a_link_opens_the_tab_with_its_label_and_names_what_it_asks_for_in_vain(asked):
    page = asked.page
    page.goto(f"{asked.url}?lang=en&tab=labels&label=3&s=2")
    expect(page.locator(STATUS)).to_contain_text("tored example: “3”", timeout=DRAWN_MS)
    assert sum("/queue/join" in request for request in asked.requests) <= 1, (
        "for the picture's label; the rows are stored"
    )
    page.goto(f"{asked.url}?lang=en&tab=labels&label=7&s=4&images=2&seed=9&t=520")
    expect(page.locator(STATUS)).to_contain_text("“7” from the same noise in every row, seed 9", timeout=DRAWN_MS)
    assert page.locator('#labels [name="s"]').input_value() == "4"
    assert page.locator("#labels .t-now").inner_text() == "520"
    expect(page.locator('#labels .row-name[aria-pressed="true"]')).to_have_text("s = 4")
    page.locator(".copy-link").click()
    expect(page.locator(".page-status")).not_to_be_empty()
    copied = {name: value for name, (value,) in parse_qs(urlsplit(page.url).query).items()}
    assert copied.items() >= {"tab": "labels", "label": "7", "s": "4", "images": "2", "seed": "9", "t": "520"}.items()
    page.reload()
    expect(page.locator(STATUS)).to_contain_text("“7” from the same noise", timeout=DRAWN_MS)
    assert page.locator('#labels [name="s"]').input_value() == "4"

    page.goto(f"{asked.url}?lang=en&tab=labels&label=eleven&s=99&t=300&foo=1")
    line = page.locator(".page-status")
    for said in ("label = eleven: the model knows 0, 1, 2, 3", "s = 99: a number from 0 to 8", "foo: there is no such"):
        expect(line).to_contain_text(said)
    assert page.locator('#labels .list [aria-pressed="true"]').inner_text() == "3"


@pytest.mark.slow
def test_a_drawing_gets_bars_that_add_up_to_one(asked):
    ready(asked)
    page, answer = asked.page, asked.page.locator("#which .answer")
    expect(answer).to_have_attribute("data-state", "done", timeout=DRAWN_MS)
    expect(answer).to_contain_text(re.compile(r"“\d” with [\d.]+%, from \d+ timesteps in \d+\.\d s"))
    page.locator("#which .pad").scroll_into_view_if_needed()
    before = page.locator("#which .bars").inner_text()
    said = asked.listen("#which .answer")
    page.locator("#which .clear").click()
    draw(asked, "#which .pad")
    asked.heard(said, "timesteps so far")
    expect(answer).to_have_attribute("data-state", "done")
    assert page.locator("#which .bars").inner_text() != before
    shares = [float(text.rstrip("%")) for text in page.locator("#which .share").all_inner_texts()]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=0.6)
    best = page.locator("#which .bars .best")
    assert best.count() == 1
    assert float(best.locator(".share").inner_text().rstrip("%")) == max(shares)
    saved = [float(text.replace("\u2212", "-")) for text in page.locator("#which .saved").all_inner_texts()]
    assert int(np.argmax(saved)) == int(np.argmax(shares)), "the likeliest label saves most"
    assert best.get_attribute("aria-label").startswith(best.locator(".name").inner_text())
    page.locator("#tab-forward-button").click()
    drawn = asked.pixels("#forward .pad")
    assert max(drawn) > 200, "the drawing goes along through all tabs"


@pytest.mark.slow
def test_it_can_be_used_in_chinese_in_the_dark_on_a_phone(browser, labelled):
    size = {"width": 390, "height": 844}
    with visiting(browser, labelled, viewport=size, has_touch=True) as visit:
        visit.open("lang=zh&__theme=dark", tab="labels")
        page = visit.page
        expect(page.locator(STATUS)).to_contain_text("预先算好的示例", timeout=DRAWN_MS)
        expect(page.locator("#which .answer")).to_have_attribute("data-state", "done", timeout=DRAWN_MS)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        english = {string for key, string in TEXT["en"].items() if string != TEXT["zh"][key]}
        said = page.evaluate("""() => [...document.querySelectorAll('#tab-labels *')].filter((e) => e.offsetParent)
            .flatMap((e) => [e.children.length ? '' : e.textContent.trim(), e.getAttribute('aria-label')])""")
        assert english.intersection(said) == set()
        page.locator("#labels .row").first.scroll_into_view_if_needed()
        expect(page.locator("#labels .t-bar input")).to_be_in_viewport()
        page.locator("#labels .arrow .parts").scroll_into_view_if_needed()
        expect(page.locator("#labels .t-bar input")).to_be_in_viewport()
        small = page.evaluate("""() => [...document.querySelectorAll('#labels .list button')]
            .map((e) => e.getBoundingClientRect()).filter((box) => Math.min(box.width, box.height) < 44).length""")
        assert small == 0


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, labelled, theme):
    with visiting(browser, labelled, reduced_motion="reduce") as visit:
        ready(visit, f"lang=en&__theme={theme}")
        expect(visit.page.locator("#which .answer")).to_have_attribute("data-state", "done", timeout=DRAWN_MS)
        assert serious(visit.page) == []


@pytest.mark.slow
def test_the_tour_stops_there(asked):
    page = asked.page
    page.goto(f"{asked.url}?lang=en&tour=7")
    expect(page.locator("#tour-title")).to_have_text(TEXT["en"]["tour.labels.title"])
    expect(page.locator("#tab-labels-button")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#labels .stage.toured")).to_be_visible()
    expect(page.locator(".tour-place")).to_have_text("7 of 11")


@pytest.mark.slow
def test_what_a_browser_may_send_does_no_harm(labelled):
    for event, good in (
        ("labels", {"label": 3, "num_images": 1, "seed": 1}),
        ("classify", {"x0": "", "noise_seed": 1}),
    ):
        for change in (
            {"label": 10**9},
            {"label": []},
            {"num_images": "x"},
            {"seed": None},
            {"x0": 5},
            {"noise_seed": {}},
        ):
            status, message = Session(labelled).ask(event, {**good, **change, "run": 1})
            assert status == 200
            assert message["kind"] in ("refused", "done"), (event, change, message)
    session = Session(labelled)
    for value in (None, [], "x", {"key": [], "picture": 10**9}, {"key": "x" * 10**4, "picture": -1}):
        assert session.look_up("halves", value) is None


# ------------------------------------------------------------------------------------------------------- many labels


@pytest.fixture(scope="module")
def many(browser, tmp_path_factory) -> Iterator[Visit]:
    """The page of a model with 100 labels, the fourth of which has a name with signs that mean something elsewhere."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"kind {i:02d}" for i in range(100)]
    names[3], names[42] = "${alert(1)} `x` <b>$y$</b> \\n", "a rose"
    model = make_model(folder / "many", 8, 1, 200, names=names)
    with serving(model, folder / "log") as url, visiting(browser, url, reduced_motion="reduce") as visit:
        ready(visit)
        yield visit


@pytest.mark.long
def test_of_many_labels_a_search_finds_the_one(many):
    page, find = many.page, many.page.locator("#labels .find")
    assert page.locator("#labels h2").inner_text() == "Can I ask for “${alert(1)} `x` <b>$y$</b> \\n”?"
    expect(page.locator("#labels .rest")).to_contain_text("of 100 labels are shown")
    assert page.locator("#labels .list button").count() <= 26
    find.fill("ROSE")
    expect(page.locator("#labels .rest")).to_contain_text("1 label matches “ROSE”")
    find.press("Enter")
    expect(page.locator(STATUS)).to_contain_text("“a rose” from the same noise")
    find.fill("no such thing")
    expect(page.locator("#labels .rest")).to_contain_text("0 labels match")
    find.fill("")
    expect(page.locator('#labels .list [aria-pressed="true"]')).to_have_text("a rose")


@pytest.mark.long
def test_of_many_labels_the_likeliest_have_bars(many):
    page = many.page
    expect(page.locator("#which .answer")).to_have_attribute("data-state", "done", timeout=DRAWN_MS)
    shares = [float(text.rstrip("%")) for text in page.locator("#which .share").all_inner_texts()]
    assert len(shares) == 12
    assert shares == sorted(shares, reverse=True)


# ------------------------------------------------------------------------------------------------- a model without labels


@pytest.mark.slow
def test_a_model_without_labels_says_what_they_are_and_how_to_train_with_them(visit):
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.page
    page.goto(f"{visit.url}?lang=en&tab=labels&label=3&s=2")
    expect(page.locator("#labels canvas").first).to_be_visible()
    expect(page.locator(".page-status")).to_contain_text("label = 3: the model was trained without labels")
    expect(page.locator("#labels .stage")).to_contain_text("The model on this page was trained without labels")
    page.locator("#labels .copy").click()
    expect(page.locator("#labels .copy")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0].startswith("accelerate launch train.py --class_conditional")
    assert len(copied) == 2
    assert [text for text in page.locator("#labels .named figcaption").all_inner_texts()] == list(DIGITS)
    assert serious(page) == []


def test_the_tour_of_a_model_without_labels_leaves_them_out(visit):
    page = visit.page
    page.goto(f"{visit.url}?lang=en&tour=7")
    expect(page.locator("#tour-title")).to_have_text(TEXT["en"]["tour.compare.title"])


@pytest.mark.slow
def test_forced_colours_keep_the_chosen_label_and_the_bars(browser: Browser, labelled):
    with (
        desk(browser, reduced_motion="reduce", forced_colors="active") as context,
        visiting(context, labelled) as visit,
    ):
        ready(visit)
        page = visit.page
        expect(page.locator("#which .answer")).to_have_attribute("data-state", "done", timeout=DRAWN_MS)
        colour = "(e) => getComputedStyle(e).backgroundColor"
        chosen = page.locator('#labels .list [aria-pressed="true"]').evaluate(colour)
        other = page.locator('#labels .list [aria-pressed="false"]').first.evaluate(colour)
        assert chosen != other
        bar, track = (page.locator(f"#which .best {part}").evaluate(colour) for part in (".track i", ".track"))
        assert bar != track

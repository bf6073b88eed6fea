"""Tab "Training": the record of the model, and a training that visitors watch and stop."""

import math
import re
from itertools import pairwise

import pytest
from harness import GRIDS, Session, Visit, visiting
from playwright.sync_api import Page, expect

from ddpm.ui.text import TEXT

FACTS = "#training .live .facts"
SLOW = {"timeout": 170_000}  # libraries to load and steps to take, beside whatever else runs


def ended(language: str) -> re.Pattern:
    """What the page says at the end; on a machine that is busy otherwise, of the minutes instead of the steps."""
    strings = (re.escape(TEXT[language][f"training.{key}"]) for key in ("finished", "time"))
    return re.compile("|".join(re.sub(r"\\{\w+(\\\?\w+:\w+)?\\}", ".+", string) for string in strings))


def gray(visit: Visit, story: str) -> int:
    pixels = visit.pixels(f"#training {story} canvas")
    return pixels[len(pixels) // 2]


def slide(page: Page, story: str, index: int) -> None:
    """To a stop of the slider, by keyboard."""
    page.locator(f"#training {story} .scrub input").focus()
    for key in ["Home"] + ["ArrowRight"] * index:
        page.keyboard.press(key)


def count_stops(page: Page, story: str) -> int:
    slide(page, story, 0)
    slider, found = page.locator(f"#training {story} .scrub input"), []
    while (now := slider.get_attribute("aria-valuetext")) not in found:
        found.append(now)
        page.keyboard.press("ArrowRight")
    return len(found)


def test_the_record_of_the_model_is_scrubbed_without_the_server(same):
    page = same.back("training")
    expect(page.locator("#training .recorded .facts")).to_contain_text("digits: 3,000 steps of 64 images")
    expect(page.locator("#training .recorded code")).to_have_text(
        "accelerate launch train.py --preset digits --max_train_steps 3000"
    )
    slider = page.locator("#training .recorded .scrub input")
    expect(slider).to_have_attribute("aria-valuetext", "step 3,000")
    asked, marks = [], []

    def note(request):
        """All but the look-ups by which other tabs wait for the examples that the server draws at its start."""
        sent = request.post_data or request.url
        if not re.search(r'"fn_name": ?"(trajectory|finished|example\w*)"', sent):
            asked.append(sent)

    same.until_quiet()
    page.on("request", note)
    for index, (step, shade) in enumerate(GRIDS.items()):
        slide(page, ".recorded", index)
        assert gray(same, ".recorded") == shade
        expect(page.locator("#training .recorded .now")).to_contain_text(f"step {step:,}: ")
        marks.append(page.locator("#training .recorded .mark").bounding_box())
        share = math.log(step / 100) / math.log(30)  # of the way from step 100 to step 3,000 along the axis
        assert float(slider.input_value()) == pytest.approx(1000 * share, abs=0.51), "logarithmic, as the chart is"
        track, half = slider.bounding_box(), 8  # of the thumb
        thumb = track["x"] + half + share * (track["width"] - 2 * half)
        assert marks[-1]["x"] + marks[-1]["width"] / 2 == pytest.approx(thumb, abs=2), "under the mark"
    assert marks[0]["x"] < marks[1]["x"] < marks[2]["x"]
    assert marks[0]["y"] < marks[1]["y"] < marks[2]["y"], "the loss falls, so its mark goes down"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert gray(same, ".recorded") == GRIDS[2000], "the keyboard moves it, too"
    page.locator('#training .recorded [data-value="by_t"]').click()
    drawn = "paths => paths.filter((p) => p.getAttribute('d')).length"
    assert page.locator("#training .recorded .decile").evaluate_all(drawn) == 10
    page.remove_listener("request", note)
    assert asked == [], "all of it is in the browser"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_one_trains_another_watches_and_the_loss_falls(browser, url):
    with (
        visiting(browser, url) as first,
        visiting(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as second,
    ):
        watcher = second.open("lang=zh&__theme=dark", tab="training")
        page = first.open(tab="training")
        server, said = Session(url), first.listen(FACTS)
        page.locator("#training .live .go").click()
        first.heard(said, "Loading")
        watcher.locator("#training .live .go").click()
        expect(watcher.locator("#training .live .go")).to_be_disabled()
        expect(watcher.locator("#training .live .stop")).to_be_hidden()
        assert watcher.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0

        expect(page.locator(FACTS)).to_have_text(ended("en"), **SLOW)
        expect(watcher.locator(FACTS)).to_have_text(ended("zh"), **SLOW)
        expect(watcher.locator("#training .live .go")).to_be_enabled()
        losses, pictures = [], []
        # The noise, and samples at steps 10 and 20; fewer where the minutes were over before the steps.
        stops = count_stops(page, ".live")
        if server.look_up("look", {})["state"] == "finished":
            assert stops == 3
        for index in range(stops):
            slide(page, ".live", index)
            pictures.append(first.pixels("#training .live canvas"))
            losses.append(page.locator("#training .live .now").inner_text())
        assert len({tuple(picture) for picture in pictures}) == stops
        assert len(set(pictures[0])) > 50
        figures = [1.05, *(float(shown.split(": ")[1]) for shown in losses[1:])]
        assert all(before > after for before, after in pairwise(figures)), losses
        slide(watcher, ".live", stops - 1)
        assert second.pixels("#training .live canvas") == pictures[-1], "both saw the same"


def test_stop_stops_at_once_and_the_next_can_start(same):
    page, server = same.back("training"), Session(same.url)
    runs = []
    for _ in range(2):
        said = same.listen(FACTS)
        page.locator("#training .live .go").click()
        same.heard(said, "Loading")
        page.locator("#training .live .stop").click()
        expect(page.locator("#training .live .go")).to_be_visible()
        expect(page.locator(FACTS)).to_have_text(TEXT["en"]["training.unstarted"])
        while (found := server.look_up("look", {}))["state"] == "running":
            page.wait_for_timeout(50)
        assert found["state"] == "stopped"
        runs.append(found["run"])
    assert runs == [runs[0], runs[0] + 1], "the stopped one holds nothing up"

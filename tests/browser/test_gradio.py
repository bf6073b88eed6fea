"""What ddpm/ui/static/gradio.js relies on inside Gradio. A failure here says what a newer Gradio has moved."""

from __future__ import annotations

import json
import urllib.request

import pytest
from harness import Session, Visit
from PIL import Image
from playwright.sync_api import expect

from ddpm.ui.text import TEXT

TABS = [key.removeprefix("tab.") for key in TEXT["en"] if key.startswith("tab.")]
SAMPLE = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 1, "seed": 1, "eta": 0}


def moved(what: str, section: str) -> str:
    return f"Gradio has changed {what}: mend the section '{section}' of ddpm/ui/static/gradio.js"


@pytest.fixture
def fetched(visit: Visit) -> list[tuple[str, str]]:
    """Address and body of what the page requested through `window.fetch` while pictures were drawn."""
    page = visit.open(tab="reverse")
    expect(page.locator("#reverse .status")).to_contain_text("DDIM")  # the stored example is there
    page.evaluate("""() => {
        const [watched, seen] = [window.fetch, []];
        window.seen = seen;
        window.fetch = (resource, options) => {
            seen.push([String(resource.url ?? resource), String(options?.body ?? '')]);
            return watched(resource, options);
        };
    }""")
    page.locator('#reverse [name="num_inference_steps"]').select_option("10")
    said = visit.listen("#reverse .status")
    page.locator("#reverse .go").click()
    visit.heard(said, TEXT["en"]["reverse.starting"])
    expect(page.locator("#reverse .go")).to_be_visible()  # again: it is over
    return page.evaluate("window.seen")


@pytest.mark.slow
def test_events_and_answers_go_through_the_fetch_of_the_window(fetched):
    joins = [body for address, body in fetched if "/queue/join" in address]
    assert joins, moved("how its client sends events (was: fetch of /queue/join)", "the requests of Gradio's client")
    sent = json.loads(joins[-1]).get("event_data")
    assert isinstance(sent, dict), moved("the body of an event (was: event_data)", "the requests of Gradio's client")
    assert {"sender", "run"} <= sent.keys()
    listens = [address for address, _ in fetched if "/queue/data" in address]
    assert listens, moved("how its client hears answers (was: fetch of /queue/data)", "the requests of Gradio's client")


def test_the_stream_of_answers_announces_its_end(url):
    session = Session(url)
    status, _ = session.join("sample", {"visitor": "gradio", "run": 1, **SAMPLE})
    assert status == 200
    with urllib.request.urlopen(f"{session.url}queue/data?session_hash={session.name}", timeout=180) as stream:
        said = stream.read().decode()
    message = moved("the end of its stream (was: a message close_stream)", "the requests of Gradio's client")
    assert "close_stream" in said[-100:], message


def test_katex_is_where_the_page_looks_for_it(same):
    page = same.back()
    version = page.evaluate("ddpm.katex.then((katex) => katex.version ?? null)")
    assert version, moved("the place of its KaTeX (was: assets/katex-*.js)", "KaTeX")
    font = page.locator("#forward .katex").first.evaluate("(element) => getComputedStyle(element).fontFamily")
    assert "KaTeX" in font, moved("the place of KaTeX's styles (was: assets/katex-*.css)", "KaTeX")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_is_a_class_of_the_body(visit, theme):
    page = visit.open(f"lang=en&__theme={theme}")
    dark = page.evaluate("[ddpm.dark(), document.body.classList.contains('dark')]")
    assert dark == [theme == "dark"] * 2, moved(
        "its theme (was: ?__theme= sets the class dark of the body)", "the theme"
    )
    page.locator(".page-header .theme").click()
    assert page.evaluate("ddpm.dark()") is (theme == "light")


def test_the_tabs_are_found_and_brought_to_the_front(same):
    page = same.back()
    message = moved("its tabs (was: [role=tab][data-tab-id], aria-selected)", "the tabs")
    assert sorted(page.evaluate("ddpm.tabs()")) == sorted(TABS), message
    for tab in ("reverse", "forward"):
        page.evaluate("(tab) => ddpm.bringToFront(tab)", tab)
        expect(page.locator(f"#tab-{tab}-button")).to_have_attribute("aria-selected", "true")
        assert page.evaluate("ddpm.inFront()") == tab, message
        expect(page.locator(f"#{tab}")).to_be_visible()


def test_the_container_holds_the_page(same):
    page = same.back()
    message = moved("its container (was: .gradio-container)", "the address")
    assert page.evaluate("ddpm.container()?.contains(document.querySelector('#header'))"), message


def test_a_picture_from_a_file_is_sent_nowhere(visit, tmp_path):
    page = visit.open()
    Image.new("L", (40, 40), 200).save(tmp_path / "gray.png")
    before = len(visit.requests)
    page.locator('#forward input[type="file"]').set_input_files(tmp_path / "gray.png")
    page.wait_for_function("ddpm.example.own()")
    assert visit.requests[before:] == []


@pytest.mark.slow
def test_the_description_at_the_foot_of_the_page_needs_no_closed_address(visit):
    page = visit.open()
    page.get_by_role("button", name="Use via API").click()
    expect(page.get_by_text("elbo_terms").first).to_be_visible()
    visit.check()  # Chromium logs each address that is not there

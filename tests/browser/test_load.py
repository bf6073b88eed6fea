"""The page under load, and under nonsense: what 12 visitors get at once, a full queue, a server that is gone."""

import base64
import json
import math
import os
import random
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import ROOT, Session, make_model, serving, visiting
from playwright.sync_api import expect

from ddpm.ui.text import TEXT

SAMPLE = {"sampler": "ddim", "num_inference_steps": 5, "num_images": 2, "seed": 1, "eta": 0}
LONG = {**SAMPLE, "sampler": "ddpm", "num_inference_steps": 1000, "num_images": 16}
PICTURE = base64.b64encode(bytes(range(256)) * 3).decode()  # of the 16 x 16 colour model


def of_gray(seed: int) -> dict:
    """A picture of the 28 x 28 model that nobody has asked about."""
    return {"x0": base64.b64encode(random.Random(seed).randbytes(784)).decode(), "noise_seed": seed}


def test_twelve_visitors_at_once_all_get_what_they_asked_for(url):
    start = threading.Barrier(12)

    def visitor(i: int) -> list:
        session = Session(url)
        start.wait(60)
        predicted = session.ask("predict", {"visitor": f"v{i}", "run": 1, **of_gray(900 + i)})
        drawn = session.ask("sample", {"visitor": f"v{i}", "run": 1, **SAMPLE, "seed": 900 + i})
        return [predicted, drawn]

    with ThreadPoolExecutor(12) as crowd:
        answers = [answer for visit in crowd.map(visitor, range(12)) for answer in visit]
    assert [(status, answer["kind"]) for status, answer in answers] == [(200, "done")] * 24


def test_a_full_queue_is_a_polite_line_and_a_reading_asks_again(browser, url):
    crowd = [Session(url) for _ in range(26)]
    joined = [session.join("sample", {"run": 1, **LONG, "seed": i}) for i, session in enumerate(crowd)]
    try:
        assert [status for status, _ in joined][-1] == 503, "1 runs, 24 wait"
        assert "Queue is full" in joined[-1][1]["detail"]
        with visiting(browser, url, reduced_motion="reduce") as visit:
            page = visit.open("lang=zh", tab="reverse")
            page.locator("#reverse .go").click()
            expect(page.locator("#reverse .status")).to_have_text(TEXT["zh"]["reverse.busy"], timeout=5000)
            expect(page.locator("#reverse .go")).to_be_visible()
            page.locator("#tab-noise-button").click()
            page.locator("#noise .renoise").click()
            expect(page.locator("#noise .answer")).to_have_text(TEXT["zh"]["answer.busy"], timeout=5000)
            expect(page.get_by_text("This application is currently busy").first).to_be_hidden()
            for session, (status, answer) in zip(crowd, joined, strict=True):
                if status == 200:
                    session.leave("sample", answer)
            joined = []
            expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done", timeout=30_000)
            page.locator("#tab-reverse-button").click()
            page.locator("#reverse .go").click()
            expect(page.locator("#reverse .status")).to_contain_text("DDIM", timeout=30_000)
            assert all("503" in error for error in visit.errors), visit.errors
            visit.errors.clear()  # Chromium's own word for each refusal
    finally:
        for session, (status, answer) in zip(crowd, joined, strict=False):
            if status == 200:
                session.leave("sample", answer)


def test_a_lost_connection_is_told_by_the_tab_that_waits_and_by_the_next(browser, tmp_path):
    with serving(make_model(tmp_path / "model", 8, 1, 1000), tmp_path / "log") as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}?lang=zh")
        page.locator("#tab-reverse-button").click()
        expect(page.locator("#reverse .status")).to_contain_text("预先算好的示例")
        page.locator('#reverse [name="num_inference_steps"]').select_option("1000")
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_contain_text("/ 1000")
    lost = TEXT["zh"]["answer.lost"]
    expect(page.locator("#reverse .status")).to_have_text(lost, timeout=5000)
    page.locator("#reverse .go").click()
    expect(page.locator("#reverse .status")).to_have_text(lost)
    page.locator("#tab-noise-button").click()
    page.locator("#noise .renoise").click()
    expect(page.locator("#noise .answer")).to_have_text(lost)
    context.close()


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


@pytest.mark.parametrize("count", [int(os.environ.get("DDPM_FUZZ", 30))])
def test_nonsense_is_refused_and_breaks_nothing(colour_url, count):
    """Over HTTP, as anybody can send it: endpoints, events of the page, look-ups. DDPM_FUZZ=300 for a longer look."""

    def endpoint(name: str, seed: int) -> None:
        session, arguments = Session(colour_url), twisted(random.Random(seed), GOOD[name])
        status, answer = session.post(f"call/v2/{name}", arguments)
        if status == 200:
            with urllib.request.urlopen(f"{session.url}call/{name}/{answer['event_id']}", timeout=60) as stream:
                answer = stream.read().decode()
            assert "event: complete" in answer or '"error": "' in answer, (arguments, answer[:200])
        assert harmless(status, answer), (name, arguments, status, answer)

    def event(name: str, seed: int) -> None:
        rng = random.Random(seed)
        if name == "wrong":
            message = {**MESSAGES["compare"], "rows": [ROW, twisted(rng, ROW)]}
        else:
            message = twisted(rng, {**MESSAGES[name], "visitor": f"v{seed}"})
        status, answer = Session(colour_url).ask(name, message)
        assert harmless(status, answer), (name, message, status, answer)
        assert status != 200 or answer is None or answer["kind"] in ("done", "refused"), (name, message, answer)

    def look_up(place: int, seed: int) -> None:
        session = Session(colour_url)
        rng = random.Random(seed)
        component, function = session.functions[place]
        data = rng.choice((*VALUES, "example", {"visitor": rng.choice(VALUES), "run": rng.choice(VALUES)}))
        status, answer = session.call(rng.choice((component, component, 10**6)), function, data)
        assert harmless(status, answer), (function, data, status, answer)

    jobs = [(endpoint, name) for name in GOOD] + [(event, name) for name in (*MESSAGES, "wrong")]
    jobs += [(look_up, place) for place in range(len(Session(colour_url).functions))]
    with ThreadPoolExecutor(4) as crowd:
        for done in [crowd.submit(job, what, seed) for job, what in jobs for seed in range(count)]:
            done.result(60)
    assert Session(colour_url).ask("sample", {"run": 1, **SAMPLE, "seed": 5})[1]["kind"] == "done", "it goes on"

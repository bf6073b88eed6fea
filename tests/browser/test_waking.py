"""The page of a server that has just started: what needs no network works, and what needs one says that it waits. And
how a server ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from harness import LONG, PATIENCE_S, ROOT, Session, free_port, serving, visiting
from launch import launch
from playwright.sync_api import expect
from untrained import make_model

from ddpm.ui.text import TEXT

# The server as `python app.py` starts it, but its models come once a file is there.
GATED = """
import os, sys, time
import app
find = app.find
def find_later(*asked):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
    return find(*asked)
app.find = find_later
sys.exit(app.main(sys.argv[1:]))
"""
FAILING = """
import sys
import app
def find(*asked):
    raise {raised}
app.find = find
sys.exit(app.main(sys.argv[1:]))
"""


@contextmanager
def waking(folder: Path):
    """The page's address, and what opens the models behind it."""
    script, gate = folder / "gated.py", folder / "gate"
    script.write_text(GATED)
    with serving(None, folder / "log", script, GATE=str(gate)) as url:
        yield url, gate.touch
        gate.touch()


def test_a_visitor_who_comes_before_the_network_plays_and_is_answered_later(still, tmp_path):
    with waking(tmp_path) as (url, wake), visiting(still, url) as first, visiting(still, url) as second:
        page = first.open()
        before = first.pixels('#forward [data-object="xt"] canvas')
        first.move("forward", 900)
        assert first.pixels('#forward [data-object="xt"] canvas') != before, "the first tab needs no network"
        other = second.open("lang=zh&model=mnist_labels")
        expect(other.locator(".page-header .chip")).to_contain_text("mnist_labels")
        other.locator("#tab-noise-button").click()
        expect(other.locator("#noise .answer")).to_have_text(TEXT["zh"]["answer.waking"])
        page.locator("#tab-reverse-button").click()
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_have_text(TEXT["en"]["answer.waking"])
        for tab in ("compare", "mine", "wrong"):
            page.locator(f"#tab-{tab}-button").click()
            expect(page.locator(f"#{tab} .status:not(.picker-status)")).to_have_text(TEXT["en"]["answer.waking"])
        assert set(first.pixels("#mine .row[data-object=denoised] canvas")) == {128}, "nothing looks like a picture"
        page.locator("#tab-mine-button").click()
        page.locator('#mine [data-value="fill"]').click()
        page.locator("#mine .restore").click()
        page.locator("#mine .go").click()
        page.wait_for_timeout(1500)
        expect(page.locator("#mine .answer")).to_have_text(TEXT["en"]["mine.whole"])
        page.locator("#tab-training-button").click()
        expect(page.locator("#training .live .go")).to_be_visible()
        expect(page.locator("#training .recorded .copy")).to_be_hidden()
        other.locator("#tab-labels-button").click()
        expect(other.locator("#labels .status").first).to_have_text(TEXT["zh"]["answer.waking"])
        other.locator("#tab-noise-button").click()
        wake()
        expect(page.locator("#training .recorded .facts")).to_contain_text("14,000")
        expect(page.locator("#training .recorded .copy")).to_be_visible()
        page.locator("#tab-compare-button").click()
        expect(page.locator("#compare .status")).to_contain_text("Stored example")
        page.locator("#tab-reverse-button").click()
        expect(page.locator("#reverse .go")).to_be_visible()
        expect(page.locator("#reverse .status")).not_to_have_text(TEXT["en"]["answer.waking"])
        assert len(set(first.pixels("#reverse .planes canvas"))) > 1
        expect(other.locator("#noise .answer[data-state=done]")).to_be_attached()
        expect(other.locator("#noise .answer")).not_to_have_text(TEXT["zh"]["answer.waking"])


def test_a_crowd_before_the_network_keeps_nobody_from_the_page(tmp_path):
    with waking(tmp_path) as (url, wake):
        session = Session(url)
        asked = [place for place in session.functions if place[1] in ("trajectory", "story")]
        with ThreadPoolExecutor(64) as crowd:
            answers = [crowd.submit(session.call, *asked[i % len(asked)], "example") for i in range(64)]
            for _ in range(5):
                assert urllib.request.urlopen(url, timeout=20).status == 200
            wake()
            found = [answer.result() for answer in answers]
        assert {status for status, _ in found} == {200}
        assert any(story and "train" in story for _, story in found), "the story of the training was waited for"


def test_stop_reaches_a_server_without_its_models_and_frees_the_queue(still, tmp_path):
    with waking(tmp_path) as (url, wake), visiting(still, url) as visit:
        page = visit.open(tab="reverse")
        page.locator('#reverse [name="sampler"]').select_option("ddpm")
        page.locator('#reverse [name="num_inference_steps"]').select_option("1000")
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_have_text(TEXT["en"]["answer.waking"])
        page.locator("#reverse .stop").click()
        page.locator('#reverse [name="sampler"]').select_option("ddim")
        page.locator('#reverse [name="num_inference_steps"]').select_option("10")
        page.locator("#reverse .go").click()
        expect(page.locator("#reverse .status")).to_have_text(TEXT["en"]["answer.waking"])
        session = Session(url)
        assert session.join("sample", {"run": 1, "visitor": "another"})[0] == 200, "the queue has room"
        wake()
        expect(page.locator("#reverse .go")).to_be_visible()
        expect(page.locator("#reverse .status")).to_contain_text("10 steps")


@pytest.mark.parametrize(("raised", "said"), [('OSError("no libtorch")', "no libtorch"), ("app.NoModelsError", "")])
def test_models_that_do_not_come_end_the_server_with_their_own_reason(tmp_path, raised, said):
    script = tmp_path / "failing.py"
    script.write_text(FAILING.format(raised=raised))
    ended = launch(script, "--port", free_port())
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "listen" not in ended.stderr, "the port is not to blame"


@contextmanager
def started(log: Path, *words: str | Path, **environment: str):
    """A server's address, once it answers, and what sends it Ctrl-C and waits for its end."""
    port = free_port()
    # What a shell starts in the background ignores Ctrl-C, and so would the server.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    words = (sys.executable, *words, "--port", str(port))
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    with open(log, "w") as file:
        server = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=environment, preexec_fn=heeds)

    def end() -> int:
        server.send_signal(signal.SIGINT)
        return server.wait(PATIENCE_S)

    url, deadline = f"http://127.0.0.1:{port}/", time.monotonic() + 2 * PATIENCE_S
    try:
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the server does not start"
            with suppress(OSError):
                urllib.request.urlopen(url, timeout=PATIENCE_S).read()
                break
            time.sleep(0.05)
        yield url, end
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.parametrize("waking", [False, True])
def test_ctrl_c_ends_the_server_and_the_streams_of_its_visitors(tmp_path, waking):
    """In the middle of a sampling, while another visitor waits; and before the models are there."""
    if waking:
        script = tmp_path / "gated.py"
        script.write_text(GATED)
        words, environment = [script], {"GATE": str(tmp_path / "gate")}
    else:
        words, environment = ["app.py", "--model", make_model(tmp_path / "model", 8, 1, 1000)], {}
    with started(tmp_path / "log", *words, **environment) as (url, end):
        sessions = [Session(url), Session(url)]
        for session in sessions:
            assert session.join("sample", {"run": 1, "seed": 0, **LONG})[0] == 200
        first, second = (session.answers() for session in sessions)
        next(message for message in first if ("waking" if waking else "frame") in str(message))
        with ThreadPoolExecutor() as waiting:
            streams = [waiting.submit(list, messages) for messages in (first, second)]
            assert end() == 130
            last = [stream.result()[-1]["msg"] for stream in streams]
        assert last == ["process_completed", "process_completed"], "Gradio says otherwise that the server has failed"


@pytest.mark.slow
def test_a_real_start_answers_while_the_libraries_are_imported(tmp_path):
    log = tmp_path / "log"
    with started(log, "app.py", HF_HUB_OFFLINE="1", DDPM_LIVE_TRAINING="0") as (url, _):
        assert " on http" not in log.read_text(), "the page was there before its models"
        asked = {"run": 1, "sampler": "ddim", "num_inference_steps": 2, "num_images": 1, "seed": 0, "eta": 0}
        status, answer = Session(url).ask("sample", asked)
        assert (status, answer["kind"]) == (200, "done"), answer

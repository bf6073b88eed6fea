"""What comes from the network is looked at before Gradio sees it, and work ends when nobody waits for it."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlparse

import gradio as gr
import httpx
import pytest
from starlette.testclient import TestClient

import ddpm.ui.gradio as ours
from ddpm.ui import door
from ddpm.ui.endpoints import Argument, Endpoint

FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
LIMIT = 10_000
WAIT_S = 60


class Work:
    """Work that lasts until nobody waits for it, and how it went."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        self.made = 0

    def wait(self, in_vain) -> dict:
        self.began.set()
        while not in_vain():
            time.sleep(0.01)
        self.ended.set()
        return {}

    def frames(self) -> Iterator[dict]:
        """Frames without an end, each of 100 kB."""
        self.began.set()
        try:
            for number in range(10**9):
                self.made = number
                yield {"kind": "frame", "data": "x" * 100_000}
                time.sleep(0.01)
        finally:
            self.ended.set()


class Page:
    """A page with two endpoints and an event, served in this process."""

    def __init__(self) -> None:
        number, seed = Argument(int, "whole number", range=(0, 9)), Argument(int, "of the noise", default=7)
        light, heavy = (
            {"concurrency_id": "light", "concurrency_limit": 4},
            {"concurrency_id": "heavy", "concurrency_limit": 4},
        )
        answer = {"half": {"type": "number"}}
        with gr.Blocks() as self.blocks:
            halve = Endpoint("Halve.", {"n": number, "seed": seed}, "half", answer, **light)
            ours.add_endpoint(self.blocks, "halve", lambda n, seed, in_vain: {"half": n / 2}, halve)
            wait = Endpoint("Wait.", {"n": number}, "half", answer, **heavy)
            ours.add_endpoint(self.blocks, "wait", lambda n, in_vain: self.work.wait(in_vain), wait)
            panel = ours.live_html("<p>still</p>", "() => trigger('asked')", [lambda asked: asked], elem_id="panel")
            ours.stream(panel, "asked", lambda sent: self.work.frames(), 1, "model")
        ours.queued(self.blocks, max_size=24)
        self.work = Work()
        options = ours.launch_options(self.blocks, LIMIT)
        _, self.url, _ = self.blocks.launch(quiet=True, prevent_thread_lock=True, **options)
        self.http = httpx.Client(base_url=f"{self.url}gradio_api/", timeout=WAIT_S)
        config = self.blocks.get_config_file()
        (event,) = [each for each in config["dependencies"] if each["targets"]]
        self.asked = {"data": [], "fn_index": event["id"], "trigger_id": event["targets"][0][0]}
        self.panel = event["targets"][0][0]

    def post(self, path: str, body: object) -> httpx.Response:
        raw = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.http.post(path, content=raw, headers={"content-type": "application/json"})

    def listen(self, path: str) -> http.client.HTTPConnection:
        """A stream of answers that is open: its first bytes have come."""
        address = urlparse(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=WAIT_S)
        connection.request("GET", f"/gradio_api/{path}")
        connection.stream = connection.getresponse()
        return connection


@pytest.fixture(scope="module")
def served() -> Iterator[Page]:
    page = Page()
    yield page
    page.blocks.close()


@pytest.fixture
def page(served, caplog, capfd) -> Iterator[Page]:
    """Whatever a test sends, the page logs no traceback and goes on."""
    served.work = Work()
    with caplog.at_level(logging.WARNING):
        yield served
    said = "".join(capfd.readouterr()) + caplog.text
    assert "Traceback" not in said, said
    answer = served.post("call/halve", {"data": [4, 7]})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("call/halve", {"data": [4]}, 422, "seed is missing: /halve takes n, seed. seed: of the noise"),
        ("call/halve", {"data": []}, 422, "n is missing"),
        ("call/halve", {"data": [1, 2, 3]}, 422, "3 values came, and /halve takes n, seed"),
        ("call/halve", {"data": "4"}, 422, "data must be a list"),
        ("call/halve", {}, 422, "data must be a list"),
        ("call/halve", [4, 7], 422, "must be a JSON object"),
        ("call/halve", {"data": [FILE, 7]}, 422, "n: an object was sent, but this is needed: whole number"),
        ("call/halve", {"data": [4, [[[[FILE]]]]]}, 422, "seed: an object was sent"),
        ("call/halve", {"data": [4, 7], "session_hash": 5}, 422, "session_hash must be a text"),
        ("call/v2/halve", {"n": [{"deep": [FILE]}]}, 422, "n: an object was sent"),
        ("call/v2/halve", {"seed": 1}, 422, "n is missing"),
        ("call/v2/halve", {"n": 4, "steps": 1}, 422, "steps is not an argument: /halve takes n, seed"),
        ("call/v2/halve", {"n": 4, "oauth_token": "t"}, 422, "oauth_token is not an argument"),
        ("call/v2/halve", {"n": 4, "x" * 500: 1}, 422, "xxx... is not an argument"),
        ("call/nothing", {"data": []}, 404, "no such endpoint; there are /halve, /wait"),
        ("call/halve", "[" * 5000 + "]" * 5000, 422, "nested too deeply"),
        ("mcp/", "[" * 5000 + "]" * 5000, 422, "nested too deeply"),
        ("call/halve", '{"data": [4, ' + "[" * 20 + "]" * 20 + "]}", 422, "nested too deeply"),
        ("call/halve", '{"data": ["\\ud800", 7]}', 422, "half a character"),
        ("call/halve", b'{"data": [4, 7], "x": "\xff"}', 400, "not JSON"),
        ("call/halve", '{"data": [' + "9" * 5000 + ", 7]}", 400, "not JSON"),
        ("call/halve", "", 400, "not JSON"),
        ("call/halve", "x" * (LIMIT + 1), 413, "too large"),
        ("queue/join", {"data": [], "session_hash": "s", "fn_index": 10**30}, 404, "fn_index is unknown"),
        ("queue/join", {"data": [], "session_hash": "s", "fn_index": True}, 422, "fn_index must be a whole number"),
        ("queue/join", {"data": [], "fn_index": 0}, 422, "session_hash must be a text"),
        ("queue/join", {"data": [4], "session_hash": "s", "fn_index": 0}, 422, "seed is missing"),
        ("queue/join", {"data": [4, 7], "session_hash": "s", "fn_index": 0, "trigger_id": 99}, 422, "trigger_id"),
        ("queue/join", {"data": [[4], [7]], "session_hash": "s", "fn_index": 0, "batched": True}, 422, "batched"),
        ("component_server", {"session_hash": "s", "component_id": [], "fn_name": "x", "data": 0}, 422, "component_id"),
        ("component_server", {"session_hash": "s", "component_id": 10**6, "fn_name": "x", "data": 0}, 404, "no such"),
        ("component_server", {"session_hash": "s", "component_id": 1, "fn_name": "x"}, 422, "data is missing"),
        ("cancel", {"session_hash": "s", "fn_index": "0", "event_id": "e"}, 422, "fn_index must be a whole number"),
    ],
)
def test_a_body_is_refused_with_the_name_of_what_is_wrong(page, path, body, status, told):
    answer = page.post(path, body)
    assert (answer.status_code, told in answer.text) == (status, True), answer.text
    assert "passwd" not in answer.text


def test_a_body_of_unknown_length_is_limited_too(page):
    answer = page.http.post("call/halve", content=(b"[" * 1000 for _ in range(LIMIT)))
    assert answer.status_code == 413


def test_no_form_with_files_is_read(page):
    answer = page.http.post("component_server", data={"component_id": "1"}, files={"x": b"1"})
    assert (answer.status_code, "files are not taken" in answer.text) == (415, True)


def test_an_event_of_the_page_takes_no_files_at_any_depth(page):
    sent = {"rows": [{"sampler": FILE}]}
    answer = page.post("queue/join", {**page.asked, "session_hash": "s", "event_data": sent})
    told = "event_data.rows[0].sampler: an object with a path was sent, and the page takes no files"
    assert (answer.status_code, answer.json()["detail"]) == (422, told)


def test_a_refusal_has_the_form_in_which_gradio_client_reads_the_argument(page):
    answer = page.post("queue/join", {"data": [FILE, 7], "session_hash": "s", "fn_index": 0})
    (told,) = answer.json()["detail"]
    assert (told["parameter_name"], told["is_valid"]) == ("n", False), "the form in which gradio_client reads a reason"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "gradio_api/upload"),
        ("POST", "gradio_api/run/halve"),
        ("POST", "gradio_api/api/halve/"),
        ("POST", "gradio_api/process_recording"),
        ("POST", "gradio_api/stream/an-event"),
        ("POST", "gradio_api/vibe-edit"),
        ("POST", "gradio_api/mcp/upload_file"),
        ("GET", "gradio_api/upload_progress?upload_id=1"),
        ("GET", "gradio_api/file=/etc/passwd"),
        ("GET", "gradio_api/file/etc/passwd"),
        ("GET", "gradio_api/file=http://127.0.0.1/"),
        ("GET", "gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "gradio_api/stream/session/run/1/playlist.m3u8"),
        ("GET", "gradio_api/custom_component/x/client/y/z"),
        ("GET", "gradio_api/deep_link?session_hash=s"),
        ("GET", "gradio_api/dev/reload"),
        ("GET", "gradio_api/token"),
        ("GET", "monitoring"),
        ("GET", "monitoring/key"),
        ("GET", "openapi.json"),
        ("POST", "login"),
        ("PUT", "gradio_api/queue/join"),
        ("DELETE", ""),
    ],
)
def test_addresses_that_nobody_needs_are_closed(page, method, path):
    answer = httpx.request(method, page.url + path, content=b'{"data": [4, 7]}' if method != "GET" else None)
    assert (answer.status_code, answer.json()["detail"]) == (404, door.NOT_OPEN)


def test_the_queue_of_gradio_itself_is_closed_to_direct_calls(page):
    assert page.blocks.api_open is False


def test_an_answer_that_nobody_knows_is_an_error_and_no_traceback(page):
    assert "Not Found" in page.http.get("call/halve/unknown").text
    assert "Not Found" in page.http.get("queue/data?session_hash=unknown").text


def test_an_endpoint_stops_when_its_caller_goes_away(page):
    joined = page.post("call/wait", {"data": [1]}).json()
    with closing(page.listen(f"call/wait/{joined['event_id']}")):
        assert page.work.began.wait(WAIT_S)
        assert not page.work.ended.wait(1), "somebody listens"
    assert page.work.ended.wait(WAIT_S)


def test_an_endpoint_stops_when_it_is_cancelled(page):
    body = {"data": [1], "session_hash": "cancels", "fn_index": 1}
    joined = page.post("queue/join", body).json()
    with closing(page.listen("queue/data?session_hash=cancels")):
        assert page.work.began.wait(WAIT_S)
        stranger = {"session_hash": "another", "fn_index": 1, **joined}
        assert page.post("cancel", stranger).status_code == 200
        assert not page.work.ended.wait(1), "nobody cancels the work of others"
        page.post("cancel", {**stranger, "session_hash": "cancels"})
        assert page.work.ended.wait(WAIT_S)


def test_a_tool_stops_when_the_client_of_mcp_goes_away(page):
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "wait", "arguments": {"n": 1}}}
    accepts = {"accept": "application/json, text/event-stream"}
    with httpx.stream("POST", f"{page.url}gradio_api/mcp/", json=asked, headers=accepts) as answer:
        assert answer.status_code == 200
        assert page.work.began.wait(WAIT_S)
        assert not page.work.ended.wait(1), "somebody listens"
    assert page.work.ended.wait(WAIT_S)


def test_work_stops_when_its_caller_never_listens(page, monkeypatch):
    monkeypatch.setattr(ours, "PATIENCE_S", 0.3)
    page.post("call/wait", {"data": [1]})
    assert page.work.ended.wait(WAIT_S)
    page.work = Work()
    page.post("queue/join", {**page.asked, "session_hash": "deaf", "event_data": {}})
    assert page.work.ended.wait(WAIT_S)


def test_an_event_of_the_page_stops_when_its_visitor_goes_away(page):
    page.post("queue/join", {**page.asked, "session_hash": "leaves", "event_data": {}})
    with closing(page.listen("queue/data?session_hash=leaves")):
        assert page.work.began.wait(WAIT_S)
    assert page.work.ended.wait(WAIT_S)


def test_a_visitor_with_a_slow_connection_misses_frames_instead_of_piling_them_up(page):
    page.post("queue/join", {**page.asked, "session_hash": "slow", "event_data": {}})
    with closing(page.listen("queue/data?session_hash=slow")) as slow:
        while page.work.made < 300:  # of which the connection holds a part
            assert not page.work.ended.wait(0.05)
        waiting = page.blocks._queue.pending_messages_per_session["slow"].qsize()
        assert waiting <= ours.MAX_UNREAD + 2, "the first messages are Gradio's own"
        slow.stream.read(10)
    assert page.work.ended.wait(WAIT_S)


def test_answers_that_nobody_fetches_are_forgotten(page):
    for _ in range(2 * ours.MAX_UNCLAIMED):
        while page.post("call/halve", {"data": [4, 7]}).status_code == 503:
            time.sleep(0.05)
    deadline = time.monotonic() + WAIT_S
    while len(page.blocks._queue.event_ids_to_events) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    page.post("call/halve", {"data": [4, 7]})
    queue = page.blocks._queue
    assert len(queue.pending_messages_per_session) <= ours.MAX_UNCLAIMED + 2
    assert len(queue.pending_event_ids_session) <= ours.MAX_UNCLAIMED + 2


def test_gradio_keeps_no_record_of_events(page):
    page.post("call/halve", {"data": [4, 7]})
    assert len(page.blocks._queue.event_analytics) <= 1


@pytest.mark.parametrize(("error", "status"), [(KeyError("x"), 404), (TypeError("x"), 422), (ValueError("x"), 422)])
def test_only_malformed_requests_are_excused(error, status):
    async def broken(scope, receive, send):
        raise error

    assert TestClient(door.RefuseMalformed(broken)).get("/").status_code == status


def test_other_faults_are_not_excused():
    async def broken(scope, receive, send):
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        TestClient(door.RefuseMalformed(broken)).get("/")

"""A thousand hostile requests, over every address that Gradio knows and everything that the page asks for.

Whatever comes: no answer is a fault of the server, shows a path or a traceback, the log holds none either, the server
keeps nothing of it, and afterwards it works as before.
"""

from __future__ import annotations

import base64
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlparse

import gradio as gr
import psutil
import pytest
from harness import ROOT, Session, serving

REQUESTS = 1000
GROWTH_MIB = 16  # in the second half; 1 was measured
PATIENCE_S = 90

FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "url": "http://127.0.0.1/", "orig_name": "x"}
# Of what nobody who uses the page would send. A function makes what is too large to stand here.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**18, 10**400, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324),
    *(
        "",
        "0",
        "NaN",
        "\x00",
        "\ud800",
        "\u202e",
        "../../../../etc/passwd",
        "C:\\Windows\\win.ini",
        "file:///etc/passwd",
    ),
    *(
        "http://169.254.169.254/latest/meta-data",
        "${7*7}",
        "{{7*7}}",
        "{0.__class__}",
        "%s%n",
        "<script>alert(1)</script>",
    ),
    *("'; DROP TABLE x; --", "__class__", "__init__", "constructor", "sample", "fn", "💥" * 50, "A" * 20_000),
    *(
        [],
        {},
        [[]],
        [None],
        [[[[1]]]],
        {"a": {"b": {}}},
        {"__proto__": {"x": 1}},
        {"$ref": "#"},
        {"__type__": "update"},
    ),
    *(FILE, [FILE], [[[FILE]]], {"x": [FILE]}, {"path": "/etc/passwd"}, {"video": FILE}, {"_type": "gradio.FileData"}),
    *(
        [0] * 784,
        [[0] * 28] * 28,
        [[float("nan")] * 28] * 28,
        [[10**30] * 28] * 28,
        [["1"] * 28] * 28,
        [[[0] * 28]] * 28,
    ),
    *(list(range(3000)), {str(i): i for i in range(500)}, [[]] * 1000),
]
RAW = [
    *(b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe{\x00}\x00", b"\x1f\x8b\x08\x00", b"{}" * 10, b"\x00" * 100),
    *(b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"9" * 5000, b'{"data": [1e999999]}'),
    *(b"data=1&fn_index=2", b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n1\r\n--x--\r\n'),
]
HEADERS = [
    *(
        {"Content-Type": kind}
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/xml", "x" * 500)
    ),
    *({"Origin": "https://evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"X-Gradio-User": "mcp"}),
    *(
        {"Authorization": "Bearer x"},
        {"Cookie": "access-token=1"},
        {"Range": "bytes=0-9999999"},
        {"X-Forwarded-Proto": "x"},
    ),
    *({"Accept-Encoding": "gzip, br, x"}, {"Content-Encoding": "gzip"}, {"Referer": "file:///etc/passwd"}),
]
PATHS = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%00",
    "-1",
    "NaN",
    "x" * 3000,
    "%F0%9F%92%A5",
    "%ff",
    "a b",
]

PICTURE = base64.b64encode(bytes(784)).decode()
ASKED = {"sampler": "ddim", "num_inference_steps": 3, "num_images": 1, "seed": 1, "eta": 0, "guidance_scale": 1}
DRAWN = {**ASKED, "label": -1}
ROWS = {"rows": [{"sampler": "ddim", "num_inference_steps": 2, "label": -1}] * 2, "num_images": 1, "seed": 1}
READ = {"x0": PICTURE, "noise_seed": 1}
EVENTS = {
    "sample": DRAWN,
    "denoise": {**DRAWN, **READ, "t0": 100, "second": None},
    "compare": ROWS,
    "wrong": ROWS,
    "predict": READ,
    "bound": READ,
}
TOOLS = {
    "q_sample": {"t": 5, "x0": None, "seed": 0},
    "predict_noise": {"xt": [[0.0] * 28] * 28, "t": 5},
    "sample": {**ASKED, "label": ""},
    "elbo_terms": {"x0": None, "seed": 0},
    "classify": {"x0": None, "seed": 0},
    "inpaint": {**ASKED, "label": "", "x0": None, "mask": [[1] * 28] * 28, "jumps": 1},
}


def routes() -> list[tuple[str, str]]:
    """Method and path of every address that this Gradio knows, with MCP's and those that it opens only at times."""
    with gr.Blocks() as blocks:
        gr.HTML()
    app = gr.routes.App.create_app(blocks, mcp_server=True)
    found = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    for path in (
        "openapi.json",
        *(f"gradio_api/mcp{end}" for end in ("", "/", "/http", "/sse", "/schema", "/messages/", "/x")),
    ):
        found |= {("GET", f"/{path}"), ("POST", f"/{path}")}
    # A stream that nobody writes to stays open, as it should: these are asked for where they end.
    return sorted(each for each in found if not re.search(r"heartbeat|/sse$", each[1]))


class Attacker:
    """Makes the requests, always the same ones, and looks at what comes back."""

    def __init__(self, url: str, secrets: list[str]) -> None:
        self.address, self.secrets = urlparse(url), [*secrets, "Traceback", 'File "', "site-packages", "root:x:"]
        self.rng, self.session = random.Random(0), Session(url)
        self.routes, self.faults, self.statuses = routes(), [], {}

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, str]:
        """One request; status and the beginning of the answer, which may be a stream."""
        connection = HTTPConnection(self.address.hostname, self.address.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            status, told = answer.status, answer.read(200_000).decode(errors="replace")
        finally:
            connection.close()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        shown = [secret for secret in self.secrets if secret in told]
        if shown or (status >= 500 and status != 503) or '"kind": "failed"' in told or '"kind":"failed"' in told:
            self.faults.append((method, path[:200], (body or b"")[:300], status, shown, told[:300]))
        return status, told

    def value(self) -> Any:
        return self.rng.choice(VALUES)

    def spoiled(self, good: Any) -> Any:
        """Something like `good`, with one thing in it that should not be there, or missing."""
        pick = self.rng.random()
        if isinstance(good, dict) and good and pick < 0.85:
            key, rest = self.rng.choice(list(good)), dict(good)
            if pick < 0.1:
                del rest[key]
            elif pick < 0.2:
                rest[self.rng.choice(["x", "__class__", "A" * 500, ""])] = self.value()
            else:
                rest[key] = self.spoiled(rest[key]) if pick < 0.45 else self.value()
            return rest
        if isinstance(good, list) and good and pick < 0.6:
            at = self.rng.randrange(len(good))
            return [*good[:at], *([self.spoiled(good[at])] if pick < 0.5 else []), *good[at + 1 :]]
        return self.value()

    def encoded(self, body: Any) -> bytes:
        return self.rng.choice(RAW) if self.rng.random() < 0.05 else json.dumps(body).encode()

    def headers(self) -> dict[str, str]:
        return self.rng.choice(HEADERS) if self.rng.random() < 0.15 else {}

    # ------------------------------------------------------------------------------------------ the kinds of attack

    def any_address(self) -> None:
        """Every address that Gradio knows, with spoiled names in it."""
        method, path = self.rng.choice(self.routes)
        path = re.sub(r"\{[^}]*\}", lambda _: self.rng.choice(PATHS), path).replace(" ", "%20")
        if self.rng.random() < 0.4:
            name = self.rng.choice(
                ["session_hash", "deep_link", "page", "upload_id", "all_endpoints", "tools", "__theme"]
            )
            path += f"?{name}=" + quote(str(self.value())[:500].encode(errors="replace"))
        if method in ("GET", "HEAD") and "queue/data" in path and "session_hash" not in path:
            path += "?session_hash=nobody"
        self.send(method, path, None if method in ("GET", "HEAD") else self.encoded(self.value()), self.headers())

    def endpoint(self) -> None:
        """A public endpoint by plain HTTP; half of the callers fetch the answer."""
        name = self.rng.choice(list(TOOLS))
        named = self.rng.random() < 0.5
        body = self.spoiled(TOOLS[name]) if named else self.spoiled({"data": list(TOOLS[name].values())})
        status, told = self.send("POST", f"/gradio_api/call/{'v2/' * named}{name}", self.encoded(body), self.headers())
        if status == 200 and self.rng.random() < 0.5:
            self.send("GET", f"/gradio_api/call/{name}/{json.loads(told)['event_id']}")

    def event(self) -> None:
        """An event of the page, or of an endpoint as gradio_client sends it; some listen, some leave, some cancel."""
        name = self.rng.choice(list(EVENTS))
        session = f"attack-{self.rng.randrange(10**9)}"
        asked = {**EVENTS[name], "visitor": session, "run": 1}
        body = {"data": [], "session_hash": session, "event_data": self.spoiled(asked), **self.session.events[name]}
        body = body if self.rng.random() < 0.6 else self.spoiled(body)
        status, told = self.send("POST", "/gradio_api/queue/join", self.encoded(body), self.headers())
        if status != 200 or not isinstance(body, dict):
            return
        if self.rng.random() < 0.6:
            self.send("GET", f"/gradio_api/queue/data?session_hash={session}")
        elif self.rng.random() < 0.5:
            cancel = {"session_hash": session, "fn_index": body["fn_index"], **json.loads(told)}
            self.send("POST", "/gradio_api/cancel", self.encoded(self.spoiled(cancel)))

    def look_up(self) -> None:
        """A server function of a panel. A training is not begun, which would only take time."""
        component, name = self.rng.choice([each for each in self.session.functions if each[1] != "start"])
        body = {"session_hash": "attack", "component_id": component, "fn_name": name, "data": self.value()}
        body = body if self.rng.random() < 0.7 else self.spoiled(body)
        self.send("POST", "/gradio_api/component_server", self.encoded(body), self.headers())

    def tool(self) -> None:
        """MCP, in its own form or almost."""
        name = self.rng.choice(list(TOOLS))
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": TOOLS[name]}}
        if self.rng.random() < 0.6:
            call["params"] = {"name": name, "arguments": self.spoiled(TOOLS[name])}
        else:
            call = self.spoiled(call)
        accepts = {"Accept": "application/json, text/event-stream"}
        self.send("POST", "/gradio_api/mcp/", self.encoded(call), {**accepts, **self.headers()})

    def attacks(self, count: int) -> Iterator[int]:
        kinds = [self.any_address, self.endpoint, self.event, self.look_up, self.tool]
        for number in range(count):
            kinds[number % len(kinds)]()
            yield number


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_hostile_requests_do_no_harm(model, tmp_path):
    log = tmp_path / "log"
    with serving(model, log, DDPM_LIVE_TRAINING="20") as url:
        (server,) = [child for child in psutil.Process().children() if "app.py" in " ".join(child.cmdline())]
        attacker = Attacker(url, [str(ROOT), str(model), sys.prefix, tempfile.gettempdir()])
        assert len(attacker.routes) > 60
        memory, files = [], []
        for _ in attacker.attacks(REQUESTS):
            memory.append(server.memory_info().rss / 2**20)
            files.append(server.num_fds())
        assert attacker.faults == []
        assert sum(attacker.statuses.values()) >= REQUESTS
        refused = sum(count for status, count in attacker.statuses.items() if 400 <= status < 500)
        assert refused > REQUESTS / 4, f"most of what was sent is not hostile: {attacker.statuses}"
        half = REQUESTS // 2
        assert memory[-1] - memory[half] < GROWTH_MIB, [round(m) for m in memory[::100]]
        assert max(files[-50:]) - max(files[half : half + 50]) < 20
        deadline = time.monotonic() + PATIENCE_S
        while True:  # what was asked for and not listened to gives up its place
            status, answer = Session(url).ask("sample", {"visitor": "v", "run": 1, **DRAWN, "seed": 5})
            if status == 200 or time.monotonic() > deadline:
                break
        assert (status, answer["kind"]) == (200, "done")
    said = log.read_text()
    assert not re.search(r"Traceback|Exception", said), said[-3000:]

"""Whether the server holds for half an hour: visitors who load, sample, stop, ask by API and leave in the middle.

    python tests/benchmarks/mixed_load.py [--minutes 30] [--visitors 8] [--model DIR]

Each visitor does one thing after another, drawn by chance from a seed, by the requests that the page's script, curl and
MCP make. Prints two tables: what was asked for and how long it took, and the memory, open files and threads of
`python app.py` over time. Ends with status 1 if an answer was wrong, or if memory grew in the second half.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlparse

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

import numpy as np
import psutil
from harness import Session, serving

from ddpm.checkpoint import EMBEDDED, load
from ddpm.ui.server.store import STORE_BYTES

LOOKS = 12  # at the memory
GROWTH_MIB = 16  # that the second half may add to the memory, beside the answers that are kept


class Visitor:
    """Does one thing after another, and notes how each went."""

    def __init__(self, url: str, numbers: int, seed: int, note: Callable[[str, str, float], None]) -> None:
        self.url, self.numbers, self.rng, self.note = url, numbers, random.Random(seed), note
        self.run = 0

    def drawing(self, steps: int) -> dict:
        """What a sampling asks for; nobody has asked for it before."""
        about = {"sampler": "ddim", "num_inference_steps": steps, "num_images": self.rng.randint(1, 4), "eta": 0}
        return {**about, "seed": self.rng.randrange(2**31)}

    def picture(self) -> dict:
        return {"x0": base64.b64encode(self.rng.randbytes(self.numbers)).decode(), "noise_seed": 1}

    def post(self, path: str, body: dict) -> tuple[int, dict]:
        return Session(self.url).post(path, body)

    def asked(self, session: Session, event: str, message: dict) -> str:
        self.run += 1
        status, answer = session.ask(event, {"visitor": session.name, "run": self.run, **message})
        return "busy" if status == 503 else answer["kind"] if status == 200 and answer else f"{status} {answer}"

    # ------------------------------------------------------------------------------------ what a visitor does

    def load(self) -> str:
        """The page, and what its script looks up first."""
        with urllib.request.urlopen(self.url, timeout=180) as page:
            size = len(page.read())
        found = Session(self.url).look_up("trajectory", "example")
        return "done" if size > 50_000 and found else f"{size} bytes, {found}"

    def sample(self) -> str:
        return self.asked(Session(self.url), "sample", self.drawing(20))

    def read(self) -> str:
        return self.asked(Session(self.url), "predict", self.picture())

    def stop(self) -> str:
        """A long sampling that is stopped at once, as the button does."""
        session = Session(self.url)
        status, _ = session.join("sample", {"visitor": session.name, "run": 1, **self.drawing(500)})
        if status != 200:
            return "busy" if status == 503 else str(status)
        session.look_up("expect", {"visitor": session.name, "run": 2})
        kinds = [m["output"].get("data") for m in session.answers() if m["msg"] == "process_completed"]
        return "done" if len(kinds) == 1 else str(kinds)

    def api(self) -> str:
        """An endpoint as curl asks for it."""
        name, body = self.rng.choice([("q_sample", {"t": 300, "seed": 5}), ("sample", self.drawing(10))])
        status, joined = self.post(f"call/v2/{name}", body)
        if status != 200:
            return "busy" if status == 503 else f"{status} {joined}"
        with urllib.request.urlopen(f"{self.url}gradio_api/call/{name}/{joined['event_id']}", timeout=600) as stream:
            told = stream.read().decode()
        return "done" if "event: complete" in told else told[:200]

    def tool(self) -> str:
        """An endpoint by MCP."""
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        call["params"] = {"name": "q_sample", "arguments": {"t": 300}}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        request = urllib.request.Request(f"{self.url}gradio_api/mcp/", json.dumps(call).encode(), headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            told = answer.read().decode()
        if "Queue is full" in told:
            return "busy"
        return "done" if '"structuredContent":{"xt"' in told.replace(" ", "") else told[:200]

    def refused(self) -> str:
        """What is out of range, and what is not an argument."""
        status, answer = self.post("call/v2/sample", {"steps": 5})
        return "done" if status == 422 and "steps" in answer["error"] else f"{status} {answer}"

    def leave(self) -> str:
        """A long sampling whose visitor goes away, or never listens."""
        session = Session(self.url)
        status, _ = session.join("sample", {"visitor": session.name, "run": 1, **self.drawing(500)})
        if status != 200:
            return "busy" if status == 503 else str(status)
        if self.rng.random() < 0.5:
            address = urlparse(self.url)
            connection = HTTPConnection(address.hostname, address.port, timeout=180)
            connection.request("GET", f"/gradio_api/queue/data?session_hash={session.name}")
            connection.getresponse().read(100)
            connection.close()
        return "done"

    def go_on(self, until: float) -> None:
        deeds = [
            self.load,
            self.sample,
            self.sample,
            self.read,
            self.stop,
            self.api,
            self.tool,
            self.refused,
            self.leave,
        ]
        while time.monotonic() < until:
            deed, began = self.rng.choice(deeds), time.monotonic()
            try:
                how = deed()
            except Exception as error:
                how = f"{type(error).__name__}: {error}"
            self.note(deed.__name__, how, time.monotonic() - began)
            time.sleep(self.rng.uniform(0, 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="directory; default: the embedded model")
    args = parser.parse_args()
    checkpoint = load(args.model, weights=False)
    numbers = checkpoint.resolution**2 * checkpoint.channels
    times, others, looks = defaultdict(list), defaultdict(lambda: defaultdict(int)), []

    def note(deed: str, how: str, seconds: float) -> None:
        if how == "done":
            times[deed].append(seconds)
        else:
            others[deed][how] += 1

    with tempfile.TemporaryDirectory() as folder, serving(args.model, Path(folder) / "log") as url:
        (server,) = [child for child in psutil.Process().children() if "app.py" in " ".join(child.cmdline())]
        while not Session(url).look_up("trajectory", "between"):  # the last of the examples but one
            time.sleep(1)
        began = time.monotonic()
        until = began + 60 * args.minutes
        visitors = [Visitor(url, numbers, seed, note) for seed in range(args.visitors)]
        threads = [threading.Thread(target=each.go_on, args=(until,)) for each in visitors]
        for thread in threads:
            thread.start()
        for look in range(LOOKS + 1):
            time.sleep(max(0, began + 60 * args.minutes * look / LOOKS - time.monotonic()))
            looks.append((server.memory_info().rss / 2**20, server.num_fds(), server.num_threads()))
        for thread in threads:
            thread.join()
        log = (Path(folder) / "log").read_text()
    print(f"{args.visitors} visitors, {args.minutes:g} minutes\n")
    print(
        "| what | done | turned away, since the queue was full | anything else | median | 95 % within |\n|---|---|---|---|---|---|"
    )
    wrong = 0
    for deed in sorted({*times, *others}):
        rest = {how: count for how, count in others[deed].items() if how != "busy"}
        wrong += sum(rest.values())
        middle, late = np.percentile(times[deed] or [np.nan], [50, 95])
        told = ", ".join(f"{count} x {how[:150]}" for how, count in rest.items()) or "0"
        print(f"| {deed} | {len(times[deed])} | {others[deed]['busy']} | {told} | {middle:.2f} s | {late:.2f} s |")
    print("\n| minute | memory | open files | threads |\n|---|---|---|---|")
    for look, (memory, files, threads_) in enumerate(looks):
        print(f"| {args.minutes * look / LOOKS:.1f} | {memory:.0f} MiB | {files} | {threads_} |")
    half = len(looks) // 2
    grown = looks[-1][0] - looks[half][0]
    print(
        f"\nMemory in the second half: {grown:+.0f} MiB (the store keeps at most {STORE_BYTES >> 20} MiB of answers)."
    )
    print(f"Lines in the log of the server: {len(log.splitlines())}; tracebacks: {log.count('Traceback')}.")
    return 1 if wrong or grown > GROWTH_MIB or "Traceback" in log else 0


if __name__ == "__main__":
    sys.exit(main())

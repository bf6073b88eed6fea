"""Whether the server holds: its memory over many sessions, one after another, and many visitors at once.

    python tests/benchmarks/page_load.py [--model DIR] [--sessions 200] [--visitors 12]

A session loads the page, has the noise of a new picture predicted, draws pictures of its own, fetches them and leaves,
by the requests that the page's script makes. Memory is the resident set of `python app.py`. Prints a table.
"""

from __future__ import annotations

import argparse
import base64
import collections
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

import numpy as np
import psutil
from harness import Session, serving

from ddpm.checkpoint import EMBEDDED, load
from ddpm.ui.server.store import STORE_BYTES


def visit(url: str, numbers: int, seed: int, num_images: int = 4, steps: int = 10) -> tuple[str, float, int]:
    """What a visitor got, "pictures" or "busy" or what went wrong, after how many seconds, and its bytes in the store.

    Args:
        numbers: of a picture.
        seed: of a picture that nobody has asked about, and of what is drawn.
    """
    picture = base64.b64encode(random.Random(seed).randbytes(numbers)).decode()
    session, started = Session(url), time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as page:
        page.read()
    kept = 0
    about = {"visitor": session.name, "run": 1}
    drawing = {"sampler": "ddim", "num_inference_steps": steps, "num_images": num_images, "seed": seed, "eta": 0}
    for event, request, function in (
        ("predict", {"x0": picture, "noise_seed": seed}, "reading"),
        ("sample", drawing, "trajectory"),
    ):
        status, answer = session.ask(event, about | request)
        if status == 503:
            return "busy", time.monotonic() - started, kept
        if status != 200 or answer["kind"] != "done":
            return f"{event}: {status} {answer}", time.monotonic() - started, kept
        component = session.events[event]["trigger_id"]
        status, found = session.call(component, function, answer["key"])
        if status != 200 or not found["data"]:
            return f"{function}: {status} {found}", time.monotonic() - started, kept
        kept += 3 * len(found["data"]) // 4
    return "pictures", time.monotonic() - started, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="directory; default: the embedded model")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--visitors", type=int, default=12)
    args = parser.parse_args()
    checkpoint = load(args.model, weights=False)
    numbers = checkpoint.resolution**2 * checkpoint.channels
    with tempfile.TemporaryDirectory() as folder, serving(args.model, Path(folder) / "log") as url:
        (server,) = [child for child in psutil.Process().children() if "app.py" in " ".join(child.cmdline())]

        def memory() -> float:
            return server.memory_info().rss / 2**20

        time.sleep(10)  # the example is drawn
        grown, gone = [memory()], collections.Counter()
        for i in range(args.sessions):
            what, _, kept = visit(url, numbers, i)
            gone[what] += 1
            grown.append(memory())
        half = args.sessions // 2
        slope = np.polyfit(np.arange(half, args.sessions + 1), grown[half:], 1)[0]

        start = threading.Barrier(args.visitors)

        def together(i: int) -> tuple[str, float, int]:
            start.wait()
            return visit(url, numbers, 10_000 + i, num_images=8, steps=50)

        with ThreadPoolExecutor(args.visitors) as crowd:
            at_once = list(crowd.map(together, range(args.visitors)))
    times = [seconds for _, seconds, _ in at_once]
    shown = [grown[i] for i in (0, half, args.sessions)]
    print("| | measured |\n|---|---|")
    print(f"| {args.sessions} sessions, one after another | {told(gone)} |")
    print(f"| memory before, after {half}, after {args.sessions} | {', '.join(f'{m:.0f} MiB' for m in shown)} |")
    print(f"| slope over the second half | {1024 * slope:+.0f} KiB a session |")
    print(
        f"| of it answers that are kept, {STORE_BYTES >> 20} MiB in all | {kept / 1024:+.0f} KiB a session until then |"
    )
    print(
        f"| {args.visitors} visitors at once, 8 pictures in 50 steps each | {told(collections.Counter(what for what, _, _ in at_once))} |"
    )
    print(f"| their wait, median and longest | {statistics.median(times):.1f} s, {max(times):.1f} s |")


def told(counts: collections.Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())


if __name__ == "__main__":
    main()

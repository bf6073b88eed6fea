"""How fast the page is, as a visitor's browser sees it: `python app.py` and headless Chromium, a table.

    python tests/benchmarks/page_speed.py [--model DIR] [--moves 200] [--rounds 10]

Times in the page begin with the timestamp of the browser's input event and end when the frame with the answer has been
painted, so every figure includes the wait for the next frame. The row of the bare slider is the floor: a page with a
slider, a number and nothing else, in this browser on this machine. Bytes are those on the wire, compressed.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

from harness import Visit, chromium, serving, visiting
from playwright.sync_api import Page, expect

# ms from the next `event` at `selector` to the paint of the first frame in which `done` holds.
UNTIL = """
const painted = (then) => {
  const channel = new MessageChannel();
  channel.port1.onmessage = then;
  channel.port2.postMessage(0); // runs after the frame in whose callbacks it was sent
};
window.until = (selector, event, done) => new Promise((resolve) => {
  document.querySelector(selector).addEventListener(event, ({ timeStamp }) => {
    const look = () => (done() ? painted(() => resolve(performance.now() - timeStamp)) : requestAnimationFrame(look));
    requestAnimationFrame(look);
  }, { once: true, capture: true });
});
window.moved = async (tab, ts) => {
  const [bar, read] = [`${tab} input[type=range]`, `${tab} .t-now`];
  const [slider, now] = [bar, read].map((selector) => document.querySelector(selector));
  const times = [];
  for (const t of ts) {
    await new Promise((resolve) => setTimeout(resolve, 30 + 20 * Math.random())); // anywhere within a frame
    const before = now.textContent;
    const waiting = until(bar, "input", () => now.textContent !== before);
    slider.value = t;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    times.push(await waiting);
  }
  return times;
};
"""


# What `moved` moves in the emptiest page.
BARE = """<body><p><input type="range" max="10000"></p><output class="t-now">0</output><script>
document.querySelector("input").addEventListener("input", (event) => {
  document.querySelector("output").firstChild.data = event.target.value;
});
</script></body>"""


def timed(page: Page, selector: str, event: str, done: str, act) -> float:
    """Milliseconds from the event that `act` causes to the paint of `done`, JavaScript."""
    page.evaluate(f"() => {{ window.measured = until({selector!r}, {event!r}, () => {done}) }}")
    act()
    return page.evaluate("() => window.measured")


def says(tab: str, text: str) -> str:
    return f"document.querySelector('#{tab} .status:not(.picker-status)').textContent.includes({text!r})"


def usable(visit: Visit) -> Page:
    """The first screen painted, and answering the slider."""
    page = visit.open()
    visit.move("forward", 500)
    expect(page.locator("#forward .t-now")).to_have_text("500")
    return page


def strokes(page: Page, rounds: int) -> list[float]:
    """End of a stroke to eps_hat, each on an empty sheet."""
    answered = "document.querySelector('#noise .answer').dataset.state === 'done'"
    times, rng = [], random.Random(0)
    for _ in range(rounds):
        page.locator("#noise .clear").click()
        page.wait_for_function(answered)
        box = page.locator("#noise .pad").bounding_box()
        x, top, bottom = (rng.uniform(low, high) for low, high in ((0.3, 0.7), (0.1, 0.3), (0.7, 0.9)))
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * top)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * bottom, steps=8)
        times.append(timed(page, "#noise .pad", "pointerup", answered, page.mouse.up))
    return times


def recognitions(page: Page, rounds: int) -> tuple[list[float], list[float]]:
    """End of a stroke to the first bars of "Which one is it?", and to the last ones, each on an empty sheet."""
    status = "document.querySelector('#which .status:not(.picker-status)').textContent"
    first, last, rng = [], [], random.Random(1)
    for _ in range(rounds):
        page.locator("#which .clear").click()
        page.wait_for_function(f"() => {status}.includes(' in ')")
        box = page.locator("#which .pad").bounding_box()
        left, top, bottom = (rng.uniform(low, high) for low, high in ((0.4, 0.6), (0.15, 0.25), (0.75, 0.85)))
        page.mouse.move(box["x"] + box["width"] * left, box["y"] + box["height"] * top)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * left, box["y"] + box["height"] * bottom, steps=8)
        page.evaluate(f"() => {{ {status} = '' }}")  # it still tells of the empty sheet
        page.evaluate(
            f"() => {{ window.first = until('#which .pad', 'pointerup', () => /so far| in /.test({status})) }}"
        )
        last.append(timed(page, "#which .pad", "pointerup", f"{status}.includes(' in ')", page.mouse.up))
        first.append(page.evaluate("() => window.first"))
    return first, last


def runs(page: Page, rounds: int) -> tuple[list[float], list[float]]:
    """Click to the first reverse frame, and Stop to stopped."""
    first, stopped = [], []
    page.locator('#reverse [name="num_inference_steps"]').select_option("1000")
    for i in range(rounds):
        page.locator('#reverse [name="seed"]').fill(str(1000 + i))
        first.append(timed(page, "#reverse .go", "click", says("reverse", "Step "), page.locator("#reverse .go").click))
        page.wait_for_timeout(300)
        stop = page.locator("#reverse .stop")
        stopped.append(timed(page, "#reverse .stop", "click", says("reverse", "Stopped"), stop.click))
    return first, stopped


def switches(page: Page, rounds: int) -> tuple[list[float], list[float]]:
    """Language, Gradio's own labels included, and theme."""
    languages, themes = [], []
    for i in range(rounds):
        to, seen = (("zh", "向"), ("en", "Forward"))[i % 2]
        button = f'[data-language="{to}"]'
        done = f"document.querySelector('#tab-forward-button').textContent.includes({seen!r})"
        languages.append(timed(page, button, "click", done, page.locator(button).click))
        dark = str(not page.evaluate("document.body.classList.contains('dark')")).lower()
        done = f"document.body.classList.contains('dark') === {dark}"
        themes.append(timed(page, ".page-header .theme", "click", done, page.locator(".page-header .theme").click))
    return languages, themes


def first_load(visit: Visit) -> tuple[int, int]:
    """Bytes on the wire and requests, until nothing more comes."""
    network, received = visit.page.context.new_cdp_session(visit.page), []
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    usable(visit)
    visit.page.wait_for_timeout(3000)
    asked = [request for request in visit.requests if request.startswith("http")]
    return int(sum(received)), len(asked)


def row(what: str, times: list[float], allowed: str) -> str:
    """One line of the table: median and 95th percentile of milliseconds."""
    cuts = statistics.quantiles(times, n=20, method="inclusive")
    return f"| {what} | {cuts[9]:,.0f} ms | {cuts[18]:,.0f} ms | {allowed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory; default: the embedded model")
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    lines = []
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        log, started = Path(folder) / "log", time.monotonic()
        with serving(args.model, log) as url, visiting(browser, url) as visit:
            visit.page.add_init_script(UNTIL)
            page = usable(visit)
            start = time.monotonic() - started
            loaded = " on http://" in log.read_text()
            while " on http://" not in log.read_text():
                time.sleep(0.01)
            model = time.monotonic() - started
            page.locator("#tab-reverse-button").click()
            expect(page.locator("#reverse .status")).to_contain_text("Stored example", timeout=200_000)
            page.locator("#tab-noise-button").click()
            expect(page.locator("#noise .answer")).to_have_attribute("data-state", "done", timeout=200_000)
            T = page.evaluate("ddpm.T")
            page.locator("#tab-wrong-button").click()  # its example is the last that the server computes by itself
            expect(page.locator("#wrong .status")).to_contain_text("Stored example", timeout=200_000)
            # To and fro, so that every move lands on another t, or on another frame of a trajectory.
            ts = [round(T * (0.25 + (i % 2) / 2 + 0.2 * random.Random(i).random())) for i in range(args.moves)]
            for tab in ("forward", "noise", "reverse"):
                page.locator(f"#tab-{tab}-button").click()
                times = page.evaluate("([tab, ts]) => moved(tab, ts)", [f"#{tab}", ts])
                lines.append(row(f"slider to paint, {tab}", times, "20 ms (p95)"))
            bare = browser.new_page()
            bare.add_init_script(UNTIL)
            bare.goto("about:blank")
            bare.set_content(BARE)
            lines.append(row("a bare slider", bare.evaluate("([tab, ts]) => moved(tab, ts)", ["body", ts]), "–"))
            bare.close()
            page.locator("#tab-noise-button").click()
            lines.append(row("stroke end to eps_hat", strokes(page, args.rounds), "1,000 ms"))
            if page.evaluate("ddpm.page.labels?.length > 0"):
                page.locator("#tab-labels-button").click()
                first, last = recognitions(page, args.rounds)
                lines.append(row("a drawn stroke to the first bars of its label", first, "–"))
                lines.append(row("a drawn stroke to the last ones", last, "2,000 ms"))
            page.locator("#tab-reverse-button").click()
            first, stopped = runs(page, args.rounds)
            lines.append(row("click to first reverse frame", first, "500 ms"))
            lines.append(row("Stop to stopped", stopped, "300 ms"))
            languages, themes = switches(page, args.rounds)
            lines.append(row("language switch", languages, "–"))
            lines.append(row("theme switch", themes, "–"))
            with visiting(browser, url) as another:
                size, requests = first_load(another)
    print("| | median | 95 % within | allowed |\n|---|---|---|---|")
    order = "after" if loaded else "before"
    print(f"| process start to a usable first screen | {start:.1f} s | | 15 s |")
    print(f"| process start to the weights read ({order} that screen) | {model:.1f} s | | – |")
    print("\n".join(lines))
    print(
        f"| bytes of a first load | {size / 1000:,.0f} kB | | 800 kB |\n| requests of a first load | {requests} | | 60 |"
    )


if __name__ == "__main__":
    main()

"""From a command to its first use: the page beside the bare import of its libraries, `train.py --help`, and the first
training step, on the second start.

    python tests/benchmarks/startup.py [--rounds 3] [--dataset_name FOLDER --preset mnist]

Seconds of wall clock and of processor time, and the peak of resident memory. The page answers when it returns status
200, and is usable when a browser has drawn the first tab's picture (playwright with Chromium, if it is installed). The
second start finds the compiled network and the prepared data in the cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Program:
    """A running command of this repository."""

    def __init__(self, *command: str, cache: Path) -> None:
        environment = os.environ | {"DDPM_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        self.began = time.perf_counter()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=self.log, stderr=subprocess.STDOUT
        )

    def until(self, there: Callable[[], bool], limit_s: float = 300) -> float:
        """Seconds from its start until `there` says so."""
        while not there():
            # Without reaping it: its usage is asked for at the end.
            if (
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
                or time.perf_counter() - self.began > limit_s
            ):
                self.log.seek(0)
                raise SystemExit(f"{self.process.args} did not get there:\n{self.log.read().decode()[-2000:]}")
            time.sleep(0.01)
        return time.perf_counter() - self.began

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def end(self, stop: bool = True) -> tuple[float, float]:
        """Stop it, or wait for it; seconds of processor time, and MB of memory at its peak."""
        if stop:
            self.process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)  # Popen must not wait for it again
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def page(cache: Path, browser) -> dict[str, float]:
    port = free_port()
    with Program("app.py", "--port", str(port), cache=cache) as program:
        found = {"answers": program.until(lambda: answers(port))}
        if browser:
            tab = browser.new_page()
            tab.goto(f"http://127.0.0.1:{port}/")
            tab.wait_for_function(
                "[...document.querySelectorAll('canvas')].some(c => c.offsetWidth && c.width)", timeout=120_000
            )
            found["usable"] = time.perf_counter() - program.began
            tab.close()
        time.sleep(15)  # the example is drawn and the network compiled: that is the peak
        found["cpu"], found["memory"] = program.end()
    return found


def bare_import(cache: Path) -> dict[str, float]:
    """The libraries alone, which is what the page's start-up is compared with."""
    words = "import gradio, torch, diffusers; from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel"
    with Program("-c", words, cache=cache) as program:
        cpu, memory = program.end(stop=False)
        return {"done": time.perf_counter() - program.began, "cpu": cpu, "memory": memory}


def help_text(cache: Path) -> dict[str, float]:
    with Program("train.py", "--help", cache=cache) as program:
        cpu, memory = program.end(stop=False)
        return {"done": time.perf_counter() - program.began, "cpu": cpu, "memory": memory}


def first_step(cache: Path, options: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.jsonl"
        where = ("--output_dir", str(metrics.parent), "--logging_steps", "1")
        with Program("train.py", *options, *where, cache=cache) as program:
            seconds = program.until(lambda: metrics.is_file() and '"train"' in metrics.read_text())
            cpu, memory = program.end()
    return {"first step": seconds, "cpu": cpu, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dataset_name")
    parser.add_argument("--preset", default="digits")
    args = parser.parse_args()
    options = ["--preset", args.preset, *(["--dataset_name", args.dataset_name] if args.dataset_name else [])]
    playwright = browser = None
    if importlib.util.find_spec("playwright"):
        from playwright.sync_api import sync_playwright

        playwright = sync_playwright().start()
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium)
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for index in range(args.rounds + 1):
            for name, run in (
                ("app.py", lambda: page(cache, browser)),
                ("import gradio, torch, diffusers", lambda: bare_import(cache)),
                ("train.py --help", lambda: help_text(cache)),
                (f"train.py --preset {args.preset}", lambda: first_step(cache, options)),
            ):
                results.setdefault(name + (", first start" if not index else ""), []).append(run())
    if playwright:
        browser.close()
        playwright.stop()
    for name, runs in results.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        times = ", ".join(f"{key} {value:.2f} s" for key, value in middle.items() if key not in ("cpu", "memory"))
        print(f"{name:32s} {times}; {middle['cpu']:.1f} s of processor, {middle['memory']:.0f} MB at the peak")


if __name__ == "__main__":
    main()

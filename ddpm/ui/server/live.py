"""Training while visitors watch: one run at a time, in a process of its own (`ddpm.training.watched`), and bounded.

Browsers ask what is new a few times a second (`look`), which is also how the server knows that the visitor who started
the run is still there; others who ask watch the same run.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers.utils.torch_utils import randn_tensor
from filelock import FileLock, Timeout

from ddpm.config import TrainConfig, preset
from ddpm.plots import grid, to_pixels
from ddpm.sampling import generators
from ddpm.threads import physical_cores

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
PREFIX = "ddpm-live-"  # of folders in the system's folder for temporary files

STEPS = 1200
MINUTES = 1.5  # training ends in the ordinary way after so long, on machines too slow for all steps
LIMIT_S = 180.0  # ... and in any case after so long
LEAVE_S = 15.0  # a visitor not heard of for so long has left; hidden tabs still ask every second
MAX_MESSAGES = 5000
MAX_LINE = 2**20

# Set for one of many processes, or for a GPU, by whoever started the server; secrets that training does not need.
NOT_INHERITED = ("ACCELERATE_", "FSDP_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
NOT_INHERITED += ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def live_config(steps: int = STEPS) -> TrainConfig:
    """The preset of the digits, shortened to `steps`, with rows and sample grids at a pace to watch."""
    return preset(
        "digits",
        max_train_steps=steps,
        max_train_minutes=MINUTES,
        logging_steps=max(1, min(5, steps // 20)),
        validation_steps=max(10, steps // 20),
        num_validation_images=256,
        num_samples=16,
        sample_steps=50,
        checkpointing_steps=steps,
        plots=False,
        num_cpu_threads=min(2, physical_cores()),  # of such a small network more would only wait for each other
    )


def fixed_noise(num_images: int) -> str:
    """The noise that the sample grids of `live_config` all start from, as a grid of its own: PNG in base64."""
    x = randn_tensor((num_images, 1, 8, 8), generator=generators(0, num_images))
    png = io.BytesIO()
    grid(to_pixels(x / 2), round(num_images**0.5)).save(png, "PNG")
    return base64.b64encode(png.getvalue()).decode()


class _Run:
    """One run: what it told, and how it ended. `state`: running; then finished, time (its minutes were over), stopped,
    left (its visitor did), late (the limit), or failed."""

    def __init__(self, number: int, visitor: str) -> None:
        self.number, self.visitor = number, visitor
        self.state = "running"
        self.began = self.seen = time.monotonic()
        self.seconds = 0.0
        self.messages: list[dict[str, Any]] = []
        self.process: subprocess.Popen | None = None
        self.thread: threading.Thread | None = None


class LiveTraining:
    """Starts, watches and ends the process; at most one at a time.

    Args:
        command: of a process that does what `ddpm.training.watched` does.
        config: what it trains.
        limit_s: a run is ended after so long.
        leave_s: and so long after its visitor was heard of last.
    """

    def __init__(
        self,
        command: Sequence[str],
        config: TrainConfig | None = None,
        limit_s: float = LIMIT_S,
        leave_s: float = LEAVE_S,
    ) -> None:
        self.command, self.config = list(command), config or live_config()
        self.limit_s, self.leave_s = limit_s, leave_s
        self.noise = fixed_noise(self.config.num_samples)
        self._run: _Run | None = None
        self._lock = threading.Lock()  # of the run and of ending its process, which must not be reaped meanwhile
        self._closed = False
        sweep()

    def start(self, visitor: object) -> dict[str, bool]:
        """Begin a run, unless one is going on. {"started": whether it did}."""
        visitor = _name(visitor)
        before = self._run
        if before and before.state != "running" and before.thread:
            before.thread.join(5)  # is clearing up
        with self._lock:
            if self._closed or not visitor or (self._run and self._run.thread and self._run.thread.is_alive()):
                return {"started": False}
            run = self._run = _Run(self._run.number + 1 if self._run else 1, visitor)
            run.thread = threading.Thread(target=self._watch, args=(run,), name="live training", daemon=True)
            run.thread.start()
        return {"started": True}

    def stop(self, visitor: object) -> None:
        """End the run of this visitor, at once."""
        run = self._run
        if run and run.visitor == _name(visitor):
            self._end(run, "stopped")

    def look(self, visitor: object, number: object, since: object) -> dict[str, Any]:
        """What happened since a message: all of it if that was of another run. {} where nobody has trained yet."""
        run = self._run
        if run is None:
            return {}
        if run.visitor == _name(visitor):
            run.seen = time.monotonic()
        first = since if number == run.number and isinstance(since, int) and since >= 0 else 0
        state, messages = run.state, run.messages[first:]  # in this order: an end is not told before what led to it
        seconds = run.seconds or time.monotonic() - run.began
        return {
            "run": run.number,
            "since": first + len(messages),
            "state": state,
            "mine": run.visitor == _name(visitor),
            "seconds": round(seconds, 1),
            "messages": messages,
        }

    def close(self) -> None:
        """End what is running; nothing starts any more."""
        with self._lock:
            self._closed, run = True, self._run
        if run:
            self._end(run, "stopped")
            run.thread.join(10)

    def _end(self, run: _Run, state: str) -> None:
        """Kill the process with its group. The first reason counts."""
        with self._lock:
            if run.state != "running":
                return
            run.state, run.seconds = state, time.monotonic() - run.began
            if run.process and run.process.returncode is None:  # not reaped, so the number is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.process.pid, signal.SIGKILL)

    def _watch(self, run: _Run) -> None:
        """The thread of one run: from its folder to the folder's removal."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError:
            log.exception("The live training has no folder")
            return self._end(run, "failed")
        lock = FileLock(folder / ".lock")  # says that the folder has an owner, until this process ends, however it ends
        try:
            lock.acquire(timeout=0)
            with self._lock:
                if run.state != "running":
                    return
                run.process = self._spawn(folder)
            order = {"options": self.config.to_json(), "folder": str(folder), "limit_s": self.limit_s + 5}
            with contextlib.suppress(BrokenPipeError):
                run.process.stdin.write(json.dumps(order).encode() + b"\n")
                run.process.stdin.flush()
            self._read(run)
        except Exception:
            log.exception("The live training cannot be watched")
        finally:
            self._end(run, "failed")
            if run.process:
                for pipe in (run.process.stdin, run.process.stdout):
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
                run.process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    def _spawn(self, folder: Path) -> subprocess.Popen:
        env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        paths = [str(ROOT), env.get("PYTHONPATH")]
        env |= {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TMPDIR": str(folder),
            "DDPM_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "ACCELERATE_USE_CPU": "true",
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait do not take the cores that the page needs
        }
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # stderr: the server's own
        # From ROOT: `python -m` looks into the working folder first.
        return subprocess.Popen(self.command, cwd=ROOT, env=env, start_new_session=True, bufsize=0, **pipes)

    def _read(self, run: _Run) -> None:
        """Take its lines until it ends, or has to."""
        pipe, rest = run.process.stdout.fileno(), b""
        while run.state == "running":
            now = time.monotonic()
            if now > run.began + self.limit_s:
                return self._end(run, "late")
            if now > run.seen + self.leave_s:
                return self._end(run, "left")
            if not select.select([pipe], [], [], 0.2)[0]:
                if _has_ended(run.process):  # while others still hold its pipe
                    return
                continue
            chunk = os.read(pipe, 2**16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["kind"] == "end":
                    return self._end(run, message["stopped"])
                run.messages.append(message)
            if len(rest) > MAX_LINE or len(run.messages) > MAX_MESSAGES:
                raise ValueError(f"{len(rest)} bytes without a line, {len(run.messages)} messages")


def _has_ended(process: subprocess.Popen) -> bool:
    """Without reaping it: that is left to `_watch`, after the last kill."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _name(visitor: object) -> str:
    return visitor[:40] if isinstance(visitor, str) else ""


def sweep() -> None:
    """Remove the folders of servers that were killed together with their training."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with FileLock(folder / ".lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)

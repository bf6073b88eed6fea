"""Training while visitors watch: one training at a time, within limits, in a process of its own.

That process is `ddpm.training.watched`. Browsers ask a few times a second what is new (`look`), which is also how the
server knows that the visitor who started the training is still there. Everybody else who asks watches it, too.
"""

from __future__ import annotations

import contextlib
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

from filelock import FileLock, Timeout

from ddpm.config import TrainConfig, preset
from ddpm.threads import physical_cores
from ddpm.tiles import grid
from ddpm.ui.server.encoding import png_to_base64
from ddpm.ui.server.visitors import visitor_name

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
PREFIX = "ddpm-live-"  # of the folders that trainings have in the system's folder for temporary files

STEPS = 1200
MINUTES = 1.5  # after which training ends in the ordinary way, on machines too slow for all steps
LIMIT_S = 180.0  # after which it is ended in any case
LEAVE_S = 15.0  # without a word from its visitor, who then has left; even hidden browser tabs ask every second
MAX_MESSAGES = 5000
MAX_LINE = 2**20

# Variables that are meant for one of several processes or for a GPU, and secrets that training does not need.
NOT_INHERITED = ("ACCELERATE_", "FSDP_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
NOT_INHERITED += ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def live_config(steps: int = STEPS) -> TrainConfig:
    """The preset of the digits, shortened to `steps`, with losses and sample grids often enough to watch."""
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
        num_cpu_threads=min(2, physical_cores()),  # more threads would only wait, the network is so small
    )


def fixed_noise(num_images: int) -> str:
    """The noise that the sample grids of `live_config` all start from, as a grid of its own: PNG in base64."""
    from diffusers.utils.torch_utils import randn_tensor

    from ddpm.plots import to_pixels
    from ddpm.sampling import generators

    x = randn_tensor((num_images, 1, 8, 8), generator=generators(0, num_images))
    return png_to_base64(grid(to_pixels(x / 2), round(num_images**0.5)))


class _Training:
    """One training: the messages of its process, and how it ended.

    `state` is "running" at first. Afterwards it says why the training ended: "finished", "time" (its minutes were
    over), "stopped" (by its visitor), "left" (its visitor did), "late" (it reached the limit) or "failed".
    """

    def __init__(self, number: int, visitor: str) -> None:
        self.number, self.visitor = number, visitor
        self.state = "running"
        self.began = self.seen = time.monotonic()
        self.seconds = 0.0
        self.messages: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.thread: threading.Thread | None = None


class LiveTraining:
    """Starts, watches and ends the process of a training; there is at most one at a time.

    Args:
        command: of a process that does what `ddpm.training.watched` does.
        config: what it trains.
        limit_s: a training is ended after this time.
        leave_s: it is also ended when its visitor has not looked for so long.
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
        self._current: _Training | None = None  # the latest, running or ended
        self._lock = threading.Lock()  # of `_current`, and of killing its process, which must not be reaped meanwhile
        self._closed = False
        sweep()

    def start(self, visitor: object) -> dict[str, bool]:
        """Begin a training, unless one is going on. {"started": whether it did}."""
        visitor = visitor_name(visitor)
        before = self._current
        if before and before.state != "running" and before.thread:
            before.thread.join(5)  # it is clearing up
        with self._lock:
            if self._closed or not visitor or self._is_busy():
                return {"started": False}
            training = self._current = _Training(self._current.number + 1 if self._current else 1, visitor)
            training.thread = threading.Thread(target=self._watch, args=(training,), name="live training", daemon=True)
            training.thread.start()
        return {"started": True}

    def _is_busy(self) -> bool:
        """Whether a training is running or clearing up."""
        return bool(self._current and self._current.thread and self._current.thread.is_alive())

    def stop(self, visitor: object) -> None:
        """End the training of this visitor, at once."""
        training = self._current
        if training and training.visitor == visitor_name(visitor):
            self._end(training, "stopped")

    def look(self, visitor: object, number: object, since: object) -> dict[str, Any]:
        """What happened since a message; {} if nobody has trained yet.

        Args:
            number: of the training that the browser knows. Of any other one it gets all messages.
            since: how many of its messages the browser has.
        """
        training = self._current
        if training is None:
            return {}
        own = training.visitor == visitor_name(visitor)
        if own:
            training.seen = time.monotonic()
        first = since if number == training.number and isinstance(since, int) and since >= 0 else 0
        # The state is read before the messages, so that an end is not told before what led to it.
        state, messages = training.state, training.messages[first:]
        seconds = training.seconds or time.monotonic() - training.began
        return {
            "run": training.number,
            "since": first + len(messages),
            "state": state,
            "own": own,
            "seconds": round(seconds, 1),
            "messages": messages,
        }

    def close(self) -> None:
        """End the training that is running; none starts any more."""
        with self._lock:
            self._closed, training = True, self._current
        if training and training.thread:
            self._end(training, "stopped")
            training.thread.join(10)

    def _end(self, training: _Training, state: str) -> None:
        """Kill the process and its group. If there are several reasons, `state` is the first."""
        with self._lock:
            if training.state != "running":
                return
            training.state, training.seconds = state, time.monotonic() - training.began
            if training.process and training.process.returncode is None:  # not reaped, so the id is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(training.process.pid, signal.SIGKILL)

    def _watch(self, training: _Training) -> None:
        """The thread of one training, from making its folder to removing it."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError:
            log.exception("The live training has no folder")
            return self._end(training, "failed")
        lock = FileLock(folder / ".lock")  # tells `sweep` that the folder has an owner, until this process ends
        try:
            lock.acquire(timeout=0)
            with self._lock:
                if training.state != "running":
                    return
                process = training.process = self._spawn(folder)
            assert process.stdin is not None
            assert process.stdout is not None
            order = {"options": self.config.to_json(), "folder": str(folder), "limit_s": self.limit_s + 5}
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            self._read(training, process, process.stdout.fileno())
        except Exception:
            log.exception("The live training cannot be watched")
        finally:
            self._end(training, "failed")
            if training.process:
                for pipe in filter(None, (training.process.stdin, training.process.stdout)):
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
                training.process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    def _spawn(self, folder: Path) -> subprocess.Popen[bytes]:
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
        return subprocess.Popen(
            self.command,
            cwd=ROOT,  # since `python -m` looks into the working folder first
            env=env,
            start_new_session=True,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # stderr is the server's own
        )

    def _read(self, training: _Training, process: subprocess.Popen[bytes], pipe: int) -> None:
        """Take the lines of the process from `pipe` until it ends or has to."""
        rest = b""
        while training.state == "running":
            now = time.monotonic()
            if now > training.began + self.limit_s:
                return self._end(training, "late")
            if now > training.seen + self.leave_s:
                return self._end(training, "left")
            if not select.select([pipe], [], [], 0.2)[0]:
                if _has_ended(process):  # although others may still hold its pipe
                    return
                continue
            chunk = os.read(pipe, 2**16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["kind"] == "end":
                    return self._end(training, message["stopped"])
                training.messages.append(message)
            if len(rest) > MAX_LINE or len(training.messages) > MAX_MESSAGES:
                raise ValueError(f"{len(rest)} bytes without a line, {len(training.messages)} messages")


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has ended. It is not reaped, which is left to `_watch`, after the last kill."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def sweep() -> None:
    """Remove the folders that were left by servers which were killed together with their training."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with FileLock(folder / ".lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)

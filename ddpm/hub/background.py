"""Pushing while training, in the background. Importing this module does not load torch."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ddpm.errors import first_line
from ddpm.hub.push import PUSH_LIMIT_S, check_access, link
from ddpm.hub.transport import ERROR, TOO_LONG, HubError

log = logging.getLogger(__name__)

MILESTONE_LIMIT_S = 600  # a push while training, with all its tries
MILESTONE_INTERVAL_S = 600  # between pushes while training: the Hub keeps every version
GRACE_S = 10  # for a process to notice by itself that its time is up; uploads by Xet may not


class Pusher:
    """Pushes a model directory while it is being trained, in processes of their own.

    A process can be ended, whatever the Hub does to it; it shares no lock with the training loop, and does what
    somebody would do by hand. A milestone is pushed from a snapshot, so training may go on writing; one that comes
    while another is on its way, or soon after, is left out.

    Args:
        directory: of the run.
        repo_id: <user>/<name>, or a name of the logged-in user's; default: the directory's name.
    Raises:
        HubError: token or permission are not what is needed. A Hub that is down is only warned of.
    """

    def __init__(self, directory: Path, repo_id: str | None = None, private: bool = False) -> None:
        self.directory, self.private = directory, private
        self.repo_id = repo_id or directory.resolve().name
        self.up: str | None = None  # address of the commit that was pushed last
        self._step_up: int | None = None
        self._warned: str | None = None
        self._thread: threading.Thread | None = None
        self._next = 0.0  # when the next milestone may go up
        self._ended = threading.Event()
        try:
            self.repo_id = check_access(self.repo_id, private)
        except HubError as error:
            if not error.transient:
                raise HubError(f"--push_to_hub: {error}") from None
            log.warning("Not pushed for now: %s. Training goes on, and pushes are tried again", error)

    def submit(self, step: int) -> None:
        """Push the directory as it is now, in the background, unless a push is under way or has just been."""
        if (self._thread and self._thread.is_alive()) or time.monotonic() < self._next:
            return
        try:
            self._clear()
            spool = self.directory / "checkpoints"
            spool.mkdir(parents=True, exist_ok=True)
            snapshot = Path(tempfile.mkdtemp(dir=spool, prefix=".push-"))
            link(self.directory, snapshot)
        except OSError as error:
            log.warning("Step %d is not pushed: %s", step, error)
            return
        self._thread = threading.Thread(target=self._milestone, args=(step, snapshot), name="push", daemon=True)
        self._thread.start()

    def finish(self, step: int, should_stop: Callable[[], bool] = lambda: False, limit_s: float | None = None) -> bool:
        """Push the directory as it is now, wait for it, and say what is up there, what is not, and what to do.

        Args:
            should_stop: polled while waiting; once true, it is given up.
            limit_s: seconds to wait at most; default PUSH_LIMIT_S.
        Returns:
            whether the model is on the Hub, compared file by file.
        """
        self._stop()
        log.info("Pushing to %s ...", self.repo_id)
        limit_s = limit_s or PUSH_LIMIT_S
        reason = self._push(self.directory, step, True, limit_s, should_stop)
        self._report(step, reason, limit_s)
        return reason is None

    def abandon(self) -> None:
        """End without a last push: training was interrupted or failed. If a push was tried, say what is up there."""
        if self._thread:
            self._stop()
            self._report(None, "training did not finish", PUSH_LIMIT_S)

    def _stop(self) -> None:
        """End what is being pushed: something newer follows, or nobody waits for it."""
        self._ended.set()
        if self._thread:
            self._thread.join(10)
            self._clear()

    def _report(self, step: int | None, reason: str | None, limit_s: float) -> None:
        words = ["push", str(self.directory), "--repo_id", self.repo_id, *["--private"] * self.private]
        if reason and TOO_LONG in reason:
            words += ["--limit_s", f"{4 * limit_s:.0f}"]
        command = f"python -m ddpm.hub {shlex.join(words)}"
        before = f"the model of step {self._step_up:,}, {self.up}" if self.up else "nothing of this run"
        if reason is None:
            log.info("On the Hub, pulled back and compared: %s", self.up)
        elif step is not None and self._step_up == step:
            log.warning("On the Hub: %s, but %s. Again: %s", before, reason, command)
        else:
            log.warning("Not pushed: %s (%s). On the Hub: %s. Later: %s", self.directory, reason, before, command)

    def _clear(self) -> None:
        """Remove all snapshots, also of a training that was killed: only one trains here at a time."""
        for snapshot in (self.directory / "checkpoints").glob(".push-*"):
            shutil.rmtree(snapshot, ignore_errors=True)

    def _milestone(self, step: int, snapshot: Path) -> None:
        reason = self._push(snapshot, step, False, MILESTONE_LIMIT_S, self._ended.is_set)
        shutil.rmtree(snapshot, ignore_errors=True)
        if reason and reason != self._warned and not self._ended.is_set():
            log.warning("Step %d is not pushed: %s. Training goes on", step, reason)
        self._warned, self._next = reason, time.monotonic() + MILESTONE_INTERVAL_S

    def _push(
        self, directory: Path, step: int, verify: bool, limit_s: float, should_stop: Callable[[], bool]
    ) -> str | None:
        """Push in a process of its own; None, or why it did not work."""
        words = [sys.executable, "-m", "ddpm.hub", "push", str(directory), "--repo_id", self.repo_id]
        words += ["--limit_s", str(limit_s)] + ["--private"] * self.private + ["--no_verify"] * (not verify)
        deadline = time.monotonic() + limit_s + GRACE_S
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        env = os.environ | {"PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        try:
            with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
                # A session of its own: Ctrl-C is for the training, which then decides about this.
                child = subprocess.Popen(words, stdout=out, stderr=err, env=env, start_new_session=True)
                late = stopped = False
                while child.poll() is None and not (late or stopped):
                    time.sleep(0.05)
                    late, stopped = time.monotonic() > deadline, should_stop()
                if late or stopped:
                    child.kill()
                child.wait()
                for place in (directory / "checkpoints", directory):  # where it keeps what it sends
                    for left in place.glob(f".pushing-{child.pid}-*"):
                        shutil.rmtree(left, ignore_errors=True)
                out.seek(0)
                err.seek(0)
                addresses, complaints = out.read().split(), err.read().strip().splitlines()
        except OSError as error:  # no memory, process or disk left
            return first_line(error)
        if addresses:
            self.up, self._step_up = addresses[-1], step
            self.repo_id = "/".join(self.up.rsplit("/tree/", 1)[0].split("/")[-2:])
        if late or stopped:
            return f"{TOO_LONG}, more than {limit_s:.0f} s" if late else "interrupted"
        if child.returncode:
            said = [line.removeprefix(ERROR) for line in complaints if line.startswith(ERROR)] or complaints
            return said[-1] if said else f"exit status {child.returncode}"
        return None

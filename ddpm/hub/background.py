"""Push a model while it is being trained, in the background. Importing this module does not load torch."""

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
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpm.errors import first_line
from ddpm.hub.limits import limits
from ddpm.hub.push import check_access
from ddpm.hub.snapshot import link_files
from ddpm.hub.transport import TOO_LONG, HubError

log = logging.getLogger(__name__)

ERROR = "ddpm.hub: error: "  # how `python -m ddpm.hub` begins the line that gives the reason
COMMAND = (sys.executable, "-m", "ddpm.hub")


class Pusher:
    """Pushes a model directory while it is being trained.

    Each push is a process of its own, which runs the command for a push by hand. Such a process can be ended whatever
    the Hub does to it, and it shares no lock with the training loop. A milestone, which is a push while training, sends
    a snapshot, so that the training may go on writing. A milestone is left out if another push is under way or has just
    ended.

    Args:
        directory: of the run.
        repo_id: <user>/<name>, or a name among the repositories of the logged-in user; default: the directory's name.
        private: if the repository does not exist yet, create it private.
        wait_s: seconds that the last push waits for a Hub that is down; default: `limits.wait_s`.
        command: what is run for a push, with the arguments of `python -m ddpm.hub`.
    Attributes:
        pushed_url: address of the commit that was pushed last, if any.
    Raises:
        HubError: token or permission do not suffice. If the Hub is unavailable, there is only a warning.
    """

    def __init__(
        self,
        directory: Path,
        repo_id: str | None = None,
        private: bool = False,
        wait_s: float | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.directory, self.private, self.command = directory, private, command
        self.wait_s = limits.wait_s if wait_s is None else wait_s
        self.repo_id = repo_id or directory.resolve().name
        self.pushed_url: str | None = None
        self._pushed_step: int | None = None
        self._last_warning: str | None = None
        self._thread: threading.Thread | None = None
        self._next_milestone = 0.0  # time.monotonic() from which on a milestone may be pushed
        self._ended = threading.Event()
        try:
            self.repo_id = check_access(self.repo_id, private)
        except HubError as error:
            if not error.transient:
                raise HubError(f"--push_to_hub: {error}") from None
            log.warning("Pushing is currently impossible: %s. Training continues, and pushes are tried again", error)

    @property
    def busy(self) -> bool:
        """Whether a milestone is being pushed."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait until the milestone is pushed, or for `seconds`."""
        if self._thread:
            self._thread.join(seconds)

    def submit(self, step: int) -> None:
        """Push the directory as it is now, in the background, unless a push is under way or has just ended."""
        if self.busy or time.monotonic() < self._next_milestone:
            return
        try:
            self._remove_snapshots()
            place = self.directory / "checkpoints"
            place.mkdir(parents=True, exist_ok=True)
            snapshot = Path(tempfile.mkdtemp(dir=place, prefix=".push-"))
            link_files(self.directory, snapshot)
        except OSError as error:
            log.warning("Step %d was not pushed: %s", step, error)
            return
        self._thread = threading.Thread(target=self._milestone, args=(step, snapshot), name="push", daemon=True)
        self._thread.start()

    def finish(self, step: int, should_stop: Callable[[], bool] = lambda: False, limit_s: float | None = None) -> bool:
        """Push the directory as it is now, wait for it, and say what is on the Hub, what is not, and what to do.

        Args:
            should_stop: polled while waiting; once it returns true, the push is given up.
            limit_s: seconds that the push may take; default: `limits.push_s`, and longer if `wait_s` is longer than
                usual.
        Returns:
            whether the model is on the Hub, compared file by file.
        """
        self._stop()
        log.info(
            "Pushing to %s. If the Hub is down, this waits for at most %g minutes (--hub_wait_minutes); Ctrl-C ends it",
            self.repo_id,
            round(self.wait_s / 60, 2),
        )
        limit_s = limit_s or limits.push_s + max(0, self.wait_s - limits.wait_s)
        reason = self._push(self.directory, step, True, limit_s, should_stop, self.wait_s)
        self._report(step, reason, limit_s)
        return reason is None

    def abandon(self) -> None:
        """End without a last push, because the training was interrupted or failed. If there was a push, say what is on
        the Hub."""
        if self._thread:
            self._stop()
            self._report(None, "the training did not finish", limits.push_s)

    def _stop(self) -> None:
        """End the push that is under way: something newer follows, or nobody waits for it."""
        self._ended.set()
        if self._thread:
            self._thread.join(10)
            self._remove_snapshots()

    def _report(self, step: int | None, reason: str | None, limit_s: float) -> None:
        words = ["push", str(self.directory), "--repo_id", self.repo_id, *["--private"] * self.private]
        if reason and TOO_LONG in reason:
            words += ["--limit_s", f"{4 * limit_s:.0f}"]
        command = f"python -m ddpm.hub {shlex.join(words)}"
        before = (
            f"the model of step {self._pushed_step:,}, {self.pushed_url}" if self.pushed_url else "no model of this run"
        )
        if reason is None:
            log.info("Pushed to the Hub, downloaded again and compared: %s", self.pushed_url)
        elif step is not None and self._pushed_step == step:
            log.warning("The Hub has %s, but %s. To push it again: %s", before, reason, command)
        else:
            log.warning(
                "Not pushed: %s (%s). The Hub has %s. To push later: %s", self.directory, reason, before, command
            )

    def _remove_snapshots(self) -> None:
        """Remove all snapshots, also those of a killed training: only one training at a time uses the folder."""
        for snapshot in (self.directory / "checkpoints").glob(".push-*"):
            shutil.rmtree(snapshot, ignore_errors=True)

    def _milestone(self, step: int, snapshot: Path) -> None:
        """Push a snapshot; runs in a thread."""
        reason = self._push(snapshot, step, False, limits.milestone_s, self._ended.is_set)
        shutil.rmtree(snapshot, ignore_errors=True)
        if reason and reason != self._last_warning and not self._ended.is_set():
            log.warning("Step %d was not pushed: %s. Training continues", step, reason)
        self._last_warning, self._next_milestone = reason, time.monotonic() + limits.milestone_interval_s

    def _push(
        self,
        directory: Path,
        step: int,
        verify: bool,
        limit_s: float,
        should_stop: Callable[[], bool],
        wait_s: float | None = None,
    ) -> str | None:
        """Push in a process of its own. Returns None, or why it did not work."""
        words = [*self.command, "push", str(directory), "--repo_id", self.repo_id, "--limit_s", str(limit_s)]
        words += ["--private"] * self.private + ["--no_verify"] * (not verify)
        words += [] if wait_s is None else ["--wait_s", str(wait_s)]
        try:
            with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
                # In a session of its own: Ctrl-C is meant for the training, which then decides about the push.
                child = subprocess.Popen(words, stdout=out, stderr=err, env=_environment(), start_new_session=True)
                given_up = _wait_for(child, limit_s, should_stop)
                for place in (directory / "checkpoints", directory):  # where a killed process leaves its snapshot
                    for left in place.glob(f".pushing-{child.pid}-*"):
                        shutil.rmtree(left, ignore_errors=True)
                out.seek(0)
                err.seek(0)
                addresses, complaints = out.read().split(), err.read().strip().splitlines()
        except OSError as error:  # no memory, process or disk space is left
            return first_line(error)
        if addresses:
            self.pushed_url, self._pushed_step = addresses[-1], step
            self.repo_id = "/".join(self.pushed_url.rsplit("/tree/", 1)[0].split("/")[-2:])
        if given_up:
            return given_up
        if child.returncode:
            reasons = [line.removeprefix(ERROR) for line in complaints if line.startswith(ERROR)] or complaints
            return reasons[-1] if reasons else f"exit status {child.returncode}"
        return None


def _environment() -> dict[str, str]:
    """The environment of a push: it finds this package wherever the training was started."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _wait_for(child: subprocess.Popen, limit_s: float, should_stop: Callable[[], bool]) -> str | None:
    """Wait until a process ends, and kill it when its time is up or `should_stop` returns true; returns why, if so."""
    deadline, reason = time.monotonic() + limit_s + limits.grace_s, None
    while child.poll() is None and reason is None:
        time.sleep(0.05)
        if time.monotonic() > deadline:
            reason = f"{TOO_LONG}, more than {limit_s:.0f} s"
        elif should_stop():
            reason = "interrupted"
    if reason:
        child.kill()
    child.wait()
    return reason

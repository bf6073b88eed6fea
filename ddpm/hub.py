"""Push and pull models.

    python -m ddpm.hub push DIR --repo_id ID [--private]

A push is one commit, made against the head that it was compared with, and is retried as long as that makes sense; a
pull takes safetensors and JSON of known names and checks every file against its checksum. The token is the one of
HF_TOKEN or of the stored login; it is never handed on. Importing this module does not load torch.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import logging
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import card
from .card import REPO_ID, model_card
from .errors import first_line
from .metrics import read_metrics

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

__all__ = ["HubError", "Pusher", "check_access", "model_card", "pull", "push"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# All that a push sends: never training state, caches or other people's pickles.
PUSHED = (
    "model_index.json unet/config.json unet/*.safetensors scheduler/scheduler_config.json README.md train_config.json "
    "metrics.jsonl *.png samples/step-*.png"
).split()
STALE = "samples/step-*.png"  # of what is on the Hub and no longer here, these alone go: others may have put more there
MODEL = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")

MAX_WEIGHTS_BYTES = 4 * 2**30  # of a pull; the paper's largest network has 0.5
MAX_JSON_BYTES = 32 * 2**20  # of a pull, per file

REQUEST_TIMEOUT_S = 60  # without a byte; the client itself would wait for ever
LOOKUP_LIMIT_S = 60  # to find out whether there is a repository, and what it holds
PUSH_LIMIT_S = 900  # the last push, with all its tries
MILESTONE_LIMIT_S = 600  # a push while training, with all its tries
MILESTONE_INTERVAL_S = 600  # between pushes while training: the Hub keeps every version
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0  # between tries: doubled each time
MAX_ASKED_WAIT_S = 300  # by the Hub, whose windows are five minutes long
GRACE_S = 10  # for a process to notice by itself that its time is up; uploads by Xet may not


class HubError(ValueError):
    """What went wrong between here and the Hub, in one line.

    Args:
        transient: trying again later may help; otherwise somebody has to do what the message says.
        commit: address of what is up there nevertheless.
    """

    def __init__(self, message: str, transient: bool = False, commit: str | None = None) -> None:
        super().__init__(message)
        self.transient, self.commit = transient, commit


# ------------------------------------------------------------------------------------------------- talking to the Hub


class _TimeIsUpError(TimeoutError):
    """Not one of the errors that the client tries again after."""


class _Limit:
    """A moment after which no request is begun. One at a time, for the whole process: the client has threads."""

    moment = float("inf")

    @classmethod
    @contextlib.contextmanager
    def after(cls, seconds: float):
        before, cls.moment = cls.moment, min(cls.moment, time.monotonic() + seconds)
        try:
            yield
        finally:
            cls.moment = before


def _bound(request) -> None:
    """Hook of the HTTP client, before every request: a timeout, also where it would wait for ever, and the limit."""
    left = _Limit.moment - time.monotonic()
    if left <= 0:
        raise _TimeIsUpError("the Hub took too long")
    limits = request.extensions.get("timeout") or {}
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: min(limits.get(kind) or REQUEST_TIMEOUT_S, left) for kind in kinds}


def _api():
    """The client, made to give up on a Hub that says nothing."""
    # Uploads by Xet have settings of their own, read when the first one begins.
    os.environ.setdefault("HF_XET_CLIENT_READ_TIMEOUT", f"{REQUEST_TIMEOUT_S}s")
    os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_DURATION", "120s")
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client():
        made = default_client_factory()
        made.event_hooks["request"].append(_bound)
        return made

    set_client_factory(client)
    return HfApi()


def _chain(error: BaseException | None) -> list[BaseException]:
    """An exception and what it was made of: the client wraps. What it merely happened after says nothing about it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an exception; Xet tells it in words only."""
    for e in _chain(error):
        if (response := getattr(e, "response", None)) is not None:
            return response.status_code
        if found := re.search(r"HTTP status \w+ error \((\d{3})", str(e)):
            return int(found[1])
    return None


def _is_transient(error: BaseException) -> bool:
    """Whether the same call may work later. The client's exceptions have no common base."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    status = _status(error)
    if status is not None:
        return status in (408, 409, 412, 425, 429) or status >= 500
    kinds = (httpx.TransportError, ConnectionError, TimeoutError, json.JSONDecodeError, RuntimeError)
    chain = _chain(error)
    return not any(isinstance(e, OfflineModeIsEnabled) for e in chain) and (
        any(isinstance(e, kinds) for e in chain) or "Consistency check failed" in str(error)
    )


def _masked(text: str) -> str:
    """Without the token, should somebody's message quote it."""
    from huggingface_hub import get_token

    token = (get_token() or "").strip()
    return text.replace(token, "<token>") if token else text


def _reason(error: BaseException, repo_id: str | None = None, writing: bool = False) -> str:
    """Why it did not work and what to do about it, in one line of plain words."""
    from huggingface_hub import errors, get_token
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.utils import httpx

    if isinstance(error, HubError):
        return str(error)
    status, login = _status(error), "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, _TimeIsUpError):
        return str(error)
    if any(isinstance(e, errors.OfflineModeIsEnabled) for e in _chain(error)):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the Hub knows no such revision of it"
    if isinstance(error, errors.LocalTokenNotFoundError) or (status == 401 and writing and not get_token()):
        return f"no token: {login}"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return f"the Hub has no {repo_id}, or not for this login; check the name, or {login}"
    if status == 401:
        return f"the Hub does not accept the token: {login} anew"
    if status == 403 and writing:
        return (
            f"the token may not write to {repo_id}: make one with write permission at {ENDPOINT}/settings/tokens, or "
            "name another repository"
        )
    if status == 403:
        return "the Hub refuses it to this login (403)"
    if status == 429:
        return "the Hub asks for a pause (429, too many requests)"
    if status is not None and (status >= 500 or status in (408, 409, 412)):
        return f"the Hub is in trouble ({status})"
    if _is_transient(error):
        said = next((e for e in _chain(error) if isinstance(e, httpx.TransportError | OSError)), error)
        return f"the Hub cannot be reached ({_masked(first_line(said))[:200]})"
    return _masked(first_line(error))


def _retry(call: Callable[[], T], tries: int = 5) -> T:
    """What `call` returns, tried again where that may help, with growing waits or those that the Hub asks for."""
    for n in range(tries):
        try:
            return call()
        except Exception as error:
            wait = _wait(error, n)
            if n + 1 == tries or not _is_transient(error) or time.monotonic() + wait > _Limit.moment:
                raise
            log.debug("%s; again in %.1f s", type(error).__name__, wait)
        time.sleep(wait)
    raise AssertionError("unreachable")


def _wait(error: BaseException, n: int) -> float:
    """Seconds until try n + 1."""
    from huggingface_hub.utils import parse_ratelimit_headers

    for e in _chain(error):
        headers = getattr(getattr(e, "response", None), "headers", {})
        limit, asked = parse_ratelimit_headers(headers), headers.get("Retry-After", "")
        if asked.isdigit() or (limit and limit.remaining == 0):
            seconds = float(asked) if asked.isdigit() else limit.reset_in_seconds
            return min(seconds, MAX_ASKED_WAIT_S) + random.uniform(0, 1)
    return min(FIRST_WAIT_S * 2**n, MAX_WAIT_S) * random.uniform(1, 1.25)


# -------------------------------------------------------------------------------------------------------------- pushing


@dataclass(frozen=True)
class Pushed:
    """Where a push went: `url` shows its commit."""

    repo_id: str
    commit: str
    url: str


def check_access(repo_id: str, private: bool = False) -> str:
    """Make sure, before hours of training, that there is a repository that this login may write to.

    Args:
        repo_id: <user>/<name>, or a name of the logged-in user's.
        private: make it private if it does not exist yet.
    Returns:
        <user>/<name>.
    Raises:
        HubError: what to do about it; transient where only the Hub can do something.
    """
    from huggingface_hub import CommitOperationAdd

    try:
        with _Limit.after(LOOKUP_LIMIT_S):
            api = _api()
            user = _retry(lambda: api.whoami()["name"], tries=3)
            repo_id = repo_id if "/" in repo_id else f"{user}/{repo_id}"
            _claim(api, repo_id, private)
            # Sends nothing: asks how this file would have to be sent, which only who may write is told. That the
            # repository exists, or could be created, says nothing about the right to write to it.
            question = CommitOperationAdd("README.md", b"?")
            _retry(lambda: api.preupload_lfs_files(repo_id, [question]), tries=3)
    except HubError:
        raise
    except Exception as error:
        raise HubError(_reason(error, repo_id, writing=True), _is_transient(error)) from None
    return repo_id


def _claim(api, repo_id: str, private: bool) -> None:
    """Create the repository if it is not there.

    Raises:
        HubError: it is there and public, but was to be private.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        public = not _retry(lambda: api.model_info(repo_id), tries=3).private
    except RepositoryNotFoundError:
        public = None
    if public is None:
        _retry(lambda: api.create_repo(repo_id, private=private, exist_ok=True), tries=3)
    elif private and public:
        raise HubError(f"{repo_id} exists and is public: make it private in its settings, or name another repository")


def push(
    directory: str | os.PathLike,
    repo_id: str | None = None,
    private: bool = False,
    verify: bool = True,
    limit_s: float = PUSH_LIMIT_S,
) -> Pushed:
    """Upload a model directory in one commit; unchanged files are not sent, an unchanged model makes no commit.

    Nothing but README.md changes on disk: its commands get the name of the repository.

    Args:
        repo_id: <user>/<name>, or a name of the logged-in user's; default: the directory's name.
        private: make the repository private if it does not exist yet.
        verify: pull every file back at the commit and compare SHA-256.
        limit_s: seconds after which no more is tried.
    Raises:
        HubError: in one line why it did not work and what to do.
        ValueError: there is no model in the directory.
    """
    directory = Path(directory)
    for name in MODEL:
        if not (directory / name).is_file():
            raise ValueError(f"{directory}: no {name}, so there is no model to push")
    repo_id, pushed = repo_id or directory.resolve().name, None
    try:
        with _Limit.after(limit_s):
            api = _api()
            if "/" not in repo_id:
                repo_id = f"{_retry(lambda: api.whoami()['name'])}/{repo_id}"
            with contextlib.suppress(OSError):  # a folder that may only be read is pushed as it is
                card.write(directory, repo_id)
            files = {path: _Sums.of(directory / path) for path in belongings(directory)}
            _claim(api, repo_id, private)
            # Every try begins with what is up there now: a commit whose answer got lost is recognised.
            pushed = _retry(lambda: _commit(api, directory, files, repo_id), tries=8)
            if verify:
                _verify(files, pushed)
    except HubError:
        raise
    except Exception as error:
        up = pushed and pushed.url
        what = "it is up there, but could not be pulled back for comparison: " if up else ""
        raise HubError(what + _reason(error, repo_id, writing=True), _is_transient(error), up) from None
    return pushed


def belongings(directory: Path) -> list[str]:
    """Files of a model directory that belong on the Hub, relative to it."""
    paths = (p.relative_to(directory).as_posix() for pattern in PUSHED for p in directory.glob(pattern) if p.is_file())
    return sorted({path for path in paths if not any(part.startswith(".") for part in path.split("/"))})


@dataclass(frozen=True)
class _Sums:
    """Checksums of a file: the Hub lists large ones by SHA-256, others by git's blob id."""

    size: int
    sha256: str
    blob_id: str

    @classmethod
    def of(cls, path: Path) -> _Sums:
        with open(path, "rb") as file:
            return cls.read(iter(lambda: file.read(2**20), b""), os.fstat(file.fileno()).st_size)

    @classmethod
    def read(cls, chunks: Iterable[bytes], size: int) -> _Sums:
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        for chunk in chunks:
            sha256.update(chunk)
            blob.update(chunk)
        return cls(size, sha256.hexdigest(), blob.hexdigest())

    def match(self, sibling) -> bool:
        """Whether this is the content that the Hub lists."""
        if sibling.lfs is not None:
            return self.sha256 == sibling.lfs.sha256
        return self.blob_id == sibling.blob_id


def _commit(api, directory: Path, files: dict[str, _Sums], repo_id: str) -> Pushed:
    """One try: a commit of what differs from the head, or the head itself if nothing does."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.constants import ENDPOINT

    head = api.model_info(repo_id, revision="main", files_metadata=True)
    there = {sibling.rfilename: sibling for sibling in head.siblings}
    changes: list = [
        CommitOperationAdd(path, directory / path)
        for path, sums in files.items()
        if path not in there or not sums.match(there[path])
    ]
    changes += [CommitOperationDelete(path) for path in there if fnmatch.fnmatch(path, STALE) and path not in files]
    commit = head.sha
    if changes:
        rows = read_metrics(directory / "metrics.jsonl")
        message = f"Model after {rows[-1]['step']:,} steps" if rows else "Model"
        # Refused if somebody else was faster; then the next try compares with theirs.
        commit = api.create_commit(repo_id, changes, commit_message=message, parent_commit=head.sha).oid
    return Pushed(repo_id, commit, f"{ENDPOINT}/{repo_id}/tree/{commit}")


def _verify(files: dict[str, _Sums], pushed: Pushed) -> None:
    """Pull every file back at the commit and compare.

    Raises:
        HubError: one is not what was sent, twice.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def fetch(path: str, size: int) -> _Sums:
        # Past the client's caches, of files and of Xet's chunks: what counts is what the Hub hands out.
        url = hf_hub_url(pushed.repo_id, path, revision=pushed.commit)
        with get_session().stream("GET", url, headers=build_hf_headers()) as response:
            hf_raise_for_status(response)
            return _Sums.read(response.iter_bytes(2**20), size)

    for path, sums in files.items():
        for _ in range(2):
            if _retry(lambda path=path, sums=sums: fetch(path, sums.size)) == sums:
                break
        else:
            raise HubError(f"{path} came back from the Hub damaged, twice", transient=True, commit=pushed.url)


# ---------------------------------------------------------------------------------------------- pushing while training


class Pusher:
    """Pushes a model directory while it is being trained, in processes of their own.

    A process can be ended, whatever the Hub does to it; it shares no lock with the training loop, and does what
    somebody would do by hand. Only the newest model counts: one that waits is replaced. A model that is being pushed is
    a snapshot, so training may go on writing.

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
        self._waiting: tuple[int, Path] | None = None
        self._warned: str | None = None
        self._submitted = False
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._child: subprocess.Popen | None = None
        self._spool = directory / "checkpoints"
        try:
            self.repo_id = check_access(self.repo_id, private)
        except HubError as error:
            if not error.transient:
                raise HubError(f"--push_to_hub: {error}") from None
            log.warning("Not pushed for now: %s. Training goes on, and pushes are tried again", error)
        self._thread = threading.Thread(target=self._work, name="push", daemon=True)
        self._thread.start()

    def submit(self, step: int) -> None:
        """Take a snapshot of the directory, in milliseconds, and leave it to be pushed in place of one that waits."""
        try:
            if not self._submitted:
                self._clear()
            self._submitted, snapshot = True, self._snapshot()
        except OSError as error:
            log.warning("Step %d is not pushed: %s", step, error)
            return
        with self._changed:
            older, self._waiting = self._waiting, (step, snapshot)
            self._changed.notify()
        if older:
            shutil.rmtree(older[1], ignore_errors=True)

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
        reason = self._push(self.directory, step, True, limit_s or PUSH_LIMIT_S, should_stop)
        self._report(step, reason)
        return reason is None

    def abandon(self) -> None:
        """End without a last push: training was interrupted or failed. If there was a model, say what is up there."""
        self._stop()
        if self._submitted:
            self._report(None, "training did not finish")

    def _stop(self) -> None:
        """Drop what waits and end what is being pushed: something newer follows, or nobody waits for it."""
        self._ended.set()
        with self._changed:
            self._changed.notify()
        if child := self._child:
            child.kill()
        self._thread.join(10)
        self._clear()

    def _report(self, step: int | None, reason: str | None) -> None:
        words = ["push", str(self.directory), "--repo_id", self.repo_id, *["--private"] * self.private]
        command = f"python -m ddpm.hub {shlex.join(words)}"
        before = f"the model of step {self._step_up:,}, {self.up}" if self.up else "nothing of this run"
        if reason is None:
            log.info("On the Hub, pulled back and compared: %s", self.up)
        elif step is not None and self._step_up == step:
            log.warning("On the Hub: %s, but %s. Again: %s", before, reason, command)
        else:
            log.warning("Not pushed: %s (%s). On the Hub: %s. Later: %s", self.directory, reason, before, command)

    def _clear(self) -> None:
        """Remove the snapshots of this process, and of those that were killed."""
        import psutil

        for snapshot in self._spool.glob(".push-*-*"):
            owner = int(snapshot.name.split("-")[1])
            if owner == os.getpid() or not psutil.pid_exists(owner):
                shutil.rmtree(snapshot, ignore_errors=True)

    def _snapshot(self) -> Path:
        """A copy of what belongs on the Hub. Weights are linked, for they are only ever replaced, never rewritten."""
        self._spool.mkdir(parents=True, exist_ok=True)
        snapshot = Path(tempfile.mkdtemp(dir=self._spool, prefix=f".push-{os.getpid()}-"))
        for name in belongings(self.directory):
            target = snapshot / name
            target.parent.mkdir(exist_ok=True)
            try:
                if not name.endswith(".safetensors"):
                    raise OSError("small, and metrics.jsonl is appended to")
                os.link(self.directory / name, target)
            except OSError:
                shutil.copyfile(self.directory / name, target)
        return snapshot

    def _work(self) -> None:
        """The background: the newest snapshot, again and again, with a pause in between."""
        while not self._ended.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended.is_set())
                (step, snapshot), self._waiting = self._waiting or (0, None), None
            if snapshot is None or self._ended.is_set():
                return
            reason = self._push(snapshot, step, False, MILESTONE_LIMIT_S, self._ended.is_set)
            shutil.rmtree(snapshot, ignore_errors=True)
            if reason and reason != self._warned and not self._ended.is_set():
                log.warning("Step %d is not pushed: %s. Training goes on", step, reason)
            self._warned = reason
            self._ended.wait(MILESTONE_INTERVAL_S)

    def _push(
        self, directory: Path, step: int, verify: bool, limit_s: float, should_stop: Callable[[], bool]
    ) -> str | None:
        """Push in a process of its own; None, or why it did not work."""
        words = [sys.executable, "-m", "ddpm.hub", "push", str(directory), "--repo_id", self.repo_id]
        words += ["--limit_s", str(limit_s)] + ["--private"] * self.private + ["--no_verify"] * (not verify)
        deadline = time.monotonic() + limit_s + GRACE_S
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        env = os.environ | {"PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            # A session of its own: Ctrl-C is for the training, which then decides about this.
            try:
                child = self._child = subprocess.Popen(words, stdout=out, stderr=err, env=env, start_new_session=True)
            except OSError as error:  # no memory or process left
                return first_line(error)
            late = stopped = False
            while child.poll() is None and not (late or stopped):
                time.sleep(0.05)
                late, stopped = time.monotonic() > deadline, should_stop()
            if late or stopped:
                child.kill()
            child.wait()
            self._child = None
            out.seek(0)
            err.seek(0)
            addresses, complaints = out.read().split(), err.read().strip().splitlines()
        if addresses:
            self.up, self._step_up = addresses[-1], step
            self.repo_id = addresses[-1].rsplit("/tree/", 1)[0].split("/", 3)[-1]
        if late or stopped:
            return f"the Hub took more than {limit_s:.0f} s" if late else "interrupted"
        if child.returncode:
            return complaints[-1].removeprefix(ERROR) if complaints else f"exit status {child.returncode}"
        return None


# -------------------------------------------------------------------------------------------------------------- pulling


def pull(id_or_dir: str | os.PathLike, revision: str | None = None) -> Checkpoint:
    """A checkpoint from a directory or the Hub: a UNet2DModel of safetensors and a DDPMScheduler.

    At most seven files of known names are fetched, JSON first, and the weights only when their size and the
    configuration are known to be in order. Every file is compared with its checksum. No code of the repository is run.

    Args:
        revision: branch, tag or commit; default: main as it is now. `Checkpoint.revision` is the commit.
    Raises:
        ValueError: in one line why it cannot be had or is refused.
    """
    from .checkpoint import load

    path, name = Path(id_or_dir).expanduser(), str(id_or_dir)
    if path.is_dir():
        if revision:
            raise ValueError(f"model {name!r} is a directory, which has no revision {revision!r}")
        return load(path)
    if not REPO_ID.fullmatch(name):
        raise ValueError(f"model {name!r}: no such directory, and no name of a Hub repository like user/name")
    where = f"model {name!r}" + (f" at {revision!r}" if revision else "")
    try:
        with _Limit.after(LOOKUP_LIMIT_S):
            api = _api()
            # Twice the Hub is asked: only this call notes down what the revision was, for days when the Hub is down.
            commit = _retry(lambda: api.resolve_revision(name, revision=revision).resolved, tries=3)
            info = _retry(lambda: api.model_info(name, revision=commit, files_metadata=True), tries=3)
    except Exception as error:
        info, reason, final = None, _reason(error, name), _is_final(error)
    if info is None:
        folder = None if final else _cached(name, revision, where)
        if folder is None:
            raise ValueError(f"{where} cannot be pulled: {reason}")
        log.warning("%s: %s; using the copy in the cache, commit %s", name, reason, folder.name)
        return dataclasses.replace(load(folder, name, folder.name), offline=True)
    try:
        folder = _fetch_all(name, info, where)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{where} cannot be pulled: {_reason(error, name)}") from None
    return load(folder, name, info.sha)


def _is_final(error: BaseException) -> bool:
    """Whether the Hub said no, so that a copy in the cache must not stand in."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError) or _status(error) in (403, 404)


def _fetch_all(name: str, info, where: str) -> Path:
    """The folder of the cache that then holds all files of a model.

    Args:
        info: of the repository at one commit, with sizes and checksums.
    """
    from .checkpoint import Layout, num_parameters, read_configs

    files = {sibling.rfilename: sibling for sibling in info.siblings}
    try:
        layout = Layout.of(files)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    weights = files[layout.weights]
    small = [p for p in (layout.index, layout.unet_config, layout.scheduler_config) if p]
    small += [p for p in ("train_config.json", "metrics.jsonl") if p in files]
    for path, limit in [(layout.weights, MAX_WEIGHTS_BYTES), *((p, MAX_JSON_BYTES) for p in small)]:
        if (files[path].size or 0) > limit:
            raise ValueError(f"{where}: {path} has {files[path].size / 2**20:,.0f} MiB, more than {limit / 2**20:,.0f}")
    for path in small:
        folder = _fetch(name, info.sha, files[path], where).parents[path.count("/")]
    unet_config, _ = read_configs(folder, layout, where)
    try:
        expected = num_parameters(unet_config)
    except Exception as error:  # whatever diffusers raises for a configuration that makes no network
        raise ValueError(f"{where}: {layout.unet_config} makes no network ({first_line(error)})") from None
    if not 2 * expected <= weights.size <= 8 * expected + 2**20:  # 16 to 64 bits each, and a header
        raise ValueError(
            f"{where}: {layout.weights} has {weights.size:,} bytes, and the network {expected:,} parameters; they do "
            "not belong together"
        )
    _fetch(name, info.sha, weights, where)
    return folder


def _fetch(name: str, commit: str, sibling, where: str) -> Path:
    """A file of the cache, equal to what the Hub lists: the client itself only compares sizes.

    Raises:
        ValueError: it is damaged, also when downloaded again.
    """
    from huggingface_hub import hf_hub_download

    for again in (False, True):

        def download(again: bool = again) -> Path:
            return Path(hf_hub_download(name, sibling.rfilename, revision=commit, force_download=again))

        path = _retry(download)
        if _Sums.of(path).match(sibling):
            return path
        log.warning("%s: %s is damaged%s", name, sibling.rfilename, "" if again else "; downloading it again")
    _forget(path)
    raise ValueError(
        f"{where}: {sibling.rfilename} is damaged, downloaded twice: it is not what the Hub lists. Try again later, or "
        "take another --revision"
    )


def _forget(path: Path) -> None:
    """Take a file out of the cache, so that nobody else loads it."""
    while path.is_symlink():  # to a name by checksum, and that, by Xet, to a file that repositories share
        link, path = path, path.parent / os.readlink(path)
        link.unlink()
    path.unlink(missing_ok=True)


def _cached(name: str, revision: str | None, where: str) -> Path | None:
    """The folder of a pull that was complete and is undamaged, found without the Hub.

    Raises:
        ValueError: it is damaged.
    """
    from huggingface_hub import try_to_load_from_cache

    from .checkpoint import Layout

    for probe in ("unet/config.json", "config.json"):
        found = try_to_load_from_cache(name, probe, revision=revision)
        if not isinstance(found, str):
            continue
        folder = Path(found).parents[probe.count("/")]
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        try:
            layout = Layout.of(files)
        except ValueError:
            continue
        for part in filter(None, dataclasses.astuple(layout)):
            if not files[part].is_symlink():
                continue  # a cache without links: nothing to compare with
            # The cache names files by their checksum: SHA-256 or git's.
            sums, listed = _Sums.of(files[part]), Path(os.readlink(files[part])).name
            if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", listed) and listed not in (sums.sha256, sums.blob_id):
                raise ValueError(f"{where}: {part} in the cache is damaged, and the Hub cannot be asked for another")
        return folder
    return None


# ------------------------------------------------------------------------------------------------------------- by hand

ERROR = "ddpm.hub: error: "


def main(argv: list[str] | None = None) -> int:
    """Push by hand: prints the address of the commit. Exit status 0 done, 1 an error in one line, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m ddpm.hub", description="Push a model directory to the Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    options = commands.add_parser("push", help="upload DIR in one commit and pull it back for comparison")
    options.add_argument("directory", type=Path, metavar="DIR", help="model directory, as train.py writes it")
    options.add_argument("--repo_id", "--repo-id", help="<user>/<name>; default: the directory's name")
    options.add_argument("--private", action="store_true", help="make the repository private if it is new")
    options.add_argument("--no_verify", "--no-verify", action="store_true", help="do not pull it back")
    options.add_argument(
        "--limit_s", "--limit-s", type=float, default=PUSH_LIMIT_S, help="seconds to try (%(default)s)"
    )
    args = parser.parse_args(argv)
    if args.repo_id and not REPO_ID.fullmatch(args.repo_id) and not REPO_ID.fullmatch(f"user/{args.repo_id}"):
        parser.error(f"--repo_id {args.repo_id}: <user>/<name> or <name> is needed")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(push(args.directory, args.repo_id, args.private, not args.no_verify, args.limit_s).url, flush=True)
    except ValueError as error:
        if commit := getattr(error, "commit", None):
            print(commit, flush=True)
        print(f"{ERROR}{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Push a model directory to the Hub in one commit. Importing this module does not load torch.

A push compares the directory with the newest commit, sends what differs, and is tried again as long as that makes
sense.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import first_line
from ddpm.hub.checksums import Checksums
from ddpm.hub.contents import STALE, check_complete, files_to_push
from ddpm.hub.limits import limits
from ddpm.hub.snapshot import snapshot
from ddpm.hub.transport import Deadline, HubError, client, retry, trouble
from ddpm.metrics import read_metrics
from ddpm.names import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pushed:
    """Where a push went; `url` shows its commit."""

    repo_id: str
    commit: str
    url: str


def check_access(repo_id: str, private: bool = False) -> str:
    """Check, before hours of training, that there is a repository which this login may write to.

    Args:
        repo_id: <user>/<name>, or a name among the repositories of the logged-in user.
        private: if the repository does not exist yet, create it private.
    Returns:
        <user>/<name>.
    Raises:
        HubError: it says what to do; it is transient if only the Hub can do something.
    """
    from huggingface_hub import CommitOperationAdd

    try:
        with Deadline.after(limits.lookup_s):
            api = client(writing=True)
            repo_id = _find_or_create(api, repo_id, private, tries=3)
            # A repository that exists, or could be created, may still be read-only for this token. Only who may write
            # is told how a file would have to be sent; this asks for that and sends nothing.
            question = CommitOperationAdd("README.md", b"?")
            retry(lambda: api.preupload_lfs_files(repo_id, [question]), tries=3)
    except Exception as error:
        what = trouble(error, repo_id, writing=True)
        raise HubError(what.reason, what.transient) from None
    return repo_id


def _find_or_create(api, repo_id: str, private: bool, tries: int | None = None) -> str:
    """<user>/<name> of a repository, which is created if it does not exist.

    Raises:
        HubError: it exists and is public, although it should be private.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    if "/" not in repo_id:
        repo_id = f"{retry(lambda: api.whoami()['name'], tries)}/{repo_id}"
    try:
        public = not retry(lambda: api.model_info(repo_id), tries).private
    except RepositoryNotFoundError:
        retry(lambda: api.create_repo(repo_id, private=private, exist_ok=True), tries)
    else:
        if private and public:
            raise HubError(f"{repo_id} exists and is public: make it private in its settings, or name another one")
    return repo_id


def push(
    directory: str | os.PathLike,
    repo_id: str | None = None,
    private: bool = False,
    verify: bool = True,
    limit_s: float | None = None,
    wait_s: float = math.inf,
) -> Pushed:
    """Upload a model directory in one commit. Unchanged files are not sent; an unchanged model makes no commit.

    The push sends the directory as it is at one moment, so others may write to it meanwhile. On disk, only README.md
    changes: its commands name the repository. Of every path on this machine, only the last part is sent.

    Args:
        repo_id: <user>/<name>, or a name among the repositories of the logged-in user; default: the directory's name.
        private: if the repository does not exist yet, create it private.
        verify: download every file of the commit again and compare SHA-256.
        limit_s: seconds after which the push gives up; default: `limits.push_s`.
        wait_s: seconds to wait for a Hub that is down. A push that makes progress may take longer.
    Raises:
        HubError: in one line why it did not work and what to do.
        ValueError: there is no model in the directory, or it cannot be read.
    """
    directory = Path(directory)
    check_complete(directory, directory)
    repo_id = repo_id or directory.resolve().name
    with contextlib.ExitStack() as stack:
        stack.enter_context(Deadline.after(limits.push_s if limit_s is None else limit_s))
        try:
            with Deadline.after(wait_s):
                api = client(writing=True)
                repo_id = _find_or_create(api, repo_id, private)
        except Exception as error:
            what = trouble(error, repo_id, writing=True)
            raise HubError(what.reason, what.transient) from None
        try:
            folder = stack.enter_context(snapshot(directory, repo_id))
            check_complete(folder, directory)  # the model may be gone meanwhile
            files = {path: Checksums.of(folder / path) for path in files_to_push(folder)}
            message = _message(folder)
        except OSError as error:
            raise ValueError(f"{directory} cannot be read: {first_line(error)}") from None
        return _upload(api, folder, files, repo_id, message, verify, wait_s)


def _message(folder: Path) -> str:
    """The message of the commit."""
    rows = read_metrics(folder / "metrics.jsonl")
    return f"Model after {counted(rows[-1]['step'], 'step')}" if rows else "Model"


def _upload(
    api: Any, folder: Path, files: dict[str, Checksums], repo_id: str, message: str, verify: bool, wait_s: float
) -> Pushed:
    """Commit the files of a folder, and verify them if wanted.

    Raises:
        HubError: in one line why it did not work; it carries the address of the commit if there is one.
    """
    pushed = None
    try:
        # Every try compares with the newest commit, and so recognises a commit whose answer got lost.
        pushed = retry(lambda: _commit(api, folder, files, repo_id, message), wait_s=wait_s)
        if verify:
            _verify(files, pushed, wait_s)
    except HubError:
        raise
    except Exception as error:
        what = trouble(error, repo_id, writing=True)
        if pushed is None:
            raise HubError(what.reason, what.transient) from None
        reason = f"the commit is on the Hub, but could not be downloaded again for comparison: {what.reason}"
        raise HubError(reason, what.transient, pushed.url) from None
    return pushed


def _commit(api: Any, folder: Path, files: dict[str, Checksums], repo_id: str, message: str) -> Pushed:
    """Commit what differs from the newest commit; if nothing does, return that one."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.constants import ENDPOINT

    head = api.model_info(repo_id, revision="main", files_metadata=True)
    there = {sibling.rfilename: sibling for sibling in head.siblings}
    changes: list = [
        CommitOperationAdd(path, folder / path)
        for path, sums in files.items()
        if path not in there or not sums.match(there[path])
    ]
    gone = [path for path in there if path not in files and any(fnmatch.fnmatch(path, stale) for stale in STALE)]
    changes += map(CommitOperationDelete, gone)
    commit = head.sha
    if changes:
        # The Hub rejects this if somebody else was faster; the next try then compares with their commit.
        commit = api.create_commit(repo_id, changes, commit_message=message, parent_commit=head.sha).oid
    return Pushed(repo_id, commit, f"{ENDPOINT}/{repo_id}/tree/{commit}")


def _verify(files: dict[str, Checksums], pushed: Pushed, wait_s: float) -> None:
    """Download every file of the commit and compare it with what was sent.

    Raises:
        HubError: a file differs, also when downloaded again.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def fetch(path: str, size: int) -> Checksums:
        # This bypasses the client's caches of files and of Xet's chunks: only what the Hub delivers counts.
        url = hf_hub_url(pushed.repo_id, path, revision=pushed.commit)
        with get_session().stream("GET", url, headers=build_hf_headers()) as response:
            hf_raise_for_status(response)
            return Checksums.read(response.iter_bytes(2**20), size)

    for path, sums in files.items():
        for _ in range(2):
            if retry(lambda path=path, sums=sums: fetch(path, sums.size), wait_s=wait_s) == sums:
                break
        else:
            raise HubError(f"{path} came back from the Hub damaged, twice", transient=True, commit=pushed.url)

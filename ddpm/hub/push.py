"""Push a model directory: one commit, made against the head that it was compared with, retried as long as that makes
sense. Importing this module does not load torch."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm.errors import first_line
from ddpm.files import write_text
from ddpm.hub import card
from ddpm.hub.card import reduced
from ddpm.hub.checksums import Checksums
from ddpm.hub.transport import HubError, Limit, client, retry, trouble
from ddpm.metrics import read_metrics, to_lines

log = logging.getLogger(__name__)

# All that a push sends: never training state, caches or other people's pickles.
PUSHED = (
    "model_index.json unet/config.json unet/*.safetensors scheduler/scheduler_config.json README.md train_config.json "
    "metrics.jsonl *.png samples/step-*.png"
).split()
STALE = "samples/step-*.png"  # of what is on the Hub and no longer here, these alone go: others may have put more there
MODEL = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
EXTRAS = ("train_config.json", "metrics.jsonl")  # what describes a model that is whole without it
LOOKUP_LIMIT_S = 60  # to find out whether there is a repository, and what it holds; again to fetch its JSON
PUSH_LIMIT_S = 900  # a push with all its tries


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
        with Limit.after(LOOKUP_LIMIT_S):
            api = client(writing=True)
            repo_id = _claimed(api, repo_id, private, tries=3)
            # Sends nothing: asks how this file would have to be sent, which only who may write is told. That the
            # repository exists, or could be created, says nothing about the right to write to it.
            question = CommitOperationAdd("README.md", b"?")
            retry(lambda: api.preupload_lfs_files(repo_id, [question]), tries=3)
    except Exception as error:
        what = trouble(error, repo_id, writing=True)
        raise HubError(what.reason, what.transient) from None
    return repo_id


def _claimed(api, repo_id: str, private: bool, tries: int | None = None) -> str:
    """<user>/<name> of a repository, created if it was not there.

    Raises:
        HubError: it is there and public, but was to be private.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    if "/" not in repo_id:
        repo_id = f"{retry(lambda: api.whoami()['name'], tries)}/{repo_id}"
    try:
        public = not retry(lambda: api.model_info(repo_id), tries).private
    except RepositoryNotFoundError:
        public = None
    if public is None:
        retry(lambda: api.create_repo(repo_id, private=private, exist_ok=True), tries)
    elif private and public:
        raise HubError(f"{repo_id} exists and is public: make it private in its settings, or name another repository")
    return repo_id


def push(
    directory: str | os.PathLike,
    repo_id: str | None = None,
    private: bool = False,
    verify: bool = True,
    limit_s: float = PUSH_LIMIT_S,
) -> Pushed:
    """Upload a model directory in one commit; unchanged files are not sent, an unchanged model makes no commit.

    Nothing but README.md changes on disk: its commands get the name of the repository. What goes up is the directory
    at one moment, so others may write to it meanwhile; of paths on this machine, their last part goes up.

    Args:
        repo_id: <user>/<name>, or a name of the logged-in user's; default: the directory's name.
        private: make the repository private if it does not exist yet.
        verify: pull every file back at the commit and compare SHA-256.
        limit_s: seconds after which no more is tried.
    Raises:
        HubError: in one line why it did not work and what to do.
        ValueError: there is no model in the directory, or it cannot be read.
    """
    directory = Path(directory)
    _need_model(directory, directory)
    repo_id, pushed = repo_id or directory.resolve().name, None
    with contextlib.ExitStack() as stack:
        stack.enter_context(Limit.after(limit_s))
        try:
            api = client(writing=True)
            repo_id = _claimed(api, repo_id, private)
        except Exception as error:
            what = trouble(error, repo_id, writing=True)
            raise HubError(what.reason, what.transient) from None
        try:
            still = stack.enter_context(_still(directory, repo_id))
            _need_model(still, directory)  # it may have gone meanwhile
            files = {path: Checksums.of(still / path) for path in belongings(still)}
            rows = _rows(still)
        except OSError as error:
            raise ValueError(f"{directory} cannot be read: {first_line(error)}") from None
        message = f"Model after {rows[-1]['step']:,} steps" if rows else "Model"
        try:
            # Every try begins with what is up there now: a commit whose answer got lost is recognised.
            pushed = retry(lambda: _commit(api, still, files, repo_id, message))
            if verify:
                _verify(files, pushed)
        except HubError:
            raise
        except Exception as error:
            what, up = trouble(error, repo_id, writing=True), pushed and pushed.url
            but = "it is up there, but could not be pulled back for comparison: " if up else ""
            raise HubError(but + what.reason, what.transient, up) from None
    return pushed


def _need_model(files: Path, directory: Path) -> None:
    for name in MODEL:
        if not (files / name).is_file():
            raise ValueError(f"{directory}: no {name}, so there is no model to push")


def belongings(directory: Path) -> list[str]:
    """Files of a model directory that belong on the Hub, relative to it."""
    paths = (p.relative_to(directory).as_posix() for pattern in PUSHED for p in directory.glob(pattern) if p.is_file())
    return sorted({path for path in paths if not any(part.startswith(".") for part in path.split("/"))})


def link(directory: Path, target: Path) -> None:
    """Make `target` what belongs on the Hub of a directory, in milliseconds: what is only ever replaced is linked."""
    for name in belongings(directory):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # an old sample, just removed
            try:
                if name == "metrics.jsonl":
                    raise OSError("is appended to")
                os.link((directory / name).resolve(), path)
            except OSError:
                shutil.copyfile(directory / name, path)


@contextlib.contextmanager
def _still(directory: Path, repo_id: str) -> Iterator[Path]:
    """What a push sends, at one moment and beside the directory if it may be written to: there, weights are linked."""
    for place in (directory / "checkpoints", directory, None):
        still = None
        try:
            still = Path(tempfile.mkdtemp(prefix=f".pushing-{os.getpid()}-", dir=place))
            _copy_into(still, directory, repo_id)
            break
        except OSError:  # not there, not to be written to, or full
            if still:
                shutil.rmtree(still, ignore_errors=True)
            if place is None:
                raise
    try:
        yield still
    finally:
        shutil.rmtree(still, ignore_errors=True)


def _copy_into(still: Path, directory: Path, repo_id: str) -> None:
    link(directory, still)
    card.write(still, repo_id)
    readme = still / "README.md"
    try:
        if readme.is_file():
            readme.read_text(encoding="utf-8")
    except ValueError:
        log.warning("README.md is not pushed: it is no UTF-8")
        readme.unlink()
    _keep_card(readme, directory / "README.md")
    _without_paths(still)


def _keep_card(new: Path, kept: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may only be read
        if new.is_file() and not (kept.is_file() and new.read_bytes() == kept.read_bytes()):
            temporary = kept.with_name(f".tmp-{kept.name}")
            shutil.copyfile(new, temporary)
            os.replace(temporary, kept)


def _without_paths(still: Path) -> None:
    """Leave of this machine's paths in settings and metrics their last part. What cannot be read goes up as it is."""
    for name in EXTRAS:
        path = still / name
        try:
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            if name == "metrics.jsonl":
                rows = read_metrics(path)
                same = len(rows) == len(before.splitlines())  # no half row, for one
                after = to_lines(map(reduced, rows))
            else:
                rows, same = json.loads(before or "{}"), True
                after = json.dumps(reduced(rows), indent=1) + "\n"
        except (ValueError, RecursionError):
            continue
        if not same or reduced(rows) != rows:
            write_text(path, after)  # replaced, not written into: it is a link


def _rows(directory: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(directory / "metrics.jsonl")
    except ValueError as error:
        log.warning("metrics.jsonl is pushed as it is: %s", first_line(error))
        return []


def _commit(api, directory: Path, files: dict[str, Checksums], repo_id: str, message: str) -> Pushed:
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
        # Refused if somebody else was faster; then the next try compares with theirs.
        commit = api.create_commit(repo_id, changes, commit_message=message, parent_commit=head.sha).oid
    return Pushed(repo_id, commit, f"{ENDPOINT}/{repo_id}/tree/{commit}")


def _verify(files: dict[str, Checksums], pushed: Pushed) -> None:
    """Pull every file back at the commit and compare.

    Raises:
        HubError: one is not what was sent, twice.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    def fetch(path: str, size: int) -> Checksums:
        # Past the client's caches, of files and of Xet's chunks: what counts is what the Hub hands out.
        url = hf_hub_url(pushed.repo_id, path, revision=pushed.commit)
        with get_session().stream("GET", url, headers=build_hf_headers()) as response:
            hf_raise_for_status(response)
            return Checksums.read(response.iter_bytes(2**20), size)

    for path, sums in files.items():
        for _ in range(2):
            if retry(lambda path=path, sums=sums: fetch(path, sums.size)) == sums:
                break
        else:
            raise HubError(f"{path} came back from the Hub damaged, twice", transient=True, commit=pushed.url)

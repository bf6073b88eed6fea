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
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import card
from .card import REPO_ID, reduced
from .errors import first_line
from .files import write_text
from .metrics import read_metrics, to_lines
from .transport import HubError, Limit, client, retry, trouble

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

__all__ = ["HubError", "Pushed", "check_access", "pull", "push"]

log = logging.getLogger(__name__)

# All that a push sends: never training state, caches or other people's pickles.
PUSHED = (
    "model_index.json unet/config.json unet/*.safetensors scheduler/scheduler_config.json README.md train_config.json "
    "metrics.jsonl *.png samples/step-*.png"
).split()
STALE = "samples/step-*.png"  # of what is on the Hub and no longer here, these alone go: others may have put more there
MODEL = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors")
EXTRAS = ("train_config.json", "metrics.jsonl")  # of a pull: a model is one without them
SAMPLES = re.compile(r"samples/step-\d{1,9}\.png")  # the same; at most MAX_SAMPLES, first and last among them

MAX_WEIGHTS_BYTES = 4 * 2**30  # of a pull; the paper's largest network has 0.5
MAX_JSON_BYTES = 2**20  # of a pull, per file
MAX_EXTRA_BYTES = 8 * 2**20
MAX_SAMPLES, MAX_SAMPLE_BYTES = 12, 2**20

LOOKUP_LIMIT_S = 60  # to find out whether there is a repository, and what it holds; again to fetch its JSON
SLOWEST_BYTES_PER_S = 2**18  # of weights; a line as slow as that gets them, a Hub that trickles does not hold us up
PUSH_LIMIT_S = 900  # a push with all its tries


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
            files = {path: _Sums.of(still / path) for path in belongings(still)}
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


def _commit(api, directory: Path, files: dict[str, _Sums], repo_id: str, message: str) -> Pushed:
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
            if retry(lambda path=path, sums=sums: fetch(path, sums.size)) == sums:
                break
        else:
            raise HubError(f"{path} came back from the Hub damaged, twice", transient=True, commit=pushed.url)


# -------------------------------------------------------------------------------------------------------------- pulling


def pull(id_or_dir: str | os.PathLike, revision: str | None = None, weights: bool = True) -> Checkpoint:
    """A checkpoint from a directory or the Hub: a UNet2DModel of safetensors and a DDPMScheduler.

    At most seven files of known names and twelve sample grids are fetched, JSON first, and the weights only when their
    size and the configuration are known to be in order. Every file is compared with its checksum. No code of the
    repository is run.
    While the Hub cannot be asked, or breaks off, the last complete pull serves.

    Args:
        revision: branch, tag or commit; default: main as it is now. `Checkpoint.revision` is the commit.
        weights: as `checkpoint.load` has it; they are fetched in any case.
    Raises:
        ValueError: in one line why it cannot be had or is refused.
    """
    from .checkpoint import load

    path, name = Path(id_or_dir).expanduser(), str(id_or_dir)
    if path.is_dir():
        if revision:
            raise ValueError(f"model {name!r} is a directory, which has no revision {revision!r}")
        return load(path, weights=weights)
    if not REPO_ID.fullmatch(name):
        raise ValueError(f"model {name!r}: no such directory, and no name of a Hub repository like user/name")
    where, info = f"model {name!r}" + (f" at {revision!r}" if revision else ""), None
    try:
        with Limit.after(LOOKUP_LIMIT_S):
            api = client()
            info = retry(lambda: api.model_info(name, revision=revision, files_metadata=True), tries=3)
    except Exception as error:
        what = trouble(error, name)
    if info is not None:
        try:
            folder = _fetch_all(name, info, where)
        except Exception as error:
            if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
                raise
            what = trouble(error, name)
        else:
            _note(folder, revision)
            return load(folder, name, info.sha, weights)
    folder = None if what.refused else _cached(name, revision, where)
    if folder is None:
        raise ValueError(f"{where} cannot be pulled: {what.reason}; nor is there such a directory here")
    log.warning("%s: %s; using the copy in the cache, commit %s", name, what.reason, folder.name)
    return dataclasses.replace(load(folder, name, folder.name, weights), offline=True)


def _fetch_all(name: str, info, where: str) -> Path:
    """The folder of the cache that then holds all files of a model.

    Args:
        info: of the repository at one commit, with sizes and checksums.
    """
    from .checkpoint import Layout, check_weights, read_configs

    files = {sibling.rfilename: sibling for sibling in info.siblings}
    try:
        layout = Layout.of(files)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    weights = files[layout.weights]
    small = [p for p in (layout.index, layout.unet_config, layout.scheduler_config) if p]
    for path, limit in [(layout.weights, MAX_WEIGHTS_BYTES), *((p, MAX_JSON_BYTES) for p in small)]:
        if (files[path].size or 0) > limit:
            raise ValueError(f"{where}: {path} has {files[path].size / 2**20:,.0f} MiB, more than {limit / 2**20:,.0f}")
    with Limit.after(LOOKUP_LIMIT_S):
        for path in small:
            folder = _fetch(name, info.sha, files[path], where).parents[path.count("/")]
    unet_config, _ = read_configs(folder, layout, where)
    check_weights(unet_config, weights.size or 0, layout, where)
    with Limit.after(LOOKUP_LIMIT_S + weights.size / SLOWEST_BYTES_PER_S):
        _fetch(name, info.sha, weights, where)
    with Limit.after(LOOKUP_LIMIT_S):
        for path in [*(p for p in EXTRAS if p in files), *_samples(files)]:
            limit = MAX_EXTRA_BYTES if path in EXTRAS else MAX_SAMPLE_BYTES
            try:
                if (files[path].size or 0) > limit:
                    raise ValueError(f"more than {limit / 2**20:,.0f} MiB")
                _fetch(name, info.sha, files[path], where)
            except Exception as error:
                log.warning("%s: without its %s: %s", where, path, trouble(error, name).reason)
    return folder


def _samples(files: Iterable[str]) -> list[str]:
    """Sample grids worth fetching, evenly spread over the training."""
    found = sorted(
        (p for p in files if SAMPLES.fullmatch(p)), key=lambda p: int(p[len("samples/step-") : -len(".png")])
    )
    places = {round(i * (len(found) - 1) / (MAX_SAMPLES - 1)) for i in range(MAX_SAMPLES)} if found else set()
    return [found[i] for i in sorted(places)]


def _fetch(name: str, commit: str, sibling, where: str) -> Path:
    """A file of the cache, equal to what the Hub lists: the client itself only compares sizes.

    Raises:
        ValueError: it is damaged, also when downloaded again.
    """
    from huggingface_hub import hf_hub_download

    for again in (False, True):

        def download(again: bool = again) -> Path:
            return Path(hf_hub_download(name, sibling.rfilename, revision=commit, force_download=again))

        path = retry(download, tries=5)
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


def _storage(name: str) -> Path:
    """Where the client's cache keeps a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _note(folder: Path, revision: str | None) -> None:
    """Note down, as the client does, what a revision was, but not before all of it is there."""
    ref = folder.parents[1] / "refs" / (revision or "main")
    if revision != folder.name:
        with contextlib.suppress(OSError):  # a cache that may only be read
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(folder.name)


def _cached(name: str, revision: str | None, where: str) -> Path | None:
    """The folder of a pull that was complete and is undamaged, found without the Hub: of the revision as it was last,
    or, where no certain one was asked for, the newest.

    Raises:
        ValueError: it is damaged.
    """
    from .checkpoint import Layout

    storage, damaged = _storage(name), None
    found = [storage / "snapshots" / (revision or "main")]
    with contextlib.suppress(OSError):
        found = [storage / "snapshots" / (storage / "refs" / (revision or "main")).read_text().strip()]
    if revision in (None, "main"):
        found += sorted(storage.glob("snapshots/*"), key=lambda p: p.stat().st_mtime, reverse=True)
    for folder in found:
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
                damaged = damaged or part
                break
        else:
            return folder
    if damaged:
        raise ValueError(f"{where}: {damaged} in the cache is damaged, and the Hub cannot be asked for another")
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

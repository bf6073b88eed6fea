"""Pull a model from the Hub: JSON and safetensors of known names, compared with their checksums. No code of a
repository runs here. Importing this module does not load torch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm.hub.checksums import Checksums
from ddpm.hub.contents import EXTRAS, REPO_ID, SAMPLE
from ddpm.hub.limits import limits
from ddpm.hub.transport import Deadline, Trouble, client, retry, trouble

if TYPE_CHECKING:
    from ddpm.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def pull(id_or_dir: str | os.PathLike, revision: str | None = None, weights: bool = True) -> Checkpoint:
    """A checkpoint from a directory or from the Hub: a UNet2DModel of safetensors and a DDPMScheduler.

    From the Hub come only files of known names: the JSON files first, and the weights, in one file or in shards, only
    if the configuration and their size are in order; then at most twelve sample grids. Every file is compared with its
    checksum, and no code of the repository is run. If the Hub is unavailable, or the download fails, the last complete
    copy in the cache is used.

    Args:
        revision: branch, tag or commit; default: main as it is now. `Checkpoint.revision` is the commit.
        weights: as in `checkpoint.load`; the file of weights is downloaded in any case.
    Raises:
        ValueError: in one line why there is no such model, or why it is rejected.
    """
    from ddpm.checkpoint import load

    path, name = Path(id_or_dir).expanduser(), str(id_or_dir)
    if path.is_dir():
        if revision:
            raise ValueError(f"model {name!r} is a directory, which has no revision {revision!r}")
        return load(path, weights=weights)
    if not REPO_ID.fullmatch(name):
        raise ValueError(f"model {name!r}: no such directory, and no name of a Hub repository like user/name")
    where = f"model {name!r}" + (f" at {revision!r}" if revision else "")
    try:
        with Deadline.after(limits.lookup_s):
            api = client()
            info = retry(lambda: api.model_info(name, revision=revision, files_metadata=True), tries=3)
    except Exception as error:
        return _load_cached(name, revision, where, trouble(error, name), weights)
    try:
        folder = _download(name, info, where)
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
            raise  # the model is rejected
        return _load_cached(name, revision, where, trouble(error, name), weights)
    _remember(folder, revision)
    return load(folder, name, info.sha, weights)


def _load_cached(name: str, revision: str | None, where: str, what: Trouble, weights: bool) -> Checkpoint:
    """The last complete copy in the cache.

    Args:
        what: why the Hub could not deliver the model.
    Raises:
        ValueError: there is no such copy, or it must not be used.
    """
    from ddpm.checkpoint import load

    folder = None if what.refused else _find_cached(name, revision, where)
    if folder is None:
        raise ValueError(f"{where} cannot be pulled: {what.reason}, and there is no local directory of this name")
    log.warning("%s: %s; using the copy in the cache, commit %s", name, what.reason, folder.name)
    return dataclasses.replace(load(folder, name, folder.name, weights), offline=True)


def _download(name: str, info, where: str) -> Path:
    """Download all files of a model into the client's cache, and return their folder.

    Args:
        info: of the repository at one commit, with sizes and checksums.
    Raises:
        ValueError: the model is rejected, or a file is damaged.
    """
    from ddpm.model_files import Layout, check_weights, read_configs

    files = {sibling.rfilename: sibling for sibling in info.siblings}
    try:
        layout = Layout.of(files, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if layout.unread:
        log.warning("%s: not downloaded: %s", name, ", ".join(layout.unread[:6]))
    size = sum(files[path].size or 0 for path in layout.weights)
    what = layout.weights[0] if len(layout.weights) == 1 else f"the {len(layout.weights)} shards together"
    sizes = [(what, size, limits.max_weights_bytes)]
    sizes += [
        (path, files[path].size or 0, limits.max_extra_bytes if path.endswith(".json") else limits.max_weights_bytes)
        for path in layout.labels
    ]
    sizes += [(path, files[path].size or 0, limits.max_json_bytes) for path in layout.small]
    for path, found, limit in sizes:
        if found > limit:
            raise ValueError(f"{where}: {path} has {found / 2**20:,.0f} MiB, more than {limit / 2**20:,.0f}")
    with Deadline.after(limits.lookup_s):
        folder = [_fetch(name, info.sha, files[path], where).parents[path.count("/")] for path in layout.small][-1]
    unet_config, *_ = read_configs(folder, layout, where, tell=False)
    check_weights(unet_config, size, layout, where)
    with Deadline.after(limits.lookup_s + size / limits.slowest_bytes_per_s):
        for path in (*layout.weights, *layout.labels):
            _fetch(name, info.sha, files[path], where)
    with Deadline.after(limits.lookup_s):
        for path in [*(p for p in EXTRAS if p in files), *_samples(files)]:
            limit = limits.max_extra_bytes if path in EXTRAS else limits.max_sample_bytes
            try:
                if (files[path].size or 0) > limit:
                    raise ValueError(f"more than {limit / 2**20:,.0f} MiB")
                _fetch(name, info.sha, files[path], where)
            except Exception as error:
                log.warning("%s: without its %s: %s", where, path, trouble(error, name).reason)
    return folder


def _samples(files: Iterable[str]) -> list[str]:
    """Sample grids to download: at most `limits.max_samples`, spread evenly over the training, with both ends."""
    steps = {path: int(match[1]) for path in files if (match := SAMPLE.fullmatch(path))}
    found, count = sorted(steps, key=steps.__getitem__), limits.max_samples
    return (
        [found[i] for i in sorted({round(i * (len(found) - 1) / (count - 1)) for i in range(count)})] if found else []
    )


def _fetch(name: str, commit: str, sibling, where: str) -> Path:
    """Download a file into the cache and compare its checksum; the client itself only compares sizes.

    Raises:
        ValueError: the file is damaged, also when downloaded again.
    """
    from huggingface_hub import hf_hub_download

    for again in (False, True):

        def download(again: bool = again) -> Path:
            return Path(hf_hub_download(name, sibling.rfilename, revision=commit, force_download=again))

        path = retry(download, tries=5)
        if Checksums.of(path).match(sibling):
            return path
        log.warning("%s: %s is damaged%s", name, sibling.rfilename, "" if again else "; downloading it again")
    _remove(path)
    raise ValueError(
        f"{where}: {sibling.rfilename} is damaged, downloaded twice: its checksum is not the one that the Hub lists. "
        "Try again later, or pass another --revision"
    )


def _remove(path: Path) -> None:
    """Remove a file from the cache, so that nobody else loads it."""
    while path.is_symlink():  # to a file named by its checksum, and with Xet from there to one that repositories share
        link, path = path, path.parent / os.readlink(path)
        link.unlink()
    path.unlink(missing_ok=True)


def _storage(name: str) -> Path:
    """The folder of the client's cache that keeps a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _remember(folder: Path, revision: str | None) -> None:
    """Note which commit a revision is, as the client does, but only once all files are there."""
    ref = folder.parents[1] / "refs" / (revision or "main")
    if revision != folder.name:
        with contextlib.suppress(OSError):  # the cache may be read-only
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(folder.name)


def _find_cached(name: str, revision: str | None, where: str) -> Path | None:
    """The folder of a complete and undamaged copy in the cache, found without the Hub.

    It is the one that `revision` was last; for main, if that one is incomplete or damaged, the newest copy.

    Raises:
        ValueError: there are only damaged copies.
    """
    from ddpm.model_files import Layout

    storage, damaged = _storage(name), None
    found = [storage / "snapshots" / (revision or "main")]
    with contextlib.suppress(OSError):
        found = [storage / "snapshots" / (storage / "refs" / (revision or "main")).read_text().strip()]
    if revision in (None, "main"):
        found += sorted(storage.glob("snapshots/*"), key=lambda p: p.stat().st_mtime, reverse=True)
    for folder in found:
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        try:
            layout = Layout.of(files, name)
        except ValueError:
            continue
        bad = next((part for part in layout.files if _is_damaged(files[part])), None)
        if bad is None:
            return folder
        damaged = damaged or bad
    if damaged:
        raise ValueError(f"{where}: {damaged} in the cache is damaged, and the Hub is unavailable")
    return None


def _is_damaged(path: Path) -> bool:
    """Whether a file of the cache differs from its checksum, SHA-256 or git's, by which the cache names it."""
    if not path.is_symlink():
        return False  # a cache without links has no checksums
    listed = Path(os.readlink(path)).name
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", listed):
        return False
    sums = Checksums.of(path)
    return listed not in (sums.sha256, sums.blob_id)

"""Pull a model: safetensors and JSON of known names, every file compared with its checksum, nobody's code run.
Importing this module does not load torch."""

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

from ddpm.hub.card import REPO_ID
from ddpm.hub.checksums import Checksums
from ddpm.hub.push import EXTRAS, LOOKUP_LIMIT_S
from ddpm.hub.transport import Limit, client, retry, trouble

if TYPE_CHECKING:
    from ddpm.checkpoint import Checkpoint

log = logging.getLogger(__name__)

SAMPLES = re.compile(r"samples/step-\d{1,9}\.png")  # optional; at most MAX_SAMPLES, with the first and the last
MAX_WEIGHTS_BYTES = 4 * 2**30  # of a pull; the paper's largest network has 0.5
MAX_JSON_BYTES = 2**20  # of a pull, per file
MAX_EXTRA_BYTES = 8 * 2**20
MAX_SAMPLES, MAX_SAMPLE_BYTES = 12, 2**20
SLOWEST_BYTES_PER_S = 2**18  # of weights; a line as slow as that gets them, a Hub that trickles does not hold us up


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
    from ddpm.checkpoint import load

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
    from ddpm.checkpoint import Layout, check_weights, read_configs

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
        if Checksums.of(path).match(sibling):
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
    from ddpm.checkpoint import Layout

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
            sums, listed = Checksums.of(files[part]), Path(os.readlink(files[part])).name
            if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", listed) and listed not in (sums.sha256, sums.blob_id):
                damaged = damaged or part
                break
        else:
            return folder
    if damaged:
        raise ValueError(f"{where}: {damaged} in the cache is damaged, and the Hub cannot be asked for another")
    return None

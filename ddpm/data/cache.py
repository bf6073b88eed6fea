"""Prepared datasets in the cache: which are whole, which are old, and which commits of a Hub dataset there are.

A prepared dataset is a folder with meta.json, and with NAME.u8 and perhaps NAME.labels and NAME.groups for both splits.
Whatever is not whole counts as absent: files may have been cut off by a full disk, emptied by a crash, or removed to
free space.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any

from ddpm.data.options import DataOptions
from ddpm.files import cache_folder
from ddpm.names import size_of

log = logging.getLogger(__name__)

FORMAT = 9  # of the prepared files; raise it when what is written changes


def damage(folder: Path) -> str | None:
    """What is wrong with a prepared dataset, or None if it is whole. Only the sizes of files are looked at."""
    try:
        meta = read_meta(folder)
        for split in ("train", "eval"):
            number = meta[f"num_{split}"]
            sizes = {f"{split}.u8": math.prod((number, meta["channels"], *size_of(meta["resolution"])))}
            if split in meta["labelled"]:
                sizes[f"{split}.labels"] = 8 * number
            if meta["grouped"]:
                sizes[f"{split}.groups"] = 8 * number
            for name, size in sizes.items():
                found = (folder / name).stat().st_size
                if found != size:
                    return f"{name} has {found} bytes instead of {size}"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"meta.json is unusable ({type(error).__name__})"
    return None


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of meta.json.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    needed = ["format", "options", "source", "fingerprint", "notes", "eval_split", "labelled"]
    if isinstance(meta, dict) and meta.get("format") == FORMAT:  # older ones are listed, too, so that they can go
        needed += ["label_names", "grouped"]
    if not isinstance(meta, dict) or not isinstance(meta.get("source"), dict) or any(key not in meta for key in needed):
        raise ValueError(f"{folder / 'meta.json'} is damaged")
    return meta


def prepared() -> list[tuple[Path, dict[str, Any]]]:
    """The folders of all prepared datasets with what their meta.json says, the oldest first. Damaged ones are left
    out."""
    found = []
    for path in cache_folder().glob("*/meta.json"):
        try:
            found.append((path.stat().st_mtime, path.parent, read_meta(path.parent)))
        except (OSError, ValueError):
            continue
    return [(folder, meta) for _, folder, meta in sorted(found, key=lambda entry: entry[:2])]


def prepared_commits(options: DataOptions) -> list[str]:
    """The commits of a Hub dataset that were prepared with these options, the oldest first."""
    wanted, defaults = json.loads(json.dumps(vars(options))), vars(DataOptions())  # older ones lack newer options
    return [
        meta["source"]["commit"]
        for folder, meta in prepared()
        if meta["source"].get("id") == options.dataset_name
        and defaults | meta["options"] == wanted
        and not damage(folder)
    ]


def replace(temporary: Path, folder: Path) -> None:
    """Move what was prepared in `temporary` to `folder`, in place of what is damaged there."""
    if folder.exists():
        remove(folder)
    os.replace(temporary, folder)


def remove(folder: Path) -> None:
    """Remove a prepared dataset; it is gone at once, even if this process is killed before the files are."""
    aside = folder.with_name(f".{folder.name}-removed")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_old(folder: Path, source: dict[str, Any]) -> None:
    """Remove the prepared copies of what a folder of images held before, now that `folder` is prepared.

    Copies of its present content with other options stay. A process that trains from an old copy goes on: on Linux and
    macOS the pixels of a removed file stay readable for whoever has mapped it into memory. Only a network file system
    does not promise that to other machines.
    """
    if source["kind"] != "folder":
        return
    for other, meta in prepared():
        before = meta["source"]
        same = before["kind"] == "folder" and before.get("path") == source["path"] and other != folder
        if same and (meta["format"] < FORMAT or before.get("listing") != source["listing"]):
            try:
                remove(other)
                log.info("removed %s, prepared from what %s held before", other, source["path"])
            except OSError as error:
                log.warning("The old prepared images in %s could not be removed (%s)", other, error)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed preparations left in the cache. The caller holds the lock of `folder`."""
    from filelock import FileLock, Timeout

    for leftover in folder.parent.glob(".*-*"):
        key = leftover.name[1:].split("-")[0]
        if key == folder.name:
            shutil.rmtree(leftover, ignore_errors=True)
            continue
        try:
            with FileLock(folder.with_name(f"{key}.lock"), timeout=0):
                shutil.rmtree(leftover, ignore_errors=True)
        except (Timeout, OSError):
            continue  # another process is preparing there

"""A model directory as it is at one moment, ready to be pushed while a training goes on writing to it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from ddpm.files import write_text
from ddpm.hub import card
from ddpm.hub.contents import EXTRAS, files_to_push
from ddpm.hub.privacy import without_paths
from ddpm.metrics import read_metrics, to_lines

log = logging.getLogger(__name__)

TRIES = 5  # to find a moment in which no training saves its model; it takes minutes from one to the next


def link_files(directory: Path, target: Path) -> None:
    """Bring the files of `directory` that a push sends into `target`, within milliseconds.

    Files that are only ever replaced as a whole are linked; the others are copied. If a training saves its model at
    that moment, everything is brought again, so that the weights and the vectors of the classes belong together.
    """
    for _ in range(TRIES):
        before = _tensors(directory)
        _bring(directory, target)
        if _tensors(directory) == before:
            return


def _tensors(directory: Path) -> dict[Path, tuple[int, int]]:
    """The files with tensors, each with what tells it from another of the same name."""
    found = {
        path: path.stat()
        for path in (directory / "labels.safetensors", *directory.glob("unet/*.safetensors"))
        if path.is_file()
    }
    return {path: (about.st_ino, about.st_mtime_ns) for path, about in found.items()}


def _bring(directory: Path, target: Path) -> None:
    for name in files_to_push(directory):
        path = target / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # of the try before: a copy would write into the file that it is linked to
        with contextlib.suppress(FileNotFoundError):  # an old sample grid that was just removed
            try:
                if name == "metrics.jsonl":
                    raise OSError("a training appends to it")
                os.link((directory / name).resolve(), path)
            except OSError:
                shutil.copyfile(directory / name, path)


@contextlib.contextmanager
def snapshot(directory: Path, repo_id: str) -> Iterator[Path]:
    """A temporary folder with the files that a push sends, without paths of this machine.

    The folder lies below `directory`, where weights can be linked, or, if that is read-only, in the system's own
    temporary folder. The model card of `directory` is written for the repository `repo_id` in passing.

    Raises:
        OSError: the files cannot be read, or there is no space for a snapshot.
    """
    folder = _make(directory, repo_id)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(directory: Path) -> None:
    """Remove the snapshots that killed processes have left in a model directory."""
    for folder in (*directory.glob(".pushing-*"), *directory.glob("checkpoints/.pushing-*")):
        if not _is_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    """Whether the process that made a snapshot still runs. A killed one may stay in the list until somebody collects
    its exit status, and its number may belong to a younger process."""
    number = folder.name.split("-")[1]
    try:
        process = psutil.Process(int(number))
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= folder.stat().st_ctime + 1
    except (ValueError, OSError, psutil.NoSuchProcess):
        return False


def _make(directory: Path, repo_id: str) -> Path:
    remove_abandoned(directory)
    for place in (directory / "checkpoints", directory):
        try:
            return _make_in(place, directory, repo_id)
        except OSError:  # not there, read-only, or full
            continue
    return _make_in(None, directory, repo_id)


def _make_in(place: Path | None, directory: Path, repo_id: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f".pushing-{os.getpid()}-", dir=place))
    try:
        link_files(directory, folder)
        card.write(folder, repo_id)
        _check_readme(folder / "README.md")
        _keep_readme(folder / "README.md", directory / "README.md")
        _shorten_paths(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _check_readme(path: Path) -> None:
    """Leave out a README.md that the Hub would reject."""
    try:
        if path.is_file():
            path.read_text(encoding="utf-8")
    except ValueError:
        log.warning("README.md is not pushed because it is not UTF-8")
        path.unlink()


def _keep_readme(new: Path, kept: Path) -> None:
    """Replace the directory's README.md by the one that is pushed, if they differ."""
    with contextlib.suppress(OSError):  # the directory may be read-only
        if new.is_file() and not (kept.is_file() and new.read_bytes() == kept.read_bytes()):
            temporary = kept.with_name(f".tmp-{kept.name}")
            shutil.copyfile(new, temporary)
            os.replace(temporary, kept)


def _shorten_paths(folder: Path) -> None:
    """Shorten the paths in settings and metrics to their last part. Files that cannot be read stay as they are."""
    for name in EXTRAS:
        path = folder / name
        try:
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            if name == "metrics.jsonl":
                rows = read_metrics(path)
                complete = len(rows) == len(before.splitlines())  # the last row may be written only in part
                after = to_lines(map(without_paths, rows))
            else:
                rows, complete = json.loads(before or "{}"), True
                after = json.dumps(without_paths(rows), indent=1) + "\n"
        except (ValueError, RecursionError):
            continue
        if not complete or without_paths(rows) != rows:
            write_text(path, after)  # this replaces the file; writing into it would change the original it is linked to

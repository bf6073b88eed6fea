"""The cache folder, files that are replaced as a whole, and the lock on the folder of a run.

Importing this loads nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock


def cache_folder() -> Path:
    """The folder for files that can be regenerated: DDPM_CACHE, or `ddpm` in the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm"
    return Path(os.environ.get("DDPM_CACHE") or fallback)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which replaces it at the end. If writing fails, nothing of it is left.

    Neither a reader nor a crash ever sees half a file at `path`.

    Raises:
        OSError: the disk is full or the folder is not writable; an earlier file is unchanged.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole (UTF-8), see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, and return once it is on the disk, where a power failure does not undo it.

    Raises:
        OSError: the disk is full or the folder is not writable; half a file may be left.
    """
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def claim(directory: Path) -> BaseFileLock:
    """Lock the folder of a run. The lock is held until it is dropped or the process ends, for whatever reason.

    Raises:
        ValueError: another process is training there.
    """
    from filelock import FileLock, Timeout  # takes 0.1 s to import, and most users of this module need no lock

    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / "checkpoints/.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is training in {directory}; wait for it, end it, or take another --output_dir"
        ) from None
    return lock

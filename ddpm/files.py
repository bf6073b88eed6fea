"""The cache folder, and files that are replaced as a whole: neither a reader nor a crash meets half of one.

Imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """What can be made again: DDPM_CACHE, or `ddpm` in the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm"
    return Path(os.environ.get("DDPM_CACHE") or fallback)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 beside `path`, then take its place.

    Raises:
        OSError: the disk is full or the folder not writable; what was there is untouched.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def claim(directory: Path):
    """A lock on the folder of a run, held until it is dropped or the process ends, however it ends.

    Raises:
        ValueError: another process trains there.
    """
    from filelock import FileLock, Timeout

    (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / "checkpoints/.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is training in {directory}; wait for it, end it, or take another --output_dir"
        ) from None
    return lock

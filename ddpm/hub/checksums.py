"""Checksums as the Hub lists them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checksums:
    """Size and checksums of a file. The Hub lists large files by SHA-256, and the others by git's blob id."""

    size: int
    sha256: str
    blob_id: str

    @classmethod
    def of(cls, path: Path) -> Checksums:
        """Those of a file on disk."""
        with open(path, "rb") as file:
            return cls.read(iter(lambda: file.read(2**20), b""), os.fstat(file.fileno()).st_size)

    @classmethod
    def read(cls, chunks: Iterable[bytes], size: int) -> Checksums:
        """Those of a file that comes in chunks and has `size` bytes altogether."""
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        for chunk in chunks:
            sha256.update(chunk)
            blob.update(chunk)
        return cls(size, sha256.hexdigest(), blob.hexdigest())

    def match(self, sibling) -> bool:
        """Whether the file has the content that the Hub lists for `sibling`."""
        if sibling.lfs is not None:
            return self.sha256 == sibling.lfs.sha256
        return self.blob_id == sibling.blob_id

"""Checksums as the Hub lists them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checksums:
    """Checksums of a file: the Hub lists large ones by SHA-256, others by git's blob id."""

    size: int
    sha256: str
    blob_id: str

    @classmethod
    def of(cls, path: Path) -> Checksums:
        with open(path, "rb") as file:
            return cls.read(iter(lambda: file.read(2**20), b""), os.fstat(file.fileno()).st_size)

    @classmethod
    def read(cls, chunks: Iterable[bytes], size: int) -> Checksums:
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

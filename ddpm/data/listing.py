"""Which files lie below a folder: links are followed, and system files and the output of training runs are no data.

File names are the file system's bytes. Python keeps bytes that are not UTF-8 as lone surrogates in a `str`, so a path
can always be opened; `wording.readable` makes a message of it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ddpm.data.wording import shown
from ddpm.files import cache_folder

# Files and folders that systems put beside pictures.
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information")
TRAINED = "train_config.json"  # lies in the folders that train.py writes
DRAWN = "samples.json"  # lies in those of ddpm.sample, which writes these settings, and in exports of other programs
DRAWN_SETTINGS = {"model", "weights", "seed"}
DRAWN_SIZE = 1 << 16  # bytes; a longer one is of another program
# The first bytes of the usual formats, for files without an ending.
BEGINNINGS = re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|BM|II\*\0|MM\0\*", re.DOTALL)
# "x.png~" is a backup, and "x.zip.001" a part of an archive.
ENDING = re.compile(r"\.([a-z][a-z0-9]{0,9}|7z|3gp|(?:zip|7z|tar|rar)\.\d{3})~?$", re.ASCII)
# Pillow knows these formats, but cannot draw their files by itself.
NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a folder or in an archive.

    Attributes:
        parts: its path below the root, part by part. A file in an archive counts as unpacked beside the archive.
        path: where it is; for a file in an archive, the archive's path with the member's name.
        size: in bytes.
        mtime_ns, inode: when it was changed, and which file it is; of a file on disk.
        linked: whether it is reached through a link to a file.
        archive, index, crc: the archive, the place in the archive's list, and the CRC-32; of a file in an archive.
    """

    parts: tuple[str, ...]
    path: str
    size: int
    mtime_ns: int = 0
    inode: tuple[int, int] = (0, 0)
    linked: bool = False
    archive: File | None = None
    index: int = 0
    crc: int = 0

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    @property
    def ending(self) -> str:
        """ ".png"; empty if the name has none."""
        found = ENDING.search(self.name.lower())
        return found[0] if found and found.start() else ""

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.name[: len(self.name) - len(self.ending)]

    @property
    def is_picture(self) -> bool:
        """Whether the name ends like that of a picture that Pillow reads."""
        return self.ending in picture_endings()

    @property
    def order(self) -> tuple[bytes, ...]:
        """The key by which files are sorted: the bytes of each part."""
        return tuple(os.fsencode(part) for part in self.parts)


@dataclass
class Listing:
    """What lies below a folder.

    Attributes:
        files: sorted. Hidden files, system files, and those in the following folders are not among them.
        hidden: how many hidden pictures there are.
        outputs: folders of training runs, and of samples that were drawn.
        programs: folders of other programs, which lie where people work.
        repeated: links to folders whose files are listed already, and links to files that are.
        broken: links that lead nowhere.
        unreadable: folders that cannot be read, with the reason.
    """

    files: list[File] = field(default_factory=list)
    hidden: int = 0
    outputs: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@functools.cache
def picture_endings() -> frozenset[str]:
    """The endings of files that Pillow reads, in lower case."""
    from PIL import Image

    endings = Image.registered_extensions()  # loads the plugins, without which Image.OPEN is empty
    return frozenset(ending for ending, kind in endings.items() if kind in Image.OPEN and kind not in NOT_READ)


def looks_like_picture(beginning: bytes) -> bool:
    """Whether a file that begins with these (at least 12) bytes is a picture of a usual format."""
    return bool(BEGINNINGS.match(beginning))


def list_files(root: Path, output_dir: Path | None = None) -> Listing:
    """The files below a folder.

    A link to a folder is followed unless its files are listed already, so loops end. Folders have priority over links
    to them, so that a link "latest" does not hide the folder "train" that it leads to.

    Args:
        output_dir: a folder whose content is no data, like that of every folder that training or sampling has written.
    Raises:
        OSError: the root itself cannot be read.
    """
    return _Walk(root, output_dir).listing


class _Walk:
    """One walk through a folder; `listing` is its result."""

    def __init__(self, root: Path, output_dir: Path | None) -> None:
        self.listing = Listing()
        # A link to a folder above the root would lead back into the root.
        self._seen = {_inode(os.stat(folder)) for folder in root.resolve().parents}
        self._no_data = {_inode(os.stat(path)) for path in (output_dir, cache_folder()) if path and path.is_dir()}
        self._links: list[tuple[str, tuple[str, ...]]] = []
        with os.scandir(root):  # an unreadable root is an error
            pass
        self._enter(str(root), ())
        while self._links:
            links, self._links = sorted(self._links, key=lambda link: os.fsencode(link[0])), []
            for path, parts in links:
                if not self._enter(path, parts):
                    self.listing.repeated.append(shown(parts))
        self._drop_links_to_listed_files()
        self.listing.files.sort(key=lambda file: file.order)

    def _enter(self, path: str, parts: tuple[str, ...]) -> bool:
        """List a folder and the folders below it; False if that was done before."""
        if _inode(os.stat(path)) in self._seen:
            return False
        folders = [(path, parts, False)]
        while folders:
            path, parts, hidden = folders.pop()
            try:
                identity = _inode(os.stat(path))
                if identity in self._seen:
                    continue
                self._seen.add(identity)
                with os.scandir(path) as found:
                    entries = list(found)
            except OSError as error:
                self.listing.unreadable.append(f"{shown(parts)} ({error.strerror})")
                continue
            names = {entry.name for entry in entries}
            if parts and (identity in self._no_data or _is_output(path, names)):
                self.listing.outputs.append(shown(parts))
                continue
            if parts and _is_of_a_program(parts[-1], names):
                self.listing.programs.append(shown(parts))
                continue
            for entry in entries:
                folders += self._sort_in(entry, (*parts, entry.name), hidden or entry.name.startswith("."))
        return True

    def _sort_in(
        self, entry: os.DirEntry, parts: tuple[str, ...], hidden: bool
    ) -> Iterator[tuple[str, tuple[str, ...], bool]]:
        """Put a file into the listing, remember a link to a folder, yield a folder that is to be listed."""
        try:
            about = entry.stat()
        except OSError as error:
            if entry.is_symlink() and not hidden:
                self.listing.broken.append(shown(parts))
            elif not hidden:
                self.listing.unreadable.append(f"{shown(parts)} ({error.strerror})")
            return
        file = File(parts, entry.path, about.st_size, about.st_mtime_ns, _inode(about), entry.is_symlink())
        if stat.S_ISDIR(about.st_mode):
            if file.name.lower() in (*SYSTEM_FOLDERS, ".git"):
                return
            if not entry.is_symlink():
                yield entry.path, parts, hidden
            elif not hidden:
                self._links.append((entry.path, parts))
        elif stat.S_ISREG(about.st_mode) and file.name.lower() not in SYSTEM_FILES:  # to open a pipe would wait forever
            if not hidden:
                self.listing.files.append(file)
            elif file.is_picture and not file.name.startswith("._"):  # which macOS adds to every file on foreign disks
                self.listing.hidden += 1

    def _drop_links_to_listed_files(self) -> None:
        listed = {file.inode for file in self.listing.files if file.is_picture and not file.linked}
        repeated = {file.path for file in self.listing.files if file.linked and file.inode in listed}
        if repeated:
            self.listing.repeated += [shown(file.parts) for file in self.listing.files if file.path in repeated]
            self.listing.files = [file for file in self.listing.files if file.path not in repeated]


def _is_output(path: str, names: set[str]) -> bool:
    """Whether training or sampling has written a folder, by the files in it.

    Args:
        names: of what lies in it.
    """
    if TRAINED in names:
        return True
    record = os.path.join(path, DRAWN)
    if DRAWN not in names or not os.path.isfile(record):  # to open a pipe would wait forever
        return False
    try:
        with open(record, "rb") as opened:
            content = opened.read(DRAWN_SIZE + 1)
        found = json.loads(content) if len(content) <= DRAWN_SIZE else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() >= DRAWN_SETTINGS


def _is_of_a_program(folder: str, names: set[str]) -> bool:
    """Whether a folder is a Python environment, holds packages of Node, or what Weights & Biases keeps of its runs."""
    runs = any(name.startswith(("run-", "offline-run-")) for name in names)
    return "pyvenv.cfg" in names or folder == "node_modules" or (folder == "wandb" and runs)


def _inode(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino

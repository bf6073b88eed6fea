"""Pictures in zip archives, which are read in place, and archives that lie beside their unpacked pictures."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ddpm.data.cells import what_lies_at
from ddpm.data.listing import SYSTEM_FILES, SYSTEM_FOLDERS, File, looks_like_picture
from ddpm.data.wording import shown
from ddpm.errors import first_line
from ddpm.names import counted

OPEN_ARCHIVES = 16  # at a time


@dataclass
class Unpacked:
    """The files in the zip archives of a folder.

    Attributes:
        files: of all archives. Those that lie unpacked beside their archive are not among them.
        repeated: how many pictures of an archive are left out because they are elsewhere, too.
        unreadable: archives that cannot be read, with the reason.
        nested: zip archives inside zip archives, which are not read.
    """

    files: list[File] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)


class Member(Mapping[str, object]):
    """A picture in an archive as a row: its "path" for messages, and its "bytes", which are read when they are needed.

    Raises:
        ValueError: in one line why the member cannot be read; "bytes" raise it.
    """

    def __init__(self, file: File) -> None:
        self._file = file

    @functools.cached_property
    def _bytes(self) -> bytes:
        return read(self._file)

    def __getitem__(self, key: str) -> object:
        return {"path": lambda: self._file.path, "bytes": lambda: self._bytes}[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(("bytes", "path"))

    def __len__(self) -> int:
        return 2


def unpack(files: list[File], is_folder: Callable[[str], bool]) -> Unpacked:
    """List what the zip archives among `files` hold.

    Args:
        is_folder: whether the name of an archive, without its ending, is the folder of what it holds: "train.zip" holds
            the split "train". The names of other archives say nothing, and their files count as lying beside them.
    """
    result, packed = Unpacked(), set()
    elsewhere = _Elsewhere([file for file in files if file.is_picture])
    for archive in files:
        if archive.ending != ".zip":
            continue
        try:
            members = _members(archive, is_folder)
        except Exception as error:  # zipfile raises exceptions of several kinds for damaged archives
            result.unreadable.append(f"{shown(archive.parts)} ({_why(archive, error)})")
            continue
        fresh = []
        for member in members:
            if member.ending == ".zip":
                result.nested.append(f"{shown(member.name)} in {shown(archive.parts)}")
            elif not member.is_picture or not (elsewhere.has(member) or _identity(member) in packed):
                fresh.append(member)
        packed |= {_identity(member) for member in fresh if member.is_picture}
        repeated = sum(m.is_picture for m in members) - sum(m.is_picture for m in fresh)
        if repeated:
            result.repeated.append(f"{counted(repeated, 'picture')} in {shown(archive.parts)}")
        result.files += fresh
    return result


def is_unpacked(tar: File, files: list[File]) -> bool:
    """Whether a tar archive can be read and all its pictures lie unpacked among `files`."""
    elsewhere, found = _Elsewhere([file for file in files if file.is_picture]), False
    try:
        with tarfile.open(os.fsencode(tar.path)) as opened:
            for member in opened:
                file = File(PurePosixPath(member.name).parts or ("",), tar.path, member.size)
                if member.isfile() and file.is_picture:
                    content = opened.extractfile(member) if elsewhere.may_have(file) else None
                    if content is None or not elsewhere.has_content(file, zlib.crc32(content.read())):
                        return False
                    found = True
    except (tarfile.TarError, OSError, EOFError):
        return False
    return found


def read(file: File) -> bytes:
    """The content of a file on disk or in a zip archive.

    Raises:
        ValueError: a member cannot be read.
        OSError: a file on disk cannot be read.
    """
    if file.archive is None:
        with open(file.path, "rb") as opened:
            return opened.read()
    try:
        archive = _opened(file.archive.path, file.archive.mtime_ns, file.archive.size)
        info = archive.infolist()[file.index]
        content = None if info.flag_bits & 1 else archive.read(info)
    except Exception as error:  # zipfile and zlib raise exceptions of many kinds for damaged members
        raise ValueError(f"it cannot be read from its archive ({first_line(error)})") from None
    if content is None:
        raise ValueError("it is encrypted; unpack the archive with its password")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError("it is a link; unpack the archive if it leads to a picture")
    return content


def is_picture(file: File) -> bool:
    """Whether a file is a picture: by the ending of its name or, without an ending, by its first bytes."""
    if file.ending or not file.size:
        return file.is_picture
    try:
        if file.archive is not None:
            return looks_like_picture(read(file)[:32])
        with open(file.path, "rb") as opened:
            return looks_like_picture(opened.read(32))
    except (OSError, ValueError):
        return False


def _why(archive: File, error: Exception) -> str:
    """Why an archive cannot be read: by what lies in its place, or by what went wrong."""
    what = what_lies_at(archive.path)
    return f"it is {what}" if what and "zip" not in what else first_line(error)


def close_all() -> None:
    """Close the archives that `read` has opened."""
    _opened.cache_clear()


@functools.lru_cache(OPEN_ARCHIVES)
def _opened(path: str, mtime_ns: int, size: int) -> zipfile.ZipFile:
    """An archive that stays open, because to open one takes as long as its list. A changed archive is opened anew."""
    return zipfile.ZipFile(path)


def _members(archive: File, is_folder: Callable[[str], bool]) -> list[File]:
    """The files in an archive, except hidden and system files, in the order of its list."""
    members = []
    for index, info in enumerate(_opened(archive.path, archive.mtime_ns, archive.size).infolist()):
        name = _member_name(info)
        parts = tuple(part for part in name.split("/") if part not in ("", ".", ".."))
        lower = {part.lower() for part in parts}
        if info.is_dir() or name.endswith("/") or not parts or any(part.startswith(".") for part in parts):
            continue
        if lower.intersection(SYSTEM_FOLDERS) or parts[-1].lower() in SYSTEM_FILES:
            continue
        path = f"{archive.path}/{'/'.join(parts)}"
        members.append(File(parts, path, info.file_size, archive=archive, index=index, crc=info.CRC))
    folder, stem = archive.parts[:-1], archive.stem
    if is_folder(stem) and {member.parts[0].lower() for member in members} != {stem.lower()}:
        folder = (*folder, stem)
    return [dataclasses.replace(member, parts=(*folder, *member.parts)) for member in members]


def _member_name(info: zipfile.ZipInfo) -> str:
    """A member's name, in the file system's bytes like all file names.

    Without the flag for UTF-8, `zipfile` takes the bytes for code page 437; mostly they are UTF-8, or of the system on
    which the archive was made.
    """
    name = info.orig_filename.split("\0")[0]
    if not info.flag_bits & 0x800:
        name = os.fsdecode(name.encode("cp437", "replace"))
    if "/" not in name and re.fullmatch(r"[ -~]+", name):
        name = name.replace("\\", "/")  # as some programs of Windows write it
    return name


class _Elsewhere:
    """Finds the pictures on disk that are the unpacked copies of an archive's members."""

    def __init__(self, pictures: list[File]) -> None:
        self._paths = {(*picture.parts[:-1], picture.stem) for picture in pictures}
        self._by_name: dict[tuple[str, int], list[File]] = {}
        for picture in pictures:
            self._by_name.setdefault((picture.name, picture.size), []).append(picture)

    def has(self, member: File) -> bool:
        """Whether a member of a zip archive lies unpacked on disk: anywhere with the same name and content, or in the
        folder with the archive's name, where it may have been changed or converted since then."""
        assert member.archive is not None
        folder, stem = member.archive.parts[:-1], member.archive.stem
        within = (*member.parts[len(folder) : -1], member.stem)
        if within[0].lower() != stem.lower() or len(within) == 1:
            within = (stem, *within)
        return (*folder, *within) in self._paths or self.has_content(member, member.crc)

    def may_have(self, file: File) -> bool:
        """Whether there is a picture of the same name and size."""
        return (file.name, file.size) in self._by_name

    def has_content(self, file: File, crc: int) -> bool:
        """Whether there is a picture of the same name and content."""
        return any(_crc(picture) == crc for picture in self._by_name.get((file.name, file.size), []))


def _crc(file: File) -> int | None:
    try:
        return zlib.crc32(read(file))
    except OSError:
        return None


def _identity(member: File) -> tuple[tuple[str, ...], int, int]:
    """What two archives' copies of one picture have in common."""
    return member.parts, member.size, member.crc

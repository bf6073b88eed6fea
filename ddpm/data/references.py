"""Which pictures a table means by what it calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ddpm.data.listing import ENDING, File, picture_endings
from ddpm.data.splits import match, splits_in, words_in

ELSEWHERE = re.compile(r"/|\\|[A-Za-z]:|\.\.")  # how a path begins that is not below the root
MANY = 100  # pictures that one reference may mean, from which on the answer is remembered
ROOT = ""  # the first part of a whole path, which no reference has
# Names of splits that folders far above pictures have for other reasons: "/home/me/dev/pictures".
USUAL = {"dev", "extra"}

Parts = tuple[str, ...]
Entry = tuple[File, Parts, str]
"""A picture, its whole path without the ending and with ROOT in front, and its name."""


class Index:
    """Finds pictures by what tables call them.

    Pictures are looked up by as many of the last parts of their paths as a reference has, so that a lookup takes no
    longer where all folders hold pictures of the same names.
    """

    def __init__(self, pictures: Sequence[File]) -> None:
        self.size = len(pictures)
        self._entries = [(picture, (ROOT, *picture.parts[:-1], picture.stem), picture.name) for picture in pictures]
        self._longest = max((len(path) for _, path, _ in self._entries), default=0)
        self._by_end: dict[int, dict[Parts, list[Entry]]] = {}  # by the number of parts; each is made when it is needed
        self._known: dict[tuple[str, str], list[File]] = {}

    def find(self, reference: str, table: File) -> list[File]:
        """The pictures that a reference means: several if they differ only in their ending, none if it is ambiguous.

        A path may begin with folders that are not below the root, and upper case may stand for lower case, if no
        picture fits better.
        """
        if (reference, table.path) in self._known:
            return self._known[reference, table.path]
        parts = [part for part in reference.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return []
        ending = ENDING.search(parts[-1].lower())
        complete = bool(ending and ending[0] in picture_endings())
        stem = parts[-1][: ending.start()] if complete and ending else parts[-1]
        wanted, name = (*parts[:-1], stem), parts[-1] if complete else None
        alike = self._ending_in(wanted)
        if len(alike) > 1:
            for start in (table.parts[:-1], ()):  # of pictures in several folders those at the very path
                path = (ROOT, *start, *wanted)
                exact = [entry for entry in self._ending_in(path) if entry[1] == path]
                if exact := _best(exact, stem, name, table):
                    return [picture for picture, *_ in exact]
        ends = [(picture, path[-len(wanted) :]) for picture, path, _ in _best(alike, stem, name, table)]
        found = [picture for picture, end in ends if end == wanted] or [picture for picture, _ in ends]
        found = found or self._moved(wanted, name, table, bool(ELSEWHERE.match(reference)))
        if len(found) > 1:
            found = _nearest(found, table)
        found = found if len({picture.parts[:-1] for picture in found}) == 1 else []
        if len(alike) > MANY:
            self._known[reference, table.path] = found
        return found

    def _ending_in(self, parts: Parts) -> list[Entry]:
        """The pictures whose paths end in these parts, in any case of letters."""
        length = len(parts)
        if length > self._longest:
            return []
        if length not in self._by_end:
            by_end = self._by_end[length] = {}
            for entry in self._entries:
                if len(entry[1]) >= length:
                    by_end.setdefault(_lower(entry[1][-length:]), []).append(entry)
        return self._by_end[length].get(_lower(parts), [])

    def _moved(self, wanted: Parts, name: str | None, table: File, elsewhere: bool) -> list[File]:
        """The pictures of a path on another machine: its end must be the whole path below the root.

        A bare name at the end of "test/1.png" would also fit "train/1.png", so only an absolute path may end in one.
        """
        for cut in range(1, len(wanted) if elsewhere else len(wanted) - 1):
            fits = _best(self._ending_in((ROOT, *wanted[cut:])), wanted[-1], name, table)
            if found := [picture for picture, *_ in fits if not _is_of_another_split(wanted[:cut], picture)]:
                return found
        return []


def _lower(parts: Iterable[str]) -> Parts:
    return tuple(part.lower() for part in parts)


def _best(entries: list[Entry], stem: str, name: str | None, table: File) -> list[Entry]:
    """Of pictures that a reference may mean those in the archive of the table, with the very letters if there are some.

    Args:
        stem, name: what the reference calls the picture; no name if it has no ending.
    """
    if table.archive is not None:
        entries = [entry for entry in entries if entry[0].archive == table.archive]
    if name is not None:
        entries = [entry for entry in entries if entry[2].lower() == name.lower()]
    entries = [entry for entry in entries if entry[1][-1] == stem] or entries
    return [entry for entry in entries if entry[2] == name] or entries


def _nearest(found: list[File], table: File) -> list[File]:
    """Of pictures in several folders those in the split that the table is called after: "train.csv" and
    "trainLabels.csv" are about the folder "train"."""
    folder = table.parts[:-1]
    words = words_in(table.stem)
    below = [picture for picture in found if picture.parts[: len(folder)] == folder]
    named = [p for p in below if any(match(word, list(p.parts[:-1])) for word in words)]
    return named or below


def _is_of_another_split(folders: Parts, picture: File) -> bool:
    """Whether folders that a table has above a picture are those of a split that is not the picture's own:
    "/data/test/1.png" is not the picture "1.png" of a folder that is used for training.

    A picture's own split is named by the folders below the root or by the root itself, and is otherwise for training.
    """
    above = [part.lower() for part in re.split(r"[/\\]", picture.path)[:-1]]
    below = picture.parts[:-1]
    root = above[-len(below) - 1] if len(above) > len(below) else ""
    own = {split for part in below for split in splits_in(part)}
    own = own or {split for split in splits_in(root) if match(split, [root])} or {"train"}
    for number, folder in enumerate(folders, 1):
        splits = splits_in(folder) - (USUAL if number < len(folders) else set())
        if splits and folder.lower() not in above and not splits & own:
            return True
    return False

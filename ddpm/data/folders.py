"""Folders of image files: which files are images, which folders are splits and classes, and what is left out."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm.data import archives
from ddpm.data.groups import base_of, by_code_points
from ddpm.data.labels import EMOJI_TABLE, Labels, is_table, read_groups, read_labels
from ddpm.data.listing import File, Listing, list_files
from ddpm.data.options import DataOptions
from ddpm.data.splits import EVAL_SPLITS, KNOWN, Layout, find_layout, look_alikes, looks_like_split, words_in
from ddpm.data.wording import by_ending, listed, readable, shown
from ddpm.names import counted

TABLES = (".parquet", ".arrow", ".tar")  # that hold images themselves, and come before pictures
TEXT_TABLES = (".csv", ".tsv", ".json", ".jsonl")
FOREIGN = (".heic", ".heif", ".svg", ".jxl", ".raw", ".cr2", ".nef", ".arw", ".dng", ".pdf", ".eps", ".npy", ".npz")
LEVELS = 3  # above a folder of emoji, in which emoji.json is looked for
PACKED = (".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")
PART = re.compile(r"\.(?:\w+\.\d{3}|z\d\d)")  # of an archive in several files
# Names of folders, and last words in the names of files, that go with pictures and are seldom pictures to learn.
BESIDE = {"mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "groundtruth", "gt", "depth"}
BESIDE |= {"thumb", "thumbs", "thumbnail", "thumbnails", "segmentationclass", "segmentationobject"}
BESIDE_LAST = re.compile(rf"(.*?)[\W_]*({'|'.join(sorted(BESIDE, key=len, reverse=True))})[\W\d_]*", re.IGNORECASE)


@dataclass
class Folder:
    """What a folder, or a zip archive by itself, holds.

    Attributes:
        listing: the files on disk.
        unpacked: the files in zip archives.
        pictures: the image files of both, sorted.
        others: the files that are none.
        layout: which folders are splits.
        label_column, group_column: the columns of labels and of groups in tables beside the pictures, if the options
            name them.
        group_tables: the tables that `groups` has read.
        unlisted: how many pictures are left out because emoji.json, which lists most of them, does not list them.
    """

    listing: Listing
    unpacked: archives.Unpacked
    pictures: list[File] = field(default_factory=list)
    others: list[File] = field(default_factory=list)
    layout: Layout = field(default_factory=Layout)
    label_column: str | None = None
    group_column: str | None = None
    group_tables: list[File] = field(default_factory=list)
    unlisted: int = 0

    @classmethod
    def of(cls, path: Path, options: DataOptions, output_dir: Path | None = None) -> Folder:
        """Look into a folder or a zip archive.

        Raises:
            OSError: it cannot be read.
        """
        listing = list_source(path, output_dir)
        unpacked = archives.unpack(listing.files, looks_like_split)
        found = cls(listing, unpacked, label_column=options.label_column, group_column=options.group_column)
        known = {file.inode for file in listing.files if file.is_picture}
        for file in sorted(listing.files + unpacked.files, key=lambda file: file.order):
            copy = not file.ending and file.inode in known  # the Hub's cache keeps files without ending behind links
            (found.pictures if archives.is_picture(file) and not copy else found.others).append(file)
        found._leave_out_sheets()
        found.layout = find_layout([file.parts for file in found.pictures], (options.train_split, options.eval_split))
        return found

    def _leave_out_sheets(self) -> None:
        """Leave out the pictures that emoji.json does not list: packages of emoji have sheets of all of them, too."""
        tables = [file for file in self.others if file.name.lower() == EMOJI_TABLE]
        listed_ones = read_groups(self.pictures, tables, "unified")[0] if tables else {}
        if len(listed_ones) > len(self.pictures) / 2:
            self.unlisted = len(self.pictures) - len(listed_ones)
            self.pictures = [picture for picture in self.pictures if picture in listed_ones]

    @property
    def tables(self) -> list[File]:
        """Files that hold images themselves. A tar archive beside its unpacked pictures is none of them."""
        return [
            file
            for file in self.others
            if file.archive is None
            and file.ending in TABLES
            and not (file.ending == ".tar" and archives.is_unpacked(file, self.listing.files))
        ]

    @property
    def unreadable(self) -> str:
        """Folders and archives that cannot be read, with the reason; empty if all can."""
        return listed([*sorted(self.listing.unreadable), *self.unpacked.unreadable], 3)

    def by_split(self) -> dict[str, list[File]]:
        """The pictures of each split; all are in "train" if no folder is a split."""
        found: dict[str, list[File]] = {}
        for picture in self.pictures:
            split = self.layout.split_of(picture.parts)
            if split is not None:
                found.setdefault(split, []).append(picture)
        return found

    def labels(self) -> Labels:
        """The labels of the pictures: from tables if these know most of the pictures and have a column for labels,
        otherwise from class folders. These also come before columns that are only guessed to be classes.

        Raises:
            ValueError: no table has the column that the options name.
        """
        classes = {file: self.layout.class_of(file.parts) for file in self.pictures}
        names = sorted({name for name in classes.values() if name is not None})
        found = read_labels(self.pictures, filter(is_table, self.others), self.label_column)
        if self.label_column and not found.of:
            raise ValueError(
                f"--label_column {self.label_column!r}: no .csv, .tsv or metadata.jsonl beside the pictures has labels "
                "for them in such a column"
            )
        most = len(found.of) >= len(self.pictures) / 2 and not found.guessed
        if len(names) < 2 or (found.of and (self.label_column or most)):
            return found
        numbers = {name: number for number, name in enumerate(names)}
        of = {file: numbers[name] for file, name in classes.items() if name is not None}
        return Labels(of, [], {number: readable(name) for name, number in numbers.items()})

    def groups(self, pictures: list[File]) -> Callable[[], list[str | None] | None]:
        """How to find the group of each of some pictures, as a function; its result is None if there are no groups.

        Raises:
            ValueError: no table has the column that the options name.
        """
        if not self.group_column:
            return lambda: by_code_points(picture.name for picture in pictures)
        found, self.group_tables = read_groups(self.pictures, filter(is_table, self.others), self.group_column)
        if not found:
            raise ValueError(
                f"--group_column {self.group_column!r}: no .csv, .tsv or metadata.jsonl beside the pictures has groups "
                "for them in such a column"
            )
        return lambda: [found.get(picture) for picture in pictures]

    def left_out(self, taken: list[File], used: list[File]) -> str | None:
        """What is not used and why, in one sentence; None if all is used.

        Args:
            taken: the pictures that are used.
            used: the tables of images or labels that are used.
        """
        listing, unpacked = self.listing, self.unpacked
        used = [*used, *self.group_tables]
        left = [file for file in self.others if file.ending != ".zip" and file not in used]
        tables = [file.ending for file in left if is_table(file)] if self.pictures else []
        endings = [file.ending for file in left if not (self.pictures and is_table(file))]
        reasons = []
        if endings:
            foreign, packed = (any(ending in kind for ending in endings) for kind in (FOREIGN, PACKED))
            advice = ["convert other formats to .png or .jpg"] * foreign + ["unpack archives"] * packed
            advice += ["join the parts of archives and unpack them"] * any(map(PART.fullmatch, endings))
            reasons.append(f"{by_ending(endings)} (no pictures that can be read{''.join(f'; {a}' for a in advice)})")
        if tables:
            reasons.append(f"{by_ending(tables)} (not used for labels)")
        chosen, unused = set(taken), Counter[str | None]()
        for picture in self.pictures:
            if picture not in chosen:
                unused[self.layout.split_of(picture.parts)] += 1
        for split, number in unused.items():
            where = "beside the splits" if split is None else f"of the split {shown(split)}"
            reasons.append(f"{counted(number, 'picture')} {where}")
        if self.unlisted:
            reasons.append(f"{counted(self.unlisted, 'picture')} that {EMOJI_TABLE} does not list")
        if listing.hidden:
            reasons.append(f"{counted(listing.hidden, 'hidden picture')} (names that begin with a dot)")
        if listing.outputs:
            reasons.append(f"the output of training and sampling in {listed(sorted(listing.outputs), 3)}")
        if listing.programs:
            reasons.append(f"the files of other programs in {listed(sorted(listing.programs), 3)}")
        if listing.repeated:
            reasons.append(f"{listed(sorted(listing.repeated), 3)} (links to what is counted already)")
        if listing.broken:
            reasons.append(f"{listed(sorted(listing.broken), 3)} (links that lead nowhere)")
        if unpacked.repeated:
            reasons.append(f"{listed(unpacked.repeated, 3)} (unpacked elsewhere in the folder)")
        if unpacked.nested:
            reasons.append(f"{listed(unpacked.nested, 3)} (archives in archives must be unpacked)")
        return f"left out: {'; '.join(reasons)}" if reasons else None

    def warnings(self, taken: list[File]) -> list[str]:
        """What is probably not as it was meant, in sentences.

        Args:
            taken: the pictures that are used.
        """
        found = []
        if self.unreadable:
            found.append(f"left out, because they cannot be read: {self.unreadable}")
        for name, number in sorted(look_alikes([file.parts for file in taken], self.layout).items()):
            found.append(
                f"the folder {shown(name)} ({counted(number, 'picture')}) is named like a split, but it is used like "
                "any other folder; to keep splits apart, pass the names of folders as --train_split and --eval_split"
            )
        if beside := _beside(taken):
            found.append(
                f"{counted(len(beside), 'picture')}, such as {shown(beside[0].parts)}, "
                f"{'is' if len(beside) == 1 else 'are'} named like masks, depth maps or thumbnails of the others, and "
                f"{'is' if len(beside) == 1 else 'are'} trained on as well; if that is not meant, pass the folder of "
                "the pictures alone"
            )
        used = {self.layout.split_of(file.parts) for file in taken}
        for name in sorted({split for file in self.pictures if (split := self.layout.split_of(file.parts))} - used):
            if looks_like_split(name) and name.lower() not in EVAL_SPLITS:
                found.append(f"the split {shown(name)} is not used; --train_split {readable(name)} would train on it")
        return [f"Warning: {sentence}" for sentence in found]


def _beside(files: list[File]) -> list[File]:
    """The pictures that are named like one that belongs to another picture, such as its mask, if this other picture is
    there: "masks/1.png" and "1_mask.png" beside "images/1.png". Where several folders have a "mask.png", it belongs to
    what else lies in its folder."""
    owners = {file: _owners(file) for file in files}
    others = {file.stem.lower() for file, names in owners.items() if not names}
    folders = {file.parts[:-1] for file, names in owners.items() if not names}
    alone = Counter(file.stem.lower() for file, names in owners.items() if "" in names)
    return [
        file
        for file, names in owners.items()
        if not names.isdisjoint(others) or (alone[file.stem.lower()] > 1 and file.parts[:-1] in folders)
    ]


def _owners(file: File) -> set[str]:
    """What the picture may be called, without its ending and in lower case, to which a picture belongs by its name;
    nothing if it belongs to none, and "" if it is called "mask" itself."""
    last = BESIDE_LAST.fullmatch(file.stem) if BESIDE.intersection(words_in(file.stem)[-1:]) else None
    names = {file.stem.lower()} if any(map(_lies_beside, file.parts[:-1])) else set()
    return names | ({last[1].lower()} if last else set())


@functools.lru_cache(4096)
def _lies_beside(folder: str) -> bool:
    """Whether a folder is named like one of masks. Its whole name counts, for "with_mask" and "05_thumb" are classes,
    but the name of a split may stand in it, as in "train_masks"."""
    words = re.split(r"[\W_]+", folder.lower())
    return "".join(word for word in words if word not in KNOWN) in BESIDE


def list_source(path: Path, output_dir: Path | None = None) -> Listing:
    """The files in a folder; of a file, this file alone.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return _with_emoji_table(path, list_files(path, output_dir))
    about = path.stat()
    inode = (about.st_dev, about.st_ino)
    return Listing([File((path.name,), str(path), about.st_size, about.st_mtime_ns, inode)])


def _with_emoji_table(path: Path, listing: Listing) -> Listing:
    """A listing, together with the emoji.json above a folder of emoji: packages of emoji have their pictures in
    img/google/64 and such."""
    names = {file.name.lower() for file in listing.files}
    if EMOJI_TABLE not in names and any(file.is_picture and base_of(file.name) for file in listing.files):
        for up, above in enumerate(path.resolve().parents[:LEVELS], 1):
            if (table := above / EMOJI_TABLE).is_file():
                about = table.stat()
                inode = (about.st_dev, about.st_ino)
                parts = (*[".."] * up, EMOJI_TABLE)
                listing.files.append(File(parts, str(table), about.st_size, about.st_mtime_ns, inode))
                break
    return listing


def rows_of_pictures(pictures: list[File], labels: dict[File, int]) -> Iterator[tuple[Any, int | None]]:
    """The picture and the label of each file, in order. Pictures in archives are read when they are needed."""
    try:
        for picture in pictures:
            yield (archives.Member(picture) if picture.archive else {"path": picture.path}), labels.get(picture)
    finally:
        archives.close_all()

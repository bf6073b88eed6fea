"""Which folders of pictures are splits: by their names, in any case of letters, also below a wrapping folder."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

TRAIN_SPLITS = ("train", "training")
# Names of held-out splits, the preferred one first.
EVAL_SPLITS = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation")
EVAL_SPLITS += ("holdout", "hold_out", "hold-out", "heldout", "held_out", "held-out")
OTHER_SPLITS = ("unlabeled", "unlabelled", "extra")
KNOWN = (*TRAIN_SPLITS, *EVAL_SPLITS, *OTHER_SPLITS)

# The same in Chinese, for look-alikes.
CHINESE = {"训练": "train", "訓練": "train", "测试": "test", "測試": "test", "验证": "validation", "驗證": "validation"}
ALIKE = {"training": "train", "testing": "test"}  # two names of one split
COMPOUND = re.compile(rf"({'|'.join(KNOWN)})(?:set|data|dataset|images?|imgs?)")  # "trainset"

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Where the splits of a folder are.

    Attributes:
        depth: how many folders, from the root on, lead to a split's pictures; 0 if no folder is a split.
        wrapper: the folders above the splits.
        classes_first: whether one more folder, a class, lies between these and the splits: "cat/train", "dog/train".
    """

    depth: int = 0
    wrapper: Parts = ()
    classes_first: bool = False

    def split_of(self, parts: Parts) -> str | None:
        """The split of a picture with this path; None if it lies beside the splits."""
        if not self.depth:
            return "train"
        inside = len(parts) > self.depth and parts[: len(self.wrapper)] == self.wrapper
        return parts[self.depth - 1] if inside else None

    def class_of(self, parts: Parts) -> str | None:
        """The folder of a picture that lies below its split, or below the root if no folder is a split; or the folder
        that holds the splits of its class."""
        if self.classes_first:
            return parts[self.depth - 2] if len(parts) > self.depth else None
        return parts[-2] if len(parts) > 1 + self.depth else None


def find_layout(paths: list[Parts], wanted: Iterable[str | None] = ()) -> Layout:
    """Find the splits.

    Folders are splits if the names of all of them are names of splits and one is for training, or if one is for
    training and another is to be held out: then whatever lies beside them belongs to neither. A folder named "test"
    among others is a class. If every folder holds such splits, it is a class: "cat/train", "cat/test", "dog/train".

    Args:
        paths: of the pictures.
        wanted: names that the user gave. Folders of these names are splits in any case.
    """
    wanted = {name.lower() for name in wanted if name}
    wrapper: Parts = ()
    while True:
        depth = len(wrapper)
        paths = [parts for parts in paths if parts[:depth] == wrapper]
        folders = {parts[depth] for parts in paths if len(parts) > depth + 1}
        names = {folder.lower() for folder in folders}
        train = names.intersection(TRAIN_SPLITS)
        loose = any(len(parts) == depth + 1 for parts in paths)
        if wanted & names or (train and (names.intersection(EVAL_SPLITS) or (names <= set(KNOWN) and not loose))):
            return Layout(depth + 1, wrapper)
        if len(folders) > 1:
            below = [_folders_in(folder, paths, depth) for folder in folders]
            everywhere, anywhere = set.intersection(*below), set.union(*below)
            if wanted & anywhere or (everywhere.intersection(TRAIN_SPLITS) and everywhere.intersection(EVAL_SPLITS)):
                return Layout(depth + 2, wrapper, classes_first=True)
        if len(folders) != 1:
            return Layout()
        wrapper = (*wrapper, *folders)


def _folders_in(folder: str, paths: list[Parts], depth: int) -> set[str]:
    """The folders in a folder at this depth that hold pictures, in lower case."""
    return {parts[depth + 1].lower() for parts in paths if parts[depth] == folder and len(parts) > depth + 2}


def words_in(name: str) -> list[str]:
    """The words in a name, in lower case: "val2017", "trainLabels" and "seg_test" have one, two and two. Of "trainset"
    and such, the word is "train"."""
    words = re.findall(r"[a-z]+", join_held_out(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower())
    return [compound[1] if (compound := COMPOUND.fullmatch(word)) else word for word in words]


def join_held_out(name: str) -> str:
    """A name in which "hold_out", "held-out" and such, whose two words mean one split, are written as one word."""
    return re.sub(r"(?i)(?<![a-z])(hold|held)[\W_]+out", r"\1out", name)


@functools.lru_cache(4096)
def splits_in(name: str) -> frozenset[str]:
    """The splits that a name has as words, each by one name: "train" of "Training" and of "trainset"."""
    found = {ALIKE.get(word, word) for word in words_in(name) if word in KNOWN}
    return frozenset(found | {split for word, split in CHINESE.items() if word in name})


def looks_like_split(name: str) -> bool:
    """Whether a name has the name of a split in it as a word, such as "seg_test" and "val2017"."""
    return bool(splits_in(name))


def look_alikes(paths: Iterable[Parts], layout: Layout) -> Counter[str]:
    """Folders whose names look like splits but are none, and how many of the pictures lie in each of them."""
    found: Counter[str] = Counter()
    for parts in paths:
        own = layout.split_of(parts) if layout.depth else None
        found.update({part for part in parts[layout.depth : -1] if looks_like_split(part) and part != own})
    return found


def match(wanted: str, names: list[str]) -> str | None:
    """The split that is meant by a name: this one, or the same in another case of letters; "train" and "test" also mean
    "Training" and "Testing", and "holdout" means "hold_out"."""
    plain = list(map(_plain, names))
    if wanted in names:
        return wanted
    for key in (wanted.lower(), _plain(wanted)):
        for candidates in ([name.lower() for name in names], plain):
            if key in candidates:
                return names[candidates.index(key)]
    return None


def _plain(name: str) -> str:
    """A name of a split in lower case; of several names of one split, always the same."""
    name = join_held_out(name).lower()
    return ALIKE.get(name, name)

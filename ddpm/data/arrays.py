"""Images in NumPy's files: .npy, and .npz with several arrays, such as x_train, y_train, x_test and y_test.

Images are an array of uint8 of shape (N, H, W) or (N, H, W, C), and labels another array with N entries. The words in
the names of the arrays tell which split they belong to; of a .npy file, its name is the array's name.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from ddpm.data.cells import what_lies_at
from ddpm.data.columns import NAMES
from ddpm.data.labels import LABEL_COLUMNS
from ddpm.data.listing import File
from ddpm.data.options import DataOptions
from ddpm.data.splits import EVAL_SPLITS, TRAIN_SPLITS, join_held_out, words_in
from ddpm.data.wording import listed, shown
from ddpm.errors import first_line

ENDINGS = (".npy", ".npz")
NEEDED = "uint8 of shape (N, H, W) with W > 4, or (N, H, W, C) with C = 1, 3 or 4, is needed"
OBJECTS = "Python objects, which could run code"
LABELS = {*LABEL_COLUMNS, "y", "cls"}

Arrays = dict[str, np.ndarray]


class ArrayImages:
    """The images in NumPy's files, by split.

    Args:
        files: all of them; the arrays of several files go together.
        options: `image_column` and `label_column` name arrays, with or without the word for their split.
    Attributes:
        images: by split the name of its array; "train" if its name has no word for a split.
        labels: by split the name of the array of its labels; splits without labels are not in here.
    Raises:
        ValueError: a file cannot be read, or there are no such images; one line.
    """

    def __init__(self, files: list[File], options: DataOptions) -> None:
        self._arrays, self._closed = _read(files)
        self._several = sum(file.ending == ".npy" for file in files) > 1
        self._where = f"dataset {options.dataset_name!r}"
        found = {name for name, array in self._arrays.items() if _are_images(array)}
        self.images: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        for name in sorted(self._chosen(found, options.image_column)):
            split = _split(name) or "train"
            if split in self.images:
                raise ValueError(
                    f"{self._where} has two arrays for the split {split}, {shown(self.images[split])} and "
                    f"{shown(name)}: pass --image_column"
                )
            self.images[split] = name
        for split, name in self.images.items():
            if label := self._labels_of(name, options.label_column):
                self.labels[split] = label
        if options.label_column and not self.labels:
            raise ValueError(
                f"--label_column {options.label_column!r}: no array of this name has a label for each image; the "
                f"arrays are {self._described()}"
            )

    def rows(self, split: str) -> Iterator[tuple[np.ndarray, Any]]:
        """The image and the label of each row of a split."""
        images = self._arrays[self.images[split]]
        found = _as_labels(self._arrays[self.labels[split]], len(images)) if split in self.labels else None
        labels = [None] * len(images) if found is None else found.tolist()
        for pixels, label in zip(images, labels, strict=True):
            yield np.asarray(pixels), label.decode() if isinstance(label, bytes) else label

    def note(self, split: str) -> str:
        """Where the images of a split and their labels are from, for the note on what is used."""
        labels = f" with labels {shown(self.labels[split])}" if split in self.labels else ""
        return f"array {shown(self.images[split])}{labels}"

    def left_out(self, splits: Iterable[str | None]) -> str | None:
        """A note on the arrays that are neither images nor labels of these splits; None if there are none."""
        used = {names[split] for names in (self.images, self.labels) for split in splits if split in names}
        left = [self._of(name) for name in sorted(self._arrays) if name not in used]
        left += [f"{name} ({OBJECTS})" for name in self._closed]
        return f"arrays that are not used: {listed(left)}" if left else None

    def _chosen(self, found: set[str], column: str | None) -> set[str]:
        """The arrays of images of one kind, one for each split.

        Raises:
            ValueError: there are none, or several kinds.
        """
        if column:
            named = {name for name in found if column in (name, _without_split(name))}
            if not named:
                raise ValueError(f"--image_column {column!r}: {NEEDED}; the arrays are {self._described()}")
            return {column} if column in named else named
        if not found:
            raise ValueError(f"{self._where} holds {self._described()}: {NEEDED}{self._advice()}")
        kinds = {_without_split(name) for name in found}
        kinds = kinds & NAMES if len(kinds) > 1 and kinds & NAMES else kinds
        if len(kinds) > 1:
            raise ValueError(
                f"{self._where} has several arrays of images ({listed(sorted(found))}): pass --image_column"
            )
        return {name for name in found if _without_split(name) in kinds}

    def _labels_of(self, images: str, column: str | None) -> str | None:
        """The name of the array of labels: one that is called so, or the only one that has a label for each image."""
        count = len(self._arrays[images])
        fitting = [
            name
            for name, array in self._arrays.items()
            if _split(name) == _split(images) and name != images and _as_labels(array, count) is not None
        ]
        if column:
            return next((name for name in fitting if column in (name, _without_split(name))), None)
        called_so = [name for name in fitting if LABELS.intersection([*words_in(name), _without_split(name)])]
        if called_so:
            return called_so[0]
        plain = [name for name in fitting if self._arrays[name].dtype.kind != "f" and self._arrays[name].size == count]
        return plain[0] if len(plain) == 1 else None

    def _described(self) -> str:
        return listed(map(self._of, sorted(self._arrays)))

    def _of(self, name: str) -> str:
        array = self._arrays[name]
        return f"{name} ({array.dtype}, {' x '.join(map(str, array.shape)) or 'a single value'})"

    def _advice(self) -> str:
        """How to convert the largest array, as the end of a sentence."""
        shapes = {array.shape for array in self._arrays.values()}
        name, array = max(self._arrays.items(), key=lambda item: item[1].size)
        kind, shaped, side = array.dtype.kind, "", math.isqrt(math.prod(array.shape[1:]))
        flat = array.ndim == 2 and side > 4 and side**2 == array.shape[1]
        alike = len(self._arrays) > 1 and len(shapes) == 1 and (self._several or not flat)
        if alike and array.ndim in (2, 3) and min(array.shape[:2]) > 4:
            return "; if each file is one image, np.stack makes one array of them"
        if array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4):
            shaped = f"{name}.transpose(0, 2, 3, 1)"
        elif flat:
            shaped = f"{name}.reshape(-1, {side}, {side})"
        if not array.size or kind not in "biuf" or not (shaped or array.ndim in (3, 4)):
            return ""
        low, high = float(array.min()), float(array.max())
        scales = [(0, 1, '(255 * {}).round().astype("uint8")'), (-1, 1, '(127.5 * ({} + 1)).round().astype("uint8")')]
        scales = scales if kind == "f" else [(0, 1, '{}.astype("uint8") * 255')]
        scales += [(0, 255, '{}.round().astype("uint8")' if kind == "f" else '{}.astype("uint8")')]
        scales += [(0, high, f'({{}} * (255 / {high:g})).round().astype("uint8")')] if kind in "iu" else []
        fits = next((text for least, most, text in scales if least <= low and high <= most), "{}")
        converted = fits.format(shaped or name) if array.dtype != np.uint8 else shaped
        return f"; convert it by {converted}" if converted not in ("", name) else ""


def _read(files: list[File]) -> tuple[Arrays, list[str]]:
    """All arrays in the files, by name, and the names of those that hold Python objects, which are not read.

    A name begins with the folders of its file where another file has the same name, and with the file's name in one of
    several .npz files.
    """
    found: Arrays = {}
    closed: list[str] = []
    stems = Counter(file.stem for file in files)
    for file in files:
        own = file.stem if stems[file.stem] == 1 else "/".join((*file.parts[:-1], file.stem))
        try:
            # What the file is, not its name, decides which of the two it is.
            loaded = _add(found, closed, own, lambda path=file.path: np.load(path, mmap_mode="r", allow_pickle=False))
            if isinstance(loaded, NpzFile):
                with loaded as archive:
                    for name in archive.files:
                        full = f"{own}_{name}" if len(files) > 1 else name
                        _add(found, closed, full, lambda archive=archive, name=name: archive[name])
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            raise ValueError(f"{shown(file.parts)} cannot be read: {_why(file, error)}") from None
    if not found:
        held, they = listed(shown(file.parts) for file in files), "they hold" if len(files) > 1 else "it holds"
        raise ValueError(f"{held} cannot be read: {they} {OBJECTS if closed else 'no arrays'}")
    return found, closed


def _add(found: Arrays, closed: list[str], name: str, read: Callable[[], Any]) -> Any:
    """Read an array into `found`, or add its name to `closed` if it holds Python objects; return what was read."""
    try:
        if isinstance(array := read(), np.ndarray):  # a .npz file may hold files of other kinds
            found[name] = array
        return array
    except ValueError as error:
        if not any(said in str(error) for said in ("Object arrays", "Python objects")):
            raise
        closed.append(name)
        return None


def _why(file: File, error: Exception) -> str:
    """Why a file cannot be read, by what lies in its place or by what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not file.size:
        return "it is empty"
    reason, what = first_line(error), what_lies_at(file.path)
    if "mmap length" in reason or (file.ending == ".npz" and "not a zip" in reason and what):
        return "it is cut off"
    if what and "zip" not in what:
        return f"it is {what}"
    return "it is no file of NumPy" if "pickle" in reason else reason  # numpy takes what it does not know for one


def _as_labels(array: np.ndarray, count: int) -> np.ndarray | None:
    """`count` labels as an array of one axis, also where they are one-hot vectors or whole numbers with a point; None
    if an array holds something else."""
    if array.shape == (count, 1):
        array = array[:, 0]
    numbers = array.dtype.kind in "biuf"
    if array.ndim == 2 and len(array) == count and numbers and bool(((array == 0) | (array == 1)).all()):
        return array.argmax(axis=1) if bool((array.sum(axis=1) == 1).all()) else None
    if array.shape != (count,):
        return None
    if array.dtype.kind == "f":
        return array.astype(np.int64) if bool((array == array.round()).all()) else None
    return array if array.dtype.kind in "biuUS" else None


def _are_images(array: np.ndarray) -> bool:
    # Three axes that end in 3 or 4 are rather one picture in colour.
    shaped = (array.ndim == 3 and array.shape[2] > 4) or (array.ndim == 4 and array.shape[3] in (1, 3, 4))
    return array.dtype == np.uint8 and shaped and array.size > 0


def _split(name: str) -> str | None:
    """The word for a split in a name, "train" for all words that mean it."""
    found = next((word for word in words_in(name) if word in (*TRAIN_SPLITS, *EVAL_SPLITS)), None)
    return "train" if found in TRAIN_SPLITS else found


def _without_split(name: str) -> str:
    """A name without the word for its split, in lower case: "x" of "x_train" and of "trainX"."""
    words = [word for word in words_in(name) if word in (*TRAIN_SPLITS, *EVAL_SPLITS)]
    name = join_held_out(name)
    for word in words[:1]:
        name = re.sub(rf"[_\W]*{word}[_\W]*", "_", name, count=1, flags=re.IGNORECASE)
    return name.strip("_").lower()

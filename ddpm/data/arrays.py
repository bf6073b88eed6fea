"""Images in NumPy's files: .npy, and .npz with several arrays, such as x_train, y_train, x_test and y_test.

Images are an array of uint8 of shape (N, H, W) or (N, H, W, C), and labels another array with N entries. The words in
the names of the arrays tell which split they belong to; of a .npy file, its name is the array's name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ddpm.data.columns import NAMES
from ddpm.data.labels import LABEL_COLUMNS
from ddpm.data.listing import File
from ddpm.data.options import DataOptions
from ddpm.data.splits import EVAL_SPLITS, TRAIN_SPLITS, words_in
from ddpm.data.wording import listed, shown
from ddpm.errors import first_line

ENDINGS = (".npy", ".npz")
NEEDED = "uint8 of shape (N, H, W) with W > 4, or (N, H, W, C) with C = 1, 3 or 4, is needed"
LABELS = {*LABEL_COLUMNS, "y", "cls"}

OBJECTS = "Python objects, which could run code"

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
        self._arrays, self._objects = _read(files)
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
        labels = self._arrays[self.labels[split]].reshape(-1).tolist() if split in self.labels else [None] * len(images)
        for pixels, label in zip(images, labels, strict=True):
            yield np.asarray(pixels), label.decode() if isinstance(label, bytes) else label

    def note(self, split: str) -> str:
        """Where the images of a split and their labels are from, for the note on what is used."""
        labels = f" with labels {shown(self.labels[split])}" if split in self.labels else ""
        return f"array {shown(self.images[split])}{labels}"

    def left_out(self) -> str | None:
        """A note on the arrays that are neither images nor labels here; None if there are none."""
        used = {*self.images.values(), *self.labels.values()}
        left = listed(self._of(name) for name in sorted({*self._arrays, *self._objects} - used))
        return f"arrays that are not used: {left}" if left else None

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
        fitting = [
            name
            for name, array in self._arrays.items()
            if array.shape in ((len(self._arrays[images]),), (len(self._arrays[images]), 1))
            and array.dtype.kind in "biuUS"
            and _split(name) == _split(images)
        ]
        if column:
            return next((name for name in fitting if column in (name, _without_split(name))), None)
        called_so = [name for name in fitting if LABELS.intersection([*words_in(name), _without_split(name)])]
        return called_so[0] if called_so else fitting[0] if len(fitting) == 1 else None

    def _described(self) -> str:
        return listed(map(self._of, sorted([*self._arrays, *self._objects])))

    def _of(self, name: str) -> str:
        if name in self._objects:
            return f"{name} ({OBJECTS})"
        array = self._arrays[name]
        return f"{name} ({array.dtype}, {' x '.join(map(str, array.shape)) or 'a single value'})"

    def _advice(self) -> str:
        """How to convert the largest array, as the end of a sentence."""
        name, array = max(self._arrays.items(), key=lambda item: item[1].size)
        parts = []
        if array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4):
            parts.append(".transpose(0, 2, 3, 1)")
        if array.ndim in (3, 4) and array.dtype.kind == "f":
            low, high = float(array.min()), float(array.max())
            scales = ((0.0, 1.0, "255 * {}"), (-1.0, 1.0, "127.5 * ({} + 1)"))
            fits = next((text for least, most, text in scales if least <= low and high <= most), None)
            if fits:
                return f'; convert it by ({fits.format(name + "".join(parts))}).round().astype("uint8")'
        whole = array.ndim in (3, 4) and array.dtype.kind in "iu" and array.dtype != np.uint8
        if whole and array.min() >= 0 and array.max() <= 255:
            parts.append('.astype("uint8")')
        return f"; convert it by {name}{''.join(parts)}" if parts and (whole or array.dtype == np.uint8) else ""


def _read(files: list[File]) -> tuple[Arrays, list[str]]:
    """All arrays in the files, by name, and the names of those that hold Python objects and are not read. The names in
    one of several .npz files begin with the name of the file."""
    found: Arrays = {}
    objects: list[str] = []
    several = len(files) > 1
    for file in files:
        try:
            if file.ending == ".npy":
                parts = {file.stem: lambda file=file: np.load(file.path, mmap_mode="r", allow_pickle=False)}
                _add(found, objects, parts)
                continue
            with np.load(file.path, allow_pickle=False) as archive:
                names = {name: f"{file.stem}_{name}" if several else name for name in archive.files}
                _add(found, objects, {names[name]: lambda name=name: archive[name] for name in archive.files})
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            # NumPy takes for a pickle whatever does not begin as its own files do.
            reason = "it is no file of NumPy" if "pickle" in first_line(error) else first_line(error)
            raise ValueError(f"{shown(file.parts)} cannot be read: {reason}") from None
    if not found:
        held = ", ".join(shown(file.parts) for file in files)
        raise ValueError(f"{held} cannot be read: it holds {OBJECTS if objects else 'no arrays'}")
    return found, objects


def _add(found: Arrays, objects: list[str], parts: dict[str, Callable[[], np.ndarray]]) -> None:
    """Read arrays into `found`, by name, and add to `objects` the names of those that hold Python objects."""
    for name, read in parts.items():
        try:
            found[name] = read()
        except ValueError as error:
            if not any(said in str(error) for said in ("Object arrays", "Python objects")):
                raise
            objects.append(name)


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
    for word in words[:1]:
        name = re.sub(rf"[_\W]*{word}[_\W]*", "_", name, count=1, flags=re.IGNORECASE)
    return name.strip("_").lower()

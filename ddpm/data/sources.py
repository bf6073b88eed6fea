"""Where the images come from: what a source is, whether its content has changed, and which splits are used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.data.decoding import Encoded
from ddpm.data.folders import EVAL_SPLITS, classes_of, files_in, find_pictures
from ddpm.data.options import DataOptions
from ddpm.data.tables import hub_commit, image_column, label_column, load_tables, rows_of

HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")

Rows = Iterable[tuple[Encoded, int | None]]
"""Encoded images with their labels; None for an image without a label."""


@dataclass(frozen=True)
class Splits:
    """The images of a source.

    Attributes:
        train: the training split.
        eval: the held-out split; None if the source has none, so that images of `train` must be held out.
        eval_split: the name of the held-out split.
        note: what was chosen, in a sentence for the log.
    """

    train: Rows
    eval: Rows | None
    eval_split: str | None
    note: str


def identify(options: DataOptions) -> dict[str, Any]:
    """What identifies the present content of a source. This is quick, so that a second start is immediate.

    Returns:
        "kind" (digits, folder or hub), and what else differs when the content differs; JSON.
    Raises:
        ValueError: there is no such source.
    """
    name = options.dataset_name
    if name == "digits":
        return {"kind": "digits"}
    path = Path(name).expanduser()
    if path.is_dir():
        listing = hashlib.sha256()
        for file in files_in(path):
            stat = file.stat()
            listing.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return {"kind": "folder", "path": str(path.resolve()), "listing": listing.hexdigest()}
    if path.exists():
        raise ValueError(f"dataset {name!r} is a file; a folder of images or parquet files is needed")
    if name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise ValueError(f"dataset {name!r}: no such folder, and no name of a Hub dataset like ylecun/mnist")
    return {"kind": "hub", "id": name, "commit": hub_commit(options)}


def open_splits(options: DataOptions, source: dict[str, Any]) -> Splits:
    """The images of a source, to be read in order.

    Args:
        source: what `identify` returned.
    Raises:
        ValueError: the source cannot be read, or a split or column must be named.
    """
    if source["kind"] == "digits":
        return Splits(_digits(), None, None, "scikit-learn's digits; held out: 5 %")
    pictures = find_pictures(Path(source["path"])) if source["kind"] == "folder" else None
    if pictures is not None:
        train, held_out = _choose(options, list(pictures))
        classes = classes_of(pictures)
        chosen = [
            [(picture, classes.index(picture["folder"]) if picture["folder"] in classes else None) for picture in part]
            for part in (pictures[train], pictures[held_out] if held_out else [])
        ]
        columns = ""
    else:
        tables = load_tables(options, source)
        train, held_out = _choose(options, list(tables))
        column, label = image_column(tables[train], options), label_column(tables[train])
        chosen = [rows_of(tables[name], column, label) if name else [] for name in (train, held_out)]
        columns = f"; images in column {column!r}"
    note = f"training on split {train!r}; held out: {f'split {held_out!r}' if held_out else '5 % of it'}{columns}"
    return Splits(chosen[0], chosen[1] if held_out else None, held_out, note)


def _choose(options: DataOptions, names: list[str]) -> tuple[str, str | None]:
    """The training split and the held-out one, None if there is none.

    Raises:
        ValueError: the source has no such split, or the training split must be named.
    """
    for flag, wanted in (("train_split", options.train_split), ("eval_split", options.eval_split)):
        if wanted and wanted not in names:
            raise ValueError(f"--{flag} {wanted!r}: {options.dataset_name!r} has {', '.join(names)}")
    train = options.train_split or ("train" if "train" in names else names[0])
    if not options.train_split and train != "train" and len(names) > 1:
        raise ValueError(f"--train_split is needed: {options.dataset_name!r} has {', '.join(names)}")
    return train, options.eval_split or next((s for s in EVAL_SPLITS if s in names and s != train), None)


def _digits() -> Rows:
    """scikit-learn's handwritten digits, 8x8, whose values 0 ... 16 become 0 ... 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images: np.ndarray = digits["images"]  # pyright: ignore[reportArgumentType, reportCallIssue] - a Bunch, no tuple
    labels: np.ndarray = digits["target"]  # pyright: ignore[reportArgumentType, reportCallIssue]
    return list(zip(np.round(images * (255 / 16)).astype(np.uint8), labels.tolist(), strict=True))

"""Folders of image files: which files are images, which folders are splits, and which are classes."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

EVAL_SPLITS = ("test", "validation", "valid", "val", "dev", "eval")  # names of held-out splits, the preferred one first
TABLES = (".parquet", ".arrow", ".tar", ".zip", ".csv", ".json", ".jsonl")


class Picture(TypedDict):
    """An image file and the folder that is its class, if there is one."""

    path: str
    folder: str | None


def files_in(folder: Path) -> list[Path]:
    """All files below a folder in alphabetical order, except hidden ones."""
    return sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(q.startswith(".") for q in p.relative_to(folder).parts)
    )


def find_pictures(folder: Path) -> dict[str, list[Picture]] | None:
    """The image files below a folder, by split; None if there are none, or if tables lie there.

    Tables are left to the `datasets` library. Only folders named train, test, and so on at the top are splits, and only
    if all images lie in such folders: `datasets` would also take a class "test" or a file "test_1.png" for a split, and
    would leave out the rest without a message.
    """
    from PIL import Image

    extensions = Image.registered_extensions()
    files = files_in(folder)
    if any(file.suffix in TABLES for file in files):
        return None
    pictures = [file for file in files if file.suffix.lower() in extensions]
    tops = {file.relative_to(folder).parts[0] for file in pictures}
    depth = int("train" in tops and tops <= {"train", *EVAL_SPLITS})  # levels of folders that are splits
    by_split: dict[str, list[Picture]] = {}
    for file in pictures:
        parts = file.relative_to(folder).parts
        picture = Picture(path=str(file), folder=parts[-2] if len(parts) > 1 + depth else None)
        by_split.setdefault(parts[0] if depth else "train", []).append(picture)
    return by_split or None


def classes_of(by_split: dict[str, list[Picture]]) -> list[str]:
    """The names of the classes in alphabetical order; a label is an index into them. No names if there is only one."""
    classes = sorted({picture["folder"] for pictures in by_split.values() for picture in pictures if picture["folder"]})
    return classes if len(classes) > 1 else []

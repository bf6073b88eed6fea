"""Where the images come from: what a source is, whether its content has changed, and which splits are used."""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ddpm.data import arrays
from ddpm.data.decoding import Encoded
from ddpm.data.folders import TABLES, TEXT_TABLES, Folder, list_source, rows_of_pictures
from ddpm.data.groups import Apart
from ddpm.data.labels import EMOJI_TABLE
from ddpm.data.listing import File, Listing
from ddpm.data.options import DataOptions
from ddpm.data.splits import EVAL_SPLITS, TRAIN_SPLITS, match
from ddpm.data.tables import (
    READERS,
    groups_of,
    hub_commit,
    image_column,
    label_columns,
    label_names,
    load_tables,
    missing_shards,
    reading,
    rows_of,
)
from ddpm.data.wording import by_ending, listed, shown
from ddpm.errors import first_line
from ddpm.names import counted
from ddpm.presets import EMOJI_FOLDER, GET_EMOJI

log = logging.getLogger(__name__)

SAVED_BESIDE = ("dataset_dict.json", "dataset_info.json", "state.json")  # by `save_to_disk` of `datasets`
HUB_ADDRESS = re.compile(
    r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)|hf:/)/datasets/([\w.-]+/[\w.-]+)(?:[/?#].*)?"
)
HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")

Rows = Iterable[tuple[Encoded, Any]]
"""Encoded images with their labels, whole numbers or what else a table has; None for an image without a label."""


@dataclass(frozen=True)
class Splits:
    """The images of a source.

    Attributes:
        train: the training split.
        eval: the held-out split; None if the source has none, so that images of `train` must be held out.
        eval_split: the name of the held-out split.
        notes: what was chosen, what was left out and why, and warnings, each in a sentence for the log.
        label_names: what the labels are called; a number that is not in here is its own name.
        apart: which rows of `train` are held out because images that belong together are held out together; None if no
            images belong together, or if `eval` is held out.
    """

    train: Rows
    eval: Rows | None
    eval_split: str | None
    notes: list[str]
    label_names: dict[int, str] = field(default_factory=dict)
    apart: Apart | None = None


def identify(options: DataOptions, output_dir: Path | None = None) -> dict[str, Any]:
    """What identifies the present content of a source. This is quick, so that a second start is immediate.

    Args:
        output_dir: where training writes. It is no data, even if it lies in the folder of the images.
    Returns:
        "kind" (digits, folder or hub), and what else differs when the content differs; JSON.
    Raises:
        ValueError: there is no such source.
    """
    name = options.dataset_name
    if name == "digits":
        if os.path.isdir(name) and os.environ.get("RANK", "0") == "0":
            log.warning(
                "Warning: the dataset 'digits' is scikit-learn's, not the folder of this name here; for the folder, "
                "pass --dataset_name ./digits"
            )
        return {"kind": "digits"}
    path = Path(os.path.expanduser(name))
    try:
        if path.exists():
            return _identify_folder(name, path, output_dir)
    except OSError as error:
        raise ValueError(f"dataset {name!r} cannot be read: {error.strerror or first_line(error)}") from None
    if name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        near = _similar_folder(path)
        get = f"; get it by `{GET_EMOJI}`" if name == EMOJI_FOLDER else ""
        if address := HUB_ADDRESS.fullmatch(name):
            get = f"; for this dataset on the Hub, pass {address[1]}"
        raise ValueError(f"dataset {name!r}: no such folder{near}, and no name of a Hub dataset like ylecun/mnist{get}")
    return {"kind": "hub", "id": name, "commit": hub_commit(options, _similar_folder(path))}


def _identify_folder(name: str, path: Path, output_dir: Path | None) -> dict[str, Any]:
    """`identify` for a folder or a zip archive.

    Raises:
        ValueError: it is neither, or it is the output of a training.
        OSError: it cannot be read.
    """
    if path.is_file() and path.suffix.lower() not in (".zip", *arrays.ENDINGS):
        raise ValueError(
            f"dataset {name!r} is a file; a folder of images or parquet files, a .zip archive, or an array in a .npy "
            "or .npz file is needed"
        )
    inside = None
    if output_dir and output_dir.is_dir():
        inside = os.path.relpath(output_dir.resolve(), path.resolve())
        if inside == ".":
            raise ValueError(
                f"--output_dir {output_dir} is the folder of the images; give a folder of its own, like runs/1"
            )
    if (path / "train_config.json").is_file():
        raise ValueError(f"dataset {name!r} is the output of a training, for it holds a train_config.json")
    source = {"kind": "folder", "path": str(path.resolve()), "listing": _digest(list_source(path, output_dir))}
    if output_dir and inside and not inside.startswith("..") and not (output_dir / "train_config.json").exists():
        source["output"] = str(output_dir.resolve())  # nothing else tells that it is no data
    return source


def _digest(listing: Listing) -> str:
    """A digest of the names, sizes and times of the files that may be data, and of how many others there are.

    Where there are pictures, text files other than tables of labels may change, such as a log that training writes.
    """
    digest = hashlib.sha256()
    has_pictures = any(file.is_picture or file.ending == ".zip" for file in listing.files)
    others: Counter[str] = Counter()
    for file in listing.files:
        data = file.is_picture or file.ending in (".zip", ".csv", ".tsv", *TABLES) or not file.ending
        if data or not has_pictures or file.name.lower() in ("dataset.json", "metadata.jsonl", EMOJI_TABLE):
            digest.update(b"/".join(file.order) + f"\0{file.size}\0{file.mtime_ns}\n".encode())
        else:
            others[file.ending] += 1
    digest.update(repr((sorted(others.items()), sorted(listing.unreadable))).encode())
    return digest.hexdigest()


def _similar_folder(path: Path) -> str:
    """What to say about a folder with nearly this name."""
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, 1, 0.75)
    return f" (there is {shown(str(path.with_name(near[0])))})" if near else ""


def open_splits(options: DataOptions, source: dict[str, Any]) -> Splits:
    """The images of a source, to be read in order.

    Args:
        source: what `identify` returned.
    Raises:
        ValueError: the source cannot be read, or a split or column must be named.
    """
    if source["kind"] == "digits":
        return Splits(_digits(), None, None, ["scikit-learn's digits; held out: 5 %"])
    if source["kind"] == "hub":
        return _open_tables(options, load_tables(options, source))
    return _open_folder(options, source)


def _open_folder(options: DataOptions, source: dict[str, Any]) -> Splits:
    """Tables that hold images come before pictures, which come before other tables. See `open_splits`."""
    output = source.get("output")
    try:
        folder = Folder.of(Path(source["path"]), options, Path(output) if output else None)
    except OSError as error:
        raise ValueError(f"dataset {options.dataset_name!r} cannot be read: {first_line(error)}") from None
    if not folder.pictures:
        return _open_other(options, source, folder)
    damaged = None
    if tables := folder.tables:
        try:
            splits = _open_tables(options, load_tables(options, source, tables), beside_pictures=True)
        except ValueError as error:
            if options.image_column or options.dataset_config_name:
                raise  # so tables are meant
            damaged = str(error) if "cannot be read" in str(error) else None
        else:
            ignored = f"left out: {counted(len(folder.pictures), 'picture')}, because the tables hold images"
            return replace(splits, notes=[*splits.notes, ignored, *_about_tables(tables)])
    splits = _open_pictures(options, folder)
    more = [f"Warning: the tables beside the pictures are not used: {damaged}"] if damaged else []
    return replace(splits, notes=[*splits.notes, *more])


def _open_pictures(options: DataOptions, folder: Folder) -> Splits:
    by_split, labels = folder.by_split(), folder.labels()
    train, held_out = _choose(options, list(by_split))
    apart, groups = _apart(options, held_out, folder.groups(by_split[train]))
    rows = [rows_of_pictures(by_split[name], labels.of) if name else () for name in (train, held_out)]
    taken = list(dict.fromkeys(by_split[train] + (by_split[held_out] if held_out else [])))
    what = f"split {shown(train)}" if folder.layout.depth else "all pictures"
    note = f"training on {what} ({by_ending(file.ending for file in by_split[train])}); held out: " + (
        f"split {shown(held_out)} ({by_ending(file.ending for file in by_split[held_out])})" if held_out else groups
    )
    if archived := sum(file.archive is not None for file in taken):
        note += f"; {counted(archived, 'picture')} in .zip archives"
    undecided = [] if labels.of else [one for one in labels.undecided if one.columns and one.names_most(taken)]
    left_out = folder.left_out(taken, [*labels.tables, *(one.table for one in undecided)])
    notes = [note + labels.note(taken), *([left_out] if left_out else []), *folder.warnings(taken)]
    notes += _same_split(train, held_out)
    for one in undecided:
        notes.append(
            f"{shown(one.table.parts)} names the pictures, but none of its other columns ({listed(one.columns)}) is "
            "named like labels; --label_column takes one of them"
        )
    return Splits(rows[0], rows[1] if held_out else None, held_out, notes, labels.names, apart)


def _about_tables(tables: list[File]) -> list[str]:
    """What is missing among the tables that are read, and which others are not; sentences for the log."""
    notes = []
    others = [file for file in tables if file.ending != tables[0].ending and file.name not in SAVED_BESIDE]
    if others:
        which = listed((shown(file.parts) for file in others), 3)
        notes.append(f"left out: {which}, because {tables[0].ending} files are read")
    if missing := missing_shards(tables):
        notes.append(f"Warning: by the names of the others, {listed(map(shown, missing), 3)} should be there, too")
    return notes


def _open_tables(options: DataOptions, tables: dict[str, Any], beside_pictures: bool = False) -> Splits:
    with reading(options):
        return _open_columns(options, tables, beside_pictures)


def _open_columns(options: DataOptions, tables: dict[str, Any], beside_pictures: bool) -> Splits:
    train, held_out = _choose(options, list(tables))
    column = image_column(tables[train], options, beside_pictures)
    more = _same_split(train, held_out)
    if held_out and column not in (tables[held_out].features or {column}):
        if options.eval_split:
            raise ValueError(f"--eval_split {options.eval_split!r}: it has no column {column!r}")
        more = [f"Warning: the split {held_out!r} is not used, because it has no column {column!r}"]
        held_out = None
    columns = [name for name in label_columns(tables[train], options) if name != column]
    label = columns[0] if columns else None
    there = {name: label if label in (tables[name].features or {label}) else None for name in (train, held_out) if name}
    if label and held_out and not there[held_out]:
        more.append(f"the split {held_out!r} has no column {label!r}, so its images have no labels")
    rows = [rows_of(tables[name], column, there[name], options) if name else () for name in (train, held_out)]
    apart, groups = _apart(options, held_out, groups_of(tables[train], column, options))
    held = f"split {held_out!r}" if held_out else groups
    note = f"training on split {train!r}; held out: {held}; images in column {column!r}"
    note += f"; labels in column {label!r}" if label else ""
    note += f" (--label_column chooses {listed(columns[1:])} instead)" if columns[1:] else ""
    names = label_names(tables[train], label)
    return Splits(rows[0], rows[1] if held_out else None, held_out, [note, *more], names, apart)


def _apart(
    options: DataOptions, held_out: str | None, groups: Callable[[], Sequence[str | None] | None]
) -> tuple[Apart | None, str]:
    """Which images of the training split are held out by their groups, and what is held out, for the note.

    Args:
        held_out: the name of the held-out split; then nothing else is held out.
        groups: returns the group of each image of the training split; None if there are no groups.
    """
    found = None if held_out else groups()
    apart = None if found is None else Apart.of(found)
    if apart is None:
        return None, "5 %"
    number = len(np.unique(apart.groups[apart.held_out]))
    of = f"column {options.group_column!r}" if options.group_column else "the emoji that the names of the files spell"
    return apart, f"{100 * apart.held_out.mean():.2g} %, {counted(number, 'whole group')} by {of}"


def _open_other(options: DataOptions, source: dict[str, Any], folder: Folder) -> Splits:
    """A folder without pictures: whatever the `datasets` library reads. See `open_splits`."""
    name, files = options.dataset_name, folder.others
    nothing = folder.left_out([], [])
    numpy_files = [file for file in files if file.ending in arrays.ENDINGS and file.archive is None]
    if numpy_files and not any(file.ending in TABLES for file in files):
        return _open_arrays(options, folder, numpy_files)
    if not any(file.ending in (*TABLES, *TEXT_TABLES) for file in files):
        if folder.unreadable:
            raise ValueError(f"dataset {name!r} cannot be read: {folder.unreadable}")
        if not nothing:
            raise ValueError(f"dataset {name!r} cannot be read: the {'folder' if not files else 'archive'} is empty")
        raise ValueError(f"dataset {name!r} holds no pictures and no tables; {nothing}")
    if not (tables := [file for file in files if file.ending in READERS and file.archive is None]):
        raise ValueError(f"dataset {name!r}: tables in archives are not read; unpack them")
    tables.sort(key=lambda file: list(READERS).index(file.ending))
    by_ourselves = _by_ourselves(source, tables)
    splits = _open_tables(options, load_tables(options, source, tables if by_ourselves else None))
    return replace(splits, notes=[*splits.notes, *(_about_tables(tables) if by_ourselves else [])])


def _by_ourselves(source: dict[str, Any], tables: list[File]) -> bool:
    """Whether the tables of a folder are named to the `datasets` library, instead of the folder.

    By itself it leaves out files without the name of a split where another file has one, and it takes neither brackets
    in a path nor what its own `save_to_disk` wrote. A card that configures the dataset is only for itself to read.
    """
    folder = Path(source["path"])
    its_own = tables[0].ending not in TABLES or (folder / "README.md").is_file()
    return folder.is_file() or not its_own or any(character in source["path"] for character in "[]*?")


def _open_arrays(options: DataOptions, folder: Folder, files: list[File]) -> Splits:
    """NumPy's files. See `open_splits`."""
    found = arrays.ArrayImages(files, options)
    train, held_out = _choose(options, list(found.images))
    note = f"training on {found.note(train)}; held out: {found.note(held_out) if held_out else '5 %'}"
    left_out = [found.left_out((train, held_out)), folder.left_out([], files)]
    notes = [f"{note}; in {listed(shown(file.parts) for file in files)}", *filter(None, left_out)]
    notes += _same_split(train, held_out)
    return Splits(found.rows(train), found.rows(held_out) if held_out else None, held_out, notes)


def _choose(options: DataOptions, names: list[str]) -> tuple[str, str | None]:
    """The training split and the held-out one, None if there is none.

    Raises:
        ValueError: the source has no such split, or the training split must be named.
    """
    chosen: dict[str, str | None] = {}
    for flag, wanted in (("train_split", options.train_split), ("eval_split", options.eval_split)):
        chosen[flag] = match(wanted, names) if wanted else None
        if wanted and not chosen[flag]:
            raise ValueError(f"--{flag} {wanted!r}: {options.dataset_name!r} has {listed(names)}")
    lower = {name.lower(): name for name in reversed(names)}
    usual = next((lower[name] for name in TRAIN_SPLITS if name in lower), None)
    others = [name for name in names if name != chosen["eval_split"]] or names
    train = chosen["train_split"] or usual or (others[0] if len(others) == 1 else None)
    if train is None:
        raise ValueError(f"--train_split is needed: {options.dataset_name!r} has {listed(names)}")
    held_out = next((lower[name] for name in EVAL_SPLITS if name in lower and lower[name] != train), None)
    return train, chosen["eval_split"] or held_out


def _same_split(train: str, held_out: str | None) -> list[str]:
    """A warning if the held-out images are those of training."""
    if train != held_out:
        return []
    return [f"Warning: the split {train!r} is trained on and held out, so val_loss says nothing about other images"]


def _digits() -> Rows:
    """scikit-learn's handwritten digits, 8x8, whose values 0 ... 16 become 0 ... 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images: np.ndarray = digits["images"]  # pyright: ignore[reportArgumentType, reportCallIssue] - a Bunch, no tuple
    labels: np.ndarray = digits["target"]  # pyright: ignore[reportArgumentType, reportCallIssue]
    return list(zip(np.round(images * (255 / 16)).astype(np.uint8), labels.tolist(), strict=True))
